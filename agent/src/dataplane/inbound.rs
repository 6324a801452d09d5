//! What arrives at a pod: tunnels from other agents, and plaintext. Each connection is decided upon before the
//! application hears of it.

use super::{
    Dataplane, LocalPod,
    authority::{self, AuthorityError, application_port, forwarded_client},
    dial::{Dialled, begin, dial},
    live::{Caller, Direction, Facts, Path, Permit},
    relay::{End, Socket, TunnelEnd, relay},
    trunk::{Asked, Carried, Reply, Trunk},
    tunnel,
};
use crate::{
    identity::tls::{self, Secured},
    observe::chain,
};
use ambit_core::{
    identity::SpiffeId,
    policy::{Connection, Protocol},
};
use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{Method, Request, Response, StatusCode};
use std::{
    any::Any,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::net::TcpStream;

/// How long a peer may take for TLS and the HTTP/2 preface together.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a tunnel without streams is kept; longer than the callers keep theirs.
const IDLE: Duration = Duration::from_secs(600);
const IDLE_CHECK: Duration = Duration::from_secs(30);

/// Serves one connection in plaintext that was steered to the agent's inbound listener.
pub(super) async fn serve_plaintext(
    plane: Arc<Dataplane>,
    pod: Arc<LocalPod>,
    stream: TcpStream,
    client: SocketAddr,
    server: SocketAddr,
) {
    let _carried = plane.carried.enter();
    let socket = Socket::of_pod(stream);
    let caller = match plane.attested(client, server) {
        Ok(caller) => caller,
        Err(error) => {
            tracing::error!(%error, "cannot read from the kernel who opens a connection");
            return;
        }
    };
    let facts = facts(&pod, caller, client, server, Path::Plaintext);
    let Some(permit) = admit(&plane, facts) else { return };
    match dial(&plane.kernel, &pod.netns, server, Some(client)).await {
        Ok(application) => carry(socket, Socket::of_pod(application), &permit).await,
        Err(error) => tracing::debug!(pod = %pod.key, dst.addr = %server, %error, "application not reached"),
    }
}

fn facts(pod: &LocalPod, caller: Caller, client: SocketAddr, server: SocketAddr, path: Path) -> Facts {
    Facts {
        direction: Direction::Inbound,
        caller,
        client,
        server,
        destination: Some(pod.key.clone()),
        service: None,
        path,
        protocol: Protocol::Tcp,
    }
}

/// Decides on a connection. `None`: it is refused, and that was reported.
fn admit(plane: &Dataplane, facts: Facts) -> Option<Permit> {
    // Listed first: a change of policy from here on finds it.
    let permit = plane.live.enter(facts.clone());
    let snapshot = plane.state.load();
    let key = facts.destination.as_ref()?;
    let destination = snapshot
        .workload_named(&key.namespace, &key.name)
        .filter(|destination| destination.addresses.contains(&facts.server.ip()));
    let Some(destination) = destination else {
        plane.decisions.unknown_destination(&facts);
        return None;
    };
    let verdict = snapshot.evaluate(&Connection {
        source: facts.caller.source(facts.client.ip()),
        destination,
        protocol: facts.protocol,
        port: facts.server.port(),
    });
    plane.decisions.record(&facts, &verdict);
    verdict.allowed.then_some(permit)
}

/// Carries an admitted connection until it ends or is no longer allowed.
async fn carry(client: impl End, server: Socket, permit: &Permit) {
    tokio::select! {
        outcome = relay(client, server, &permit.counters) => if let Err(broken) = outcome {
            tracing::debug!(reason = %chain(&broken), "connection broke");
        },
        () = permit.revoked() => {}
    }
}

/// Serves one tunnel of another agent.
pub(super) async fn serve_tunnel(
    plane: Arc<Dataplane>,
    pod: Arc<LocalPod>,
    stream: TcpStream,
    client: SocketAddr,
    local: SocketAddr,
) {
    let Ok(place) = Arc::clone(&pod.handshakes).try_acquire_owned() else {
        plane.decisions.limited(|| {
            tracing::warn!(pod = %pod.key, src.addr = %client, "too many tunnels are being opened: connection dropped");
        });
        return;
    };
    let Some(identity) = plane.identities.get(&pod.identity) else {
        tracing::error!(pod = %pod.key, "tunnel refused: the pod has no valid certificate");
        return;
    };
    if tunnel::end_in_order(&stream).is_err() {
        return;
    }
    let handshake = async {
        let (secured, peer) = tls::accept(stream, identity.server_config()).await?;
        anyhow::Ok(match secured.protocol() {
            tls::Protocol::Trunk => (Spoken::Trunk(Box::new(secured)), peer),
            tls::Protocol::Http2 => {
                (Spoken::Http2(Box::new(tunnel::server().handshake(secured).await?)), peer)
            }
        })
    };
    let (spoken, peer) = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => {
            plane.decisions.refused_handshake(&pod.key, client, &format!("{error:#}"));
            return;
        }
        Err(_) => {
            plane.decisions.refused_handshake(&pod.key, client, "the peer took too long");
            return;
        }
    };
    drop(place);
    let _tunnel = plane.tunnels.enter();
    let expiry = peer.not_after.duration_since(SystemTime::now()).unwrap_or_default();
    let caller = Arc::new(PeerTunnel { plane, pod, peer: peer.id, client, local });
    match spoken {
        Spoken::Trunk(secured) => caller.serve_trunk(*secured, expiry).await,
        Spoken::Http2(connection) => caller.serve_http2(*connection, expiry).await,
    }
}

