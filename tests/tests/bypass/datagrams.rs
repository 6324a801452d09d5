//! UDP to a strict pod: its own exchanges work, and nobody else's.

use std::net::SocketAddr;

use ambit_harness::{Pod, PodSpec, Process, binary};
use serde_json::Value;

use crate::world::{World, address, attack, send};

const UDP: u16 = 5300;

fn hear(pod: &Pod) -> Process {
    let mut process = pod.spawn(binary("attack"), &["hear", &format!("[::]:{UDP}")]);
    process.wait_log("hearing");
    process
}

fn ask(pod: &Pod, to: SocketAddr, more: &[&str]) -> Value {
    attack(pod, &[&["ask", &to.to_string()], more].concat())
}

#[test]
fn datagrams_that_the_pod_did_not_ask_for_do_not_arrive() {
    let mut world = World::new("udp", "direct");
    let dns = world.add_pod(PodSpec::new("elsewhere", "dns"));
    let (application, resolver) = (hear(&world.db), hear(&dns));
    for (at, to) in world.targets().into_iter().enumerate() {
        let to = SocketAddr::new(to.ip(), UDP);
        for pod in world.attackers() {
            let refused = ask(pod, to, &[]);
            assert_eq!(refused["answered"], false, "{}: {refused}", pod.name());
        }
        // Forged as if web had sent it, whole and in pieces.
        for pod in [&world.mallory, &world.outside] {
            for form in ["whole", "tiny", "options"] {
                for source in [address(&world.web, to, 33_000), address(pod, to, 33_001)] {
                    send(pod, source, to, &["--kind", "udp", "--form", form]);
                }
            }
        }
        // What db asks is answered, by a pod outside of the mesh as DNS may be, and by nobody else.
        let server = SocketAddr::new(dns.ips()[at], UDP);
        let answered = ask(&world.db, server, &[]);
        assert_eq!(answered["answered"], true, "{answered}");
        let local: SocketAddr = answered["local"].as_str().unwrap().parse().unwrap();
        let port = SocketAddr::new(to.ip(), local.port());
        for pod in [&world.mallory, &world.outside] {
            send(pod, server, port, &["--kind", "udp"]);
            send(pod, address(pod, to, UDP), port, &["--kind", "udp"]);
        }
    }
    let heard = application.stdout();
    assert_eq!(heard.lines().collect::<Vec<_>>(), ["hearing"]);
    assert_eq!(resolver.stdout().matches("ambit-ask").count(), 2);
    world.assert_untouched("datagrams");
    world.end();
}

#[test]
fn echoes_and_errors_of_icmp_pass() {
    let world = World::new("icmp", "direct");
    // A port without a listener answers the one who asks, over both families.
    let silent = world.outside.clone();
    for at in [0, 1] {
        let refused = ask(&world.db, SocketAddr::new(silent.ips()[at], UDP), &[]);
        assert!(refused["error"].as_str().unwrap().contains("refused"), "{refused}");
        let to = SocketAddr::new(world.db.ips()[at], 1);
        // `send` waits for the answer to an echo, and fails without one.
        for pod in world.attackers() {
            send(pod, address(pod, to, 34_000), to, &["--kind", "syn"]);
        }
    }
    world.end();
}

const WEB_ALONE: &str = "
apiVersion: ambit.dev/v1alpha1
kind: AccessPolicy
metadata: {namespace: shop, name: datagrams}
spec:
  selector: {matchLabels: {app: db}}
  rules:
  - from: [{serviceAccounts: [web]}]
    to: [{ports: [5300], protocol: UDP}]
";

#[test]
fn a_policy_lets_in_the_datagrams_of_those_it_names() {
    let mut world = World::new("named", "direct");
    world.bed.write_object("datagrams.yaml", WEB_ALONE);
    world.bed.apply();
    let application = hear(&world.db);
    for to in world.targets() {
        let to = SocketAddr::new(to.ip(), UDP);
        let used = address(&world.web, to, 35_000);
        let answered = ask(&world.web, to, &["--bind", &used.to_string()]);
        assert_eq!(answered["answered"], true, "{answered}");
        for pod in world.attackers() {
            let refused = ask(pod, to, &[]);
            assert_eq!(refused["answered"], false, "{}: {refused}", pod.name());
        }
        for via in ["raw", "frame"] {
            for form in ["whole", "tiny", "options", "reversed"] {
                let more = ["--kind", "udp", "--form", form, "--via", via];
                let before = world.dropped("mallory");
                send(&world.mallory, used, to, &more);
                world.wait_dropped("mallory", before);
                // A pod that nobody guards, from where web has just sent, and from where it has not.
                for source in [used, address(&world.web, to, 35_001)] {
                    send(&world.outside, source, to, &more);
                }
            }
        }
    }
    let heard = application.stdout();
    assert_eq!(heard.matches("ambit-ask").count(), 2, "web's alone: {heard}");
    assert!(!heard.contains("ambit-attack"), "{heard}");
    world.assert_untouched("forged datagrams");
    world.end();
}
