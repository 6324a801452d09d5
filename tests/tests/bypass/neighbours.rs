//! Pods of one bridge, as many network plugins join them: a neighbour sees frames that are not its own, and may have
//! the node believe that an address of another pod is behind its link.

use std::net::SocketAddr;
use std::time::Duration;

use ambit_harness::{Pod, Process, Server, Signal, wait_until};
use serde_json::json;

use crate::raw::live;
use crate::world::{World, attack, send};

/// A port of `db` at which `web` is allowed, and whose server comes and goes.
const PORT: u16 = 8082;

const WEB_AT_THREE: &str = "
apiVersion: ambit.dev/v1alpha1
kind: AccessPolicy
metadata: {namespace: shop, name: db}
spec:
  selector: {matchLabels: {app: db}}
  rules:
  - from: [{serviceAccounts: [web]}]
    to: [{ports: [8080, 8081, 8082]}]
";

/// Joins the pods of `db`'s node by a bridge with the address of their gateway, as the plugin `bridge` does.
#[track_caller]
fn bridge(world: &World) {
    let script = "
        ip link add cni0 address ee:ee:ee:ee:ee:ee type bridge
        ip link set cni0 up
        for link in $(ip -o link show type veth | grep -o 'pod[0-9]*'); do
            number=${link#pod}
            ip link set $link master cni0
            ip route replace 10.1.0.$number/32 dev cni0
            ip -6 route del fd10:1::$(printf %x $number)/128 dev $link
            ip -6 route add fd10:1::$(printf %x $number)/128 dev cni0
        done
        ip addr add fe80::1/64 dev cni0 nodad";
    let node = world.nodes[0].host("system");
    let made = node.run("sh", &["-e", "-c", script]);
    assert!(made.status.success(), "{made:?}");
}

/// Opens a connection of `web`'s, and ends the server before `web` has noticed: its socket stands, that of `db` does
/// not. Returns the address from which `web` called, and a server that is new.
#[track_caller]
fn left_over(world: &World, hold: &mut Process, mut old: Server) -> (SocketAddr, Server) {
    hold.wait_log("holding");
    let source = live(world, &world.web);
    hold.signal(Signal::STOP);
    let short = world.db.run("sh", &["-c", "echo 1 > /proc/sys/net/ipv4/tcp_fin_timeout"]);
    assert!(short.status.success(), "{short:?}");
    old.process().kill();
    let port = format!(":{:04X} ", source.port());
    wait_until("db to have forgotten the connection", Duration::from_secs(10), || {
        let tables = world.db.run("cat", &["/proc/net/tcp", "/proc/net/tcp6"]);
        !String::from_utf8_lossy(&tables.stdout).contains(&port)
    });
    (source, world.db.serve("hello", PORT))
}

/// Has the node send what is for `whose` address to the link of `pod`.
fn claim(pod: &Pod, whose: SocketAddr, world: &World) {
    let node = SocketAddr::new(world.nodes[0].ips()[0], 1).to_string();
    let own = pod.ips()[0].to_string();
    attack(pod, &["send", &node, "--from", &whose.to_string(), "--own", &own, "--kind", "arp"]);
}

#[test]
fn a_neighbour_that_takes_over_an_address_takes_no_identity() {
    let mut world = World::new("neighbours", "direct");
    bridge(&world);
    world.bed.write_object("policy.yaml", WEB_AT_THREE);
    world.bed.apply();
    world.control();
    let to = world.db.addr(PORT);
    let old = world.db.serve("echo", PORT);
    let mut hold = world.web.traffic_spawn(&["hold", &to.to_string()]);
    let (source, server) = left_over(&world, &mut hold, old);
    let mut seen = Vec::new();
    for pod in [world.mallory.clone(), world.outside.clone()] {
        claim(&pod, source, &world);
        let shaken = attack(&pod, &["handshake", &to.to_string(), "--from", &source.to_string()]);
        seen.push(format!("{}: {shaken}", pod.name()));
        for kind in ["syn", "syn-data", "data"] {
            let sent = send(&pod, source, to, &["--kind", kind]);
            seen.push(format!("{}, {kind}: {sent}", pod.name()));
        }
        for form in ["tiny", "split", "overlap", "reversed"] {
            let sent = send(&pod, source, to, &["--kind", "syn-data", "--form", form]);
            seen.push(format!("{}, {form}: {sent}", pod.name()));
        }
    }
    hold.kill();
    let served = server.stop();
    let nothing = json!({"connections": 0, "bytes": 0, "aborted": 0});
    assert_eq!(served, nothing, "as {source}:\n{}", seen.join("\n"));
    let accepted = seen.iter().any(|line| line.contains("true") || line.contains("accepted\"]"));
    assert!(!accepted, "as {source}:\n{}", seen.join("\n"));
}
