//! Connections that the agent opens from inside a pod. Never decides whether they may be.

use super::netns::Netns;
use ambit_bpf::{Kernel, socket_cookie};
use rustix::io::Errno;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// How long a connection may take to come about.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that was begun.
pub(super) enum Dialled {
    /// It stands.
    Connected(TcpStream),
    /// It is on its way.
    Coming(Coming),
}

/// A connection whose peer has not answered yet.
pub(super) struct Coming {
    stream: TcpStream,
    cookie: u64,
}

/// Begins to connect to `address` from inside `netns`, as the agent and on behalf of `client`. Whatever is on this node
/// answers at once.
pub(super) fn begin(
    kernel: &Kernel,
    netns: &Netns,
    address: SocketAddr,
    client: Option<SocketAddr>,
) -> io::Result<Dialled> {
    let socket = netns.connecting(address)?;
    let cookie = socket_cookie(&socket)?;
    kernel.announce(cookie, client).map_err(io::Error::other)?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => {
            withdraw(kernel, cookie)?;
            return Err(error);
        }
        _ => {}
    }
    let stands = socket.peer_addr().is_ok();
    let stream = TcpStream::from_std(socket.into())?;
    Ok(if stands { Dialled::Connected(stream) } else { Dialled::Coming(Coming { stream, cookie }) })
}

impl Coming {
    /// Waits until the connection stands.
    pub(super) async fn connected(self, kernel: &Kernel) -> io::Result<TcpStream> {
        let Self { stream, cookie } = self;
        let answered = async {
            stream.writable().await?;
            stream.take_error()?.map_or(Ok(()), Err)
        };
        let answered = timeout(DIAL_TIMEOUT, answered).await;
        match answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(()) => Ok(stream),
            Err(error) => {
                withdraw(kernel, cookie)?;
                Err(error)
            }
        }
    }
}

/// Connects to `address` from inside `netns`, as the agent and on behalf of `client`.
pub(super) async fn dial(
    kernel: &Kernel,
    netns: &Netns,
    address: SocketAddr,
    client: Option<SocketAddr>,
) -> io::Result<TcpStream> {
    match begin(kernel, netns, address, client)? {
        Dialled::Connected(stream) => Ok(stream),
        Dialled::Coming(coming) => coming.connected(kernel).await,
    }
}

/// Takes an announcement back: the first packet of a connection consumes it, if there was one.
fn withdraw(kernel: &Kernel, cookie: u64) -> io::Result<()> {
    kernel.withdraw(cookie).map_err(io::Error::other)
}
