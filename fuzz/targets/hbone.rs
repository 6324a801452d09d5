//! What a peer writes into a CONNECT: its authority, and the `forwarded` header. Whatever stands there, only the pod's own
//! address, a port that an application may have and the peer's own address come out.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use ambit_core::Snapshot;
use http::{HeaderMap, HeaderValue, header::FORWARDED, uri::Authority};
use libfuzzer_sys::fuzz_target;

#[path = "../../agent/src/dataplane/authority.rs"]
#[allow(dead_code)]
mod authority;

const POD: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

fuzz_target!(|input: &[u8]| {
    let (asked, forwarded) = input.split_at(input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len()));
    if let Ok(asked) = Authority::try_from(asked)
        && let Ok(port) = authority::application_port(Some(&asked), POD, &Snapshot::empty())
    {
        assert!(port != 0 && port != ambit_abi::TUNNEL_PORT, "{asked}");
        let host = asked.host().trim_start_matches('[').trim_end_matches(']');
        assert_eq!(host.parse::<IpAddr>().map(|address| address.to_canonical()), Ok(POD), "{asked}");
    }
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(forwarded.strip_prefix(b"\n").unwrap_or_default()) {
        headers.insert(FORWARDED, value);
    }
    if let Some(client) = authority::forwarded_client(&headers, PEER) {
        assert_eq!(client.ip(), PEER);
    }
});
