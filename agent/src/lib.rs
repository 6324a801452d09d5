//! Agent.
#![forbid(unsafe_code)]

pub mod cli;
pub mod control;
pub mod identity;
