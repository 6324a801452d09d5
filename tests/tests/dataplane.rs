//! Connections through the mesh: where they lead, what both sides see, how they end, how much they carry.
#![allow(clippy::unwrap_used, reason = "what is missing fails the test at its line")]

#[path = "dataplane/addresses.rs"]
mod addresses;
#[path = "dataplane/endings.rs"]
mod endings;
#[path = "dataplane/pods.rs"]
mod pods;
#[path = "dataplane/pressure.rs"]
mod pressure;
#[path = "dataplane/services.rs"]
mod services;
#[path = "dataplane/volume.rs"]
mod volume;
