//! The loaded programs: at the cgroup root once, in each enrolled pod's network namespace, fed through the maps.

use crate::{
    EventReader, KernelError,
    bpffs::{MAPS_PREFIX, remove_other_maps},
    cgroup::cgroup_id,
    error::map_error,
    guard::GuardMaps,
    links::Links,
    pins,
    programs::{self, LOOKUP_PROGRAM, ROOT_PROGRAMS, descriptor},
    services::Services,
    tables::{Raw, Table, from_abi, socket_to_abi, to_abi},
    verdicts::Tries,
};
use ambit_abi::{
    ABI_VERSION, AgentSocket, CONFIG_DIRECT_LANE, CONFIG_HOST_RESTRICTED, Config, Destination, Endpoint,
    Flow, FlowKey, ListenerKey, Pod,
};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, Map, MapData, SockHash},
};
use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, BorrowedFd, RawFd},
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/ambit-ebpf.o"));

const PINNED_MAPS: [&str; 23] = [
    "CONFIG",
    "PODS",
    "ENDPOINTS",
    "DESTINATIONS",
    "HOST_CGROUPS",
    "AGENT_SOCKETS",
    "FLOWS",
    "LISTENERS",
    "EVENTS",
    "EVENTS_LOST",
    "SOCKETS",
    "SERVICES",
    "BACKENDS",
    "VERDICTS",
    "CLASSES",
    "SYNS",
    "GUARDS",
    "DATAGRAMS",
    "HEARD",
    "FRAGMENTS",
    "HOST_SOCKETS",
    "AWAITED",
    "REFUSED",
];

/// What an agent gives the kernel.
#[derive(Clone, Debug)]
pub struct KernelOptions {
    /// Folder for pins, prepared by `prepare_pins`.
    pub pins: PathBuf,
    /// The cgroup at whose root the programs attach.
    pub cgroup_root: PathBuf,
    /// Cookie of the node's own network namespace.
    pub node_netns_cookie: u64,
    /// Cgroups whose processes count as the node's own; empty: every process in the node's network namespace.
    pub host_cgroups: Vec<PathBuf>,
    /// Connections between enrolled pods of this node go directly.
    pub direct_lane: bool,
    /// Another agent still connects sockets, and what it announced of them must stay.
    pub sockets_in_use: bool,
}

/// The programs and maps of one node.
pub struct Kernel {
    programs: Mutex<Ebpf>,
    pub(crate) links: Links,
    pub(crate) config: Mutex<(Array<MapData, Raw<Config>>, Config)>,
    pub(crate) guard: GuardMaps,
    attached: AtomicBool,
    options: KernelOptions,
    listeners: Mutex<SockHash<MapData, Raw<ListenerKey>>>,
    events: Mutex<Option<EventReader>>,
    pub(crate) services: Services,
    pub(crate) tries: Tries,
    pub(crate) pods: Table<u64, Raw<Pod>>,
    pub(crate) endpoints: Table<Raw<ambit_abi::Address>, Raw<Endpoint>>,
    destinations: Table<Raw<Destination>, u32>,
    agent_sockets: Table<u64, Raw<AgentSocket>>,
    pub(crate) flows: Table<Raw<FlowKey>, Raw<Flow>>,
    events_lost: Array<MapData, u64>,
}

impl Kernel {
    /// Loads programs and maps, taking over the maps that an agent before this one left pinned. Attaches nothing.
    ///
    /// # Errors
    /// `Load`, `Program` or `Missing`.
    pub fn load(options: KernelOptions) -> Result<Self, KernelError> {
        let maps = options.pins.join(maps_folder());
        fs::create_dir_all(&maps).map_err(|source| KernelError::Bpffs { path: maps.clone(), source })?;
        pins::check(&maps, OBJECT, &PINNED_MAPS)?;
        let mut loader = EbpfLoader::new();
        for name in PINNED_MAPS {
            loader.map_pin_path(name, maps.join(name));
        }
        let mut programs = loader.load(OBJECT).map_err(|source| KernelError::Load(Box::new(source)))?;
        programs::load(&mut programs)?;
        let config = Mutex::new(write_config(&mut programs, &options)?);
        let listeners =
            SockHash::try_from(take(&mut programs, "LISTENERS")?).map_err(map_error("LISTENERS", "open"))?;
        let agent_sockets: Table<u64, Raw<AgentSocket>> =
            Table::new("AGENT_SOCKETS", take(&mut programs, "AGENT_SOCKETS")?)?;
        if !options.sockets_in_use {
            // What an agent before this one announced and never connected is gone with its sockets.
            for (cookie, _) in agent_sockets.entries()? {
                agent_sockets.remove(&cookie)?;
            }
        }
        Ok(Self {
            links: Links::open(options.pins.join("links"))?,
            listeners: Mutex::new(listeners),
            events: Mutex::new(Some(EventReader::new(take(&mut programs, "EVENTS")?)?)),
            services: Services::new(take(&mut programs, "SERVICES")?, take(&mut programs, "BACKENDS")?)?,
            tries: Tries::new(take(&mut programs, "VERDICTS")?, take(&mut programs, "CLASSES")?)?,
            pods: Table::new("PODS", take(&mut programs, "PODS")?)?,
            endpoints: Table::new("ENDPOINTS", take(&mut programs, "ENDPOINTS")?)?,
            destinations: Table::new("DESTINATIONS", take(&mut programs, "DESTINATIONS")?)?,
            agent_sockets,
            flows: Table::new("FLOWS", take(&mut programs, "FLOWS")?)?,
            events_lost: Array::try_from(take(&mut programs, "EVENTS_LOST")?)
                .map_err(map_error("EVENTS_LOST", "open"))?,
            guard: GuardMaps::new(&mut programs)?,
            attached: AtomicBool::new(false),
            config,
            programs: Mutex::new(programs),
            options,
        })
    }

