//! Objects and command lines that are wrong: what is said, and that nothing else is disturbed.

#![allow(clippy::unwrap_used, reason = "what the helpers of a test unwrap is the test's own failure")]

#[path = "input/cases.rs"]
mod cases;
#[path = "input/commands.rs"]
mod commands;
#[path = "input/namespaces.rs"]
mod namespaces;
#[path = "input/running.rs"]
mod running;
#[path = "input/starting.rs"]
mod starting;
