//! The guard on the node's side of the pods' links, and the pods that are awaited.
//!
//! Where the kernel has links for it (6.6) they are pinned like all others; before that the programs are filters of the
//! device, which stay until they or the device are removed.

use crate::{
    Kernel, KernelError, PodEntry,
    error::map_error,
    kernel::take,
    programs::{self, GUARD_PROGRAMS, descriptor},
    tables::{Raw, Table, from_abi, to_abi},
};
use ambit_abi::{
    Address, CONFIG_AWAITING, Datagram, DatagramKey, Flow, FlowKey, Guard, Heard, HeardKey, Refused,
    RefusedKey, SocketAddress, event_reason, flow_kind,
};
use aya::{
    Ebpf,
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        links::FdLink,
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle},
    },
    util::KernelVersion,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    path::Path,
    sync::PoisonError,
};

/// Where the filters stand on kernels without links for them: before others, under a handle of our own.
const PRIORITY: u16 = 1;
const HANDLE: TcHandle = TcHandle::new(0, 0xa3b1);

/// A device on the node's side of a pod's link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    /// Its index in the node's network namespace.
    pub index: u32,
    /// Its name there.
    pub name: String,
    /// Index of its other end, in the pod.
    pub inside: u32,
    /// Bytes of a packet before the IP header.
    pub link_header: u32,
    /// The number under which the node's network namespace knows the pod's.
    pub netns_id: u32,
}

/// The maps of the guard.
pub(crate) struct GuardMaps {
    guards: Table<u32, Raw<Guard>>,
    syns: Table<Raw<FlowKey>, u64>,
    awaited: Table<Raw<Address>, u32>,
    pub(crate) datagrams: Table<Raw<DatagramKey>, Raw<Datagram>>,
    pub(crate) heard: Table<Raw<HeardKey>, Raw<Heard>>,
    pub(crate) refused: Table<Raw<RefusedKey>, Raw<Refused>>,
}

impl GuardMaps {
    pub(crate) fn new(programs: &mut Ebpf) -> Result<Self, KernelError> {
        Ok(Self {
            guards: Table::new("GUARDS", take(programs, "GUARDS")?)?,
            syns: Table::new("SYNS", take(programs, "SYNS")?)?,
            awaited: Table::new("AWAITED", take(programs, "AWAITED")?)?,
            datagrams: Table::new("DATAGRAMS", take(programs, "DATAGRAMS")?)?,
            heard: Table::new("HEARD", take(programs, "HEARD")?)?,
            refused: Table::new("REFUSED", take(programs, "REFUSED")?)?,
        })
    }
}

impl Kernel {
    /// Guards `pod`, whose link ends in `device`.
    ///
    /// # Errors
    /// `Map`, `Attach` or `Link`.
    pub fn guard(&self, pod: &PodEntry, device: &Device) -> Result<(), KernelError> {
        let entry = Guard {
            netns_cookie: pod.netns_cookie,
            pod: pod.as_source(),
            link_header: device.link_header,
            netns_id: device.netns_id,
        };
        let known = self.guard.guards.get(&device.index)?;
        if known.map(|Raw(known)| known) != Some(entry) {
            self.guard.guards.insert(&device.index, &Raw(entry))?;
        }
        let mut programs = self.programs();
        for (name, direction) in directions() {
            if has_links() {
                let descriptor = descriptor(&programs, name)?;
                let link = link_name(name, device.index);
                self.links.ensure(&link, name, descriptor.as_fd(), || {
                    let program =
                        programs::guard(&mut programs, name).map_err(|_| ProgramError::NotLoaded)?;
                    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
                    let attached = program.attach_with_options(&device.name, direction, order)?;
                    FdLink::try_from(program.take_link(attached)?).map_err(programs::invalid_link)
                })?;
            } else {
                let program = programs::guard(&mut programs, name)?;
                attach_filter(program, device, direction).map_err(|source| KernelError::Attach {
                    program: name,
                    target: device.name.clone(),
                    source: Box::new(source),
                })?;
            }
        }
        Ok(())
    }

    /// Takes the guard off the devices of the network namespace with this cookie, all but `keep`.
    ///
    /// # Errors
    /// `Map` or `Link`.
    pub fn unguard(&self, netns_cookie: u64, keep: &[Device]) -> Result<(), KernelError> {
        for (index, Raw(guard)) in self.guard.guards.entries()? {
            if guard.netns_cookie != netns_cookie || keep.iter().any(|device| device.index == index) {
                continue;
            }
            for (name, direction) in directions() {
                if has_links() {
                    self.links.remove(&link_name(name, index))?;
                } else {
                    detach_filter(index, direction);
                }
            }
            // Last: a guard that knows nobody drops everything.
            self.guard.guards.remove(&index)?;
        }
        Ok(())
    }

    /// Tells whether both programs stand on `device`, for the network namespace with this cookie.
    pub fn is_guarded(&self, netns_cookie: u64, device: &Device) -> bool {
        let links = !has_links()
            || GUARD_PROGRAMS.iter().all(|name| self.links.exists(&link_name(name, device.index)));
        let known = self.guard.guards.get(&device.index);
        links && matches!(known, Ok(Some(Raw(guard))) if guard.netns_cookie == netns_cookie)
    }