    pub(crate) fn programs(&self) -> MutexGuard<'_, Ebpf> {
        // Attaching is one system call after another: a panic elsewhere leaves what was attached.
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attaches the socket programs at the cgroup root, or puts them in the place of an earlier agent's.
    ///
    /// # Errors
    /// `Attach` or `Link`.
    pub fn attach(&self) -> Result<(), KernelError> {
        let root = self.options.cgroup_root.as_path();
        let id = cgroup_id(root)?;
        let cgroup = File::open(root).map_err(|source| crate::CgroupError::Io {
            action: "open",
            path: root.to_owned(),
            source,
        })?;
        let mut programs = self.programs();
        let mut wanted = BTreeSet::new();
        for name in ROOT_PROGRAMS {
            let link = format!("{name}_{id}");
            let descriptor = descriptor(&programs, name)?;
            self.links.ensure(&link, name, descriptor.as_fd(), || {
                programs::attach_to_cgroup(&mut programs, name, &cgroup)
            })?;
            wanted.insert(link);
        }
        // Links at another cgroup root belong to a configuration of the past.
        for name in self.links.names()? {
            let at_root = ROOT_PROGRAMS.iter().any(|program| name.starts_with(&format!("{program}_")));
            if at_root && !wanted.contains(&name) {
                self.links.remove(&name)?;
            }
        }
        self.attached.store(true, Ordering::Release);
        Ok(())
    }

    /// Tells whether the programs at the cgroup root are this agent's.
    pub fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    /// Removes the maps that agents with other layouts pinned; only programs of theirs used them. Returns their folders.
    ///
    /// # Errors
    /// `Bpffs`.
    pub fn remove_other_maps(&self) -> Result<Vec<String>, KernelError> {
        remove_other_maps(&self.options.pins, &maps_folder())
    }

    /// Tells whether connections between enrolled pods of this node go directly.
    pub fn has_direct_lane(&self) -> bool {
        self.options.direct_lane
    }

    /// Attaches the inbound hook in a network namespace.
    pub(crate) fn attach_lookup(&self, netns_cookie: u64, netns: BorrowedFd<'_>) -> Result<(), KernelError> {
        let mut programs = self.programs();
        let descriptor = descriptor(&programs, LOOKUP_PROGRAM)?;
        self.links.ensure(&lookup_link(netns_cookie), LOOKUP_PROGRAM, descriptor.as_fd(), || {
            programs::attach_to_netns(&mut programs, netns)
        })
    }

    /// Tells whether the network namespace with this cookie still exists and has its inbound hook.
    ///
    /// # Errors
    /// `Link`.
    pub fn is_hooked(&self, netns_cookie: u64) -> Result<bool, KernelError> {
        let descriptor = descriptor(&self.programs(), LOOKUP_PROGRAM)?;
        self.links.is_alive(&lookup_link(netns_cookie), descriptor.as_fd())
    }

    /// Detaches the inbound hook from a network namespace.
    pub(crate) fn detach_lookup(&self, netns_cookie: u64) -> Result<(), KernelError> {
        self.links.remove(&lookup_link(netns_cookie))
    }