/// What a peer speaks inside TLS.
enum Spoken {
    Http2(Box<h2::server::Connection<Secured<TcpStream>, Bytes>>),
    Trunk(Box<Secured<TcpStream>>),
}

/// Counts an open stream.
struct OpenStream(Arc<AtomicUsize>);

impl OpenStream {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A tunnel whose peer has proved its identity.
struct PeerTunnel {
    plane: Arc<Dataplane>,
    pod: Arc<LocalPod>,
    peer: SpiffeId,
    client: SocketAddr,
    local: SocketAddr,
}

impl PeerTunnel {
    /// Waits until no more streams are to be opened: the peer's certificate expires after `expiry`, another agent
    /// serves the pod, or nobody has used the tunnel for long.
    async fn until_leaving(&self, expiry: Duration, streams: impl Fn() -> usize) {
        let mut draining = self.plane.draining.subscribe();
        // The peer proves who it is with its next certificate, on a new tunnel.
        let mut expired = std::pin::pin!(tokio::time::sleep(expiry));
        let mut check = tokio::time::interval(IDLE_CHECK);
        let mut used = Instant::now();
        while used.elapsed() <= IDLE {
            tokio::select! {
                () = &mut expired => return,
                _ = draining.wait_for(|draining| *draining) => return,
                _ = check.tick() => if streams() > 0 {
                    used = Instant::now();
                }
            }
        }
    }

