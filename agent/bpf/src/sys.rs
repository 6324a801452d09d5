//! The few system calls that neither aya nor rustix offers.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

const BPF_OBJ_GET: libc::c_long = 7;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

/// The part of `union bpf_attr` that BPF_OBJ_GET reads.
#[repr(C)]
#[derive(Default)]
struct ObjectGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part of `union bpf_attr` that BPF_LINK_UPDATE reads.
#[repr(C)]
#[derive(Default)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// Opens the pinned object at `path`.
///
/// # Errors
/// `NotFound` when nothing is pinned there; else what the kernel says.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = ObjectGet { pathname: path.as_ptr() as u64, ..ObjectGet::default() };
    let descriptor = bpf(BPF_OBJ_GET, &attributes)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Puts `program` in the place of the one that `link` attaches, without a moment in between.
///
/// # Errors
/// `ENOLINK` when what the link was attached to is gone.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = LinkUpdate {
        link_fd: link.as_raw_fd().cast_unsigned(),
        new_prog_fd: program.as_raw_fd().cast_unsigned(),
        ..LinkUpdate::default()
    };
    bpf(BPF_LINK_UPDATE, &attributes).map(drop)
}

/// The part of `union bpf_attr` that BPF_LINK_DETACH reads.
#[repr(C)]
#[derive(Default)]
struct LinkDetach {
    link_fd: u32,
}

/// Detaches the link pinned at `path` before this returns: removing its pin alone leaves that for some moment later.
///
/// # Errors
/// `NotFound` when nothing is pinned there; else what the kernel says, as when it is no link.
pub(crate) fn detach_pinned(path: &Path) -> io::Result<()> {
    let link = open_pin(path)?;
    bpf(BPF_LINK_DETACH, &LinkDetach { link_fd: link.as_raw_fd().cast_unsigned() }).map(drop)
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<i32> {
    // SAFETY: `attributes` is the prefix of `union bpf_attr` of this command, and its size is given.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}

/// Returns the cookie of `socket`, which the kernel never gives twice.
///
/// # Errors
/// What `getsockopt(SO_COOKIE)` says.
pub fn socket_cookie(socket: impl AsFd) -> io::Result<u64> {
    socket_option(socket.as_fd(), libc::SO_COOKIE)
}

/// Returns the cookie of the network namespace that `socket` lives in.
///
/// # Errors
/// What `getsockopt(SO_NETNS_COOKIE)` says; Linux has it since 5.14.
pub fn netns_cookie(socket: impl AsFd) -> io::Result<u64> {
    const SO_NETNS_COOKIE: i32 = 71;
    socket_option(socket.as_fd(), SO_NETNS_COOKIE)
}

fn socket_option(socket: BorrowedFd<'_>, option: i32) -> io::Result<u64> {
    let mut value = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: the pointers are to a u64 and to its length, which outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
}

/// Sends `frame` as it stands on the device with this index, through an AF_PACKET socket of its network namespace.
///
/// # Errors
/// What `sendto` says.
pub fn send_frame(socket: impl AsFd, device: u32, ethertype: u16, frame: &[u8]) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: i32::try_from(device).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0xff; 8],
    };
    // SAFETY: both pointers are to values that outlive the call, given with their lengths.
    let sent = unsafe {
        libc::sendto(
            socket.as_fd().as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            libc::MSG_DONTWAIT,
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
