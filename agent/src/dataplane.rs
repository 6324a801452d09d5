//! The data path of a node: carries connections between the pods of this node and everything else.
//!
//! Knows the snapshot of the moment and asks it; never changes it.

mod authority;
mod counters;
mod dial;
mod direct;
mod inbound;
mod links;
mod listen;
pub mod live;
mod netlink;
mod netns;
mod outbound;
mod pool;
mod proof;
mod relay;
mod tally;
mod trunk;
mod tunnel;
mod workers;

pub use links::{Links, links};
pub use listen::ListenError;
pub use netns::{Home, Netns, NetnsError};
pub use proof::{ProofError, canaries};
#[cfg(feature = "bench")]
pub use trunk::measured;
pub use workers::Workers;

use crate::{identity::store::IdentityStore, observe::Decisions};
use ambit_abi::flow_kind;
use ambit_bpf::{Device, Kernel, KernelError};
use ambit_core::{identity::SpiffeId, model::WorkloadKey, state::Snapshot};
use arc_swap::ArcSwap;
use live::{Caller, ConnectionRow, Live};
use pool::Pool;
use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};
use tally::Tally;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Tunnels to one pod whose peer has not yet proved who it is.
const MAX_HANDSHAKES: usize = 1024;
/// Connections that the agent carries for one pod at a time, streams and tunnels included.
const MAX_CONNECTIONS: usize = 32_768;
/// How long tunnels that are no longer used may take to end in order.
const TUNNELS_END: Duration = Duration::from_secs(1);

/// The two ends of a connection that was accepted: the client's address and the local one.
pub type Tuple = (SocketAddr, SocketAddr);

/// What every connection needs.
pub struct Dataplane {
    /// The node's programs and maps.
    pub kernel: Arc<Kernel>,
    /// Certificates of the node's pods.
    pub identities: Arc<IdentityStore>,
    /// The mesh at this moment.
    pub state: Arc<ArcSwap<Snapshot>>,
    /// Connections that are carried now.
    pub live: Arc<Live>,
    /// Where decisions are logged and counted.
    pub decisions: Arc<Decisions>,
    /// The node's own network namespace.
    pub home: Arc<Home>,
    /// The cluster's name, as peers see it.
    pub cluster: String,
    /// The enrolled pods of this node by slot: whom the kernel means when it attests a flow.
    pub local: ArcSwap<HashMap<u32, Arc<LocalPod>>>,
    pool: Arc<Pool>,
    accepted: Arc<direct::Accepted>,
    proofs: proof::Proofs,
    /// Connections that are carried, or are coming about.
    carried: Tally,
    /// Tunnels of both directions.
    tunnels: Tally,
    /// Whether connections are accepted: not before a snapshot is in force.
    open: watch::Sender<bool>,
    /// Whether the callers' agents are told to open their next tunnels to another agent.
    draining: watch::Sender<bool>,
    /// The listeners that are still served, to offer them to the kernel once more.
    listening: Mutex<Vec<listen::Listening>>,
    workers: Arc<Workers>,
}

/// An enrolled pod of this node.
pub struct LocalPod {
    /// Its name.
    pub key: WorkloadKey,
    /// Number of this instance.
    pub slot: u32,
    /// Its network namespace.
    pub netns: Netns,
    /// Who it is.
    pub identity: SpiffeId,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    handshakes: Arc<Semaphore>,
    places: Arc<Semaphore>,
}

impl LocalPod {
    /// Describes an instance of a pod.
    pub fn new(
        key: WorkloadKey,
        slot: u32,
        netns: Netns,
        identity: SpiffeId,
        addresses: Vec<IpAddr>,
    ) -> Arc<Self> {
        let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Arc::new(Self { key, slot, netns, identity, addresses, handshakes, places })
    }
}

impl LocalPod {
    /// Returns a place for one more connection, given up when dropped; `None` when the pod has all it may have.
    fn place(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).try_acquire_owned().ok()
    }
}

impl Dataplane {
    /// Puts together what the connections of a node need.
    pub fn new(
        kernel: Arc<Kernel>,
        identities: Arc<IdentityStore>,
        state: Arc<ArcSwap<Snapshot>>,
        decisions: Arc<Decisions>,
        home: Arc<Home>,
        cluster: String,
        workers: Workers,
    ) -> Arc<Self> {
        let (live, pool, accepted) = (Arc::default(), Arc::default(), Arc::default());
        Arc::new(Self {
            kernel,
            identities,
            state,
            live,
            decisions,
            home,
            cluster,
            local: ArcSwap::default(),
            pool,
            accepted,
            proofs: proof::Proofs::default(),
            carried: Tally::default(),
            tunnels: Tally::default(),
            open: watch::Sender::new(false),
            draining: watch::Sender::new(false),
            listening: Mutex::default(),
            workers: Arc::new(workers),
        })
    }

