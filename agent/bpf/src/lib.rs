//! ambit's BPF programs in user space: loads, attaches, pins and feeds them. The only user of aya and of `unsafe`
//! in user space; decides nothing.

mod bpffs;
mod cgroup;
mod error;
mod events;
mod guard;
mod kernel;
mod links;
mod pins;
mod pods;
mod programs;
mod purge;
mod services;
mod standing;
mod sys;
mod tables;
mod verdicts;

pub use bpffs::{cleanup, lock_pins, pins_id, prepare_pins};
pub use cgroup::{CgroupError, cgroup_id, find_cgroup2, join_cgroup, remove_own_cgroup};
pub use error::KernelError;
pub use events::{EventReader, StopSign};
pub use guard::{Device, index_to_name};
pub use kernel::{Kernel, KernelOptions};
pub use pods::PodEntry;
pub use sys::{netns_cookie, send_frame, socket_cookie};
pub use tables::{from_abi, to_abi};
pub use verdicts::{ClassBlock, Compiled, VerdictBlock};
