//! Tunnels from and to a peer that is not ambit: what it may do, what it may not, and that nobody else notices.

#![allow(clippy::unwrap_used, reason = "what the helpers of a test unwrap is the test's own failure")]

#[path = "hbone/certificates.rs"]
mod certificates;
#[path = "hbone/exchange.rs"]
mod exchange;
#[path = "hbone/floods.rs"]
mod floods;
#[path = "hbone/outbound.rs"]
mod outbound;
#[path = "hbone/refusals.rs"]
mod refusals;
#[path = "hbone/strangers.rs"]
mod strangers;
#[path = "hbone/world.rs"]
mod world;
