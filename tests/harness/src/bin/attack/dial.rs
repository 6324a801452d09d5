//! `dial`: an ordinary connection on an unusual way: an option, another system call, a socket that is older or that
//! someone else made.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv6Addr, Shutdown, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::{Value, json};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{handed, syscalls};

const PAYLOAD: &[u8] = b"ambit-attack\n";
/// `MSG_FASTOPEN`.
const FAST_OPEN: i32 = 0x2000_0000;

/// Connects to a hello server; prints what it greeted with, or why it did not.
#[derive(clap::Args)]
pub(crate) struct Dial {
    /// The server, ADDRESS:PORT.
    to: SocketAddr,
    #[arg(long, value_enum, default_value_t = Way::Plain)]
    way: Way,
    /// The local address.
    #[arg(long)]
    bind: Option<SocketAddr>,
    /// Another server, with which the socket was connected before (`--way again`).
    #[arg(long)]
    first: Option<SocketAddr>,
    /// Moves to this cgroup once the socket is made.
    #[arg(long)]
    cgroup: Option<PathBuf>,
    /// Makes the socket, says so, and connects only when this file is there.
    #[arg(long)]
    once: Option<PathBuf>,
    /// Makes no socket, but takes one that is handed over at this path.
    #[arg(long)]
    taken: Option<PathBuf>,
    /// The socket that is taken stands already.
    #[arg(long)]
    connected: bool,
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// How the connection comes about.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    Plain,
    /// An IPv4 address as IPv6 writes it.
    Mapped,
    Mark,
    /// Bound to the link.
    Device,
    /// Bound to an address that is not there.
    Freebind,
    /// The same, as transparent proxies do.
    Transparent,
    Mptcp,
    /// `sendto` with MSG_FASTOPEN.
    FastOpen,
    /// TCP_FASTOPEN_CONNECT.
    FastOpenConnect,
    /// io_uring, on a kernel thread.
    Uring,
    /// A socket that was connected elsewhere, let go with AF_UNSPEC.
    Again,
    Sctp,
    Dccp,
    UdpLite,
}

impl Dial {
    pub(crate) fn run(&self) -> Result<Value> {
        // Whatever the kernel refuses on the way is an outcome, not a failure of this program.
        Ok(match self.exchange() {
            Ok((greeting, local)) => json!({ "served": true, "greeting": greeting, "local": local }),
            Err(error) => json!({ "served": false, "error": format!("{error:#}") }),
        })
    }

    fn exchange(&self) -> Result<(Value, Option<SocketAddr>)> {
        let mut socket = match &self.taken {
            Some(path) => handed::take(path)?,
            None => self.socket()?,
        };
        if let Some(cgroup) = &self.cgroup {
            std::fs::write(cgroup.join("cgroup.procs"), "0").context("move to the cgroup")?;
        }
        if let Some(file) = &self.once {
            println!("made");
            while !file.exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        socket.set_read_timeout(Some(self.timeout)).context("set a time-out")?;
        socket.set_write_timeout(Some(self.timeout)).context("set a time-out")?;
        if !self.connected {
            self.connect(&mut socket)?;
        }
        let greeting = greet(&mut socket)?;
        Ok((greeting, socket.local_addr().ok().and_then(|local| local.as_socket())))
    }

    fn target(&self) -> SocketAddr {
        match (self.way, self.to.ip()) {
            (Way::Mapped, IpAddr::V4(ip)) => {
                let mapped: Ipv6Addr = ip.to_ipv6_mapped();
                SocketAddr::new(mapped.into(), self.to.port())
            }
            _ => self.to,
        }
    }

    fn socket(&self) -> Result<Socket> {
        let (kind, protocol) = match self.way {
            Way::Mptcp => (Type::STREAM, Some(Protocol::MPTCP)),
            Way::Sctp => (Type::STREAM, Some(Protocol::from(132))),
            Way::Dccp => (Type::from(6), Some(Protocol::from(33))),
            Way::UdpLite => (Type::DGRAM, Some(Protocol::from(136))),
            _ => (Type::STREAM, None),
        };
        let v6 = self.to.is_ipv6();
        let socket =
            Socket::new(Domain::for_address(self.target()), kind, protocol).context("make the socket")?;
        match self.way {
            Way::Mark => socket.set_mark(0x1337).context("set a mark")?,
            Way::Device => socket.bind_device(Some(b"eth0")).context("bind to the link")?,
            Way::Freebind if v6 => socket.set_freebind_v6(true).context("set IPV6_FREEBIND")?,
            Way::Freebind => socket.set_freebind_v4(true).context("set IP_FREEBIND")?,
            Way::Transparent if v6 => socket.set_ip_transparent_v6(true).context("set IPV6_TRANSPARENT")?,
            Way::Transparent => socket.set_ip_transparent_v4(true).context("set IP_TRANSPARENT")?,
            Way::FastOpenConnect => syscalls::defer_connect(&socket).context("set TCP_FASTOPEN_CONNECT")?,
            _ => {}
        }
        if let Some(address) = self.bind {
            socket.set_reuse_address(true).context("set SO_REUSEADDR")?;
            socket.bind(&address.into()).with_context(|| format!("bind {address}"))?;
        }
        Ok(socket)
    }

    fn connect(&self, socket: &mut Socket) -> Result<()> {
        let to: SockAddr = self.target().into();
        match self.way {
            Way::FastOpen => {
                socket.send_to_with_flags(PAYLOAD, &to, FAST_OPEN).context("sendto with MSG_FASTOPEN")?;
            }
            Way::FastOpenConnect => {
                socket.connect(&to).context("connect")?;
                socket.write_all(PAYLOAD).context("send")?;
            }
            Way::Uring => syscalls::connect_uring(socket, &to)?,
            Way::Again => {
                let Some(first) = self.first else { bail!("`--way again` takes --first") };
                socket.connect_timeout(&first.into(), self.timeout).context("connect elsewhere")?;
                rustix::net::connect_unspec(&*socket).context("let go with AF_UNSPEC")?;
                socket.connect_timeout(&to, self.timeout).context("connect again")?;
            }
            _ => socket.connect_timeout(&to, self.timeout).context("connect")?,
        }
        Ok(())
    }
}

/// Sends a line and reads the one with which a hello server greets.
fn greet(socket: &mut Socket) -> Result<Value> {
    socket.write_all(PAYLOAD).context("send")?;
    let mut greeting = Vec::new();
    let mut byte = [0];
    while greeting.last() != Some(&b'\n') && greeting.len() < 4096 {
        if socket.read(&mut byte).context("read")? == 0 {
            bail!("the connection ended");
        }
        greeting.push(byte[0]);
    }
    // An end in order, so that the server counts nothing as broken.
    socket.shutdown(Shutdown::Write).context("end")?;
    socket.read_to_end(&mut Vec::new()).context("read to the end")?;
    serde_json::from_slice(&greeting).context("read the greeting")
}
