//! What can go wrong between the agent and the kernel.

use std::{io, path::PathBuf};

/// An error of loading, attaching, pinning or feeding the BPF programs.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The BPF filesystem cannot be had at the folder for pins.
    #[error("prepare the folder for pins {}", path.display())]
    Bpffs {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another agent uses the folder for pins.
    #[error("another agent uses {}: name its --socket to take over from it, stop it, or choose another --bpffs", .0.display())]
    Taken(PathBuf),
    /// A pin of an earlier agent is not what this one needs.
    #[error(
        "the pin {} is not the map that this agent expects: it is {found}; stop every agent, run `ambit cleanup`, \
         and start again",
        path.display()
    )]
    Unfit {
        /// The pin.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// The object is damaged.
    #[error("read the BPF object: rebuild with `cargo xtask build`")]
    Object(#[source] Box<aya_obj::ParseError>),
    /// The object does not load: the kernel is too old, or rights are missing.
    #[error("load the BPF object (needs root or CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN, and Linux 6.1)")]
    Load(#[source] Box<aya::EbpfError>),
    /// A program is refused by the kernel.
    #[error("load the program {program}")]
    Program {
        /// Its name.
        program: &'static str,
        /// Why, with the verifier's words.
        source: Box<aya::programs::ProgramError>,
    },
    /// The object lacks a part that this agent expects: both were not built together.
    #[error("the BPF object has no {0}: rebuild with `cargo xtask build`")]
    Missing(&'static str),
    /// A program does not attach.
    #[error("attach {program} to {target}")]
    Attach {
        /// The program.
        program: &'static str,
        /// The cgroup or network namespace.
        target: String,
        /// Why.
        source: Box<aya::programs::ProgramError>,
    },
    /// A link is not pinned, read or updated.
    #[error("{action} the link {} (if it is none of an agent's, stop the agent and run `ambit cleanup`)", path.display())]
    Link {
        /// What was tried.
        action: &'static str,
        /// The pin.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A map is not written or read.
    #[error("{action} the map {map}")]
    Map {
        /// The map.
        map: &'static str,
        /// What was tried.
        action: &'static str,
        /// Why.
        source: Box<aya::maps::MapError>,
    },
    /// A cgroup cannot be used.
    #[error(transparent)]
    Cgroup(#[from] crate::CgroupError),
}

/// Returns a function that wraps an error of the map `map` while doing `action`.
pub(crate) fn map_error(
    map: &'static str,
    action: &'static str,
) -> impl Fn(aya::maps::MapError) -> KernelError {
    move |source| KernelError::Map { map, action, source: Box::new(source) }
}
