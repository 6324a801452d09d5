//! The two ways to connect that no safe interface offers: io_uring, and TCP_FASTOPEN_CONNECT. This file alone of the test
//! programs holds unsafe code, for these calls; it decides nothing.

use std::io;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};
use io_uring::{IoUring, opcode, squeue::Flags, types::Fd};
use socket2::{SockAddr, Socket};

/// Connects through io_uring, on one of the kernel's own worker threads.
///
/// # Errors
/// What the kernel says of the connect.
pub(crate) fn connect_uring(socket: &Socket, to: &SockAddr) -> Result<()> {
    let mut ring = IoUring::new(2).context("make a ring")?;
    let request = opcode::Connect::new(Fd(socket.as_raw_fd()), to.as_ptr().cast(), to.len())
        .build()
        .flags(Flags::ASYNC);
    // SAFETY: the socket and the address outlive the request, whose completion is waited for below.
    unsafe { ring.submission().push(&request) }.context("queue a connect")?;
    ring.submit_and_wait(1).context("submit a connect")?;
    let done = ring.completion().next().context("the ring gave no completion")?;
    match done.result() {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(-error)).context("connect through io_uring"),
    }
}

/// Makes `connect` wait for the first data, which then goes with the SYN.
///
/// # Errors
/// What `setsockopt` says.
pub(crate) fn defer_connect(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer is to an integer that outlives the call, given with its length.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_FASTOPEN_CONNECT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
