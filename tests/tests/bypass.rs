//! Ways around ambit, as an attacker with root in a pod would take them. Each asserts that the application at the
//! destination saw nothing, and that the legitimate way works beside it.

#![allow(clippy::unwrap_used, reason = "what the helpers of a test unwrap is the test's own failure")]

#[path = "bypass/addresses.rs"]
mod addresses;
#[path = "bypass/datagrams.rs"]
mod datagrams;
#[path = "bypass/forms.rs"]
mod forms;
#[path = "bypass/inside.rs"]
mod inside;
#[path = "bypass/listeners.rs"]
mod listeners;
#[path = "bypass/neighbours.rs"]
mod neighbours;
#[path = "bypass/raw.rs"]
mod raw;
#[path = "bypass/sockets.rs"]
mod sockets;
#[path = "bypass/world.rs"]
mod world;
