//! The direct lane: services and their endpoints, and the compiled verdicts between the pods of this node.

use crate::{
    KernelError,
    error::map_error,
    kernel::Kernel,
    tables::{Raw, Table, from_abi, socket_to_abi, to_abi},
};
use ambit_abi::{Backend, Destination, ServiceEntry, SocketAddress, VERDICT_PEERS_BITS, VerdictKey};
use aya::maps::{LpmTrie, Map, MapData, MapError, lpm_trie::Key};
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A block of ports between two pods of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerdictBlock {
    /// Slot of the pod that is called.
    pub destination: u32,
    /// Slot of the pod that calls.
    pub source: u32,
    /// IP protocol.
    pub protocol: u16,
    /// First port of the block.
    pub port: u16,
    /// How many leading bits of the port all of the block share, 0 to 16.
    pub bits: u8,
}

impl VerdictBlock {
    fn key(&self) -> Key<Raw<VerdictKey>> {
        let data = VerdictKey::new(self.destination, self.source, self.protocol, self.port);
        Key::new(VERDICT_PEERS_BITS + u32::from(self.bits), Raw(data))
    }

    fn of(key: &Key<Raw<VerdictKey>>) -> Self {
        let Raw(data) = key.data();
        let bits = key.prefix_len().saturating_sub(VERDICT_PEERS_BITS);
        Self {
            destination: u32::from_be_bytes(data.destination_be),
            source: u32::from_be_bytes(data.source_be),
            protocol: u16::from_be_bytes(data.protocol_be),
            port: u16::from_be_bytes(data.port_be),
            bits: u8::try_from(bits).unwrap_or(u8::MAX),
        }
    }
}

/// A service with the keys of its endpoints.
type Installed = BTreeMap<(IpAddr, u16), (ServiceEntry, Vec<SocketAddr>)>;
type Verdicts = BTreeMap<VerdictBlock, u32>;
type VerdictTrie = LpmTrie<MapData, Raw<VerdictKey>, u32>;

/// The maps of the lane, and what is in them.
pub(crate) struct Lane {
    services: Table<Raw<Destination>, Raw<ServiceEntry>>,
    backends: Table<u32, Raw<Backend>>,
    installed: Mutex<(Installed, u32)>,
    verdicts: Mutex<(VerdictTrie, Verdicts)>,
}

impl Lane {
    /// Takes over the maps with what an agent before this one left in them.
    pub(crate) fn new(services: Map, backends: Map, verdicts: Map) -> Result<Self, KernelError> {
        let services: Table<Raw<Destination>, Raw<ServiceEntry>> = Table::new("SERVICES", services)?;
        let backends: Table<u32, Raw<Backend>> = Table::new("BACKENDS", backends)?;
        let mut addresses: BTreeMap<u32, SocketAddr> = BTreeMap::new();
        for (index, Raw(backend)) in backends.entries()? {
            addresses.insert(index, from_abi(backend.address));
        }
        let next = addresses.keys().next_back().map_or(0, |last| last.wrapping_add(1));
        let mut installed = Installed::new();
        for (Raw(key), Raw(entry)) in services.entries()? {
            let key = SocketAddress { ip: key.ip, port: key.port, _pad: 0 };
            let run = indexes(entry).filter_map(|index| addresses.get(&index).copied()).collect();
            installed.insert((from_abi(key).ip(), key.port), (entry, run));
        }
        let trie = LpmTrie::try_from(verdicts).map_err(map_error("VERDICTS", "open"))?;
        let known = known_verdicts(&trie)?;
        Ok(Self {
            services,
            backends,
            installed: Mutex::new((installed, next)),
            verdicts: Mutex::new((trie, known)),
        })
    }
}

fn known_verdicts(trie: &VerdictTrie) -> Result<Verdicts, KernelError> {
    trie.iter()
        .map(|entry| entry.map(|(key, value)| (VerdictBlock::of(&key), value)))
        .collect::<Result<_, _>>()
        .map_err(map_error("VERDICTS", "list"))
}

fn indexes(entry: ServiceEntry) -> impl Iterator<Item = u32> {
    (0..entry.count).map(move |offset| entry.first.wrapping_add(offset))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is remembered is changed after the map was: at worst it is written again.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kernel {
    /// Makes `wanted` the services whose endpoints the kernel chooses, by address and port.
    ///
    /// # Errors
    /// `Map`; every service is as it was or as it shall be.
    pub fn set_services(&self, wanted: &BTreeMap<(IpAddr, u16), Vec<SocketAddr>>) -> Result<(), KernelError> {
        let lane = &self.lane;
        let (installed, next) = &mut *locked(&lane.installed);
        let gone: Vec<_> = installed.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
        let key = |(ip, port): (IpAddr, u16)| Raw(Destination { ip: to_abi(ip), port, _pad: 0 });
        for service in gone {
            lane.services.remove(&key(service))?;
            if let Some((entry, _)) = installed.remove(&service) {
                indexes(entry).try_for_each(|index| lane.backends.remove(&index))?;
            }
        }
        for (service, endpoints) in wanted {
            if installed.get(service).is_some_and(|(_, before)| before == endpoints) {
                continue;
            }
            let count = u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
            let entry = ServiceEntry { first: *next, count };
            for (index, endpoint) in indexes(entry).zip(endpoints) {
                lane.backends.insert(&index, &Raw(Backend { address: socket_to_abi(*endpoint) }))?;
            }
            *next = next.wrapping_add(count);
            lane.services.insert(&key(*service), &Raw(entry))?;
            let before = installed.insert(*service, (entry, endpoints.clone()));
            if let Some((before, _)) = before {
                indexes(before).try_for_each(|index| lane.backends.remove(&index))?;
            }
        }
        Ok(())
    }

    /// Makes `wanted` the verdicts (`ambit_abi::verdict`) between the pods of this node.
    ///
    /// # Errors
    /// `Map`; what could be written was.
    pub fn set_verdicts(&self, wanted: &BTreeMap<VerdictBlock, u32>) -> Result<(), KernelError> {
        let (trie, known) = &mut *locked(&self.lane.verdicts);
        for (block, verdict) in wanted {
            if known.get(block) != Some(verdict) {
                trie.insert(&block.key(), verdict, 0).map_err(map_error("VERDICTS", "write to"))?;
                known.insert(*block, *verdict);
            }
        }
        let gone: Vec<VerdictBlock> =
            known.keys().filter(|block| !wanted.contains_key(block)).copied().collect();
        for block in gone {
            match trie.remove(&block.key()) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(map_error("VERDICTS", "remove from")(error)),
            }
            known.remove(&block);
        }
        Ok(())
    }
}
