//! The words of HBONE: the authority of a CONNECT, and the headers that travel with it.

use ambit_core::{model::Workload, state::Snapshot};
use http::{HeaderMap, HeaderValue, uri::Authority};
use std::net::{IpAddr, SocketAddr};

/// Domain of the services' DNS names.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// Why a CONNECT is answered with 400.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// There is no authority, or no port in it.
    #[error("the CONNECT has no authority of the form address:port")]
    Malformed,
    /// The address is not the one that the tunnel came in on.
    #[error("the CONNECT asks for {asked}, but the tunnel leads to {pod}")]
    OtherAddress {
        /// What was asked for.
        asked: IpAddr,
        /// The pod's address.
        pod: IpAddr,
    },
    /// The name is of no service that this pod stands behind.
    #[error("the CONNECT asks for {0}, a service that this pod does not stand behind")]
    OtherService(String),
    /// The port is the agent's own.
    #[error("the CONNECT asks for port {0}, which is the agent's own")]
    OwnPort(u16),
}

/// Returns the port of the application that a CONNECT asks for, on a tunnel that came in on `pod`.
///
/// # Errors
/// Whatever makes the authority unacceptable.
pub(crate) fn application_port(
    authority: Option<&Authority>,
    pod: IpAddr,
    snapshot: &Snapshot,
) -> Result<u16, AuthorityError> {
    let authority = authority.ok_or(AuthorityError::Malformed)?;
    let port = authority.port_u16().filter(|port| *port != 0).ok_or(AuthorityError::Malformed)?;
    if authority.as_str().contains('@') {
        return Err(AuthorityError::Malformed);
    }
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = match host.parse::<IpAddr>() {
        Ok(asked) if asked.to_canonical() == pod => port,
        Ok(asked) => return Err(AuthorityError::OtherAddress { asked, pod }),
        Err(_) => behind_service(host, port, pod, snapshot)
            .ok_or_else(|| AuthorityError::OtherService(authority.to_string()))?,
    };
    served(port)
}

/// Returns a port that an application may have.
///
/// # Errors
/// `Malformed` or `OwnPort`.
pub(crate) fn served(port: u16) -> Result<u16, AuthorityError> {
    match port {
        0 => Err(AuthorityError::Malformed),
        ambit_abi::TUNNEL_PORT => Err(AuthorityError::OwnPort(port)),
        port => Ok(port),
    }
}

/// Returns the port on which `pod` serves the port of the service with this name.
fn behind_service(host: &str, port: u16, pod: IpAddr, snapshot: &Snapshot) -> Option<u16> {
    let host = host.trim_end_matches('.');
    let service =
        snapshot.services().find(|service| service.hostname(CLUSTER_DOMAIN).eq_ignore_ascii_case(host))?;
    let port = service.ports.iter().find(|candidate| candidate.port == port)?;
    port.endpoints.iter().find(|endpoint| endpoint.address == pod).map(|endpoint| endpoint.port)
}

/// Returns the client that a `forwarded` header names, if it is at `address`, from where the tunnel comes: a peer
/// speaks for nobody else.
pub(crate) fn forwarded_client(headers: &HeaderMap, address: IpAddr) -> Option<SocketAddr> {
    let value = headers.get(http::header::FORWARDED)?.to_str().ok()?;
    let element = value.split(';').map(str::trim).find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    })?;
    let client: SocketAddr = element.trim_matches('"').parse().ok()?;
    (client.ip().to_canonical() == address).then(|| SocketAddr::new(address, client.port()))
}

/// Returns the headers that say on whose behalf a stream is opened.
pub(crate) fn client_headers(source: &Workload, client: SocketAddr, host: &str, cluster: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let canonical = source.labels.get("service.istio.io/canonical-name").or_else(|| source.labels.get("app"));
    let version = source.labels.get("version").map_or("latest", String::as_str);
    let baggage = [
        ("k8s.cluster.name", cluster),
        ("k8s.namespace.name", &source.namespace),
        (&format!("k8s.{}.name", source.owner_kind), &source.owner_name),
        ("service.name", canonical.unwrap_or(&source.owner_name)),
        ("service.version", version),
    ]
    .map(|(name, value)| format!("{name}={value}"))
    .join(",");
    // A value that is no header (a label cannot be one, a hostile object might) is left out.
    for (name, value) in [("baggage", baggage), ("forwarded", format!("for=\"{client}\";host={host}"))] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(authority: &str) -> Result<u16, AuthorityError> {
        let authority: Authority = authority.parse().unwrap();
        application_port(Some(&authority), "10.0.0.7".parse().unwrap(), &Snapshot::empty())
    }

    #[test]
    fn an_authority_must_name_the_pod_and_an_application_port() {
        assert_eq!(asked("10.0.0.7:80"), Ok(80));
        assert_eq!(asked("[::ffff:10.0.0.7]:80"), Ok(80));
        assert!(matches!(asked("10.0.0.8:80"), Err(AuthorityError::OtherAddress { .. })));
        assert!(matches!(asked("127.0.0.1:80"), Err(AuthorityError::OtherAddress { .. })));
        assert_eq!(asked("10.0.0.7:15008"), Err(AuthorityError::OwnPort(15008)));
        assert_eq!(asked("10.0.0.7"), Err(AuthorityError::Malformed));
        assert_eq!(asked("10.0.0.7:0"), Err(AuthorityError::Malformed));
        assert_eq!(asked("u@10.0.0.7:80"), Err(AuthorityError::Malformed));
        assert!(matches!(asked("nobody.ns.svc.cluster.local:80"), Err(AuthorityError::OtherService(_))));
        let none = application_port(None, "10.0.0.7".parse().unwrap(), &Snapshot::empty());
        assert_eq!(none, Err(AuthorityError::Malformed));
    }

    #[test]
    fn a_peer_names_only_clients_at_its_own_address() {
        let client = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("forwarded", value.parse().unwrap());
            forwarded_client(&headers, "10.0.0.1".parse().unwrap())
        };
        let known = Some("10.0.0.1:1234".parse().unwrap());
        assert_eq!(client("for=\"10.0.0.1:1234\";host=web"), known);
        assert_eq!(client("host=web; For=10.0.0.1:1234"), known);
        assert_eq!(client("for=\"10.0.0.2:1234\""), None);
        assert_eq!(client("for=unknown"), None);
        assert_eq!(client("nonsense"), None);
    }
}
