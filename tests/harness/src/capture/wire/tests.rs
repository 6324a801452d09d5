//! The rules of telling TLS from plaintext.

use super::*;
use crate::capture::packet::tests::frame;

const CLIENT: &str = "10.1.0.10:4000";
const TUNNEL: &str = "10.2.0.10:15008";
const APP: &str = "10.2.0.10:8080";
const SYN: u8 = 0x02;

fn record(length: u16) -> Vec<u8> {
    let mut bytes = vec![23, 3, 3];
    bytes.extend(length.to_be_bytes());
    bytes.resize(RECORD_HEADER + usize::from(length), b'G');
    bytes
}

fn report(packets: &[Packet]) -> WireReport {
    WireReport::of(packets)
}

#[test]
fn records_across_segments_out_of_order_and_twice_are_tls() {
    let bytes = [record(300), record(50)].concat();
    let packets = [
        frame(CLIENT, TUNNEL, 99, SYN, b""),
        frame(CLIENT, TUNNEL, 300, 0, &bytes[200..]),
        frame(CLIENT, TUNNEL, 100, 0, &bytes[..200]),
        frame(CLIENT, TUNNEL, 100, 0, &bytes[..150]),
    ];
    let report = report(&packets);
    assert!(report.only_tls(), "{report:?}");
    assert_eq!(report.streams[0].bytes, bytes.len());
}

#[test]
fn tls_outside_the_tunnels_port_is_not_enough() {
    let packets = [frame(CLIENT, APP, 99, SYN, b""), frame(CLIENT, APP, 100, 0, &record(20))];
    assert_eq!(report(&packets).outside_tunnels().len(), 1);
}

#[test]
fn plaintext_on_the_tunnels_port_is_seen() {
    let plain = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let packets = [frame(CLIENT, TUNNEL, 99, SYN, b""), frame(CLIENT, TUNNEL, 100, 0, plain)];
    let report = report(&packets);
    assert!(!report.only_tls());
    assert!(report.streams[0].sample.starts_with("GET /"));
}

#[test]
fn plaintext_after_a_record_is_seen() {
    let bytes = [record(20), b"hello in plaintext".to_vec()].concat();
    let packets = [frame(CLIENT, TUNNEL, 99, SYN, b""), frame(CLIENT, TUNNEL, 100, 0, &bytes)];
    assert!(!report(&packets).only_tls());
}

#[test]
fn a_stream_joined_in_the_middle_of_a_record_is_tls() {
    let bytes = [record(400), record(30)].concat();
    assert!(report(&[frame(CLIENT, TUNNEL, 500, 0, &bytes[123..])]).only_tls());
}

#[test]
fn a_silent_wire_proves_nothing() {
    assert!(!report(&[frame(CLIENT, TUNNEL, 99, SYN, b"")]).only_tls());
}

#[test]
fn traffic_of_nodes_alone_is_not_judged() {
    let packets = [frame("172.30.0.1:5000", "172.30.0.2:22", 1, 0, b"SSH-2.0-x")];
    assert!(report(&packets).streams.is_empty());
}

#[test]
fn a_reused_port_is_a_new_connection() {
    let packets = [
        frame(CLIENT, TUNNEL, 99, SYN, b""),
        frame(CLIENT, TUNNEL, 100, 0, &record(10)),
        frame(CLIENT, TUNNEL, 70_000, SYN, b""),
        frame(CLIENT, TUNNEL, 70_001, 0, b"plaintext"),
    ];
    let report = report(&packets);
    assert_eq!(report.streams.len(), 2);
    assert_eq!(report.outside_tunnels().len(), 1);
}