    async fn serve_http2(
        self: Arc<Self>,
        mut connection: h2::server::Connection<Secured<TcpStream>, Bytes>,
        expiry: Duration,
    ) {
        let streams = Arc::new(AtomicUsize::new(0));
        let mut dead = std::pin::pin!(tunnel::dead(connection.ping_pong()));
        let mut leaving = std::pin::pin!(self.until_leaving(expiry, || streams.load(Ordering::Acquire)));
        let mut closing = false;
        loop {
            tokio::select! {
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, mut respond))) => {
                        let Some(place) = self.pod.place() else {
                            respond.send_reset(Reason::REFUSED_STREAM);
                            continue;
                        };
                        let caller = Arc::clone(&self);
                        let (open, carried) = (OpenStream::new(&streams), caller.plane.carried.enter());
                        tokio::spawn(async move {
                            caller.serve(request, respond).await;
                            drop((open, place, carried));
                        });
                    }
                    Some(Err(error)) => {
                        tracing::debug!(src.addr = %self.client, %error, "tunnel failed");
                        return;
                    }
                    None => return,
                },
                () = &mut dead => return,
                () = &mut leaving, if !closing => {
                    closing = true;
                    connection.graceful_shutdown();
                }
            }
        }
    }

    async fn serve_trunk(self: Arc<Self>, secured: Secured<TcpStream>, expiry: Duration) {
        let caller = Arc::clone(&self);
        let (trunk, driver) = Trunk::accept(secured, move |asked, reply| {
            let Some(place) = caller.pod.place() else { return reply.pass() };
            let held = (place, caller.plane.carried.enter());
            if reply.may_be_at_once() {
                return caller.answer(asked, reply, held);
            }
            let caller = Arc::clone(&caller);
            tokio::spawn(async move { caller.answer(asked, reply, held) });
        });
        let mut driver = std::pin::pin!(driver);
        let mut leaving = std::pin::pin!(self.until_leaving(expiry, || trunk.streams()));
        let mut closing = false;
        loop {
            tokio::select! {
                ended = &mut driver => {
                    if let Err(error) = ended {
                        tracing::debug!(src.addr = %self.client, reason = %chain(&error), "trunk failed");
                    }
                    return;
                }
                () = &mut leaving, if !closing => {
                    closing = true;
                    trunk.leave();
                }
            }
        }
    }

    /// Decides on a stream of a trunk, and hands it over with the application; at once, when that answers at once.
    fn answer(self: &Arc<Self>, asked: Asked, reply: Reply, held: impl Any + Send) {
        let client = SocketAddr::new(self.client.ip(), asked.client_port);
        let admitted = authority::served(asked.port).map_err(|error| self.bad_request(&error));
        let admitted = admitted.and_then(|port| self.admit(port, client));
        let (permit, server) = match admitted {
            Ok(admitted) => admitted,
            Err(status) => return reply.refuse(status.as_u16()),
        };
        let coming = match begin(&self.plane.kernel, &self.pod.netns, server, Some(client)) {
            Ok(Dialled::Connected(application)) => {
                let application = Socket::of_pod(application);
                return reply.accept(Carried::new(application, permit, Direction::Inbound, held));
            }
            Ok(Dialled::Coming(coming)) => coming,
            Err(error) => return reply.refuse(self.not_reached(server, &error).as_u16()),
        };
        let tunnel = Arc::clone(self);
        tokio::spawn(async move {
            match coming.connected(&tunnel.plane.kernel).await {
                Ok(application) => {
                    let application = Socket::of_pod(application);
                    reply.accept(Carried::new(application, permit, Direction::Inbound, held));
                }
                Err(error) => reply.refuse(tunnel.not_reached(server, &error).as_u16()),
            }
        });
    }

    async fn serve(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        let status = match self.open(&request).await {
            Ok((permit, application)) => {
                let Ok(send) = respond.send_response(Response::new(()), false) else { return };
                let end = TunnelEnd::new(send, request.into_body());
                return carry(end, application, &permit).await;
            }
            Err(status) => status,
        };
        let mut response = Response::new(());
        *response.status_mut() = status;
        if let Err(error) = respond.send_response(response, true) {
            tracing::debug!(%error, "tunnel failed before the answer");
        }
    }

    /// Decides on a CONNECT, and dials the application.
    async fn open(&self, request: &Request<RecvStream>) -> Result<(Permit, Socket), StatusCode> {
        if request.method() != Method::CONNECT {
            self.plane.decisions.limited(|| {
                tracing::info!(src.addr = %self.client, src.id = %self.peer, method = %request.method(), "tunnel refused: only CONNECT is served");
            });
            return Err(StatusCode::BAD_REQUEST);
        }
        let pod = self.local.ip();
        let asked = application_port(request.uri().authority(), pod, &self.plane.state.load());
        let port = asked.map_err(|error| self.bad_request(&error))?;
        let client = forwarded_client(request.headers(), self.client.ip()).unwrap_or(self.client);
        let (permit, server) = self.admit(port, client)?;
        let application = dial(&self.plane.kernel, &self.pod.netns, server, Some(client)).await;
        let application = application.map_err(|error| self.not_reached(server, &error))?;
        Ok((permit, Socket::of_pod(application)))
    }

    /// Reports what the peer cannot ask for.
    fn bad_request(&self, error: &AuthorityError) -> StatusCode {
        self.plane.decisions.limited(|| {
            tracing::info!(src.addr = %self.client, src.id = %self.peer, pod = %self.pod.key, reason = %error, "tunnel refused");
        });
        StatusCode::BAD_REQUEST
    }

    /// Decides on a connection to a port of the pod.
    fn admit(&self, port: u16, client: SocketAddr) -> Result<(Permit, SocketAddr), StatusCode> {
        let server = SocketAddr::new(self.local.ip(), port);
        let facts = facts(&self.pod, Caller::Identity(self.peer.clone()), client, server, Path::Tunnel);
        let permit = admit(&self.plane, facts).ok_or(StatusCode::UNAUTHORIZED)?;
        Ok((permit, server))
    }

    /// Reports that the application does not answer.
    fn not_reached(&self, server: SocketAddr, error: &io::Error) -> StatusCode {
        self.plane.decisions.limited(|| {
            tracing::info!(pod = %self.pod.key, dst.addr = %server, src.id = %self.peer, %error, "application not reached");
        });
        StatusCode::SERVICE_UNAVAILABLE
    }
}