    /// Announces a connection of `pod` that was on its way before the pod was enrolled, as the kernel would have.
    ///
    /// # Errors
    /// `Map`.
    pub fn announce_older(
        &self,
        pod: (u32, u64),
        source: SocketAddr,
        destination: SocketAddr,
    ) -> Result<(), KernelError> {
        let (slot, netns_cookie) = pod;
        let key = crate::kernel::flow_key(source, destination);
        let goes_direct =
            self.has_direct_lane() && self.endpoints.get(&to_abi(destination.ip()).into())?.is_some();
        // What the hooks have announced meanwhile is right.
        if goes_direct && self.flows.get(&key)?.is_none() {
            let flow = Flow { netns_cookie, slot, kind: flow_kind::POD, ..Flow::default() };
            self.flows.insert(&key, &Raw(flow))?;
        }
        self.guard.syns.insert(&key, &netns_cookie)
    }

    /// Makes `wanted` the addresses of pods that are to be enrolled and are not yet, with their `pod_flag` bits: what
    /// they send is held back.
    ///
    /// # Errors
    /// `Map`.
    pub fn set_awaited(&self, wanted: &BTreeMap<IpAddr, u32>) -> Result<(), KernelError> {
        let installed: BTreeSet<IpAddr> = self
            .guard
            .awaited
            .entries()?
            .into_iter()
            .map(|(Raw(ip), _)| from_abi(SocketAddress { ip, ..SocketAddress::default() }).ip())
            .collect();
        for (ip, flags) in wanted {
            self.guard.awaited.insert(&to_abi(*ip).into(), flags)?;
        }
        for ip in installed.iter().filter(|ip| !wanted.contains_key(ip)) {
            self.guard.awaited.remove(&to_abi(*ip).into())?;
        }
        let (map, config) = &mut *self.config.lock().unwrap_or_else(PoisonError::into_inner);
        let flags =
            if wanted.is_empty() { config.flags & !CONFIG_AWAITING } else { config.flags | CONFIG_AWAITING };
        if flags != config.flags {
            config.flags = flags;
            map.set(0, Raw(*config), 0).map_err(map_error("CONFIG", "write to"))?;
        }
        Ok(())
    }

    /// Returns how many packets with which the agent tested it the guard of the pod with this slot has counted.
    ///
    /// # Errors
    /// `Map`.
    pub fn tested(&self, slot: u32) -> Result<u64, KernelError> {
        let key = Raw(RefusedKey { slot, reason: event_reason::TESTED });
        Ok(self.guard.refused.get(&key)?.map_or(0, |Raw(counted)| counted.packets))
    }

    /// Returns how many packets of each pod the guard refused, by slot and `ambit_abi::event_reason`.
    ///
    /// # Errors
    /// `Map`.
    pub fn refused(&self) -> Result<BTreeMap<(u32, u32), u64>, KernelError> {
        let entries = self.guard.refused.entries()?.into_iter();
        Ok(entries.map(|(Raw(key), Raw(refused))| ((key.slot, key.reason), refused.packets)).collect())
    }
}

/// Takes filters off the devices that the maps in `folder` name: what removing pins does not do.
pub(crate) fn remove_filters(folder: &Path) {
    if has_links() {
        return;
    }
    let Ok(map) = aya::maps::MapData::from_pin(folder.join("GUARDS")) else { return };
    let Ok(guards) = Table::<u32, Raw<Guard>>::new("GUARDS", aya::maps::Map::HashMap(map)) else { return };
    for (index, _) in guards.entries().unwrap_or_default() {
        directions().for_each(|(_, direction)| detach_filter(index, direction));
    }
}

fn directions() -> impl Iterator<Item = (&'static str, TcAttachType)> {
    // What the pod sends comes in at the node's side.
    GUARD_PROGRAMS.into_iter().zip([TcAttachType::Ingress, TcAttachType::Egress])
}

pub(crate) fn link_name(program: &str, index: u32) -> String {
    format!("{program}_{index}")
}

/// Tells whether the kernel attaches programs to devices as links.
pub(crate) fn has_links() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 6, 0))
}

fn attach_filter(
    program: &mut SchedClassifier,
    device: &Device,
    direction: TcAttachType,
) -> Result<(), ProgramError> {
    match tc::qdisc_add_clsact(&device.name) {
        Ok(()) => {}
        Err(error) if io_error(&error) == Some(io::ErrorKind::AlreadyExists) => {}
        Err(error) => return Err(error.into()),
    }
    let options = NlOptions { priority: PRIORITY, handle: HANDLE, classid: None };
    let attached = program.attach_with_options(&device.name, direction, TcAttachOptions::Netlink(options));
    let attached = match attached {
        Ok(attached) => attached,
        // An agent before this one left its own: replaced without a moment in between.
        Err(_) => program.attach_to_link(filter(&device.name, direction)?)?,
    };
    // The filter belongs to the device from now on, not to this process.
    std::mem::forget(program.take_link(attached)?);
    Ok(())
}

fn filter(device: &str, direction: TcAttachType) -> Result<SchedClassifierLink, ProgramError> {
    SchedClassifierLink::attached(device, direction, PRIORITY, HANDLE, None).map_err(ProgramError::IOError)
}

/// Takes a filter off a device; there is nothing to do where the device is gone, and the filter with it.
fn detach_filter(index: u32, direction: TcAttachType) {
    let Ok(name) = index_to_name(index) else { return };
    let Ok(filter) = filter(&name, direction) else { return };
    if let Err(error) = aya::programs::links::Link::detach(filter) {
        tracing::debug!(device = %name, %error, "no filter to take off");
    }
}

/// Returns the name of the device with this index in the caller's network namespace.
///
/// # Errors
/// There is none.
pub fn index_to_name(index: u32) -> io::Result<String> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    Ok(rustix::net::netdevice::index_to_name(socket, index)?)
}

fn io_error(error: &TcError) -> Option<io::ErrorKind> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}
