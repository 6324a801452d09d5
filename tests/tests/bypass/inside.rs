//! What an attacker can build inside of a pod: network namespaces, address translation, tunnels, the link moved away.

use std::net::SocketAddr;

use ambit_harness::{Place, Pod, Process, binary};

use crate::world::{PORT, World, address, send};

/// A network namespace that a process of the pod holds.
struct Inner<'a> {
    pod: &'a Pod,
    holder: Process,
}

impl<'a> Inner<'a> {
    fn new(pod: &'a Pod) -> Self {
        // `unshare` becomes the program that it starts, which tells when it stands in the namespace.
        let mut holder = pod.spawn("unshare", &["--net", "sh", "-c", "echo inside; exec sleep 600"]);
        holder.wait_log("inside");
        Self { pod, holder }
    }

    /// Runs a script in the pod, where `$inner` names the namespace, then one inside.
    #[track_caller]
    fn build(&self, around: &str, inside: &str) {
        let inner = format!("inner={}; {around}", self.holder.pid());
        run(self.pod, "sh", &["-e", "-c", &inner]);
        run(self.pod, "nsenter", &[&self.net(), "sh", "-e", "-c", &format!("ip link set lo up; {inside}")]);
    }

    fn net(&self) -> String {
        format!("--net=/proc/{}/ns/net", self.holder.pid())
    }

    /// Connects from inside and returns what came of it.
    fn dial(&self, to: SocketAddr) -> String {
        let attack = binary("attack").display().to_string();
        let output =
            self.pod.run("nsenter", &[&self.net(), &attack, "dial", &to.to_string(), "--timeout", "1200ms"]);
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(printed.contains("served"), "{printed}{}", String::from_utf8_lossy(&output.stderr));
        printed
    }
}

#[track_caller]
fn run(place: &Place, program: &str, args: &[&str]) {
    let output = place.run(program, args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?} in {}: {said}", place.name());
}

/// Routes and translates for a namespace behind a link pair, as a nested container engine does.
const NAT: [&str; 2] = [
    "ip link add v0 type veth peer name v1 netns $inner
     ip addr add 192.168.77.1/24 dev v0
     ip addr add fd77::1/64 dev v0 nodad
     ip link set v0 up
     echo 1 > /proc/sys/net/ipv4/ip_forward
     echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
     nft add table inet nat
     nft add chain inet nat post '{ type nat hook postrouting priority 100; }'
     nft add rule inet nat post oifname eth0 masquerade
     ip route replace default via 169.254.1.1 dev eth0
     ip -6 route replace default via fe80::1 dev eth0",
    "ip addr add 192.168.77.2/24 dev v1
     ip addr add fd77::2/64 dev v1 nodad
     ip link set v1 up
     ip route add default via 192.168.77.1
     ip -6 route add default via fd77::1",
];

#[test]
fn a_namespace_behind_the_pods_address_does_not_connect() {
    let mut world = World::new("nested", "direct");
    let server = world.add_pod(ambit_harness::PodSpec::new("elsewhere", "server"));
    let greeter = server.serve("hello", 8080);
    let (mallory, outside) = (world.mallory.clone(), world.outside.clone());
    for pod in [&mallory, &outside] {
        let inner = Inner::new(pod);
        inner.build(NAT[0], NAT[1]);
        for to in world.targets() {
            let before = world.dropped("mallory");
            let refused = inner.dial(to);
            assert!(refused.contains("\"served\":false"), "{}: {refused}", pod.name());
            if pod.name() == mallory.name() {
                world.wait_dropped("mallory", before);
            }
        }
        // The way itself works, where nobody is enrolled.
        let served = inner.dial(server.addr(8080));
        assert_eq!(
            served.contains("\"served\":true"),
            pod.name() == outside.name(),
            "{}: {served}",
            pod.name()
        );
    }
    world.assert_untouched("nested namespaces");
    assert_eq!(greeter.stop()["connections"], 1);
    world.end();
}

