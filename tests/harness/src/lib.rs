//! Nodes and pods as network namespaces and cgroups, agents as real processes, packets as they were on the wire.
//!
//! For tests and the demo. A fault of the set-up panics at the caller's line with what was tried, so that a
//! test needs no error handling of its own; everything made is removed when the [`Testbed`] is dropped, after
//! a panic too. This crate never decides what ambit should do: it makes the world and reports what happened.

mod agent;
mod apply;
mod bed;
mod binaries;
mod capture;
mod cgroup;
mod cluster;
mod dir;
mod kube_proxy;
mod mesh;
mod name;
mod netns;
mod node;
mod objects;
mod place;
mod pod;
mod process;
mod remains;
mod service;
mod shell;
mod traffic;
mod wait;

pub use agent::Agent;
pub use bed::Testbed;
pub use binaries::binary;
pub use capture::packet::{Packet, Segment};
pub use capture::wire::{Stream, WireReport};
pub use capture::{Capture, Captured};
pub use cluster::ClusterSize;
pub use mesh::Mesh;
pub use node::Node;
pub use place::Place;
pub use pod::{Pod, PodSpec};
pub use process::Process;
pub use rustix::process::Signal;
pub use service::{Service, ServiceSpec};
pub use traffic::{Connects, Server};
pub use wait::{wait_for, wait_until};

/// Unwraps a set-up step, or panics at the test's own line with the whole chain of causes.
#[track_caller]
fn must<T>(result: anyhow::Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:#}"),
    }
}
