//! What a pod's processes connect to: found again, routed, and carried to the destination's agent.

use super::{
    Dataplane, LocalPod,
    authority::client_headers,
    canonical,
    dial::dial,
    live::{Caller, Direction, Facts, Path, egress_verdict},
    pool::PoolKey,
    relay::{Socket, TunnelEnd, relay},
    tally::Counted,
    trunk::{Carried, Outcome, Trunk},
    tunnel::{self, ANSWER_TIMEOUT, Lease, Tunnel, TunnelError},
};
use crate::identity::{store::WorkloadIdentity, tls};
use ambit_abi::{TUNNEL_PORT, flow_kind};
use ambit_core::{
    model::{Service, Workload},
    policy::{Protocol, Reason},
    route::{Route, route},
    state::Snapshot,
};
use http::{StatusCode, uri::Authority};
use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit};

/// How long a connection waits for a destination's agent that does not answer, as while it restarts, and for the
/// snapshot that says that the destination has moved.
const GRACE: Duration = Duration::from_secs(3);
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_LAST: Duration = Duration::from_millis(250);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a connection holds for as long as it is carried.
pub(super) type Held = Arc<(OwnedSemaphorePermit, Counted)>;

/// Serves one connection that was redirected to the agent. Dropped or failed, it ends in a reset.
pub(super) async fn serve(
    plane: Arc<Dataplane>,
    pod: Arc<LocalPod>,
    stream: TcpStream,
    client: SocketAddr,
    held: Held,
) {
    let Ok(local) = stream.local_addr().map(canonical) else { return };
    let socket = Socket::of_pod(stream);
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
    let attempt = Attempt { plane: &plane, pod: &pod, client, target, dialled, held };
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
    held: Held,
}

/// Why a connection is not carried through the mesh, and the connection, where it may be tried elsewhere.
type Failure = (TunnelError, Option<Socket>);

impl Attempt<'_> {
    async fn carry(&self, mut socket: Socket) -> Result<(), OutboundError> {
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
                    return Box::pin(self.direct(socket, address, service.as_deref())).await;
                }
                (Route::Tunnel { address, destination, service }, _) => {
                    let service = service.or_else(|| self.service(&snapshot));
                    match self.tunnel(socket, address, &destination, service.as_deref()).await {
                        Ok(()) => return Ok(()),
                        Err((error, None)) => return Err(OutboundError::Tunnel(error)),
                        Err((error, Some(back))) => {
                            socket = back;
                            (address.ip(), error)
                        }
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
        let server = Socket::of_pod(stream);
        tokio::select! {
            outcome = relay(socket, server, &permit.counters) => if let Err(broken) = outcome {
                tracing::debug!(reason = %crate::observe::chain(&broken), "connection broke");
            },
            () = permit.revoked() => {}
        }
        Ok(())
    }

    /// Carries the connection to `address`, in a tunnel that stands or in a new one. Inside a trunk it is carried on
    /// when this returns.
    async fn tunnel(
        &self,
        socket: Socket,
        address: SocketAddr,
        destination: &Workload,
        service: Option<&Service>,
    ) -> Result<(), Failure> {
        let lease = match self.lease(address, destination).await {
            Ok(lease) => lease,
            Err(error) => return Err((error, Some(socket))),
        };
        let facts = self.facts(address, Some(destination), service);
        if let Some(trunk) = lease.trunk() {
            let permit = self.plane.live.enter(facts);
            let held = (lease, Arc::clone(&self.held));
            let carried = Carried::new(socket, permit, Direction::Outbound, held);
            return self.through(&trunk, address.port(), carried).await;
        }
        Box::pin(self.in_http2(socket, lease, facts, service)).await
    }

    /// Carries the connection in an HTTP/2 tunnel, until it ends.
    async fn in_http2(
        &self,
        socket: Socket,
        lease: Lease,
        facts: Facts,
        service: Option<&Service>,
    ) -> Result<(), Failure> {
        let end = match self.connect(&lease, facts.server, service).await {
            Ok(end) => end,
            Err(error) => return Err((error, Some(socket))),
        };
        let permit = self.plane.live.enter(facts);
        if let Err(broken) = relay(socket, end, &permit.counters).await {
            tracing::debug!(reason = %crate::observe::chain(&broken), "connection broke");
        }
        Ok(())
    }

    async fn through(&self, trunk: &Trunk, port: u16, carried: Carried) -> Result<(), Failure> {
        let opened =
            tokio::time::timeout(ANSWER_TIMEOUT, trunk.open(port, self.client.port(), carried)).await;
        match opened {
            Ok(Outcome::Carried) => Ok(()),
            Ok(Outcome::Refused(status)) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Err((TunnelError::Refused(status), None))
            }
            Ok(Outcome::NotProcessed(carried, reason)) => {
                Err((TunnelError::NotProcessed(reason), carried.into_socket()))
            }
            Ok(Outcome::Lost(reason)) => Err((TunnelError::Lost(reason), None)),
            Err(_) => Err((TunnelError::Timeout(ANSWER_TIMEOUT), None)),
        }
    }

    /// Opens a stream to `address` in an HTTP/2 tunnel.
    async fn connect(
        &self,
        lease: &Lease,
        address: SocketAddr,
        service: Option<&Service>,
    ) -> Result<TunnelEnd, TunnelError> {
        let authority: Authority =
            address.to_string().parse().expect("an address with a port is an authority");
        let host =
            service.map_or_else(|| self.dialled.to_string(), |service| service.hostname("cluster.local"));
        let source = self.plane.state.load();
        let source = source.workload_named(&self.pod.key.namespace, &self.pod.key.name).cloned();
        let headers = source
            .map(|source| client_headers(&source, self.client, &host, &self.plane.cluster))
            .unwrap_or_default();
        lease.connect(authority, headers).await
    }

    /// Returns a place in a tunnel to `address`.
    async fn lease(&self, address: SocketAddr, destination: &Workload) -> Result<Lease, TunnelError> {
        let identity = self.plane.identities.get(&self.pod.identity).ok_or(TunnelError::NoIdentity)?;
        let key = PoolKey {
            slot: self.pod.slot,
            caller: self.pod.identity.clone(),
            address: address.ip(),
            destination: destination.identity.clone(),
        };
        // Most connections find a tunnel that stands: those that do not carry the handshake's state themselves.
        let open = || Box::pin(self.open(address.ip(), destination, &identity));
        self.plane.pool.lease(&key, &identity.serial, open).await
    }

    /// Opens a tunnel to the agent of `destination`, which answers at `address`.
    async fn open(
        &self,
        address: IpAddr,
        destination: &Workload,
        identity: &WorkloadIdentity,
    ) -> Result<Tunnel, TunnelError> {
        let agent = SocketAddr::new(address, TUNNEL_PORT);
        let stream =
            dial(&self.plane.kernel, &self.pod.netns, agent, None).await.map_err(TunnelError::Dial)?;
        tunnel::end_in_order(&stream).map_err(TunnelError::Dial)?;
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
    }
}
