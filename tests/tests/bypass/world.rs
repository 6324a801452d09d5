//! A strict namespace in which only `web` may call `db`, and the attackers around it. `db` is watched: what its
//! application served, and what came over its link.

use std::net::SocketAddr;
use std::time::Duration;

use ambit_harness::{
    Agent, Node, Place, Pod, PodSpec, Process, Server, Service, ServiceSpec, Testbed, binary, wait_until,
};
use serde_json::Value;

/// The port of `db`.
pub(crate) const PORT: u16 = 8080;
/// Where `db` echoes, for connections that are held.
pub(crate) const ECHO: u16 = 8081;

const ONLY_WEB: &str = "
apiVersion: ambit.dev/v1alpha1
kind: AccessPolicy
metadata: {namespace: shop, name: db}
spec:
  selector: {matchLabels: {app: db}}
  rules:
  - from: [{serviceAccounts: [web]}]
    to: [{ports: [8080, 8081]}]
";

pub(crate) struct World {
    pub(crate) web: Pod,
    pub(crate) db: Pod,
    /// Enrolled, on the node of `db`, and not allowed.
    pub(crate) mallory: Pod,
    /// Not enrolled, on the node of `db`.
    pub(crate) outside: Pod,
    /// Enrolled, on the other node, and not allowed.
    pub(crate) far: Pod,
    pub(crate) service: Service,
    pub(crate) application: Server,
    _echo: Server,
    pub(crate) watch: Process,
    pub(crate) agents: [Agent; 2],
    pub(crate) nodes: [Node; 2],
    pub(crate) bed: Testbed,
    /// Connections that `db` should have served.
    controls: u64,
}

impl World {
    /// `same_node` is what the agents take as `--same-node`.
    #[track_caller]
    pub(crate) fn new(name: &str, same_node: &str) -> Self {
        let mut world = Self::unenrolled(name, same_node);
        world.enrol();
        world.control();
        world
    }

    /// The same before the namespace gets its label.
    #[track_caller]
    pub(crate) fn unenrolled(name: &str, same_node: &str) -> Self {
        let bed = Testbed::new(name);
        let (a, b) = (bed.node("a"), bed.node("b"));
        let pod = |node: &Node, name: &str| node.pod(PodSpec::new("shop", name).service_account(name));
        let (web, db, mallory, far) = (pod(&a, "web"), pod(&a, "db"), pod(&a, "mallory"), pod(&b, "far"));
        let outside = a.pod(PodSpec::new("elsewhere", "outside"));
        let service = bed.service(ServiceSpec::new("shop", "db").port(80, PORT));
        for pod in [&web, &db, &mallory, &far, &outside] {
            // Both ways, without cookies, for every listener.
            let set = pod.run("sh", &["-c", "echo 1543 > /proc/sys/net/ipv4/tcp_fastopen"]);
            assert!(set.status.success(), "{set:?}");
        }
        bed.write_object("policy.yaml", ONLY_WEB);
        bed.publish();
        let application = db.serve("hello", PORT);
        let echo = db.serve("echo", ECHO);
        let [ip4, ip6] = db.ips().map(|ip| ip.to_string());
        let mut watch = db.spawn(binary("attack"), &["watch", &ip4, &ip6]);
        watch.wait_log("watching");
        let agents = [&a, &b].map(|node| node.start_agent(&["--same-node", same_node]));
        let nodes = [a, b];
        Self {
            web,
            db,
            mallory,
            outside,
            far,
            service,
            application,
            _echo: echo,
            watch,
            agents,
            nodes,
            bed,
            controls: 0,
        }
    }

    /// Switches the namespace on, and waits until it is.
    #[track_caller]
    pub(crate) fn enrol(&self) {
        self.bed.label_namespace("shop", "strict");
        self.bed.apply();
    }

    /// One more pod on the node of `db`, of which everybody is told.
    #[track_caller]
    pub(crate) fn add_pod(&self, spec: PodSpec) -> Pod {
        let pod = self.nodes[0].pod(spec);
        self.bed.apply();
        pod
    }

    /// The addresses of `db`, of both families.
    pub(crate) fn targets(&self) -> [SocketAddr; 2] {
        [self.db.addr(PORT), self.db.addr6(PORT)]
    }

    /// Those who must not reach `db`.
    pub(crate) fn attackers(&self) -> [&Pod; 3] {
        [&self.mallory, &self.outside, &self.far]
    }

