//! ambit's kernel side: the entry points of the programs, each a thin call into the file of its hook.
#![no_std]
#![no_main]
// The entry points are public for the loader, which finds them by section.
#![allow(missing_docs, unreachable_pub, unsafe_op_in_unsafe_fn)]

mod connect;
mod create;
mod datagram;
mod egress;
mod guard;
mod hold;
mod icmp;
mod lookup;
mod maps;
mod packet;
mod peername;
mod segments;
mod sockops;
mod verdicts;

use aya_ebpf::{
    macros::{cgroup_skb, cgroup_sock, cgroup_sock_addr, classifier, sk_lookup, sock_ops},
    programs::{SkBuffContext, SkLookupContext, SockAddrContext, SockContext, SockOpsContext, TcContext},
};

/// IPv4 `connect()`: decides whether the agent takes the connection.
#[cgroup_sock_addr(connect4)]
pub fn connect4(context: SockAddrContext) -> i32 {
    connect::connect4(&context)
}

/// IPv6 `connect()`, which also runs for IPv4 addresses mapped into IPv6.
#[cgroup_sock_addr(connect6)]
pub fn connect6(context: SockAddrContext) -> i32 {
    connect::connect6(&context)
}

/// What a UDP socket sends over IPv4: decides whether a pod may call it.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(context: SockAddrContext) -> i32 {
    egress::sendmsg4(&context)
}

/// What a UDP socket sends over IPv6.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(context: SockAddrContext) -> i32 {
    egress::sendmsg6(&context)
}

/// The peer that an IPv4 socket shows its application, in `getpeername()` and `accept()`.
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(context: SockAddrContext) -> i32 {
    peername::getpeername4(&context)
}

/// The peer that an IPv6 socket shows its application.
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(context: SockAddrContext) -> i32 {
    peername::getpeername6(&context)
}

/// The life of a TCP connection: announces flows before the first packet, and forgets them.
#[sock_ops]
pub fn connection(context: SockOpsContext) -> u32 {
    sockops::run(&context);
    1
}

/// What arrives at an enrolled pod.
#[sk_lookup]
pub fn lookup(context: SkLookupContext) -> u32 {
    lookup::run(&context)
}

/// `socket()`: refuses protocols that no other hook sees.
#[cgroup_sock(sock_create)]
pub fn create(context: SockContext) -> i32 {
    create::run(&context)
}

/// What any socket sends: holds back what pods send that are to be enrolled and are not yet.
#[cgroup_skb(egress)]
pub fn hold(context: SkBuffContext) -> i32 {
    hold::run(&context)
}

/// What a pod sends, on the node's side of its link.
#[classifier]
pub fn from_pod(context: TcContext) -> i32 {
    guard::from_pod(&context)
}

/// What is sent to a pod, on the node's side of its link.
#[classifier]
pub fn to_pod(context: TcContext) -> i32 {
    guard::to_pod(&context)
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

/// No helper that these programs call is reserved to GPL programs.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 11] = *b"Apache-2.0\0";
