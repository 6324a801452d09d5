//! What a pod's processes connect to: found again, routed, and carried to the destination's agent.

use super::{
    Dataplane, LocalPod,
    authority::client_headers,
    canonical, dial,
    live::{Caller, Direction, Facts, Path, egress_verdict},
    pool::PoolKey,
    relay::{Socket, TunnelEnd, relay},
    tunnel::{Lease, Tunnel, TunnelError},
};
use crate::identity::tls;
use ambit_abi::{TUNNEL_PORT, flow_kind};
use ambit_core::{
    model::{Service, Workload},
    policy::{Protocol, Reason},
    route::{Route, route},
    state::Snapshot,
};
use http::uri::Authority;
use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::TcpStream;

/// How long a connection waits for a destination's agent that does not answer, as while it restarts, and for the
/// snapshot that says that the destination has moved.
const GRACE: Duration = Duration::from_secs(3);
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_LAST: Duration = Duration::from_millis(250);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves one connection that was redirected to the agent. Dropped or failed, it ends in a reset.
pub(crate) async fn serve(plane: Arc<Dataplane>, pod: Arc<LocalPod>, stream: TcpStream, client: SocketAddr) {
    let Ok(local) = stream.local_addr().map(canonical) else { return };
    let Ok(socket) = Socket::new(stream) else { return };
    let (target, dialled) = match plane.kernel.flow(client, local) {
        Ok(Some(flow)) if flow.kind == flow_kind::REDIRECTED && flow.netns_cookie == pod.netns.cookie() => {
            (ambit_bpf::from_abi(flow.peer), ambit_bpf::from_abi(flow.dialled))
        }
        Ok(_) => {
            plane.decisions.limited(|| {
                tracing::warn!(pod = %pod.key, src.addr = %client, "connection to the agent's listener that nobody announced");
            });
            return;
        }
        Err(error) => {
            tracing::error!(%error, "cannot read a connection's destination from the kernel");
            return;
        }
    };
    if let Err(error) = plane.kernel.forget_flow(client, local) {
        tracing::warn!(%error, "cannot forget a flow in the kernel");
    }
    if plane.proofs.take(pod.slot, client, target) {
        return;
    }
    let attempt = Attempt { plane: &plane, pod: &pod, client, target, dialled };
    if let Err(error) = attempt.carry(socket).await {
        plane.decisions.limited(|| {
            tracing::info!(
            pod = %pod.key, src.addr = %client, dst.addr = %dialled, reason = %crate::observe::chain(&error),
            "connection failed"
        );
        });
    }
}

/// Why a connection of a pod did not come about.
#[derive(Debug, thiserror::Error)]
enum OutboundError {
    #[error("no way to the destination: {0}")]
    NoRoute(ambit_core::route::RouteRefusal),
    #[error("connect to the destination")]
    Direct(#[source] io::Error),
    #[error("reach the destination through the mesh")]
    Tunnel(#[source] TunnelError),
}

/// Tells whether the snapshot has an enrolled pod with this address.
fn is_enrolled(snapshot: &Snapshot, ip: IpAddr) -> bool {
    snapshot.workload(ip).is_some_and(|pod| pod.mode.is_enrolled())
}

/// One connection on its way to where it was dialled.
struct Attempt<'a> {
    plane: &'a Arc<Dataplane>,
    pod: &'a LocalPod,
    client: SocketAddr,
    /// Where the kernel would have it carried: an endpoint, where it chose one.
    target: SocketAddr,
    /// What the application dialled.
    dialled: SocketAddr,
}

impl Attempt<'_> {
    async fn carry(&self, socket: Socket) -> Result<(), OutboundError> {
        let deadline = Instant::now() + GRACE;
        let mut pause = RETRY_FIRST;
        // The kernel's choice is tried first; after that any endpoint will do.
        let mut target = self.target;
        // What a tunnel was tried to, and why that failed.
        let mut tried: Option<(IpAddr, TunnelError)> = None;
        loop {
            let snapshot = self.plane.state.load_full();
            let random = RandomState::new().hash_one(self.client);
            let way = route(&snapshot, target, random);
            let (ip, error) = match (way, tried.take()) {
                (Route::Refuse { reason }, _) => return Err(OutboundError::NoRoute(reason)),
                // What was to be mutual TLS does not become plaintext because another endpoint would take it.
                (Route::Direct { .. }, Some((ip, error))) if is_enrolled(&snapshot, ip) => (ip, error),
                (Route::Direct { address, service }, _) => {
                    let service = service.or_else(|| self.service(&snapshot));
                    return self.direct(socket, address, service.as_deref()).await;
                }
                (Route::Tunnel { address, destination, service }, _) => {
                    let service = service.or_else(|| self.service(&snapshot));
                    match self.tunnel(address, &destination, service.as_deref()).await {
                        Ok((lease, end)) => {
                            self.relay(socket, lease, end, address, &destination, service.as_deref()).await;
                            return Ok(());
                        }
                        Err(error) => (address.ip(), error),
                    }
                }
            };
            if !error.may_pass() || Instant::now() + pause > deadline {
                return Err(OutboundError::Tunnel(error));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RETRY_LAST);
            target = self.dialled;
            tried = Some((ip, error));
        }
    }

