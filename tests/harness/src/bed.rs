//! The testbed: a fabric that joins nodes, an objects folder that their agents read, and the end of it all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use rustix::mount::{MountFlags, mount};

use crate::apply::Baseline;
use crate::capture::Capture;
use crate::dir::ObjectsDir;
use crate::name::BedId;
use crate::node::{self, Node, NodeRecord};
use crate::pod::PodRecord;
use crate::service::{Service, ServiceSpec};
use crate::shell::{installed, piped, script};
use crate::{cgroup, kube_proxy, must, netns, objects, remains};

/// Nodes on one machine. Dropping it ends every process and removes everything that was made.
pub struct Testbed {
    pub(crate) shared: Arc<Shared>,
}

/// What the handles of one testbed have in common.
pub(crate) struct Shared {
    id: BedId,
    pub(crate) dir: PathBuf,
    pub(crate) cgroup: PathBuf,
    cgroups: PathBuf,
    logs: PathBuf,
    objects: ObjectsDir,
    state: Mutex<State>,
}

/// What stands on the testbed at this moment.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) nodes: Vec<Arc<NodeRecord>>,
    pub(crate) pods: Vec<Arc<PodRecord>>,
    pub(crate) services: Vec<Service>,
    pub(crate) namespaces: BTreeMap<String, BTreeMap<String, String>>,
    /// Files of the caller that wait for the next publication; None removes one.
    pub(crate) staged: BTreeMap<String, Option<String>>,
    /// Running agents by node, and their sockets.
    pub(crate) agents: BTreeMap<String, PathBuf>,
    /// What each agent said before the first publication that was not waited for yet.
    pub(crate) baseline: Baseline,
    pub(crate) instances: u32,
    ruleset: String,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A test that panicked elsewhere must not hide its message behind a poisoned lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a name that tells whose it is.
    pub(crate) fn scoped(&self, name: &str) -> String {
        format!("{}-{name}", self.id)
    }

    pub(crate) fn fabric(&self) -> String {
        self.scoped("fabric")
    }

    pub(crate) fn logs(&self) -> &Path {
        &self.logs
    }

    pub(crate) fn bpffs(&self) -> PathBuf {
        self.dir.join("bpf")
    }

    pub(crate) fn objects(&self) -> &Path {
        self.objects.path()
    }

    /// Writes the objects folder and kube-proxy's rules as the testbed stands; returns when the last
    /// file changed, if one did.
    pub(crate) fn publish(&self, state: &mut State) -> Result<Option<SystemTime>> {
        let mut files = std::mem::take(&mut state.staged);
        files.extend(objects::files(state)?.into_iter().map(|(name, text)| (name, Some(text))));
        let changed = self.objects.sync(&files)?;
        let ruleset = kube_proxy::ruleset(&state.services, &state.pods);
        if ruleset != state.ruleset {
            for node in &state.nodes {
                piped(Some(&node.netns), &["nft", "-f", "-"], &ruleset)?;
            }
            state.ruleset = ruleset;
        }
        Ok(changed)
    }
}

