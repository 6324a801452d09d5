//! What the agent has to do with bytes between two pods of its node: nothing, but to know of them.

use std::fs;
use std::time::Duration;

use ambit_harness::{Agent, wait_until};

use crate::world::Lane;

/// How long bytes are poured: `traffic pour --lasting`.
const LASTING: &str = "10s";

/// Processor time of the agent so far, in ticks of 10 ms.
fn ticks(agent: &Agent) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.pid())).unwrap();
    // The name in brackets may hold anything; utime and stime are the 12th and 13th field after it.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn the_agent_touches_no_byte_of_a_direct_connection_and_lists_it() {
    let lane = Lane::start("bulk", "discard", &[]);
    let _own = lane.web.serve("discard", 9000);
    // The same load on the machine, within one pod: what the agent does meanwhile is what it does when idle.
    let before = ticks(&lane.agent);
    let mut own = lane.web.traffic_spawn(&["pour", "127.0.0.1:9000", "--lasting", LASTING]);
    wait_until("the idle interval", Duration::from_secs(30), || own.stdout().contains("poured"));
    let idle = ticks(&lane.agent) - before;
    own.stop();

    let before = ticks(&lane.agent);
    let vip = lane.service.addr();
    let mut pour = lane.web.traffic_spawn(&["pour", &vip.to_string(), "--lasting", LASTING]);
    pour.wait_log("pouring");
    let early = lane.rows()[0]["sent_bytes"].as_u64().unwrap();
    wait_until("the bytes", Duration::from_secs(30), || pour.stdout().contains("poured"));
    let busy = ticks(&lane.agent) - before;
    // Carried by the agent, the same takes seconds of processor time.
    assert!(busy <= idle * 2 + 20, "{busy} ticks with a bulk transfer, {idle} without");

    let sent: u64 = pour.stdout().lines().last().unwrap().trim_start_matches("poured ").parse().unwrap();
    assert!(sent > 100 << 20, "{sent} bytes are no bulk transfer");
    wait_until("the row to count every byte", Duration::from_secs(5), || {
        lane.rows().iter().any(|row| row["sent_bytes"] == sent)
    });
    let rows = lane.rows();
    let [row] = rows.as_slice() else { panic!("one connection, and none that the agent carries: {rows:?}") };
    assert_eq!(row["path"], "direct");
    assert_eq!(row["source"], "spiffe://cluster.local/ns/shop/sa/web");
    assert_eq!(row["destination"], "shop/db");
    assert_eq!(row["destination_id"], "spiffe://cluster.local/ns/shop/sa/db");
    assert!(early < sent);
    pour.stop();
    assert_eq!(lane.agent.status()["connections"]["tunnels"], 0);
    let counters = lane.server.stop();
    assert_eq!(counters["bytes"], sent, "{counters}");
}
