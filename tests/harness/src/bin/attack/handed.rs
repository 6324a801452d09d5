//! Sockets that go from one process to another (SCM_RIGHTS), as between pods that share a volume.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

/// Makes a TCP socket and gives it to whoever comes to a path.
#[derive(clap::Args)]
pub(crate) struct Hand {
    /// The server that it is for, ADDRESS:PORT.
    to: SocketAddr,
    /// Where it is handed over.
    #[arg(long)]
    at: PathBuf,
    /// Connects it first.
    #[arg(long)]
    connected: bool,
}

impl Hand {
    pub(crate) fn run(&self) -> Result<Value> {
        let socket =
            Socket::new(Domain::for_address(self.to), Type::STREAM, None).context("make the socket")?;
        if self.connected {
            socket.connect_timeout(&self.to.into(), Duration::from_secs(2)).context("connect")?;
        }
        let listener = UnixListener::bind(&self.at).context("listen at the path")?;
        println!("handing");
        let (stream, _) = listener.accept().context("accept")?;
        let descriptors = [socket.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        message.push(SendAncillaryMessage::ScmRights(&descriptors));
        sendmsg(&stream, &[IoSlice::new(b"x")], &mut message, SendFlags::empty())
            .context("hand the socket over")?;
        Ok(json!({ "handed": true }))
    }
}

/// Takes the socket that is handed over at `path`.
pub(crate) fn take(path: &Path) -> Result<Socket> {
    let stream = UnixStream::connect(path).context("connect to the path")?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(&stream, &mut [IoSliceMut::new(&mut byte)], &mut message, RecvFlags::empty())
        .context("take the socket")?;
    let descriptor = message.drain().find_map(|part| match part {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    Ok(descriptor.context("no socket came")?.into())
}