impl Testbed {
    /// Makes an empty testbed: a fabric, a cgroup, a folder with its own bpffs.
    ///
    /// `name` stands in messages only; two testbeds of one name never meet. The remains of testbeds whose
    /// process died are removed first.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        must(Self::create().with_context(|| format!("make testbed {name}")))
    }

    /// Says what this machine lacks for a testbed, in words that tell what to do.
    ///
    /// # Errors
    /// When privileges, programs or a cgroup2 mount are missing.
    pub fn check_machine() -> Result<()> {
        if !rustix::process::geteuid().is_root() {
            bail!("network namespaces, cgroups and BPF need root: run it with sudo");
        }
        for (program, package) in [("ip", "iproute2"), ("nft", "nftables"), ("nsenter", "util-linux")] {
            if !installed(program) {
                bail!("`{program}` is missing: apt-get install -y {package}");
            }
        }
        cgroup::mount_point().map(drop)
    }

    fn create() -> Result<Self> {
        Self::check_machine()?;
        let id = BedId::fresh();
        let cgroups = cgroup::mount_point()?;
        remains::collect(&cgroups);
        let dir = remains::dir_of(&id);
        let logs = dir.join("logs");
        fs::create_dir_all(&logs).with_context(|| format!("make {}", logs.display()))?;
        let shared = Arc::new(Shared {
            objects: ObjectsDir::create(dir.join("objects"))?,
            cgroup: cgroups.join(id.to_string()),
            state: Mutex::default(),
            id,
            cgroups,
            logs,
            dir,
        });
        let bed = Self { shared };
        bed.furnish()?;
        Ok(bed)
    }

    /// Makes what needs removing; `self` exists already, so that a failure half way is cleaned up too.
    fn furnish(&self) -> Result<()> {
        let shared = &self.shared;
        cgroup::create(&shared.cgroup)?;
        let bpffs = shared.bpffs();
        fs::create_dir_all(&bpffs).with_context(|| format!("make {}", bpffs.display()))?;
        mount("none", &bpffs, "bpf", MountFlags::empty(), Some(c"mode=0700"))
            .with_context(|| format!("mount bpffs on {}", bpffs.display()))?;
        netns::create(&shared.fabric())?;
        script(
            Some(&shared.fabric()),
            "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
             echo 0 > /proc/sys/net/ipv6/conf/default/accept_ra
             # Bridged packets are the nodes' business: no firewall of the fabric sees them.
             for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -w $f ] || echo 0 > $f; done
             ip link add br0 mtu 1500 type bridge stp_state 0 forward_delay 0
             ip link set br0 up
             ip addr add 172.30.0.254/24 dev br0
             ip addr add fd00:172:30::fffe/64 dev br0 nodad",
        )
        .map(drop)
    }

    /// Adds a node (at most 64), joined to all others.
    #[track_caller]
    pub fn node(&self, name: &str) -> Node {
        let mut state = self.shared.state();
        let index = u8::try_from(state.nodes.len() + 1).unwrap_or(u8::MAX);
        assert!(index <= 64, "a testbed has at most 64 nodes");
        let record = Arc::new(must(node::create(&self.shared, name, index, &state.nodes)));
        state.nodes.push(record.clone());
        state.ruleset.clear();
        drop(state);
        Node { shared: self.shared.clone(), record }
    }

    /// Adds a service; it works, with and without a mesh, from the next publication on.
    #[track_caller]
    pub fn service(&self, spec: ServiceSpec) -> Service {
        let mut state = self.shared.state();
        let next = u8::try_from(10 + state.services.len()).unwrap_or(u8::MAX);
        let service = Service::new(spec, next);
        state.services.push(service.clone());
        service
    }

    /// Sets the label `ambit.dev/mode` of a namespace.
    pub fn label_namespace(&self, namespace: &str, mode: &str) {
        let mut state = self.shared.state();
        state.namespaces.entry(namespace.into()).or_default().insert("ambit.dev/mode".into(), mode.into());
    }

    /// Sets the label `ambit.dev/egress` of a namespace.
    pub fn label_egress(&self, namespace: &str, egress: &str) {
        let mut state = self.shared.state();
        let labels = state.namespaces.entry(namespace.into()).or_default();
        labels.insert("ambit.dev/egress".into(), egress.into());
    }

    /// Removes the label `ambit.dev/mode` of a namespace.
    pub fn unlabel_namespace(&self, namespace: &str) {
        self.shared.state().namespaces.entry(namespace.into()).or_default().remove("ambit.dev/mode");
    }

    /// Writes a file of the caller's into the objects folder, such as a policy, at the next publication.
    pub fn write_object(&self, file: &str, text: &str) {
        self.shared.state().staged.insert(file.into(), Some(text.into()));
    }

    /// Removes a file of the caller's from the objects folder at the next publication.
    pub fn remove_object(&self, file: &str) {
        self.shared.state().staged.insert(file.into(), None);
    }

    /// Returns the folder of Kubernetes objects that every agent reads.
    pub fn objects(&self) -> &Path {
        self.shared.objects()
    }

    /// Returns the folder that holds objects, CA, logs and sockets.
    pub fn dir(&self) -> &Path {
        &self.shared.dir
    }

    /// Writes the objects folder as the testbed stands and lets kube-proxy's rules follow; does not wait for agents.
    #[track_caller]
    pub fn publish(&self) {
        must(self.shared.publish_and_remember());
    }

    /// Publishes, and waits until every running agent has applied it; panics with the errors that one reports.
    #[track_caller]
    pub fn apply(&self) {
        let errors = self.try_apply();
        assert!(errors.is_empty(), "agents refused the objects:\n{}", errors.join("\n"));
    }

    /// Publishes, waits until every running agent has looked at it, and returns the errors that they report.
    #[track_caller]
    pub fn try_apply(&self) -> Vec<String> {
        must(self.shared.publish_and_remember());
        self.shared.await_agents()
    }

    /// Starts to record every packet that crosses a link between nodes.
    #[track_caller]
    pub fn capture(&self) -> Capture {
        must(Capture::start(&self.shared.fabric()))
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if let Err(error) = remains::remove(&self.shared.id, &self.shared.cgroups) {
            eprintln!("harness: clean-up: {error:#}");
        }
    }
}
