//! The agent of a node, and the command line around it.
#![forbid(unsafe_code)]

pub mod cli;
pub mod control;
pub mod dataplane;
pub mod enrol;
pub mod expect;
pub mod explain;
pub mod identity;
pub mod import;
pub mod observe;
pub mod run;
pub mod simulate;
