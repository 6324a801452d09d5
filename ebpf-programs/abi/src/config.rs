//! What the agent tells every program: one entry.

/// The single value of the map CONFIG.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Config {
    /// Cookie of the node's own network namespace, where kubelet and the other host processes live.
    pub node_netns_cookie: u64,
    /// `CONFIG_*` bits.
    pub flags: u32,
    /// Always zero.
    pub _pad: u32,
}

/// Only processes in a cgroup of HOST_CGROUPS count as the node's own.
pub const CONFIG_HOST_RESTRICTED: u32 = 1;

/// Connections between enrolled pods of this node go directly, decided upon by the kernel.
pub const CONFIG_DIRECT_LANE: u32 = 2;

/// AWAITED is not empty.
pub const CONFIG_AWAITING: u32 = 4;

const _: () = assert!(size_of::<Config>() == 16);
