//! One frame and what its headers say. Reads Ethernet, IPv4, IPv6 and TCP; anything else is just bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const TCP: u8 = 6;

/// A frame as it was on the wire.
#[derive(Clone, Debug)]
pub struct Packet {
    bytes: Vec<u8>,
}

/// A TCP segment inside a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The sender.
    pub src: SocketAddr,
    /// The receiver.
    pub dst: SocketAddr,
    /// The sequence number of the first payload byte, or of the SYN.
    pub seq: u32,
    /// Whether the SYN flag is set.
    pub syn: bool,
    /// Whether the RST flag is set.
    pub rst: bool,
    /// The payload.
    pub payload: &'a [u8],
}

impl Packet {
    /// Wraps a frame that starts with its Ethernet header.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    /// Returns the whole frame.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the TCP segment that the frame carries; None for anything else, or a mangled one.
    pub fn segment(&self) -> Option<Segment<'_>> {
        let (header, body) = self.bytes.split_at_checked(14)?;
        let (src, dst, tcp): (IpAddr, IpAddr, &[u8]) = match [header[12], header[13]] {
            IPV4 => {
                let header_len = usize::from(body.first()? & 0x0f) * 4;
                let total = usize::from(u16::from_be_bytes(take(body, 2)?));
                let src = Ipv4Addr::from(take::<4>(body, 12)?);
                let dst = Ipv4Addr::from(take::<4>(body, 16)?);
                (*body.get(9)? == TCP).then_some(())?;
                (src.into(), dst.into(), body.get(header_len..total)?)
            }
            IPV6 => {
                let length = usize::from(u16::from_be_bytes(take(body, 4)?));
                let src = Ipv6Addr::from(take::<16>(body, 8)?);
                let dst = Ipv6Addr::from(take::<16>(body, 24)?);
                (*body.get(6)? == TCP).then_some(())?;
                (src.into(), dst.into(), body.get(40..40 + length)?)
            }
            _ => return None,
        };
        let flags = *tcp.get(13)?;
        Some(Segment {
            src: SocketAddr::new(src, u16::from_be_bytes(take(tcp, 0)?)),
            dst: SocketAddr::new(dst, u16::from_be_bytes(take(tcp, 2)?)),
            seq: u32::from_be_bytes(take(tcp, 4)?),
            syn: flags & 0x02 != 0,
            rst: flags & 0x04 != 0,
            payload: tcp.get(usize::from(tcp.get(12)? >> 4) * 4..)?,
        })
    }
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Builds a frame as the kernel would, checksums left out.
    pub(crate) fn frame(src: &str, dst: &str, seq: u32, flags: u8, payload: &[u8]) -> Packet {
        let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
        let mut tcp = Vec::new();
        tcp.extend(src.port().to_be_bytes());
        tcp.extend(dst.port().to_be_bytes());
        tcp.extend(seq.to_be_bytes());
        tcp.extend([0, 0, 0, 0, 5 << 4, flags, 0, 0, 0, 0, 0, 0]);
        tcp.extend(payload);
        let mut bytes = vec![0; 12];
        match (src.ip(), dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                bytes.extend(IPV4);
                bytes.extend([0x45, 0]);
                bytes.extend(u16::try_from(20 + tcp.len()).unwrap().to_be_bytes());
                bytes.extend([0, 0, 0, 0, 64, TCP, 0, 0]);
                bytes.extend(src.octets());
                bytes.extend(dst.octets());
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                bytes.extend(IPV6);
                bytes.extend([0x60, 0, 0, 0]);
                bytes.extend(u16::try_from(tcp.len()).unwrap().to_be_bytes());
                bytes.extend([TCP, 64]);
                bytes.extend(src.octets());
                bytes.extend(dst.octets());
            }
            _ => panic!("two families"),
        }
        bytes.extend(tcp);
        // Short frames are padded on the wire.
        bytes.resize(bytes.len().max(60), 0);
        Packet::new(bytes)
    }

    #[test]
    fn a_segment_is_read_without_the_frames_padding() {
        for (src, dst) in [("10.1.0.10:4000", "10.2.0.10:80"), ("[fd10:1::a]:4000", "[fd10:2::a]:80")] {
            let packet = frame(src, dst, 7, 0x02, b"x");
            let segment = packet.segment().unwrap();
            assert_eq!(segment.src, src.parse().unwrap());
            assert_eq!(segment.dst, dst.parse().unwrap());
            assert_eq!((segment.seq, segment.syn, segment.rst, segment.payload), (7, true, false, &b"x"[..]));
        }
    }

    #[test]
    fn a_cut_frame_is_no_segment() {
        let whole = frame("10.1.0.10:4000", "10.2.0.10:80", 7, 0, &[1; 100]);
        for length in 0..whole.bytes().len() {
            assert_eq!(Packet::new(whole.bytes()[..length].to_vec()).segment(), None);
        }
    }
}
