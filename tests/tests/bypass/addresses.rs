//! Addresses that are not, or no longer, the attacker's.

use ambit_harness::PodSpec;

use crate::sockets::dial;
use crate::world::{PORT, World, address, attack, send};

#[test]
fn an_address_of_another_pod_is_of_no_use() {
    for same_node in ["direct", "encrypt"] {
        let mut world = World::new("bound", same_node);
        let used = world.control();
        for to in world.targets() {
            let taken = address(&world.web, to, 0);
            let flag = if to.is_ipv4() { "-4" } else { "-6" };
            let added = format!("{}/{}", taken.ip(), if to.is_ipv4() { 32 } else { 128 });
            for pod in [&world.mallory, &world.outside] {
                // Without the address itself, by the two options that do without.
                for way in ["freebind", "transparent"] {
                    let bind = taken.to_string();
                    let refused = dial(pod, to, &["--way", way, "--bind", &bind]);
                    assert_eq!(refused["served"], false, "{way}: {refused}");
                }
                let output = pod.run("ip", &[flag, "addr", "add", &added, "dev", "eth0"]);
                assert!(output.status.success(), "{output:?}");
                let claim = if to.is_ipv4() { "arp" } else { "advertisement" };
                let before = world.dropped("mallory");
                let own = address(pod, to, 0).ip().to_string();
                let node = world.nodes[0].ips()[usize::from(to.is_ipv6())];
                let node = std::net::SocketAddr::new(node, 1).to_string();
                let (from, to_text) = (taken.to_string(), node.as_str());
                attack(pod, &["send", to_text, "--from", &from, "--own", &own, "--kind", claim]);
                if pod.name() == world.mallory.name() {
                    world.wait_dropped("mallory", before);
                }
                let port = if to.is_ipv4() { used.port() } else { 22_000 };
                for bind in [taken, address(&world.web, to, port)].map(|bind| bind.to_string()) {
                    let refused = dial(pod, to, &["--bind", &bind]);
                    assert_eq!(refused["served"], false, "{} as {bind}: {refused}", pod.name());
                }
                let output = pod.run("ip", &[flag, "addr", "del", &added, "dev", "eth0"]);
                assert!(output.status.success(), "{output:?}");
            }
            world.assert_untouched(&format!("web's address of {to}"));
        }
        world.end();
    }
}

#[test]
fn the_address_of_a_deleted_pod_brings_nothing_of_it() {
    let mut world = World::new("reuse", "direct");
    let used = [world.control(), address(&world.web, world.db.addr6(PORT), 23_000)];
    let first = dial(&world.web, world.db.addr6(PORT), &["--bind", &used[1].to_string()]);
    assert_eq!(first["served"], true, "{first}");
    world.allow(1);
    let number = world.web.host_number();
    world.web.clone().delete();
    let thief = PodSpec::new("shop", "thief").service_account("thief").host_number(number);
    let thief = world.nodes[0].pod(thief);
    // Before anybody is told, and after.
    for told in [false, true] {
        if told {
            world.web = world.nodes[0].pod(PodSpec::new("shop", "web-2").service_account("web"));
            world.bed.apply();
        }
        for (to, used) in world.targets().into_iter().zip(used) {
            for bind in [used, address(&thief, to, 0)] {
                let refused = dial(&thief, to, &["--bind", &bind.to_string()]);
                assert_eq!(refused["served"], false, "told: {told}, {bind}: {refused}");
            }
            for kind in ["syn", "syn-data", "data"] {
                send(&thief, used, to, &["--kind", kind]);
            }
        }
    }
    world.assert_untouched("reuse of web's address");
    world.end();
}

#[test]
fn a_tuple_that_was_just_used_is_free_for_its_owner_alone() {
    let mut world = World::new("tuple", "direct");
    for to in world.targets() {
        let bind = address(&world.web, to, 24_000);
        let served = dial(&world.web, to, &["--bind", &bind.to_string()]);
        assert_eq!(served["served"], true, "{served}");
        world.allow(1);
        for pod in [&world.mallory, &world.outside] {
            for kind in ["syn", "syn-data", "data"] {
                let answered = send(pod, bind, to, &["--kind", kind]);
                assert_eq!(answered["answers"].as_array().unwrap().len(), 0, "{answered}");
            }
        }
    }
    world.assert_untouched("tuples of web's");
    world.end();
}
