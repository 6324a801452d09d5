//! The maps, and the few accesses that the hooks share.

use ambit_abi::{
    Address, AgentSocket, Backend, ClassKey, Config, Datagram, DatagramKey, Destination, Endpoint, Event,
    Flow, FlowKey, FragmentKey, Guard, Heard, HeardKey, ListenerKey, Pod, REPORTS_PER_SECOND, Refused,
    RefusedKey, ServiceEntry, SocketState, VerdictKey, event_reason,
};
use aya_ebpf::{
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock},
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, RingBuf, SkStorage, SockHash},
    helpers::generated::{bpf_ktime_get_ns, bpf_sk_storage_get},
    macros::btf_map,
};
use core::ptr::{addr_of, null_mut};

/// What the agent tells every program.
#[btf_map]
pub static CONFIG: Array<Config, 1> = Array::new();
/// Enrolled pods of this node by the cookie of their network namespace.
#[btf_map]
pub static PODS: HashMap<u64, Pod, 4096> = HashMap::new();
/// Enrolled pods of this node by address.
#[btf_map]
pub static ENDPOINTS: HashMap<Address, Endpoint, 8192> = HashMap::new();
/// What enrolled pods reach through the agent.
#[btf_map]
pub static DESTINATIONS: HashMap<Destination, u32, 262_144, { BPF_F_NO_PREALLOC }> = HashMap::new();
/// Services with an enrolled endpoint, by address and port.
#[btf_map]
pub static SERVICES: HashMap<Destination, ServiceEntry, 65_536, { BPF_F_NO_PREALLOC }> = HashMap::new();
/// The ready endpoints of those services.
#[btf_map]
pub static BACKENDS: HashMap<u32, Backend, 262_144, { BPF_F_NO_PREALLOC }> = HashMap::new();
/// The classes of addresses outside, as the policies of each pod tell them apart.
#[btf_map]
pub static CLASSES: LpmTrie<ClassKey, u32, 1_048_576> = LpmTrie::new();
/// Compiled policies between the pods of this node, and between them and classes of addresses.
#[btf_map]
pub static VERDICTS: LpmTrie<VerdictKey, u32, 1_048_576> = LpmTrie::new();
/// Cgroups whose processes count as the node's own, when CONFIG_HOST_RESTRICTED.
#[btf_map]
pub static HOST_CGROUPS: HashMap<u64, u32, 64> = HashMap::new();
/// Sockets that the agent is about to connect, by socket cookie.
#[btf_map]
pub static AGENT_SOCKETS: HashMap<u64, AgentSocket, 65_536, { BPF_F_NO_PREALLOC }> = HashMap::new();
/// Announced connections.
#[btf_map]
pub static FLOWS: LruHashMap<FlowKey, Flow, 65_536> = LruHashMap::new();
/// Connections of pods that are on their way to something that needs no flow: the network namespace's cookie, until
/// they stand or fail.
#[btf_map]
pub static SYNS: LruHashMap<FlowKey, u64, 16_384> = LruHashMap::new();
/// The devices on the node's side of the pods' links.
#[btf_map]
pub static GUARDS: HashMap<u32, Guard, 4096> = HashMap::new();
/// UDP exchanges.
#[btf_map]
pub static DATAGRAMS: LruHashMap<DatagramKey, Datagram, 65_536> = LruHashMap::new();
/// What those outside the mesh say over TCP to pods whose egress is `mesh`.
#[btf_map]
pub static HEARD: LruHashMap<HeardKey, Heard, 65_536> = LruHashMap::new();
/// Packets whose first fragment was let through, with the time.
#[btf_map]
pub static FRAGMENTS: LruHashMap<FragmentKey, u64, 16_384> = LruHashMap::new();
/// UDP sockets of the node's own processes, by socket cookie.
#[btf_map]
pub static HOST_SOCKETS: LruHashMap<u64, u32, 4096> = LruHashMap::new();
/// Addresses of pods that are to be enrolled and are not yet.
#[btf_map]
pub static AWAITED: HashMap<Address, u32, 8192> = HashMap::new();
/// What the guard refused, by pod and reason.
#[btf_map]
pub static REFUSED: LruHashMap<RefusedKey, Refused, 16_384> = LruHashMap::new();
/// The agent's listeners inside the pods.
#[btf_map]
pub static LISTENERS: SockHash<ListenerKey, 32_768> = SockHash::new();
/// Refusals, for the agent's log.
#[btf_map]
pub static EVENTS: RingBuf<Event, 262_144> = RingBuf::new();
/// How many refusals found EVENTS full.
#[btf_map]
pub static EVENTS_LOST: Array<u64, 1> = Array::new();
/// What is remembered per socket.
#[btf_map]
static SOCKETS: SkStorage<SocketState> = SkStorage::new();

