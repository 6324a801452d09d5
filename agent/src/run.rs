//! `ambit agent`: puts the parts together, takes the charge of the node, and gives it up in the end.

mod charge;
mod explaining;
mod hand_over;
mod leave;
mod node;
mod options;

pub use options::{AgentOptions, DEFAULT_BPFFS, DEFAULT_SOCKET, SameNode, SourceOption};

use crate::{
    control::file::{self, FileSource, Start},
    dataplane::{Dataplane, Home, Workers},
    identity::{ca::CertificateAuthority, store::IdentityStore},
    observe::{Asking, Decisions, elders, serve},
};
use ambit_bpf::{Kernel, KernelOptions, find_cgroup2, join_cgroup, prepare_pins};
use anyhow::{Context, bail};
use arc_swap::ArcSwap;
use charge::Charge;
use hand_over::{Outcome, hand_over};
use node::Node;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{path::PathBuf, sync::Arc, time::Instant};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

/// What an agent has all its life, whether it is in charge or not.
struct Parts {
    options: AgentOptions,
    cgroup_root: PathBuf,
    source: FileSource,
    identities: Arc<IdentityStore>,
    home: Arc<Home>,
}

/// An agent in charge of its node.
struct Life {
    node: Arc<Node>,
    charge: Option<Charge>,
    /// Answers questions at the main socket.
    serving: JoinSet<()>,
    /// Follows the source of objects; ends only with it.
    following: JoinSet<()>,
    /// Who wants to take over.
    asking: mpsc::Receiver<Asking>,
}

/// Runs an agent until it is told to stop, or another one has taken over and what it carried has ended.
///
/// # Errors
/// Whatever keeps it from starting; nothing is attached then, and what an earlier agent attached stays.
pub async fn run(options: AgentOptions) -> anyhow::Result<()> {
    raise_descriptor_limit();
    let parts = Arc::new(Parts::prepare(options)?);
    let options = &parts.options;
    let (leaving, told) = watch::channel(None);
    tokio::select! {
        outcome = live(&parts, told) => outcome,
        ended = leave::told_to_end(leaving, options.drain_timeout) => {
            tracing::info!("told to end at once");
            ended
        }
    }
}

/// Lives an agent's life.
async fn live(parts: &Arc<Parts>, mut leaving: watch::Receiver<Option<Instant>>) -> anyhow::Result<()> {
    let options = &parts.options;
    prepare_pins(&options.bpffs)?;
    // From here on the kernel's state is this agent's, and no other's.
    let (charge, predecessor) = Charge::take(&options.bpffs, &options.socket).await?;
    let elders = elders(&options.socket).await;
    let plane = parts.dataplane(predecessor.is_some() || !elders.is_empty())?;
    let sweeping = Arc::clone(&plane);
    let mut life = Life::begin(parts, plane, charge)?;
    if let Some(predecessor) = predecessor {
        // One that is gone meanwhile needs no word.
        let _ = predecessor.dismiss().await;
    }
    for folder in life.node.plane.kernel.remove_other_maps()? {
        tracing::info!(folder, "removed the maps of an agent with another layout");
    }
    tokio::spawn(Arc::clone(&parts.identities).run_renewal(std::future::pending()));
    tokio::spawn(async move { sweeping.sweep().await });
    tracing::info!(
        node = %options.node, cgroup = %parts.cgroup_root.display(), pins = %options.bpffs.display(),
        socket = %options.socket.display(), "agent is ready"
    );
    loop {
        let asking = tokio::select! {
            Some(asking) = life.asking.recv() => asking,
            _ = life.following.join_next() => bail!("the source of objects has ended"),
            () = leave::leave(&life.node, &mut leaving) => break,
        };
        let deadline = *leaving.borrow();
        match hand_over(parts, life, asking, deadline).await? {
            Outcome::InCharge(again) => life = again,
            Outcome::Succeeded(elderly) => {
                let deadline = deadline.unwrap_or_else(|| Instant::now() + options.drain_timeout);
                leave::drain(&elderly, deadline).await;
                if options.stay_after_hand_over {
                    leave::stay(&mut leaving).await;
                }
                tracing::info!("agent stopped; another one is in charge");
                return Ok(());
            }
        }
    }
    tracing::info!(
        "agent stopped; its hooks stay and refuse new connections of enrolled pods: start it again, or let go of the \
         pods with `ambit cleanup`"
    );
    Ok(())
}

