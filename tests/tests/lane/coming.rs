//! A pod that is known to be coming and is not enrolled yet: what it sends is held back, not let through.

use std::os::unix::fs::symlink;
use std::time::Duration;

use ambit_harness::{Place, PodSpec, wait_until};

use crate::world::Lane;

/// Counts the SYNs that reach a place.
const COUNT: &str = "table inet seen {
  counter syns { }
  chain arriving {
    type filter hook prerouting priority -300;
    tcp flags & (syn | ack) == syn counter name syns
  }
}";

fn count_syns(place: &Place) {
    let added = place.run("sh", &["-c", &format!("echo '{COUNT}' | nft -f -")]);
    assert!(added.status.success(), "{added:?}");
}

fn syns(place: &Place) -> u64 {
    let listed = place.run("nft", &["-j", "list", "counter", "inet", "seen", "syns"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    let objects = listed["nftables"].as_array().unwrap();
    objects.iter().find_map(|object| object["counter"]["packets"].as_u64()).unwrap()
}

#[test]
fn what_a_pod_sends_before_it_is_enrolled_is_held_and_served_afterwards() {
    let lane = Lane::start("coming", "hello", &[]);
    let outside = lane.node.pod(PodSpec::new("outside", "peer"));
    let _server = outside.serve("hello", 8080);
    let path = lane.bed.dir().join("netns-of-late");
    let spec = PodSpec::new("shop", "late").service_account("web");
    let late = lane.node.pod(spec.annotation("ambit.dev/netns", path.to_str().unwrap()));
    lane.bed.apply();
    wait_until("the agent to miss the pod", Duration::from_secs(10), || {
        let status = lane.agent.status();
        let pod = status["pods"].as_array().unwrap().iter().find(|pod| pod["name"] == "late").cloned();
        pod.is_some_and(|pod| pod["captured"] == false && !pod["problem"].is_null())
    });
    let peers: [&Place; 2] = [&lane.db, &outside];
    peers.iter().for_each(|place| count_syns(place));
    let to = [lane.db.addr(8080), lane.db.addr6(8080), outside.addr(8080), outside.addr6(8080)];
    let mut calls: Vec<_> =
        to.iter().map(|to| late.traffic_spawn(&["connect", &to.to_string(), "--timeout", "20s"])).collect();
    wait_until("every call to be on its way", Duration::from_secs(5), || {
        // State 2 is SYN_SENT: the first SYN has been sent, and was dropped or lost.
        let sockets = late.run("cat", &["/proc/net/tcp", "/proc/net/tcp6"]);
        let sockets = String::from_utf8_lossy(&sockets.stdout).into_owned();
        sockets.lines().filter(|line| line.split_whitespace().nth(3) == Some("02")).count() == to.len()
    });
    assert_eq!(peers.map(syns), [0, 0], "a SYN got through before the pod was enrolled");
    symlink(late.netns(), &path).unwrap();
    for (to, call) in to.iter().zip(&mut calls) {
        call.wait(Duration::from_secs(30));
        assert_eq!(call.result()["ok"], 1, "{to}: {}\n{}", call.result(), lane.agent.log());
    }
    assert!(peers.map(syns).iter().all(|count| *count >= 2), "{:?}", peers.map(syns));
}
