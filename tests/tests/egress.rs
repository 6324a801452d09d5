//! What pods may call outside the mesh.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what is missing fails the test at its line"
)]

#[path = "egress/world.rs"]
mod world;

#[path = "egress/datagrams.rs"]
mod datagrams;
#[path = "egress/live.rs"]
mod live;
#[path = "egress/plaintext.rs"]
mod plaintext;
#[path = "egress/raw.rs"]
mod raw;
#[path = "egress/refusals.rs"]
mod refusals;
#[path = "egress/serving.rs"]
mod serving;
