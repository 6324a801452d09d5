//! The compiled policies in the kernel: verdicts between pods of this node, and between pods and classes of addresses.

use crate::{
    KernelError,
    error::map_error,
    kernel::Kernel,
    tables::{Raw, from_abi, to_abi},
};
use ambit_abi::{CLASS_POD_BITS, ClassKey, SocketAddress, VERDICT_PEERS_BITS, VerdictKey};
use aya::maps::{LpmTrie, Map, MapData, MapError, lpm_trie::Key};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A block of ports between two peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerdictBlock {
    /// Slot of the pod that is called, or a class with `CLASS_BIT`.
    pub destination: u32,
    /// Slot of the pod that calls, or a class with `CLASS_BIT`.
    pub source: u32,
    /// IP protocol.
    pub protocol: u16,
    /// First port of the block.
    pub port: u16,
    /// How many leading bits of the port all of the block share, 0 to 16.
    pub bits: u8,
}

/// A network whose addresses are of one class, as the policies of one pod see them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClassBlock {
    /// Slot of the pod.
    pub slot: u32,
    /// One of `ambit_abi::direction`.
    pub direction: u32,
    /// The first address of the network.
    pub network: IpAddr,
    /// How many leading bits all of the network share: of an IPv4 address 0 to 32, of an IPv6 address 0 to 128.
    pub bits: u8,
}

/// What the kernel is to know of the policies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// The verdicts, each one of `ambit_abi::verdict`.
    pub verdicts: BTreeMap<VerdictBlock, u32>,
    /// The classes, each with its number, without `CLASS_BIT`.
    pub classes: BTreeMap<ClassBlock, u32>,
}

/// A key of a longest-prefix match, as the agent has it.
trait Block: Copy + Ord {
    type Data;
    fn key(&self) -> Key<Raw<Self::Data>>;
    fn of(key: &Key<Raw<Self::Data>>) -> Self;
}

impl Block for VerdictBlock {
    type Data = VerdictKey;

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

/// Bits of a mapped IPv4 address that stand before the IPv4 address itself.
const MAPPED_BITS: u32 = 96;

impl Block for ClassBlock {
    type Data = ClassKey;

    fn key(&self) -> Key<Raw<ClassKey>> {
        let mapped = if self.network.is_ipv4() { MAPPED_BITS } else { 0 };
        let data = ClassKey::new(self.slot, self.direction, to_abi(self.network));
        Key::new(CLASS_POD_BITS + mapped + u32::from(self.bits), Raw(data))
    }

    fn of(key: &Key<Raw<ClassKey>>) -> Self {
        let Raw(data) = key.data();
        let network = from_abi(SocketAddress { ip: data.address, ..SocketAddress::default() }).ip();
        let mapped = if network.is_ipv4() { MAPPED_BITS } else { 0 };
        let bits = key.prefix_len().saturating_sub(CLASS_POD_BITS + mapped);
        Self {
            slot: u32::from_be_bytes(data.slot_be),
            direction: u32::from_be_bytes(data.direction_be),
            network,
            bits: u8::try_from(bits).unwrap_or(u8::MAX),
        }
    }
}

/// A trie of the kernel, and what is in it.
struct Trie<B: Block>
where
    Raw<B::Data>: aya::Pod,
{
    name: &'static str,
    trie: LpmTrie<MapData, Raw<B::Data>, u32>,
    known: BTreeMap<B, u32>,
}

impl<B: Block> Trie<B>
where
    Raw<B::Data>: aya::Pod,
{
    /// Takes over a trie with what an agent before this one left in it.
    fn new(name: &'static str, map: Map) -> Result<Self, KernelError> {
        let trie = LpmTrie::try_from(map).map_err(map_error(name, "open"))?;
        let entries = trie.iter().map(|entry| entry.map(|(key, value)| (B::of(&key), value)));
        let known = entries.collect::<Result<_, _>>().map_err(map_error(name, "list"))?;
        Ok(Self { name, trie, known })
    }

    fn add(&mut self, wanted: &BTreeMap<B, u32>) -> Result<(), KernelError> {
        for (block, value) in wanted {
            if self.known.get(block) != Some(value) {
                self.trie.insert(&block.key(), value, 0).map_err(map_error(self.name, "write to"))?;
                self.known.insert(*block, *value);
            }
        }
        Ok(())
    }

    fn remove_others(&mut self, wanted: &BTreeMap<B, u32>) -> Result<(), KernelError> {
        let gone: Vec<B> = self.known.keys().filter(|block| !wanted.contains_key(block)).copied().collect();
        for block in gone {
            match self.trie.remove(&block.key()) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(map_error(self.name, "remove from")(error)),
            }
            self.known.remove(&block);
        }
        Ok(())
    }
}

/// The tries of the compiled policies.
pub(crate) struct Tries(Mutex<(Trie<VerdictBlock>, Trie<ClassBlock>)>);

impl Tries {
    /// Takes over the tries with what an agent before this one left in them.
    pub(crate) fn new(verdicts: Map, classes: Map) -> Result<Self, KernelError> {
        Ok(Self(Mutex::new((Trie::new("VERDICTS", verdicts)?, Trie::new("CLASSES", classes)?))))
    }

    fn locked(&self) -> MutexGuard<'_, (Trie<VerdictBlock>, Trie<ClassBlock>)> {
        // What is remembered is changed after the map was: at worst it is written again.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kernel {
    /// Makes `wanted` what the kernel knows of the policies. A class is there whole before an address belongs to it,
    /// and for as long as one does.
    ///
    /// # Errors
    /// `Map`; what could be written was.
    pub fn set_compiled(&self, wanted: &Compiled) -> Result<(), KernelError> {
        let (verdicts, classes) = &mut *self.tries.locked();
        verdicts.add(&wanted.verdicts)?;
        classes.add(&wanted.classes)?;
        classes.remove_others(&wanted.classes)?;
        verdicts.remove_others(&wanted.verdicts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_survive_the_round_trip() {
        for (network, bits) in [("0.0.0.0", 0), ("10.0.0.0", 8), ("10.1.2.3", 32), ("::", 0), ("fd00::", 8)] {
            let block = ClassBlock { slot: 7, direction: 2, network: network.parse().unwrap(), bits };
            assert_eq!(ClassBlock::of(&block.key()), block);
        }
        let block = VerdictBlock { destination: 1 << 31 | 5, source: 3, protocol: 17, port: 8000, bits: 9 };
        assert_eq!(VerdictBlock::of(&block.key()), block);
    }
}
