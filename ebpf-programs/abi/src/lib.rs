//! The types that the kernel side and the agent share: map keys and values, events, and the verdict both compile.
//!
//! Everything here has one layout on both sides: fixed-width integers, explicit padding, asserted sizes. Nothing
//! here reads a socket, a map or a clock.
#![no_std]
#![forbid(unsafe_code)]

mod address;
mod compiled;
mod config;
mod decide;
mod event;
mod flow;
mod guard;
mod pod;
mod service;
mod socket;

pub use address::{Address, SocketAddress};
pub use compiled::{
    CLASS_BIT, CLASS_BITS, CLASS_POD_BITS, ClassKey, VERDICT_BITS, VERDICT_PEERS_BITS, VerdictKey, direction,
    verdict,
};
pub use config::{CONFIG_AWAITING, CONFIG_DIRECT_LANE, CONFIG_HOST_RESTRICTED, Config};
pub use decide::{Arrival, Inbound, decide};
pub use event::{Event, event_reason};
pub use flow::{Flow, FlowKey, flow_kind};
pub use guard::{
    CANARY_V4, CANARY_V6, DATAGRAM_LIFE_NS, DATAGRAM_REFRESH_NS, Datagram, DatagramKey, FRAGMENT_LIFE_NS,
    FragmentKey, Guard, Heard, HeardKey, REPORTS_PER_SECOND, Refused, RefusedKey, datagram_side, heard_flag,
};
pub use pod::{Destination, Endpoint, ListenerKey, Pod, endpoint_flag, listener_kind, pod_flag};
pub use service::{Backend, ServiceEntry};
pub use socket::{AgentSocket, SocketState, socket_role};

/// Version of everything in this crate that reaches a map: part of the pins' folder, so that an agent never reads
/// maps that another layout wrote.
pub const ABI_VERSION: u32 = 4;

/// IP protocol number of TCP.
pub const TCP: u16 = 6;
/// IP protocol number of UDP.
pub const UDP: u16 = 17;

/// The port on which every enrolled pod is reached through the tunnel (HBONE).
pub const TUNNEL_PORT: u16 = 15008;

/// First of the ports to which a redirected connection is rewritten. They lie below Linux's ephemeral range, so
/// that a client never connects to itself, and are reserved nowhere: only a flow that the kernel announced as
/// redirected is steered.
pub const REDIRECT_PORT_FIRST: u16 = 15_100;

/// How many redirect ports there are, a power of two. The port follows from the destination, so that one source
/// port can be connected to several destinations at the same time.
pub const REDIRECT_PORTS: u16 = 1024;

/// Returns the port to which a connection to `destination` is rewritten.
#[inline(always)]
pub const fn redirect_port(destination: &SocketAddress) -> u16 {
    let words = &destination.ip.words_be;
    let mut hash = words[0] ^ words[1].rotate_left(7) ^ words[2].rotate_left(13) ^ words[3];
    hash = (hash ^ destination.port as u32).wrapping_mul(0x9E37_79B1);
    REDIRECT_PORT_FIRST + ((hash >> 16) as u16 & (REDIRECT_PORTS - 1))
}