    /// Returns what goes on with another hold on the kernel: it shares what is carried, and serves no pod yet.
    pub fn renewed(&self, kernel: Arc<Kernel>) -> Arc<Self> {
        Arc::new(Self {
            kernel,
            identities: Arc::clone(&self.identities),
            state: Arc::clone(&self.state),
            live: Arc::clone(&self.live),
            decisions: Arc::clone(&self.decisions),
            home: Arc::clone(&self.home),
            cluster: self.cluster.clone(),
            local: ArcSwap::default(),
            pool: Arc::clone(&self.pool),
            accepted: Arc::clone(&self.accepted),
            carried: self.carried.clone(),
            tunnels: self.tunnels.clone(),
            open: watch::Sender::new(false),
            draining: self.draining.clone(),
            proofs: proof::Proofs::default(),
            listening: Mutex::default(),
            workers: Arc::clone(&self.workers),
        })
    }

    /// Begins to accept: whoever came before waits in the listeners' queues.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Tells the callers' agents to open their next tunnels to another agent; the streams that they have go on.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Returns how many connections are carried or are coming about.
    pub fn carried(&self) -> usize {
        self.carried.count()
    }

    /// Waits until no connection is carried.
    pub async fn until_idle(&self) {
        self.carried.none().await;
    }

    /// Ends the tunnels that nobody uses, in order, so that what was sent last arrives; waits for a second at most.
    pub async fn end_tunnels(&self) {
        self.pool.clear();
        // A peer that does not answer is not waited for: nothing is carried in its tunnel.
        let _ = tokio::time::timeout(TUNNELS_END, self.tunnels.none()).await;
    }

    /// Returns the connections that the agent has accepted inside pods.
    pub fn accepted(&self) -> Vec<Tuple> {
        self.accepted.all()
    }

    /// Closes connections to `pods` that no agent carries and that `snapshot` does not allow. `carried_elsewhere` tells
    /// what agents before this one still carry.
    pub async fn sweep_direct<F: Future<Output = HashSet<Tuple>>>(
        self: Arc<Self>,
        pods: Vec<Arc<LocalPod>>,
        snapshot: Arc<Snapshot>,
        carried_elsewhere: impl FnOnce() -> F,
    ) {
        direct::sweep(self, pods, snapshot, carried_elsewhere).await;
    }

    /// Announces the connections that were on their way before `pod` was enrolled, so that the guard lets them go on.
    ///
    /// # Errors
    /// The pod's sockets cannot be listed, or the kernel's map not be written.
    pub fn announce_older(&self, pod: &LocalPod) -> Result<(), ListenError> {
        direct::announce_older(self, pod)
    }

    /// Tests that `pod`, whose links end in `devices`, is captured.
    ///
    /// # Errors
    /// What was seen instead.
    pub async fn prove(&self, pod: &Arc<LocalPod>, devices: &[Device]) -> Result<(), ProofError> {
        proof::prove(self, pod, devices).await
    }

    /// Returns who opened the connection from `client` to `server`, as the kernel attests: a pod of this node, the node
    /// itself, or nobody that it knows.
    fn attested(&self, client: SocketAddr, server: SocketAddr) -> Result<Caller, KernelError> {
        let Some(flow) = self.kernel.flow(client, server)? else { return Ok(Caller::Unverified) };
        Ok(match flow.kind {
            flow_kind::HOST if flow.netns_cookie == self.home.cookie() => Caller::Host,
            flow_kind::POD => self.caller(flow.slot, flow.netns_cookie),
            _ => Caller::Unverified,
        })
    }

    /// Returns the pod with this slot as a caller, if it still is that instance.
    fn caller(&self, slot: u32, netns_cookie: u64) -> Caller {
        let local = self.local.load();
        let pod = local.get(&slot).filter(|pod| pod.netns.cookie() == netns_cookie);
        pod.map_or(Caller::Unverified, |pod| Caller::Identity(pod.identity.clone()))
    }

    /// Returns the pod with this slot as a caller.
    pub(crate) fn instance(&self, slot: u32) -> Caller {
        let local = self.local.load();
        local.get(&slot).map_or(Caller::Unverified, |pod| Caller::Identity(pod.identity.clone()))
    }

    /// Returns the name of the enrolled pod with this slot.
    pub(crate) fn pod(&self, slot: u32) -> Option<WorkloadKey> {
        self.local.load().get(&slot).map(|pod| pod.key.clone())
    }

    /// Returns the connections between pods of this node that need no agent; `carried_elsewhere` are carried by agents
    /// before this one.
    pub fn direct_connections(&self, carried_elsewhere: &HashSet<Tuple>) -> Vec<ConnectionRow> {
        direct::rows(self, carried_elsewhere)
    }

    /// Forgets the tunnels of a pod that was released.
    pub fn forget(&self, slot: u32) {
        self.pool.forget(slot);
    }

    /// Returns how many tunnels to other pods stand.
    pub fn tunnels(&self) -> usize {
        self.pool.count()
    }

    /// Closes tunnels that nobody uses, for as long as the agent runs.
    pub async fn sweep(&self) {
        self.pool.sweep().await;
    }
}

/// Returns an address of a dual-stack socket as the family that it really is of.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