impl Parts {
    fn prepare(options: AgentOptions) -> anyhow::Result<Self> {
        let SourceOption::Directory(directory) = &options.source;
        // An agent that serves remembers what was valid: a new one does not take its place with less.
        let served = std::os::unix::net::UnixStream::connect(&options.socket).is_ok();
        let start = if served { Start::Valid } else { Start::StandIns };
        let source = file::watch(directory, &options.trust_domain, start)?;
        let ca = CertificateAuthority::open_or_create(&options.ca_dir(), &options.trust_domain)
            .context("open the certificate authority")?;
        let identities =
            IdentityStore::new(Arc::new(ca), options.cert_ttl, options.trust_aliases.iter().cloned())
                .context("prepare the pods' certificates")?;
        let home = Home::open().context("open the node's network namespace")?;
        let cgroup_root = match &options.cgroup_root {
            Some(root) => root.clone(),
            None => find_cgroup2()?,
        };
        if let Some(moved) = join_cgroup(&cgroup_root)? {
            tracing::info!(cgroup = %moved.display(), "the agent moved below the cgroup root, so that its sockets meet its hooks");
        }
        Ok(Self { options, cgroup_root, source, identities, home })
    }

    /// Loads programs and maps; `sockets_in_use` while another agent still connects sockets.
    fn load_kernel(&self, sockets_in_use: bool) -> anyhow::Result<Kernel> {
        let kernel = Kernel::load(KernelOptions {
            pins: self.options.bpffs.clone(),
            cgroup_root: self.cgroup_root.clone(),
            node_netns_cookie: self.home.cookie(),
            host_cgroups: self.options.host_cgroups.clone(),
            direct_lane: self.options.same_node == SameNode::Direct,
            sockets_in_use,
        })?;
        Ok(kernel)
    }

    fn dataplane(&self, sockets_in_use: bool) -> anyhow::Result<Arc<Dataplane>> {
        let state = Arc::new(ArcSwap::new(Arc::clone(&self.source.snapshots.borrow())));
        let decisions = Arc::new(Decisions::new(Arc::clone(&state)));
        Ok(Dataplane::new(
            Arc::new(self.load_kernel(sockets_in_use)?),
            Arc::clone(&self.identities),
            state,
            decisions,
            Arc::clone(&self.home),
            self.options.cluster.clone(),
            Workers::start(self.options.busy_poll).context("start the threads that carry connections")?,
        ))
    }
}

impl Life {
    /// Takes the node, and answers questions about it.
    fn begin(parts: &Arc<Parts>, plane: Arc<Dataplane>, mut charge: Charge) -> anyhow::Result<Self> {
        let node = Node::take(Arc::clone(parts), plane)?;
        let (mut serving, mut following) = (JoinSet::new(), JoinSet::new());
        let (sender, asking) = mpsc::channel(1);
        if let Some(listener) = charge.listener() {
            let answering = Arc::clone(&node);
            let answer = move |query| {
                let node = Arc::clone(&answering);
                async move { node.answer(query).await }
            };
            serving.spawn(serve(listener, answer, sender));
        }
        let followed = Arc::clone(&node);
        following.spawn(async move { followed.follow().await });
        Ok(Self { node, charge: Some(charge), serving, following, asking })
    }

    /// Lets another agent take the charge: the main socket and the lock are free when this returns.
    async fn give_up_charge(&mut self) {
        self.serving.shutdown().await;
        self.charge = None;
    }
}

/// Every connection takes two descriptors: as many as the system allows.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, wanted) {
        tracing::warn!(%error, "the limit on descriptors stays as it is");
    }
}
