//! The command line of `ambit agent`.

use clap::{Args, ValueEnum};
use std::{path::PathBuf, str::FromStr, time::Duration};

/// Where pins lie when nothing else is said.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf/ambit";
/// Where the agent's unix socket lies when nothing else is said.
pub const DEFAULT_SOCKET: &str = "/run/ambit/agent.sock";

/// Runs the agent of one node: enrols its pods, carries and decides their connections.
#[derive(Clone, Debug, Args)]
pub struct AgentOptions {
    /// Name of this node, as in the pods' spec.nodeName
    #[arg(long, value_name = "NAME")]
    pub node: String,
    /// Where the objects come from: dir:PATH, a directory of YAML or JSON files, watched for changes
    #[arg(long, value_name = "dir:PATH")]
    pub source: SourceOption,
    /// The cgroup at whose root the hooks attach [default: the cgroup2 mount]
    #[arg(long, value_name = "DIR")]
    pub cgroup_root: Option<PathBuf>,
    /// Folder for pins, mode 0700; a BPF filesystem is mounted there where there is none
    #[arg(long, value_name = "DIR", default_value = DEFAULT_BPFFS)]
    pub bpffs: PathBuf,
    /// Folder for what the agent keeps between its lives
    #[arg(long, value_name = "DIR", default_value = "/var/lib/ambit")]
    pub state_dir: PathBuf,
    /// Folder of the root certificate and its key, mode 0700; nodes that use the same folder trust each other
    /// [default: ca below --state-dir]
    #[arg(long, value_name = "DIR")]
    pub ca_dir: Option<PathBuf>,
    /// The agent's unix socket, for `ambit status` and `ambit connections`
    #[arg(long, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    /// Trust domain of the pods' identities
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub trust_domain: String,
    /// Another trust domain whose identities are accepted; may be given more than once
    #[arg(long = "trust-domain-alias", value_name = "NAME")]
    pub trust_aliases: Vec<String>,
    /// Life of a pod's certificate; it is renewed after half of it
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = lifetime)]
    pub cert_ttl: Duration,
    /// A cgroup whose processes count as the node's own, such as the kubelet's; may be given more than once
    /// [default: every process in the node's network namespace]
    #[arg(long = "host-cgroups", value_name = "DIR")]
    pub host_cgroups: Vec<PathBuf>,
    /// How enrolled pods of this node reach each other: directly, decided upon by the kernel, in plaintext that never
    /// leaves the node, or encrypted, through the tunnel like all others
    #[arg(long, value_enum, default_value_t)]
    pub same_node: SameNode,
    /// How long connections go on that are carried when another agent takes over or the agent is told to stop (SIGTERM);
    /// after that they are reset
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = drain_time)]
    pub drain_timeout: Duration,
    /// After another agent has taken over, stay idle until told to stop: for a supervisor that would start this one
    /// again, as the kubelet does
    #[arg(long)]
    pub stay_after_hand_over: bool,
    /// How long a thread that has just carried something looks for more before it sleeps, while nobody else wants its
    /// core; 0s where the agent's CPU is limited
    #[arg(long, value_name = "DURATION", default_value = "200us", value_parser = busy_poll)]
    pub busy_poll: Duration,
    /// Name of the cluster, as peers see it
    #[arg(long, value_name = "NAME", default_value = "Kubernetes")]
    pub cluster: String,
}

impl AgentOptions {
    /// Returns the folder of the root certificate.
    pub fn ca_dir(&self) -> PathBuf {
        self.ca_dir.clone().unwrap_or_else(|| self.state_dir.join("ca"))
    }
}

/// How enrolled pods of one node reach each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum SameNode {
    /// Directly.
    #[default]
    Direct,
    /// Through the tunnel, with mutual TLS.
    Encrypt,
}

/// A source of objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceOption {
    /// A directory of files.
    Directory(PathBuf),
}

impl FromStr for SourceOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("dir", path)) if !path.is_empty() => Ok(Self::Directory(path.into())),
            _ => Err("write dir:PATH, such as dir:/etc/ambit/objects".to_owned()),
        }
    }
}

fn lifetime(text: &str) -> Result<Duration, String> {
    const SHORTEST: Duration = Duration::from_secs(2);
    let life = humantime::parse_duration(text).map_err(|error| format!("{error}; write 24h or 90m"))?;
    if life < SHORTEST {
        return Err("a certificate lives for at least 2s".to_owned());
    }
    Ok(life)
}

fn drain_time(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
    let time = humantime::parse_duration(text).map_err(|error| format!("{error}; write 30s, 5m or 0s"))?;
    if time > LONGEST {
        return Err("a year is the longest".to_owned());
    }
    Ok(time)
}

fn busy_poll(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_millis(10);
    let time = humantime::parse_duration(text).map_err(|error| format!("{error}; write 200us or 0s"))?;
    if time > LONGEST {
        return Err("10ms is the longest: it is time in which a core does not sleep".to_owned());
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_names_its_kind() {
        assert_eq!("dir:/x".parse(), Ok(SourceOption::Directory("/x".into())));
        assert!("/x".parse::<SourceOption>().is_err());
        assert!("dir:".parse::<SourceOption>().is_err());
    }

    #[test]
    fn a_lifetime_is_long_enough_to_be_renewed() {
        assert_eq!(lifetime("90m"), Ok(Duration::from_secs(5400)));
        assert!(lifetime("1s").is_err());
        assert!(lifetime("soon").is_err());
    }

    #[test]
    fn a_drain_time_may_be_nothing_and_not_for_ever() {
        assert_eq!(drain_time("0s"), Ok(Duration::ZERO));
        assert_eq!(drain_time("5m"), Ok(Duration::from_secs(300)));
        assert!(drain_time("2years").is_err());
        assert!(drain_time("30").is_err());
    }

    #[test]
    fn busy_polling_may_be_off_and_is_short() {
        assert_eq!(busy_poll("0s"), Ok(Duration::ZERO));
        assert_eq!(busy_poll("200us"), Ok(Duration::from_micros(200)));
        assert!(busy_poll("1s").is_err());
    }
}
