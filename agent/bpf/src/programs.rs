//! The programs of the object: which there are, how each is loaded and attached.

use crate::KernelError;
use aya::{
    Ebpf,
    programs::{
        CgroupAttachMode, CgroupSkbAttachType, Program, ProgramError, SchedClassifier, SkLookup,
        links::{FdLink, LinkError},
    },
};
use std::{
    fs::File,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// Programs at the cgroup root: what sockets do.
pub(crate) const ROOT_PROGRAMS: [&str; 9] = [
    "connect4",
    "connect6",
    "sendmsg4",
    "sendmsg6",
    "getpeername4",
    "getpeername6",
    "connection",
    "create",
    "hold",
];
/// The program in the pods' network namespaces.
pub(crate) const LOOKUP_PROGRAM: &str = "lookup";
/// The programs on the node's side of the pods' links.
pub(crate) const GUARD_PROGRAMS: [&str; 2] = ["from_pod", "to_pod"];

/// Loads every program.
pub(crate) fn load(programs: &mut Ebpf) -> Result<(), KernelError> {
    for name in ROOT_PROGRAMS.into_iter().chain([LOOKUP_PROGRAM]).chain(GUARD_PROGRAMS) {
        let loaded = match programs.program_mut(name).ok_or(KernelError::Missing(name))? {
            Program::CgroupSockAddr(program) => program.load(),
            Program::CgroupSock(program) => program.load(),
            Program::CgroupSkb(program) => program.load(),
            Program::SockOps(program) => program.load(),
            Program::SkLookup(program) => program.load(),
            Program::SchedClassifier(program) => program.load(),
            _ => return Err(KernelError::Missing(name)),
        };
        loaded.map_err(|source| KernelError::Program { program: name, source: Box::new(source) })?;
    }
    Ok(())
}

/// Attaches one of ROOT_PROGRAMS to a cgroup.
pub(crate) fn attach_to_cgroup(
    programs: &mut Ebpf,
    name: &'static str,
    cgroup: &File,
) -> Result<FdLink, ProgramError> {
    const MODE: CgroupAttachMode = CgroupAttachMode::Single;
    match programs.program_mut(name) {
        Some(Program::CgroupSockAddr(program)) => {
            let attached = program.attach(cgroup, MODE)?;
            FdLink::try_from(program.take_link(attached)?).map_err(invalid_link)
        }
        Some(Program::CgroupSock(program)) => {
            let attached = program.attach(cgroup, MODE)?;
            FdLink::try_from(program.take_link(attached)?).map_err(invalid_link)
        }
        Some(Program::CgroupSkb(program)) => {
            let attached = program.attach(cgroup, CgroupSkbAttachType::Egress, MODE)?;
            FdLink::try_from(program.take_link(attached)?).map_err(invalid_link)
        }
        Some(Program::SockOps(program)) => {
            let attached = program.attach(cgroup, MODE)?;
            FdLink::try_from(program.take_link(attached)?).map_err(invalid_link)
        }
        _ => Err(ProgramError::NotLoaded),
    }
}

/// Attaches the inbound hook to a network namespace.
pub(crate) fn attach_to_netns(programs: &mut Ebpf, netns: BorrowedFd<'_>) -> Result<FdLink, ProgramError> {
    let Some(Program::SkLookup(program)) = programs.program_mut(LOOKUP_PROGRAM) else {
        return Err(ProgramError::NotLoaded);
    };
    let program: &mut SkLookup = program;
    let attached = program.attach(netns)?;
    Ok(FdLink::from(program.take_link(attached)?))
}

/// Returns one of GUARD_PROGRAMS.
pub(crate) fn guard<'a>(
    programs: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, KernelError> {
    let program = programs.program_mut(name).ok_or(KernelError::Missing(name))?;
    program.try_into().map_err(|_: ProgramError| KernelError::Missing(name))
}

/// Returns a descriptor of a loaded program that outlives the borrow of the program.
pub(crate) fn descriptor(programs: &Ebpf, name: &'static str) -> Result<OwnedFd, KernelError> {
    let refused = |source| KernelError::Program { program: name, source: Box::new(source) };
    let descriptor = match programs.program(name).ok_or(KernelError::Missing(name))? {
        Program::CgroupSockAddr(program) => program.fd(),
        Program::CgroupSock(program) => program.fd(),
        Program::CgroupSkb(program) => program.fd(),
        Program::SockOps(program) => program.fd(),
        Program::SkLookup(program) => program.fd(),
        Program::SchedClassifier(program) => program.fd(),
        _ => return Err(KernelError::Missing(name)),
    };
    let descriptor = descriptor.map_err(refused)?;
    descriptor.as_fd().try_clone_to_owned().map_err(|error| refused(ProgramError::IOError(error)))
}

/// A link that the kernel made some other way than as a link: a kernel older than 5.7.
pub(crate) fn invalid_link(error: LinkError) -> ProgramError {
    ProgramError::IOError(std::io::Error::other(error))
}
