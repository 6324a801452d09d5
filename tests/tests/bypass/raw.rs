//! Packets that no socket stands behind.

use ambit_harness::Pod;

use crate::world::{ECHO, PORT, World, address, send};

const WAYS: [&str; 2] = ["raw", "frame"];

#[test]
fn a_syn_that_no_socket_announced_is_dropped() {
    let mut world = World::new("raw", "direct");
    let mut port = 20_000;
    for to in world.targets() {
        for via in WAYS {
            for kind in ["syn", "syn-data"] {
                port += 1;
                let what = format!("{kind} via {via} to {to}");
                let more = ["--via", via, "--kind", kind];
                let before = world.dropped("mallory");
                let own = address(&world.mallory, to, port);
                assert_eq!(
                    send(&world.mallory, own, to, &more)["answers"].as_array().unwrap().len(),
                    0,
                    "{what}"
                );
                world.wait_dropped("mallory", before);
                world.assert_nothing_from(own, &what);
                // Nobody guards the link of a pod that is not enrolled: db's own side refuses.
                let own = address(&world.outside, to, port);
                let refused = send(&world.outside, own, to, &more);
                assert_eq!(refused["answers"], serde_json::json!(["reset"]), "{what}");
            }
        }
    }
    world.assert_untouched("raw SYNs");
    world.end();
}

#[test]
fn a_forged_source_gains_nothing() {
    let mut world = World::new("forged", "direct");
    let used = world.control();
    let mut held = world.web.traffic_spawn(&["hold", &world.db.addr(ECHO).to_string()]);
    held.wait_log("holding");
    let node = std::net::SocketAddr::new(world.nodes[0].ips()[0], 21_000);
    let live = live(&world, &world.web);
    let forged =
        [("web's last", used), ("web's live", live), ("web's", world.web.addr(21_001)), ("the node's", node)];
    for (whose, source) in forged {
        let to = world.db.addr(if source == live { ECHO } else { PORT });
        for via in WAYS {
            for kind in ["syn", "syn-data", "data", "rst"] {
                let what = format!("{kind} via {via} from {whose} address");
                let before = world.dropped("mallory");
                send(&world.mallory, source, to, &["--via", via, "--kind", kind]);
                world.wait_dropped("mallory", before);
                send(&world.outside, source, to, &["--via", via, "--kind", kind]);
                world.assert_untouched(&what);
            }
        }
    }
    held.stop();
    assert_eq!(held.result()["end"], "stopped", "web's own connection goes on");
    world.end();
}

/// The address from which `pod` holds the newest connection that the application serves.
pub(crate) fn live(world: &World, pod: &Pod) -> std::net::SocketAddr {
    let rows = world.agents[0].connections();
    let row = rows["connections"].as_array().unwrap().first().unwrap_or_else(|| panic!("{rows}"));
    let address = row["client"].as_str().unwrap_or_else(|| panic!("{row}")).parse().unwrap();
    assert!(pod.ips().contains(&std::net::SocketAddr::ip(&address)), "{row}");
    address
}
