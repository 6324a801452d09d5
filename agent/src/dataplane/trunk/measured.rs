//! A trunk between two applications on loopback, for `cargo bench -p ambit-agent --features bench`: the relay alone, with
//! real certificates and sockets, without kernel programs, policies or pods. Never part of the agent.

use super::{Carried, Outcome, Trunk};
use crate::{
    dataplane::{
        live::{Caller, Direction, Facts, Live, Path},
        relay::Socket,
        tally::Tally,
    },
    identity::{
        ca::CertificateAuthority,
        tls::{self, Configs, Trust},
    },
};
use ambit_core::{identity::SpiffeId, policy::Protocol};
use anyhow::{Context, bail};
use rustls::sign::CertifiedKey;
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const TRUST_DOMAIN: &str = "cluster.local";
const HOUR: Duration = Duration::from_secs(3600);

/// Two applications and the stream of a trunk between them.
pub struct Relay {
    near: TcpStream,
    far: TcpStream,
    /// Both sides: a trunk whose handles are dropped opens and answers nothing any more.
    _trunks: (Trunk, Trunk),
}

impl Relay {
    /// Opens it; the trunk is served by the runtime that this is called on.
    ///
    /// # Errors
    /// When there is no folder for an authority, no socket, or no handshake.
    pub async fn open() -> anyhow::Result<Self> {
        let (client, server) = configs()?;
        let (stream, peer) = connection().await?;
        let id = identity("server")?;
        let (connected, accepted) =
            tokio::join!(tls::connect(stream, client.client(&[id])), tls::accept(peer, server.server()));
        let (secured, _) = connected.context("connect")?;
        let (accepted, _) = accepted.context("accept")?;
        let (far, application) = carried(Direction::Inbound).await?;
        let mut waiting = Some(application);
        let (served, driver) = Trunk::accept(accepted, move |_, reply| match waiting.take() {
            Some(application) => reply.accept(application),
            None => reply.pass(),
        });
        tokio::spawn(driver);
        let trunk = Trunk::connect(secured, &Tally::default());
        let (near, application) = carried(Direction::Outbound).await?;
        match trunk.open(80, 4000, application).await {
            Outcome::Carried => Ok(Self { near, far, _trunks: (trunk, served) }),
            _ => bail!("the far side does not carry the stream"),
        }
    }

    /// Sends these bytes from one application to the other, and waits until they are there.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn send(&mut self, bytes: &[u8], received: &mut [u8]) -> anyhow::Result<()> {
        let (sent, got) = tokio::join!(self.near.write_all(bytes), self.far.read_exact(received));
        sent.context("send")?;
        got.context("receive")?;
        Ok(())
    }

    /// Sends 64 bytes there and back.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn round_trip(&mut self) -> anyhow::Result<()> {
        let mut bytes = [0; 64];
        self.near.write_all(&bytes).await.context("send")?;
        self.far.read_exact(&mut bytes).await.context("receive")?;
        self.far.write_all(&bytes).await.context("send back")?;
        self.near.read_exact(&mut bytes).await.context("receive it back")?;
        Ok(())
    }
}

fn identity(name: &str) -> anyhow::Result<SpiffeId> {
    SpiffeId::new(TRUST_DOMAIN, "bench", name).context("name an identity")
}

/// Returns what both sides present and trust, under an authority that is made for it.
fn configs() -> anyhow::Result<(Configs, Configs)> {
    let folder = std::env::temp_dir().join(format!("ambit-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let authority = CertificateAuthority::open_or_create(&folder.join("ca"), TRUST_DOMAIN);
    let configs = authority.context("make an authority").and_then(|authority| {
        let trust = Trust::new(authority.root(), BTreeSet::from([TRUST_DOMAIN.to_owned()]))?;
        let issue = |name: &str| {
            let issued = authority.issue(&identity(name)?, HOUR, SystemTime::now())?;
            anyhow::Ok(Configs::new(&trust, CertifiedKey::new(issued.chain, issued.key), issued.not_after)?)
        };
        Ok((issue("client")?, issue("server")?))
    });
    std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    configs
}

/// Returns both ends of a connection on loopback.
async fn connection() -> anyhow::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
    let near = TcpStream::connect(listener.local_addr()?).await.context("connect")?;
    let (far, _) = listener.accept().await.context("accept")?;
    for stream in [&near, &far] {
        stream.set_nodelay(true)?;
    }
    Ok((near, far))
}

/// Returns an application's end of a connection, and the agent's.
async fn carried(direction: Direction) -> anyhow::Result<(TcpStream, Carried)> {
    let (near, far) = connection().await?;
    let client: SocketAddr = near.local_addr()?;
    let facts = Facts {
        direction,
        caller: Caller::Unverified,
        client,
        server: client,
        destination: None,
        service: None,
        path: Path::Tunnel,
        protocol: Protocol::Tcp,
    };
    let permit = Arc::new(Live::default()).enter(facts);
    Ok((near, Carried::new(Socket::of_pod(far), permit, direction, ())))
}