#[test]
fn the_pods_link_in_another_namespace_does_not_connect() {
    let mut world = World::new("moved", "direct");
    let (mallory, web) = (world.mallory.clone(), world.web.clone());
    let inner = Inner::new(&mallory);
    let [own4, own6] = mallory.ips();
    let inside = |ip4, ip6| {
        format!(
            "ip link set eth0 up
             ip addr replace {ip4}/32 dev eth0
             ip addr replace {ip6}/128 dev eth0 nodad
             ip neigh replace 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent
             ip neigh replace fe80::1 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent
             ip route replace 169.254.1.1 dev eth0 scope link
             ip route replace default via 169.254.1.1 dev eth0
             ip -6 route replace default via fe80::1 dev eth0"
        )
    };
    inner.build("ip link set eth0 netns $inner", &inside(own4, own6));
    for to in world.targets() {
        let before = world.dropped("mallory");
        let refused = inner.dial(to);
        assert!(refused.contains("\"served\":false"), "{refused}");
        world.wait_dropped("mallory", before);
    }
    let [ip4, ip6] = web.ips();
    inner.build("true", &format!("ip addr flush dev eth0; {}", inside(ip4, ip6)));
    for to in world.targets() {
        let refused = inner.dial(to);
        assert!(refused.contains("\"served\":false"), "as web: {refused}");
        world.assert_nothing_from(address(&mallory, to, 0), "a moved link");
    }
    world.assert_untouched("a moved link");
    world.end();
}

#[test]
fn a_tunnel_device_in_the_pod_leads_nowhere() {
    let mut world = World::new("vxlan", "direct");
    let [db4, _] = world.db.ips();
    let mallory = world.mallory.clone();
    run(
        &mallory,
        "sh",
        &[
            "-e",
            "-c",
            &format!(
                "ip link add t0 type vxlan id 7 remote {db4} dstport 4789 dev eth0
             ip addr add 192.168.88.1/24 dev t0
             ip link set t0 up"
            ),
        ],
    );
    // An accomplice in db, who would let it in.
    run(
        &world.db,
        "sh",
        &[
            "-e",
            "-c",
            &format!(
                "ip link add t0 type vxlan id 7 remote {} dstport 4789 dev eth0
             ip addr add 192.168.88.2/24 dev t0
             ip link set t0 up",
                mallory.ips()[0]
            ),
        ],
    );
    let refused =
        crate::sockets::dial(&mallory, "192.168.88.2:8080".parse().unwrap(), &["--timeout", "1200ms"]);
    assert_eq!(refused["served"], false, "{refused}");
    let tunnelled = world.arrived(|packet| packet["protocol"] == 17);
    assert!(tunnelled.is_empty(), "{tunnelled:?}");
    world.assert_untouched("a tunnel");
    world.end();
}

/// What an overlay network's end on the node takes out of its tunnels passes no guard on its way in: README says so. It
/// opens no connection for all that.
#[test]
fn a_segment_that_the_node_takes_out_of_a_tunnel_does_not_connect() {
    let mut world = World::new("overlay", "direct");
    let mallory = world.mallory.clone();
    let node = world.nodes[0].host("system");
    let overlay = "ip link add vx0 address 02:00:00:00:00:77 type vxlan id 7 dstport 8472 local 172.30.0.1
                   ip addr add 192.168.99.1/24 dev vx0
                   ip link set vx0 up";
    run(&node, "sh", &["-e", "-c", overlay]);
    let end = SocketAddr::new(world.nodes[0].ips()[0], 8472).to_string();
    let to = world.db.addr(PORT);
    let used = world.control();
    for source in [used, address(&world.web, to, 36_000), address(&mallory, to, 36_001)] {
        for kind in ["syn", "syn-data", "data"] {
            send(&mallory, source, to, &["--kind", kind, "--through", &end]);
        }
        let arrived = world.arrived(|packet| packet["from"] == source.to_string());
        assert!(arrived.len() >= 3, "the way itself leads to db: {arrived:?}");
        world.assert_untouched(&format!("segments of {source} through the node's tunnel"));
    }
    world.end();
}