const BPF_F_NO_PREALLOC: usize = 1;

/// Returns the state of `socket`, if it has one.
#[inline(always)]
pub fn socket_state<'a>(socket: *mut bpf_sock) -> Option<&'a mut SocketState> {
    storage(socket, 0)
}

/// Returns the state of `socket`, making it where there is none; `None` only when the kernel has no memory.
#[inline(always)]
pub fn socket_state_or_new<'a>(socket: *mut bpf_sock) -> Option<&'a mut SocketState> {
    storage(socket, u64::from(BPF_SK_STORAGE_GET_F_CREATE))
}

#[inline(always)]
fn storage<'a>(socket: *mut bpf_sock, flags: u64) -> Option<&'a mut SocketState> {
    if socket.is_null() {
        return None;
    }
    // SAFETY: the helper checks both pointers; the verifier proves that `socket` is a socket of the context.
    let state =
        unsafe { bpf_sk_storage_get(addr_of!(SOCKETS).cast_mut().cast(), socket.cast(), null_mut(), flags) };
    // SAFETY: the storage is as large as the map's value type, and lives as long as the socket.
    unsafe { state.cast::<SocketState>().as_mut() }
}

/// Returns a copy of the configuration.
#[inline(always)]
pub fn config() -> Config {
    CONFIG.get(0).copied().unwrap_or_default()
}

/// Reports a refused connection; counts it where the buffer is full.
#[inline(always)]
pub fn report(event: Event) {
    if EVENTS.output(event, 0).is_err()
        && let Some(lost) = EVENTS_LOST.get_ptr_mut(0)
    {
        // SAFETY: the map's value is an aligned u64 that lives as long as the map; a lost count is harmless.
        unsafe { *lost += 1 };
    }
}

/// Counts a packet of the pod `slot` that the guard refuses, and reports it unless there were many in this second.
#[inline(always)]
pub fn refused(slot: u32, event: Event) {
    const SECOND_NS: u64 = 1_000_000_000;
    let key = RefusedKey { slot, reason: event.reason };
    // SAFETY: the helper takes no argument.
    let now = unsafe { bpf_ktime_get_ns() };
    let Some(known) = REFUSED.get_ptr_mut(key) else {
        let _ = REFUSED.insert(key, Refused { packets: 1, second_ns: now, reports: 1 }, 0);
        return report(event);
    };
    // SAFETY: an aligned value that lives as long as the map; a count that is lost to a race is harmless.
    let known = unsafe { &mut *known };
    known.packets += 1;
    if now.wrapping_sub(known.second_ns) >= SECOND_NS {
        known.second_ns = now;
        known.reports = 0;
    }
    if known.reports < REPORTS_PER_SECOND {
        known.reports += 1;
        report(event);
    }
}

/// Counts a packet with which the agent tests the guard of the pod `slot`.
#[inline(always)]
pub fn tested(slot: u32) {
    let key = RefusedKey { slot, reason: event_reason::TESTED };
    match REFUSED.get_ptr_mut(key) {
        // SAFETY: an aligned value that lives as long as the map; the agent tests one pod at a time.
        Some(known) => unsafe { (*known).packets += 1 },
        None => {
            let _ = REFUSED.insert(key, Refused { packets: 1, second_ns: 0, reports: 0 }, 0);
        }
    }
}