    /// The attacker of this name.
    pub(crate) fn attacker(&self, name: &str) -> &Pod {
        self.attackers().into_iter().find(|pod| pod.name().ends_with(name)).unwrap()
    }

    /// Asserts that the legitimate way works, and returns the address from which it went.
    #[track_caller]
    pub(crate) fn control(&mut self) -> SocketAddr {
        let mut last = None;
        for to in self.targets().into_iter().rev() {
            let seen = self.web.connect(to);
            assert!(seen.all_ok(), "web to {to}: {seen:?}\n{}", self.agents[0].log());
            last = seen.getsockname;
            self.controls += 1;
        }
        last.unwrap()
    }

    /// Counts one more connection to `db` that is as it should be.
    pub(crate) fn allow(&mut self, count: u64) {
        self.controls += count;
    }

    /// Asserts that the application of `db` saw the controls and nothing else.
    #[track_caller]
    pub(crate) fn assert_untouched(&mut self, after: &str) {
        self.control();
        let log = self.application.process().log();
        let lines = |start: &str| log.lines().filter(|line| line.starts_with(start)).count() as u64;
        // The second kind are those that ended before they were greeted, or after it without an end.
        let seen = (lines("accepted"), lines("connection from"));
        assert_eq!(seen, (self.controls, 0), "after {after}, the application saw:\n{log}");
    }

    /// Packets that came over the link of `db` so far and are as `wanted`.
    pub(crate) fn arrived(&self, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        let lines = self.watch.stdout();
        lines.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(|v| wanted(v)).collect()
    }

    /// Asserts that no packet with this source came over the link of `db`.
    #[track_caller]
    pub(crate) fn assert_nothing_from(&self, source: SocketAddr, after: &str) {
        let arrived = self.arrived(|packet| packet["from"] == source.to_string());
        assert!(arrived.is_empty(), "after {after}, the link of db saw {arrived:?}");
    }

    /// How many packets the guard of the pod `name` has dropped so far, for all reasons.
    pub(crate) fn dropped(&self, name: &str) -> u64 {
        let status = self.agents[0].status();
        let pods = status["pods"].as_array().unwrap();
        let pod = pods
            .iter()
            .find(|pod| pod["namespace"] == "shop" && pod["name"] == name)
            .unwrap_or_else(|| panic!("{pods:?}"));
        pod["dropped"].as_object().unwrap().values().filter_map(Value::as_u64).sum()
    }

    /// Waits until the guard of the pod `name` has dropped more than `before`.
    #[track_caller]
    pub(crate) fn wait_dropped(&self, name: &str, before: u64) {
        let what = format!("the guard of {name} to count more than {before}");
        wait_until(&what, Duration::from_secs(5), || self.dropped(name) > before);
    }

    /// Ends it: the application's own count must be that of the controls.
    #[track_caller]
    pub(crate) fn end(mut self) {
        self.assert_untouched("everything");
        let counted = self.application.stop();
        assert_eq!(counted["connections"], self.controls, "{counted}");
        assert_eq!(counted["aborted"], 0, "{counted}");
    }
}

/// Runs `attack ARGS…` in a place and returns the JSON that it prints.
#[track_caller]
pub(crate) fn attack(place: &Place, arguments: &[&str]) -> Value {
    let output = place.run(binary("attack").to_str().unwrap(), arguments);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = printed.lines().rfind(|line| line.starts_with('{')).map(serde_json::from_str);
    match last {
        Some(Ok(value)) => value,
        _ => panic!("{} {arguments:?}: {}", place.name(), String::from_utf8_lossy(&output.stderr)),
    }
}

/// Runs `attack send` from `place`, with the source `from`.
#[track_caller]
pub(crate) fn send(place: &Pod, from: SocketAddr, to: SocketAddr, more: &[&str]) -> Value {
    let own = place.ips()[usize::from(to.is_ipv6())].to_string();
    let (from, to) = (from.to_string(), to.to_string());
    attack(place, &[&["send", to.as_str(), "--from", &from, "--own", &own], more].concat())
}

/// The address of `pod` of the family of `like`, with `port`.
pub(crate) fn address(pod: &Pod, like: SocketAddr, port: u16) -> SocketAddr {
    SocketAddr::new(pod.ips()[usize::from(like.is_ipv6())], port)
}
