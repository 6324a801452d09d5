//! The maps as typed tables that several threads may use.

use crate::{KernelError, error::map_error};
use ambit_abi::{
    Address, AgentSocket, Backend, ClassKey, Config, Datagram, DatagramKey, Destination, Endpoint, Flow,
    FlowKey, Guard, Heard, HeardKey, ListenerKey, Pod, Refused, RefusedKey, ServiceEntry, SocketAddress,
    VerdictKey,
};
use aya::{
    Pod as Plain,
    maps::{HashMap, Map, MapData, MapError},
};
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A type of the ABI as aya takes it.
#[repr(transparent)]
#[derive(Clone, Copy)]
pub(crate) struct Raw<T>(pub(crate) T);

impl<T> From<T> for Raw<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

macro_rules! plain {
    ($($kind:ty),*) => {$(
        // SAFETY: repr(C), integers only, size asserted in the abi crate: no padding, every bit pattern is valid.
        unsafe impl aya::Pod for Raw<$kind> {}
    )*};
}
plain!(
    Address,
    AgentSocket,
    Backend,
    ClassKey,
    Config,
    Datagram,
    DatagramKey,
    Destination,
    Endpoint,
    Flow,
    FlowKey,
    Guard,
    Heard,
    HeardKey,
    ListenerKey,
    Pod,
    Refused,
    RefusedKey,
    ServiceEntry,
    VerdictKey
);

/// A hash map of the kernel.
pub(crate) struct Table<K: Plain, V: Plain> {
    name: &'static str,
    map: Mutex<HashMap<MapData, K, V>>,
}

impl<K: Plain, V: Plain> Table<K, V> {
    pub(crate) fn new(name: &'static str, map: Map) -> Result<Self, KernelError> {
        let map = HashMap::try_from(map).map_err(map_error(name, "open"))?;
        Ok(Self { name, map: Mutex::new(map) })
    }

    fn map(&self) -> MutexGuard<'_, HashMap<MapData, K, V>> {
        // Every access is one system call: a panic elsewhere leaves nothing half-written.
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, key: &K, value: &V) -> Result<(), KernelError> {
        self.map().insert(key, value, 0).map_err(map_error(self.name, "write to"))
    }

    /// Removes an entry; says nothing when there is none.
    pub(crate) fn remove(&self, key: &K) -> Result<(), KernelError> {
        match self.map().remove(key) {
            Err(error) if !missing(&error) => Err(map_error(self.name, "remove from")(error)),
            _ => Ok(()),
        }
    }

    pub(crate) fn get(&self, key: &K) -> Result<Option<V>, KernelError> {
        match self.map().get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(error) if missing(&error) => Ok(None),
            Err(error) => Err(map_error(self.name, "read")(error)),
        }
    }

    /// Returns every entry. An entry that changes meanwhile may be missed or come twice.
    pub(crate) fn entries(&self) -> Result<Vec<(K, V)>, KernelError> {
        self.map().iter().collect::<Result<_, _>>().map_err(map_error(self.name, "list"))
    }
}

fn missing(error: &MapError) -> bool {
    match error {
        MapError::KeyNotFound => true,
        MapError::SyscallError(error) => error.io_error.raw_os_error() == Some(libc::ENOENT),
        _ => false,
    }
}

/// Returns `address` as the maps hold it.
pub fn to_abi(address: IpAddr) -> Address {
    Address::from_octets(match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    })
}

/// Returns an address of the maps as the standard library's; IPv4 comes back as IPv4.
pub fn from_abi(address: SocketAddress) -> SocketAddr {
    let ip = Ipv6Addr::from(address.ip.octets());
    SocketAddr::new(ip.to_canonical(), address.port)
}

/// Returns `address` as the maps hold it.
pub(crate) fn socket_to_abi(address: SocketAddr) -> SocketAddress {
    SocketAddress { ip: to_abi(address.ip()), port: address.port(), _pad: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["10.1.2.3:80", "[fd00::1]:443", "0.0.0.0:0"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(from_abi(socket_to_abi(address)), address);
        }
    }
}