    /// Detaches inbound hooks of network namespaces other than `wanted`: pods that are gone, or were released while
    /// no agent ran.
    ///
    /// # Errors
    /// `Link`.
    pub fn detach_stale(&self, wanted: &BTreeSet<u64>) -> Result<(), KernelError> {
        let keep: BTreeSet<String> = wanted.iter().map(|cookie| lookup_link(*cookie)).collect();
        for name in self.links.names()? {
            if name.starts_with(LOOKUP_PROGRAM) && !keep.contains(&name) {
                self.links.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Tells whether every hook that a pod with this network namespace needs is attached.
    pub fn is_captured(&self, netns_cookie: u64) -> bool {
        let Ok(id) = cgroup_id(&self.options.cgroup_root) else { return false };
        self.links.exists(&lookup_link(netns_cookie))
            && ROOT_PROGRAMS.iter().all(|name| self.links.exists(&format!("{name}_{id}")))
            && matches!(self.pods.get(&netns_cookie), Ok(Some(_)))
    }

    /// Makes `wanted` what enrolled pods reach through the agent; port 0 stands for every port.
    ///
    /// # Errors
    /// `Map`; additions are written before removals.
    pub fn set_destinations(&self, wanted: &BTreeSet<(IpAddr, u16)>) -> Result<(), KernelError> {
        let installed: BTreeSet<(IpAddr, u16)> = self
            .destinations
            .entries()?
            .into_iter()
            .map(|(Raw(key), _)| {
                let address = ambit_abi::SocketAddress { ip: key.ip, port: key.port, _pad: 0 };
                (from_abi(address).ip(), key.port)
            })
            .collect();
        let key = |(ip, port): &(IpAddr, u16)| Raw(Destination { ip: to_abi(*ip), port: *port, _pad: 0 });
        for added in wanted.difference(&installed) {
            self.destinations.insert(&key(added), &1)?;
        }
        for removed in installed.difference(wanted) {
            self.destinations.remove(&key(removed))?;
        }
        Ok(())
    }

    /// Announces that the agent is about to connect the socket with this cookie, on behalf of `client`.
    ///
    /// # Errors
    /// `Map`.
    pub fn announce(&self, socket_cookie: u64, client: Option<SocketAddr>) -> Result<(), KernelError> {
        let client = client.map(socket_to_abi).unwrap_or_default();
        self.agent_sockets.insert(&socket_cookie, &Raw(AgentSocket { client, _pad: 0 }))
    }

    /// Takes back an announcement whose socket may not have been connected.
    ///
    /// # Errors
    /// `Map`.
    pub fn withdraw(&self, socket_cookie: u64) -> Result<(), KernelError> {
        self.agent_sockets.remove(&socket_cookie)
    }

    /// Returns what the kernel attests of the connection from `source` to `destination`.
    ///
    /// # Errors
    /// `Map`.
    pub fn flow(&self, source: SocketAddr, destination: SocketAddr) -> Result<Option<Flow>, KernelError> {
        Ok(self.flows.get(&flow_key(source, destination))?.map(|Raw(flow)| flow))
    }

    /// Forgets a flow that was taken over.
    ///
    /// # Errors
    /// `Map`.
    pub fn forget_flow(&self, source: SocketAddr, destination: SocketAddr) -> Result<(), KernelError> {
        self.flows.remove(&flow_key(source, destination))
    }

    pub(crate) fn insert_listener(&self, key: ListenerKey, socket: RawFd) -> Result<(), KernelError> {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.insert(Raw(key), socket, 0).map_err(map_error("LISTENERS", "write to"))
    }

    /// Returns how many refusals the kernel could not report, because nobody read its reports in time.
    ///
    /// # Errors
    /// `Map`.
    pub fn events_lost(&self) -> Result<u64, KernelError> {
        self.events_lost.get(&0, 0).map_err(map_error("EVENTS_LOST", "read"))
    }

    /// Hands out the reader of the kernel's reports, once.
    pub fn take_events(&self) -> Option<EventReader> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Name of the folder of this version's maps.
fn maps_folder() -> String {
    format!("{MAPS_PREFIX}{ABI_VERSION}")
}

pub(crate) fn flow_key(source: SocketAddr, destination: SocketAddr) -> Raw<FlowKey> {
    Raw(FlowKey {
        source: to_abi(source.ip()),
        destination: to_abi(destination.ip()),
        source_port: source.port(),
        destination_port: destination.port(),
    })
}

pub(crate) fn lookup_link(netns_cookie: u64) -> String {
    format!("{LOOKUP_PROGRAM}_{netns_cookie}")
}

fn write_config(
    programs: &mut Ebpf,
    options: &KernelOptions,
) -> Result<(Array<MapData, Raw<Config>>, Config), KernelError> {
    let table = Table::<u64, u32>::new("HOST_CGROUPS", take(programs, "HOST_CGROUPS")?)?;
    let wanted =
        options.host_cgroups.iter().map(|path| cgroup_id(path)).collect::<Result<BTreeSet<u64>, _>>()?;
    for (id, _) in table.entries()? {
        if !wanted.contains(&id) {
            table.remove(&id)?;
        }
    }
    for id in &wanted {
        table.insert(id, &1)?;
    }
    let config = Config {
        node_netns_cookie: options.node_netns_cookie,
        flags: if wanted.is_empty() { 0 } else { CONFIG_HOST_RESTRICTED }
            | if options.direct_lane { CONFIG_DIRECT_LANE } else { 0 },
        _pad: 0,
    };
    let mut map: Array<MapData, Raw<Config>> =
        Array::try_from(take(programs, "CONFIG")?).map_err(map_error("CONFIG", "open"))?;
    map.set(0, Raw(config), 0).map_err(map_error("CONFIG", "write to"))?;
    Ok((map, config))
}

pub(crate) fn take(programs: &mut Ebpf, name: &'static str) -> Result<Map, KernelError> {
    programs.take_map(name).ok_or(KernelError::Missing(name))
}