    /// Returns the service that was dialled, if one was.
    fn service(&self, snapshot: &Snapshot) -> Option<Arc<Service>> {
        snapshot.service(self.dialled.ip(), self.dialled.port()).map(|(service, _)| Arc::clone(service))
    }

    fn facts(&self, server: SocketAddr, destination: Option<&Workload>, service: Option<&Service>) -> Facts {
        Facts {
            direction: Direction::Outbound,
            caller: Caller::Identity(self.pod.identity.clone()),
            client: self.client,
            server,
            destination: destination.map(Workload::key),
            service: service.map(|service| format!("{}/{}", service.namespace, service.name)),
            path: if destination.is_some() { Path::Tunnel } else { Path::Plaintext },
            protocol: Protocol::Tcp,
        }
    }

    /// Connects to something outside the mesh: an endpoint of a service that has others inside. What the pod may not
    /// call is reported, and ends in a reset.
    async fn direct(
        &self,
        socket: Socket,
        address: SocketAddr,
        service: Option<&Service>,
    ) -> Result<(), OutboundError> {
        let facts = self.facts(address, None, service);
        // Listed first: a change of policy from here on finds it.
        let permit = self.plane.live.enter(facts.clone());
        match egress_verdict(&facts, &self.plane.state.load()) {
            Some(verdict) if verdict.reason == Reason::EgressAny => {}
            Some(verdict) => {
                self.plane.decisions.record(&facts, &verdict);
                if !verdict.allowed {
                    return Ok(());
                }
            }
            None => {
                self.plane.decisions.revoked(&facts, None);
                return Ok(());
            }
        }
        let stream =
            dial(&self.plane.kernel, &self.pod.netns, address, None).await.map_err(OutboundError::Direct)?;
        let server = Socket::new(stream).map_err(OutboundError::Direct)?;
        tokio::select! {
            outcome = relay(socket, server, &permit.counters) => if let Err(broken) = outcome {
                tracing::debug!(reason = %crate::observe::chain(&broken), "connection broke");
            },
            () = permit.revoked() => {}
        }
        Ok(())
    }

    async fn relay(
        &self,
        socket: Socket,
        lease: Lease,
        end: TunnelEnd,
        address: SocketAddr,
        destination: &Workload,
        service: Option<&Service>,
    ) {
        let permit = self.plane.live.enter(self.facts(address, Some(destination), service));
        if let Err(broken) = relay(socket, end, &permit.counters).await {
            tracing::debug!(reason = %crate::observe::chain(&broken), "connection broke");
        }
        drop(lease);
    }

    /// Opens a stream to `address`, in a tunnel that stands or in a new one.
    async fn tunnel(
        &self,
        address: SocketAddr,
        destination: &Workload,
        service: Option<&Service>,
    ) -> Result<(Lease, TunnelEnd), TunnelError> {
        let identity = self.plane.identities.get(&self.pod.identity).ok_or(TunnelError::NoIdentity)?;
        let key = PoolKey {
            slot: self.pod.slot,
            caller: self.pod.identity.clone(),
            address: address.ip(),
            destination: destination.identity.clone(),
        };
        let open = || async {
            let agent = SocketAddr::new(address.ip(), TUNNEL_PORT);
            let stream =
                dial(&self.plane.kernel, &self.pod.netns, agent, None).await.map_err(TunnelError::Dial)?;
            let config = identity.client_config(&destination.identity);
            let handshake = async {
                let (stream, _peer) = tls::connect(stream, config).await.map_err(TunnelError::Tls)?;
                Tunnel::open(stream, identity.serial.clone(), &self.plane.tunnels)
                    .await
                    .map_err(TunnelError::Http)
            };
            tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
                .await
                .map_err(|_| TunnelError::Timeout(HANDSHAKE_TIMEOUT))?
        };
        let lease = self.plane.pool.lease(&key, &identity.serial, open).await?;
        let authority: Authority =
            address.to_string().parse().expect("an address with a port is an authority");
        let host =
            service.map_or_else(|| self.dialled.to_string(), |service| service.hostname("cluster.local"));
        let source = self.plane.state.load();
        let source = source.workload_named(&self.pod.key.namespace, &self.pod.key.name).cloned();
        let headers = source
            .map(|source| client_headers(&source, self.client, &host, &self.plane.cluster))
            .unwrap_or_default();
        let end = lease.connect(authority, headers).await?;
        Ok((lease, end))
    }
}
