//! Who may connect to whom: policies and modes on real pods, and the words in which a refusal is told.

#![allow(clippy::unwrap_used, reason = "what the helpers of a test unwrap is the test's own failure")]

#[path = "policy/changes.rs"]
mod changes;
#[path = "policy/explained.rs"]
mod explained;
#[path = "policy/host.rs"]
mod host;
#[path = "policy/imported.rs"]
mod imported;
#[path = "policy/modes.rs"]
mod modes;
#[path = "policy/rules.rs"]
mod rules;
#[path = "policy/simulated.rs"]
mod simulated;
#[path = "policy/told.rs"]
mod told;
#[path = "policy/world.rs"]
mod world;
