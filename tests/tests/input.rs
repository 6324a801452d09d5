//! Objects and command lines that are wrong: what is said, and that nothing else is disturbed.

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
