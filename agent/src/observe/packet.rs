//! Why the guard on a pod's link drops a packet, in words. Decides nothing.

use ambit_abi::event_reason;

/// A reason of the guard's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedPacket {
    /// Stable code, for logs, metrics and JSON.
    pub code: &'static str,
    /// The reason as a sentence that says what to do.
    pub why: &'static str,
}

/// Returns the words for one of `ambit_abi::event_reason` that is the guard's.
pub fn refused_packet(reason: u32) -> Option<RefusedPacket> {
    let (code, why) = match reason {
        event_reason::SPOOFED => (
            "spoofed-source",
            "the pod sent from, or spoke for, an address that is not its own (status.podIPs of the Pod object)",
        ),
        event_reason::UNANNOUNCED => (
            "unannounced-syn",
            "no TCP socket of the pod opened this connection: a raw socket did, or a network namespace inside the pod",
        ),
        event_reason::PROTOCOL => (
            "protocol",
            "enrolled pods exchange TCP, UDP and ICMP: other protocols, IP options and malformed packets carry no identity",
        ),
        event_reason::FRAGMENT => {
            ("fragment", "a fragment whose first part was refused or did not come before it")
        }
        _ => return None,
    };
    Some(RefusedPacket { code, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guards_reasons_have_words_and_others_none() {
        let reasons = [
            event_reason::SPOOFED,
            event_reason::UNANNOUNCED,
            event_reason::PROTOCOL,
            event_reason::FRAGMENT,
        ];
        let mut codes: Vec<_> = reasons.iter().map(|reason| refused_packet(*reason).unwrap().code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), reasons.len());
        assert_eq!(refused_packet(event_reason::POLICY), None);
    }
}
