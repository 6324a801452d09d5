//! sock_diag: lists the TCP sockets of a pod's network namespace, and destroys one (`man 7 sock_diag`).

use super::super::netns::Netns;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

const AF_NETLINK: i32 = 16;
const NETLINK_SOCK_DIAG: i32 = 4;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const IPPROTO_TCP: u8 = 6;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The attribute that carries `struct tcp_info`, and where in it two counters stand.
const INET_DIAG_INFO: u8 = 2;
const BYTES_ACKED: usize = 120;
const BYTES_RECEIVED: usize = 128;

const ESTABLISHED: u8 = 1;
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
const CLOSE_WAIT: u8 = 8;
/// State of a listening socket.
pub(super) const LISTEN: u8 = 10;

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct inet_diag_sockid`.
const ID: usize = 48;
/// Length of `struct inet_diag_msg`.
const MESSAGE: usize = 72;
/// How long the kernel may take to answer; it answers at once.
const TIMEOUT: Duration = Duration::from_secs(2);

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
    let mut netlink = open(netns)?;
    let states = [ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LISTEN];
    let states = states.iter().fold(0_u32, |bits, state| bits | 1 << state);
    let mut sockets = Vec::new();
    for family in [AF_INET, AF_INET6] {
        netlink.write_all(&request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family, states, &[0; ID]))?;
        receive(&mut netlink, |body| sockets.extend(parse(body)))?;
    }
    Ok(sockets)
}

/// Destroys a socket: both its peer and its application see a reset. `false`: it is gone already.
///
/// # Errors
/// What the kernel says.
pub(super) fn destroy(netns: &Netns, socket: &DiagSocket) -> io::Result<bool> {
    let mut netlink = open(netns)?;
    netlink.write_all(&request(SOCK_DESTROY, NLM_F_ACK, socket.family, 1 << socket.state, &socket.id))?;
    match receive(&mut netlink, |_| {}) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn open(netns: &Netns) -> io::Result<Socket> {
    let netlink =
        netns.socket(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(NETLINK_SOCK_DIAG)))?;
    netlink.set_read_timeout(Some(TIMEOUT))?;
    Ok(netlink)
}

fn request(kind: u16, flags: u16, family: u8, states: u32, id: &[u8; ID]) -> Vec<u8> {
    let length = (HEADER + 8 + ID) as u32;
    let mut message = Vec::with_capacity(HEADER + 8 + ID);
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    // Sequence number and port: this socket asks one question at a time.
    message.extend([0; 8]);
    message.extend([family, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0]);
    message.extend(states.to_ne_bytes());
    message.extend(id);
    message
}

/// Reads the answer to its end, handing each message's body to `take`.
fn receive(netlink: &mut Socket, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = netlink.read(&mut buffer)?;
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some((kind, body, next)) = split(rest) {
            match kind {
                NLMSG_DONE => return Ok(()),
                NLMSG_ERROR => return error_of(body),
                _ => take(body),
            }
            rest = next;
        }
    }
}

/// Splits off the first message: its type, its body and what follows.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body, next))
}

/// Returns the error that a message of type NLMSG_ERROR carries; 0 is an acknowledgement.
fn error_of(body: &[u8]) -> io::Result<()> {
    let code = body.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(i32::MIN, i32::from_ne_bytes);
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code.wrapping_neg())) }
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
    let info = attribute(body.get(MESSAGE..)?, u16::from(INET_DIAG_INFO)).unwrap_or_default();
    // A kernel whose tcp_info is shorter does not count.
    let counter = |at: usize| {
        info.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
    };
    let (acknowledged, received) = (counter(BYTES_ACKED), counter(BYTES_RECEIVED));
    let (local, remote) = (address(0, 4)?, address(2, 20)?);
    Some(DiagSocket { state, local, remote, inode, acknowledged, received, family, id })
}

/// Returns the value of the attribute with this type.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_answer_is_no_message() {
        assert!(split(&[]).is_none());
        assert!(split(&[200, 0, 0, 0, 3, 0]).is_none());
        assert!(split(&[15; 16]).is_none());
        assert!(parse(&[0; MESSAGE - 1]).is_none());
    }

    #[test]
    fn an_error_message_becomes_the_error_it_carries() {
        assert!(error_of(&0_i32.to_ne_bytes()).is_ok());
        assert_eq!(error_of(&(-2_i32).to_ne_bytes()).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(error_of(&[]).is_err());
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
