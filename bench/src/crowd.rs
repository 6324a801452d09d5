//! A node full of pods, of which as many are enrolled as are asked for.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant, SystemTime};

use ambit_harness::{Agent, Node, Pod, PodSpec, Testbed};
use anyhow::{Context, Result, bail};

const NAMESPACE: &str = "crowd";
/// How many pods the node has.
pub(crate) const PODS: usize = 100;
/// How long all of them may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often an agent is asked; asking takes time from what it is asked about.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// A node, its pods, and no agent yet.
pub(crate) struct Crowd {
    pods: Vec<Pod>,
    node: Node,
    bed: Testbed,
}

impl Crowd {
    /// Makes the node and its pods, none of them enrolled.
    pub(crate) fn build() -> Self {
        let bed = Testbed::new("bench-crowd");
        let node = bed.node("node-1");
        let pod = |number: usize| {
            node.pod(PodSpec::new(NAMESPACE, &format!("pod-{number}")).service_account("pod"))
        };
        let pods = (0..PODS).map(pod).collect();
        bed.publish();
        Self { pods, node, bed }
    }

    /// Labels the first `count` pods, each by itself, for the next agent that starts.
    pub(crate) fn choose(&self, count: usize) {
        for (number, pod) in self.pods.iter().enumerate() {
            let mode = if number < count { "strict" } else { "none" };
            pod.update(|spec| drop(spec.labels.insert("ambit.dev/mode".into(), mode.into())));
        }
        self.bed.publish();
    }

    /// Starts the node's agent.
    pub(crate) fn start_agent(&self) -> Agent {
        self.node.start_agent(&[])
    }

    /// Waits until exactly `count` pods are enrolled, and all of them captured.
    ///
    /// # Errors
    /// When that takes too long.
    pub(crate) fn wait_captured(&self, agent: &Agent, count: usize) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = agent.status();
            let pods = status["pods"].as_array().context("the status lists no pods")?;
            let captured = pods.iter().filter(|pod| pod["captured"] == true).count();
            if pods.len() == count && captured == count {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{captured} of {count} pods are captured after {PATIENCE:?}");
            }
            std::thread::sleep(ASK_EVERY);
        }
    }

    /// Labels the namespace; returns when the file was in place.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub(crate) fn label(&self, mode: &str) -> Result<SystemTime> {
        self.bed.label_namespace(NAMESPACE, mode);
        self.bed.publish();
        let file = self.bed.objects().join("namespaces.yaml");
        let found = fs::metadata(&file).with_context(|| format!("look at {}", file.display()))?;
        // Renaming changes the inode: its time is that of the change as the kernel saw it.
        let seconds = Duration::from_secs(u64::try_from(found.ctime()).context("a time before 1970")?);
        let nanos = Duration::from_nanos(u64::try_from(found.ctime_nsec()).unwrap_or(0));
        Ok(SystemTime::UNIX_EPOCH + seconds + nanos)
    }
}
