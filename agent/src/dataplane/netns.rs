//! Network namespaces of pods: sockets are made inside them, by a thread that goes in and comes back at once.
//!
//! A socket keeps the cgroup and the credentials of the agent and the network namespace of the pod: nothing of the
//! agent runs in the pod.

use ambit_bpf::netns_cookie;
use rustix::{
    fs::{Mode, OFlags},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::net::TcpListener;

/// An error of entering or using a pod's network namespace.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// The path cannot be opened.
    #[error("open the network namespace {}: is the pod still there?", path.display())]
    Open {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The path is no network namespace, or the agent lacks the right to enter it.
    #[error("enter {}: is it the file of a network namespace?", path.display())]
    Enter {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The path is the node's own network namespace, which no pod may claim.
    #[error("{} is the node's own network namespace, not a pod's", .0.display())]
    Node(PathBuf),
}

/// The network namespace that the agent itself lives in.
#[derive(Debug)]
pub struct Home {
    file: File,
    cookie: u64,
}

impl Home {
    /// Opens the network namespace of this process.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn open() -> io::Result<Arc<Self>> {
        let file = File::open("/proc/self/ns/net")?;
        let cookie = netns_cookie(Socket::new(Domain::IPV4, Type::DGRAM, None)?)?;
        Ok(Arc::new(Self { file, cookie }))
    }

    /// Returns the cookie of the node's network namespace.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }
}

impl AsFd for Home {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The network namespace of a pod.
#[derive(Clone, Debug)]
pub struct Netns {
    home: Arc<Home>,
    file: Arc<File>,
    cookie: u64,
    /// Device and inode of the path when it was opened.
    instance: (u64, u64),
}

impl Netns {
    /// Opens the network namespace at `path`.
    ///
    /// # Errors
    /// `Open`, `Enter`, or `Node` when it is the node's own.
    pub fn open(home: &Arc<Home>, path: &Path) -> Result<Self, NetnsError> {
        let opened = |source| NetnsError::Open { path: path.to_owned(), source };
        let entered = |source| NetnsError::Enter { path: path.to_owned(), source };
        // The path comes from an annotation: opening a FIFO in its place must not wait for a writer.
        let without_waiting = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, without_waiting, Mode::empty());
        let file = Arc::new(File::from(file.map_err(|error| opened(error.into()))?));
        let metadata = file.metadata().map_err(opened)?;
        let instance = (metadata.dev(), metadata.ino());
        let mut netns = Self { home: Arc::clone(home), file, cookie: 0, instance };
        let socket = netns.socket(Domain::IPV4, Type::DGRAM, None).map_err(entered)?;
        netns.cookie = netns_cookie(&socket).map_err(entered)?;
        if netns.cookie == home.cookie {
            return Err(NetnsError::Node(path.to_owned()));
        }
        Ok(netns)
    }

    /// Returns the kernel's cookie of the namespace.
    pub fn cookie(&self) -> u64 {
        self.cookie
    }

    /// Tells whether `path` still names this very namespace.
    pub fn is_at(&self, path: &Path) -> bool {
        path.metadata().is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.instance)
    }

    /// Makes a socket in the namespace.
    pub(super) fn socket(
        &self,
        domain: Domain,
        kind: Type,
        protocol: Option<Protocol>,
    ) -> io::Result<Socket> {
        move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
        let socket = Socket::new(domain, kind, protocol);
        if let Err(error) =
            move_into_link_name_space(self.home.file.as_fd(), Some(LinkNameSpaceType::Network))
        {
            // This thread would go on serving the node from inside a pod.
            tracing::error!(%error, "cannot return from a pod's network namespace");
            std::process::abort();
        }
        socket
    }

    /// Makes a TCP socket to connect to `destination` with. Until that is changed, it ends in a reset.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn connecting(&self, destination: SocketAddr) -> io::Result<Socket> {
        let kind = Type::STREAM.nonblocking();
        let socket = self.socket(Domain::for_address(destination), kind, Some(Protocol::TCP))?;
        prepare(&socket)?;
        Ok(socket)
    }

    /// Makes a listener that only `sk_lookup` leads to: bound to an ephemeral port of the loopback address, for both
    /// families where the namespace has IPv6. Returns it with the families it takes. What it accepts ends in a reset.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn listener(&self, backlog: i32) -> io::Result<(TcpListener, &'static [u32])> {
        const AF_INET: u32 = 2;
        const AF_INET6: u32 = 10;
        // Bound to ::1 the kernel would make it an IPv6-only socket; the mapped address keeps both families.
        let loopback = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
        let both = self.bind(Domain::IPV6, SocketAddr::from((loopback, 0)), backlog);
        if let Ok(listener) = both {
            return Ok((listener, &[AF_INET, AF_INET6]));
        }
        let listener = self.bind(Domain::IPV4, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), backlog)?;
        Ok((listener, &[AF_INET]))
    }

    fn bind(&self, domain: Domain, address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
        let socket = self.socket(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        // What is accepted has the options of its listener.
        prepare(&socket)?;
        socket.bind(&address.into())?;
        socket.listen(backlog)?;
        TcpListener::from_std(socket.into())
    }
}

/// Has a connection end in a reset until it has ended cleanly, and send without delay.
fn prepare(socket: &Socket) -> io::Result<()> {
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
