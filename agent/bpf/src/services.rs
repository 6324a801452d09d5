//! Services and their endpoints, as the kernel chooses among them.

use crate::{
    KernelError,
    kernel::Kernel,
    tables::{Raw, Table, from_abi, socket_to_abi, to_abi},
};
use ambit_abi::{Backend, Destination, ServiceEntry, SocketAddress};
use aya::maps::Map;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A service with the keys of its endpoints.
type Installed = BTreeMap<(IpAddr, u16), (ServiceEntry, Vec<SocketAddr>)>;

/// The maps, and what is in them.
pub(crate) struct Services {
    services: Table<Raw<Destination>, Raw<ServiceEntry>>,
    backends: Table<u32, Raw<Backend>>,
    installed: Mutex<(Installed, u32)>,
}

impl Services {
    /// Takes over the maps with what an agent before this one left in them.
    pub(crate) fn new(services: Map, backends: Map) -> Result<Self, KernelError> {
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
        Ok(Self { services, backends, installed: Mutex::new((installed, next)) })
    }
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
        let maps = &self.services;
        let (installed, next) = &mut *locked(&maps.installed);
        let gone: Vec<_> = installed.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
        let key = |(ip, port): (IpAddr, u16)| Raw(Destination { ip: to_abi(ip), port, _pad: 0 });
        for service in gone {
            maps.services.remove(&key(service))?;
            if let Some((entry, _)) = installed.remove(&service) {
                indexes(entry).try_for_each(|index| maps.backends.remove(&index))?;
            }
        }
        for (service, endpoints) in wanted {
            if installed.get(service).is_some_and(|(_, before)| before == endpoints) {
                continue;
            }
            let count = u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
            let entry = ServiceEntry { first: *next, count };
            for (index, endpoint) in indexes(entry).zip(endpoints) {
                maps.backends.insert(&index, &Raw(Backend { address: socket_to_abi(*endpoint) }))?;
            }
            *next = next.wrapping_add(count);
            maps.services.insert(&key(*service), &Raw(entry))?;
            let before = installed.insert(*service, (entry, endpoints.clone()));
            if let Some((before, _)) = before {
                indexes(before).try_for_each(|index| maps.backends.remove(&index))?;
            }
        }
        Ok(())
    }
}
