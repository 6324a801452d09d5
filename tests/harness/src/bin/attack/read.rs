//! Reads back what a packet says, as far as a watcher needs it. Never trusts its length.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::packet::{TCP, UDP};

/// The headers of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) protocol: u8,
    /// TCP's; 0 for others.
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    /// Whether it is a fragment, the first one included.
    pub(crate) fragment: bool,
    /// What TCP carries.
    pub(crate) payload: &'a [u8],
}

/// Returns what an IP packet says; `None` for anything else.
pub(crate) fn packet(bytes: &[u8]) -> Option<Seen<'_>> {
    let (from, to, protocol, fragment, later, body): (IpAddr, IpAddr, u8, bool, bool, &[u8]) = match bytes
        .first()?
        >> 4
    {
        4 => {
            let total = usize::from(u16::from_be_bytes(take(bytes, 2)?)).min(bytes.len());
            let offset = u16::from_be_bytes(take(bytes, 6)?);
            let length = usize::from(bytes[0] & 15) * 4;
            let (from, to) = (Ipv4Addr::from(take::<4>(bytes, 12)?), Ipv4Addr::from(take::<4>(bytes, 16)?));
            let (fragment, later) = (offset & 0x3fff != 0, offset & 0x1fff != 0);
            (from.into(), to.into(), *bytes.get(9)?, fragment, later, bytes.get(length..total)?)
        }
        6 => {
            let (from, to) = (Ipv6Addr::from(take::<16>(bytes, 8)?), Ipv6Addr::from(take::<16>(bytes, 24)?));
            let (mut protocol, mut at, mut fragment, mut later) = (*bytes.get(6)?, 40, false, false);
            while matches!(protocol, 0 | 43 | 44 | 60) {
                let head: [u8; 4] = take(bytes, at)?;
                if protocol == 44 {
                    (fragment, later) = (true, u16::from_be_bytes([head[2], head[3]]) >> 3 != 0);
                }
                at += if protocol == 44 { 8 } else { (usize::from(head[1]) + 1) * 8 };
                protocol = head[0];
                if later {
                    break;
                }
            }
            (from.into(), to.into(), protocol, fragment, later, bytes.get(at..)?)
        }
        _ => return None,
    };
    let ported = matches!(protocol, TCP | UDP | 132) && !later;
    let port = |at| if ported { take(body, at).map_or(0, u16::from_be_bytes) } else { 0 };
    let mut seen = Seen {
        from: SocketAddr::new(from, port(0)),
        to: SocketAddr::new(to, port(2)),
        protocol,
        flags: 0,
        sequence: 0,
        acknowledged: 0,
        fragment,
        payload: &[],
    };
    if protocol == TCP && !later && body.len() >= 20 {
        seen.sequence = u32::from_be_bytes(take(body, 4)?);
        seen.acknowledged = u32::from_be_bytes(take(body, 8)?);
        seen.flags = body[13];
        seen.payload = body.get(usize::from(body[12] >> 4) * 4..).unwrap_or_default();
    }
    Some(seen)
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}
