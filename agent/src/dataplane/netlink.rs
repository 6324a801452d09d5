//! Netlink: asks the kernel of a network namespace and reads its answer (`man 7 netlink`).
//!
//! Knows the frame of the messages; what is in them is for the callers.

use super::netns::Netns;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    io::{self, Read},
    time::Duration,
};

const AF_NETLINK: i32 = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
/// Flag of a request that is to be acknowledged.
pub(crate) const ACK: u16 = 4;
/// Flag of a request for everything there is.
pub(crate) const DUMP: u16 = 0x300;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// How long the kernel may take to answer; it answers at once.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Opens a netlink socket of `protocol` in `netns`; `None`: in the node's own network namespace.
///
/// # Errors
/// What the kernel says.
pub(crate) fn open(netns: Option<&Netns>, protocol: i32) -> io::Result<Socket> {
    let (domain, protocol) = (Domain::from(AF_NETLINK), Some(Protocol::from(protocol)));
    let netlink = match netns {
        Some(netns) => netns.socket(domain, Type::RAW, protocol)?,
        None => Socket::new(domain, Type::RAW, protocol)?,
    };
    netlink.set_read_timeout(Some(TIMEOUT))?;
    Ok(netlink)
}

/// Returns a request of type `kind`.
pub(crate) fn request(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = (HEADER + body.len()) as u32;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    // Sequence number and port: a socket asks one question at a time.
    message.extend([0; 8]);
    message.extend(body);
    message
}

/// Reads the answer to its end, handing each message's body to `take`. A request that is no dump must ask for an
/// acknowledgement, which ends the answer.
///
/// # Errors
/// What the kernel says.
pub(crate) fn receive(netlink: &mut Socket, mut take: impl FnMut(&[u8])) -> io::Result<()> {
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

/// Returns the value of the attribute with this type.
pub(crate) fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    /// Flags in the type: nested, and in network byte order.
    const FLAGS: u16 = 0xc000;
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        let value = attributes.get(4..length)?;
        if kind & !FLAGS == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

/// Returns the attribute with this type as a number.
pub(crate) fn number(attributes: &[u8], wanted: u16) -> Option<u32> {
    attribute(attributes, wanted)?.get(..4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_truncated_answer_is_no_message() {
        assert!(split(&[]).is_none());
        assert!(split(&[200, 0, 0, 0, 3, 0]).is_none());
        assert!(split(&[15; 16]).is_none());
    }

    #[test]
    fn an_error_message_becomes_the_error_it_carries() {
        assert!(error_of(&0_i32.to_ne_bytes()).is_ok());
        assert_eq!(error_of(&(-2_i32).to_ne_bytes()).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(error_of(&[]).is_err());
    }

    #[test]
    fn an_attribute_is_found_among_others_and_never_beyond_the_end() {
        let attributes = [5, 0, 1, 0, 9, 0, 0, 0, 8, 0, 2, 0x80, 7, 0, 0, 0];
        assert_eq!(attribute(&attributes, 1), Some([9].as_slice()));
        assert_eq!(number(&attributes, 2), Some(7));
        assert_eq!(number(&attributes, 1), None);
        assert_eq!(attribute(&attributes, 3), None);
        assert_eq!(attribute(&attributes[..14], 2), None);
        assert_eq!(attribute(&[3, 0, 1, 0], 1), None);
    }
}
