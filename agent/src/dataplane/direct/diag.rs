//! sock_diag: lists the TCP sockets of a pod's network namespace, and destroys one (`man 7 sock_diag`).

use super::super::{netlink, netns::Netns};
use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const IPPROTO_TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The attribute that carries `struct tcp_info`, and where in it two counters stand.
const INET_DIAG_INFO: u8 = 2;
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;

const ESTABLISHED: u8 = 1;
/// State of a socket whose connection does not stand yet.
pub(super) const SYN_SENT: u8 = 2;
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
const CLOSE_WAIT: u8 = 8;
/// State of a listening socket.
pub(super) const LISTEN: u8 = 10;

/// Length of `struct inet_diag_sockid`.
const ID: usize = 48;
/// Length of `struct inet_diag_msg`.
const MESSAGE: usize = 72;
/// A TCP socket, as the kernel tells.
#[derive(Clone, Debug)]
pub(super) struct DiagSocket {
    /// State of the connection.
    pub(super) state: u8,
    /// Its own address; IPv4 also where the socket is of IPv6.
    pub(super) local: SocketAddr,
    /// Its peer.
    pub(super) remote: SocketAddr,
    /// Inode of the socket's file; 0 while nobody has accepted it.
    pub(super) inode: u32,
    /// Bytes that the peer has acknowledged.
    pub(super) acknowledged: u64,
    /// Bytes that were received.
    pub(super) received: u64,
    family: u8,
    id: [u8; ID],
}

/// Returns the listening and the connected TCP sockets of `netns`.
///
/// # Errors
/// What the kernel says.
pub(super) fn list(netns: &Netns) -> io::Result<Vec<DiagSocket>> {
    list_in(netns, &[ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LISTEN])
}

/// Returns the TCP sockets of `netns` that are in one of `states`.
///
/// # Errors
/// What the kernel says.
pub(super) fn list_in(netns: &Netns, states: &[u8]) -> io::Result<Vec<DiagSocket>> {
    let mut netlink = netlink::open(Some(netns), NETLINK_SOCK_DIAG)?;
    let states = states.iter().fold(0_u32, |bits, state| bits | 1 << state);
    let mut sockets = Vec::new();
    for family in [AF_INET, AF_INET6] {
        netlink.write_all(&request(SOCK_DIAG_BY_FAMILY, netlink::DUMP, family, states, &[0; ID]))?;
        netlink::receive(&mut netlink, |body| sockets.extend(parse(body)))?;
    }
    Ok(sockets)
}

/// Destroys a socket: both its peer and its application see a reset. `false`: it is gone already.
///
/// # Errors
/// What the kernel says.
pub(super) fn destroy(netns: &Netns, socket: &DiagSocket) -> io::Result<bool> {
    let mut netlink = netlink::open(Some(netns), NETLINK_SOCK_DIAG)?;
    netlink.write_all(&request(SOCK_DESTROY, netlink::ACK, socket.family, 1 << socket.state, &socket.id))?;
    match netlink::receive(&mut netlink, |_| {}) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn request(kind: u16, flags: u16, family: u8, states: u32, id: &[u8; ID]) -> Vec<u8> {
    let mut body = Vec::with_capacity(8 + ID);
    body.extend([family, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0]);
    body.extend(states.to_ne_bytes());
    body.extend(id);
    netlink::request(kind, flags, &body)
}

fn parse(body: &[u8]) -> Option<DiagSocket> {
    if body.len() < MESSAGE {
        return None;
    }
    let (family, state) = (*body.first()?, *body.get(1)?);
    let id: [u8; ID] = body.get(4..4 + ID)?.try_into().ok()?;
    let address = |port: usize, ip: usize| {
        let port = u16::from_be_bytes(id.get(port..port + 2)?.try_into().ok()?);
        let octets: [u8; 16] = id.get(ip..ip + 16)?.try_into().ok()?;
        let ip = match family {
            AF_INET => IpAddr::V4(Ipv4Addr::new(octets[0], octets[1], octets[2], octets[3])),
            _ => Ipv6Addr::from(octets).to_canonical(),
        };
        Some(SocketAddr::new(ip, port))
    };
    let inode = u32::from_ne_bytes(body.get(68..72)?.try_into().ok()?);
    let info = netlink::attribute(body.get(MESSAGE..)?, u16::from(INET_DIAG_INFO)).unwrap_or_default();
    // A kernel whose tcp_info is shorter does not count.
    let counter = |at: usize| {
        info.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
    };
    let (acknowledged, received) = (counter(BYTES_ACKED), counter(BYTES_RECEIVED));
    let (local, remote) = (address(0, 4)?, address(2, 20)?);
    Some(DiagSocket { state, local, remote, inode, acknowledged, received, family, id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_answer_is_no_socket() {
        assert!(parse(&[0; MESSAGE - 1]).is_none());
    }

    #[test]
    fn a_socket_of_both_families_shows_its_real_address() {
        let mut body = [0_u8; MESSAGE];
        body[0] = AF_INET6;
        body[1] = ESTABLISHED;
        body[4..6].copy_from_slice(&80_u16.to_be_bytes());
        body[8..24].copy_from_slice(&Ipv4Addr::new(10, 0, 0, 7).to_ipv6_mapped().octets());
        let socket = parse(&body).unwrap();
        assert_eq!(socket.local, "10.0.0.7:80".parse().unwrap());
    }
}
