//! Two nodes with agents; a pod that is called, one that calls it through the mesh, and a peer outside of the mesh.

use std::net::{IpAddr, SocketAddr};

use ambit_harness::{Agent, Place, Pod, PodSpec, Process, Server, Service, ServiceSpec, Testbed, binary};
use serde_json::Value;

/// The port of the applications.
pub(crate) const PORT: u16 = 8080;

pub(crate) struct World {
    pub(crate) server: Pod,
    pub(crate) client: Pod,
    pub(crate) peer: Pod,
    pub(crate) service: Service,
    pub(crate) other_service: Service,
    /// Of the node of `server` and `peer`.
    pub(crate) agent: Agent,
    /// Of the node of `client`.
    pub(crate) _far_agent: Agent,
    pub(crate) application: Server,
    pub(crate) bed: Testbed,
}

impl World {
    /// `mode` is what the application does.
    pub(crate) fn new(name: &str, mode: &str) -> Self {
        let bed = Testbed::new(name);
        let (a, b) = (bed.node("a"), bed.node("b"));
        let server = a.pod(PodSpec::new("shop", "server").service_account("server"));
        let client = b.pod(PodSpec::new("shop", "client").service_account("client"));
        let peer = b.pod(PodSpec::new("elsewhere", "peer").service_account("peer"));
        let service = bed.service(ServiceSpec::new("shop", "server").port(80, PORT));
        let other_service = bed.service(ServiceSpec::new("shop", "client").port(80, PORT));
        bed.label_namespace("shop", "strict");
        bed.publish();
        let application = server.serve(mode, PORT);
        let (agent, _far_agent) = (a.start_agent(&[]), b.start_agent(&[]));
        Self { server, client, peer, service, other_service, agent, _far_agent, application, bed }
    }

    /// Traffic of the mesh that goes on until [`undisturbed`].
    pub(crate) fn traffic(&self) -> Process {
        let mut process = self.client.traffic_spawn(&["loop", &self.server.addr(PORT).to_string()]);
        process.wait_log("looping");
        process
    }

    fn arguments<'a>(&self, command: &'a str, to: &'a str, ca: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        [&[command, to, "--ca", ca], more].concat()
    }

    fn ca(&self) -> String {
        self.bed.dir().join("ca").display().to_string()
    }

    /// Runs `hbone-peer COMMAND` against the pod `to` and returns what it prints.
    #[track_caller]
    pub(crate) fn peer(&self, command: &str, to: IpAddr, more: &[&str]) -> Value {
        run(&self.peer, &self.arguments(command, &to.to_string(), &self.ca(), more))
    }

    /// Starts what [`World::peer`] runs.
    pub(crate) fn spawn_peer(&self, command: &str, to: IpAddr, more: &[&str]) -> Process {
        let (to, ca) = (to.to_string(), self.ca());
        self.peer.spawn(binary("hbone-peer"), &self.arguments(command, &to, &ca, more))
    }

    /// Opens one stream to the server's application, which greets.
    #[track_caller]
    pub(crate) fn connect(&self, more: &[&str]) -> Value {
        let to = self.server.addr(PORT);
        self.peer("connect", to.ip(), &[&["--hello", "--authority", &to.to_string()], more].concat())
    }

    /// Runs `hbone-peer raw` against the server.
    #[track_caller]
    pub(crate) fn raw(&self, send: &str, more: &[&str]) -> Value {
        let to = self.server.addr(PORT);
        let arguments = ["--send", send, "--authority", &to.to_string()].map(str::to_owned);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).chain(more.iter().copied()).collect();
        self.peer("raw", to.ip(), &arguments)
    }

    /// Runs `hbone-peer hostile` against the server's tunnel port.
    #[track_caller]
    pub(crate) fn hostile(&self, send: &str, more: &[&str]) -> Value {
        let to = SocketAddr::new(self.server.ips()[0], 15008).to_string();
        run(&self.peer, &[&["hostile", &to, "--send", send], more].concat())
    }

    /// What the kernel says of the memory of the server's agent, in KiB.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.agent.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// How many descriptors the server's agent has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.agent.pid())).unwrap().count()
    }
}

/// Runs `hbone-peer` in a place and returns the JSON that it prints.
#[track_caller]
pub(crate) fn run(place: &Place, arguments: &[&str]) -> Value {
    let output = place.run(binary("hbone-peer").to_str().unwrap(), arguments);
    last_json(&String::from_utf8_lossy(&output.stdout))
        .unwrap_or_else(|| panic!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Returns the last line of JSON in what was printed.
pub(crate) fn last_json(printed: &str) -> Option<Value> {
    serde_json::from_str(printed.lines().rfind(|line| line.starts_with('{'))?).ok()
}

/// Ends the traffic of the mesh: no connection of it may have failed, nor waited long.
#[track_caller]
pub(crate) fn undisturbed(mut traffic: Process) {
    let printed = traffic.stop();
    let result = last_json(&printed).unwrap_or_else(|| panic!("no result: {printed}"));
    assert_eq!(result["failed"], 0, "{result}");
    assert!(result["ok"].as_u64().unwrap() > 0, "{result}");
    assert!(result["longest_gap_ms"].as_f64().unwrap() < 3000.0, "{result}");
}
