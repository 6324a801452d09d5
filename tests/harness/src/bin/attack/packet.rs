//! Bytes of packets as an attacker makes them: headers, options, fragments, checksums. Opens no socket.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;
pub(crate) const IGMP: u8 = 2;

/// TCP's flags.
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

/// What goes behind an IP header.
#[derive(Clone, Debug)]
pub(crate) struct Body {
    pub(crate) protocol: u8,
    pub(crate) bytes: Vec<u8>,
}

/// The part of a TCP segment that is not its tuple.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segment {
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

/// Returns a TCP segment with a right checksum.
pub(crate) fn tcp(from: SocketAddr, to: SocketAddr, segment: &Segment) -> Body {
    let mut bytes = Vec::with_capacity(20 + segment.payload.len());
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend(segment.sequence.to_be_bytes());
    bytes.extend(segment.acknowledged.to_be_bytes());
    bytes.extend([0x50, segment.flags]);
    bytes.extend(64240_u16.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(&segment.payload);
    checked(from.ip(), to.ip(), TCP, bytes, 16)
}

/// Returns a UDP datagram.
pub(crate) fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Body {
    let mut bytes = Vec::with_capacity(8 + payload.len());
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend(((8 + payload.len()) as u16).to_be_bytes());
    bytes.extend([0; 2]);
    bytes.extend(payload);
    checked(from.ip(), to.ip(), UDP, bytes, 6)
}

/// Returns an ICMP echo request that `number` tells from others.
pub(crate) fn echo(from: IpAddr, to: IpAddr, number: u16) -> Body {
    let [high, low] = number.to_be_bytes();
    icmp(from, to, if from.is_ipv4() { 8 } else { 128 }, [high, low, 0, 1], b"ambit-fence")
}

/// Returns an ICMP message of the type `kind` with the word that follows its checksum.
pub(crate) fn icmp(from: IpAddr, to: IpAddr, kind: u8, word: [u8; 4], payload: &[u8]) -> Body {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(word);
    bytes.extend(payload);
    if from.is_ipv6() {
        return checked(from, to, ICMPV6, bytes, 2);
    }
    let sum = checksum(&bytes).to_be_bytes();
    bytes[2..4].copy_from_slice(&sum);
    Body { protocol: ICMP, bytes }
}

/// Returns an IGMP report about the group `to`, with data behind it.
///
/// # Errors
/// When that is no IPv4 address.
pub(crate) fn membership(to: IpAddr, payload: &[u8]) -> Result<Body> {
    let IpAddr::V4(group) = to else { bail!("IGMP is IPv4's") };
    let mut bytes = [&[0x16, 0, 0, 0], &group.octets()[..], payload].concat();
    let sum = checksum(&bytes).to_be_bytes();
    bytes[2..4].copy_from_slice(&sum);
    Ok(Body { protocol: IGMP, bytes })
}

/// Returns an unsolicited neighbour advertisement that claims `address` for the link address `mac`.
pub(crate) fn advertisement(address: IpAddr, to: IpAddr, mac: [u8; 6]) -> Result<Body> {
    let IpAddr::V6(claimed) = address else { bail!("neighbour advertisements are IPv6's") };
    let mut bytes = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    bytes.extend(claimed.octets());
    bytes.extend([2, 1]);
    bytes.extend(mac);
    Ok(checked(address, to, ICMPV6, bytes, 2))
}

/// Returns a gratuitous ARP request that claims `address` for the link address `mac`.
pub(crate) fn arp(address: IpAddr, mac: [u8; 6]) -> Result<Vec<u8>> {
    let IpAddr::V4(claimed) = address else { bail!("ARP is IPv4's") };
    let mut bytes = vec![0, 1, 8, 0, 6, 4, 0, 1];
    bytes.extend(mac);
    bytes.extend(claimed.octets());
    bytes.extend([0; 6]);
    bytes.extend(claimed.octets());
    Ok(bytes)
}

/// What an IP header says besides addresses and protocol.
#[derive(Clone, Debug, Default)]
pub(crate) struct Header {
    /// IPv4 options, padded to words; for IPv6, whole extension headers come with the body instead.
    pub(crate) options: Vec<u8>,
    pub(crate) identification: u32,
    /// Offset of a fragment in units of 8 bytes, and whether more follow.
    pub(crate) fragment: Option<(u16, bool)>,
}

/// Returns a whole IP packet.
///
/// # Errors
/// When the addresses are of two families.
pub(crate) fn ip(from: IpAddr, to: IpAddr, header: &Header, body: &Body) -> Result<Vec<u8>> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = 20 + header.options.len();
            let mut bytes = vec![0x40 | (length / 4) as u8, 0];
            bytes.extend(((length + body.bytes.len()) as u16).to_be_bytes());
            bytes.extend((header.identification as u16).to_be_bytes());
            let (offset, more) = header.fragment.unwrap_or((0, false));
            bytes.extend((offset | if more { 0x2000 } else { 0 }).to_be_bytes());
            bytes.extend([64, body.protocol, 0, 0]);
            bytes.extend(from.octets());
            bytes.extend(to.octets());
            bytes.extend(&header.options);
            let sum = checksum(&bytes).to_be_bytes();
            bytes[10..12].copy_from_slice(&sum);
            bytes.extend(&body.bytes);
            Ok(bytes)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let extension = header.fragment.map(|(offset, more)| {
                let mut bytes = vec![body.protocol, 0];
                bytes.extend((offset << 3 | u16::from(more)).to_be_bytes());
                bytes.extend(header.identification.to_be_bytes());
                bytes
            });
            let next = if extension.is_some() { 44 } else { body.protocol };
            let extension = extension.unwrap_or_default();
            let mut bytes = vec![0x60, 0, 0, 0];
            bytes.extend(((extension.len() + body.bytes.len()) as u16).to_be_bytes());
            bytes.extend([next, 64]);
            bytes.extend(from.octets());
            bytes.extend(to.octets());
            bytes.extend(extension);
            bytes.extend(&body.bytes);
            Ok(bytes)
        }
        _ => bail!("{from} and {to} are of two families"),
    }
}

/// Puts the checksum over pseudo header and bytes at `at`.
fn checked(from: IpAddr, to: IpAddr, protocol: u8, mut bytes: Vec<u8>, at: usize) -> Body {
    let mut summed = Vec::new();
    for address in [from, to] {
        match address {
            IpAddr::V4(address) => summed.extend(address.octets()),
            IpAddr::V6(address) => summed.extend(address.octets()),
        }
    }
    summed.extend([0, protocol]);
    summed.extend((bytes.len() as u16).to_be_bytes());
    summed.extend(&bytes);
    let sum = checksum(&summed).to_be_bytes();
    bytes[at..at + 2].copy_from_slice(&sum);
    Body { protocol, bytes }
}

/// The ones' complement sum of RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)])));
    let mut sum: u32 = words.sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_with_its_checksum_sums_to_zero() {
        let (from, to) = ("10.1.0.10:1000", "10.1.0.11:2000");
        let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let body = tcp(from, to, &Segment { flags: SYN, ..Segment::default() });
        let packet = ip(from.ip(), to.ip(), &Header::default(), &body).unwrap();
        assert_eq!(checksum(&packet[..20]), 0);
        let mut pseudo = packet[12..20].to_vec();
        pseudo.extend([0, TCP, 0, 20]);
        pseudo.extend(&packet[20..]);
        assert_eq!(checksum(&pseudo), 0);
    }
}
