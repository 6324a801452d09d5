//! `getpeername()` and the address that `accept()` reports: the application sees the peer it believes to have.

use crate::maps::socket_state;
use ambit_abi::{SocketAddress, socket_role};
use aya_ebpf::{bindings::bpf_sock, programs::SockAddrContext};
use core::ptr::write_volatile;

#[inline(always)]
pub fn getpeername4(context: &SockAddrContext) -> i32 {
    let address = context.sock_addr;
    // SAFETY: the context is valid for the whole run.
    let socket = unsafe { (*address).__bindgen_anon_1.sk };
    if let Some(peer) = shown_peer(socket) {
        // SAFETY: both fields are writable for this attach type.
        unsafe {
            write_volatile(&raw mut (*address).user_ip4, peer.ip.words_be[3]);
            write_volatile(&raw mut (*address).user_port, u32::from(peer.port.to_be()));
        }
    }
    1
}

#[inline(always)]
pub fn getpeername6(context: &SockAddrContext) -> i32 {
    let address = context.sock_addr;
    // SAFETY: the context is valid for the whole run.
    let socket = unsafe { (*address).__bindgen_anon_1.sk };
    if let Some(peer) = shown_peer(socket) {
        // SAFETY: all the fields are writable for this attach type.
        unsafe {
            let ip = &raw mut (*address).user_ip6;
            write_volatile(&raw mut (*ip)[0], peer.ip.words_be[0]);
            write_volatile(&raw mut (*ip)[1], peer.ip.words_be[1]);
            write_volatile(&raw mut (*ip)[2], peer.ip.words_be[2]);
            write_volatile(&raw mut (*ip)[3], peer.ip.words_be[3]);
            write_volatile(&raw mut (*address).user_port, u32::from(peer.port.to_be()));
        }
    }
    1
}

#[inline(always)]
fn shown_peer(socket: *mut bpf_sock) -> Option<SocketAddress> {
    let state = socket_state(socket)?;
    let rewritten = state.role == socket_role::REDIRECTED
        || state.role == socket_role::SERVICE
        || state.role == socket_role::ACCEPTED;
    rewritten.then_some(state.peer)
}
