//! The rules of `decide`, one by one.

use super::*;

const POD_NETNS: u64 = 7;
const OTHER_NETNS: u64 = 8;

fn arrival(kind: u32, netns: u64, flags: u32, port: u16) -> Arrival {
    Arrival {
        endpoint_flags: flags,
        endpoint_netns_cookie: POD_NETNS,
        flow_kind: kind,
        flow_netns_cookie: netns,
        port,
        verdict: verdict::NONE,
    }
}

#[test]
fn a_pod_of_this_node_is_judged_by_its_compiled_verdict() {
    let strict = endpoint_flag::REFUSE_UNVERIFIED;
    for (verdict, wanted) in [
        (verdict::NONE, Inbound::Agent),
        (verdict::PASS, Inbound::Pass),
        (verdict::REFUSE, Inbound::RefuseByPolicy),
        (verdict::ASK, Inbound::Agent),
        (99, Inbound::Agent),
    ] {
        let known = Arrival { verdict, ..arrival(flow_kind::POD, OTHER_NETNS, strict, 80) };
        assert_eq!(decide(&known), wanted, "verdict {verdict}");
        let unknown = Arrival { verdict, ..arrival(0, 0, strict, 80) };
        assert_eq!(decide(&unknown), Inbound::RefuseUnverified, "a verdict alone attests nobody");
    }
}

#[test]
fn verdicts_follow_the_table() {
    use endpoint_flag::{HOST_PASSES, REFUSE_UNVERIFIED};
    use flow_kind::{AGENT, HOST, POD, REDIRECTED};
    for (kind, netns, flags, port, wanted, rule) in [
        (REDIRECTED, POD_NETNS, REFUSE_UNVERIFIED, 15100, Inbound::Outbound, "own redirected flow"),
        (REDIRECTED, OTHER_NETNS, 0, 15100, Inbound::Agent, "a foreign pod's flow never reaches outbound"),
        (POD, POD_NETNS, REFUSE_UNVERIFIED, 80, Inbound::Pass, "a pod reaches itself"),
        (
            POD,
            OTHER_NETNS,
            REFUSE_UNVERIFIED,
            80,
            Inbound::Agent,
            "another pod of this node, not compiled yet",
        ),
        (AGENT, POD_NETNS, REFUSE_UNVERIFIED, 80, Inbound::Pass, "the agent dials the application"),
        (
            AGENT,
            OTHER_NETNS,
            REFUSE_UNVERIFIED,
            80,
            Inbound::RefuseUnverified,
            "the agent of another pod in plaintext",
        ),
        (AGENT, OTHER_NETNS, 0, TUNNEL_PORT, Inbound::Agent, "a tunnel"),
        (0, 0, REFUSE_UNVERIFIED, TUNNEL_PORT, Inbound::Agent, "a tunnel from another node"),
        (HOST, OTHER_NETNS, REFUSE_UNVERIFIED | HOST_PASSES, 80, Inbound::Pass, "a probe in strict"),
        (HOST, OTHER_NETNS, REFUSE_UNVERIFIED, 80, Inbound::Agent, "a probe that a policy speaks of"),
        (0, 0, REFUSE_UNVERIFIED | HOST_PASSES, 80, Inbound::RefuseUnverified, "an outsider in strict"),
        (0, 0, HOST_PASSES, 80, Inbound::Agent, "an outsider elsewhere"),
        (99, POD_NETNS, REFUSE_UNVERIFIED, 80, Inbound::RefuseUnverified, "an unknown kind counts as none"),
    ] {
        assert_eq!(decide(&arrival(kind, netns, flags, port)), wanted, "{rule}");
    }
}
