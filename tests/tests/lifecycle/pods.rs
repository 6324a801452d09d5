//! Pods that go and come: an address that is given on, a namespace that vanishes, pins that nobody needs.

use std::time::Duration;

use ambit_harness::{Mesh, PodSpec, wait_until};

use super::pins::{links, pod_links};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_pod_that_is_made_anew_with_the_same_address_is_enrolled_as_itself() {
    let mesh = Mesh::start("anew", "strict", &[]);
    let Mesh { agents, bed, a, b, client, far, .. } = mesh;
    let old = far.serve("hello", 8080);
    assert!(client.connect(far.addr(8080)).all_ok());
    let (before, numbers) = (pod_links(&b), (client.host_number(), far.host_number()));
    drop(old);
    far.delete();
    client.delete();
    // One is the same again but for its instance, the other one has another name and identity.
    let spec = |name: &str, number| PodSpec::new("shop", name).service_account(name).host_number(number);
    let (client, far) = (a.pod(spec("client", numbers.0)), b.pod(spec("heir", numbers.1)));
    bed.apply();
    let _servers = [far.serve("hello", 8080), far.serve("echo", 8081)];
    for to in [far.addr(8080), far.addr6(8080)] {
        client.wait_connect(to, true, SOON);
        let seen = client.connect_with(to, &["--count", "20"]);
        assert_eq!(seen.ok, 20, "{to}: {seen:?}");
    }
    let mut held = client.traffic_spawn(&["hold", &far.addr(8081).to_string()]);
    held.wait_log("holding");
    let rows = agents[1].connections();
    assert_eq!(rows["connections"][0]["source"], "spiffe://cluster.local/ns/shop/sa/client", "{rows}");
    assert_eq!(rows["connections"][0]["destination"], "shop/heir", "{rows}");
    held.stop();
    let after = pod_links(&b);
    assert_eq!(after.len(), 1, "{after:?}");
    assert_ne!(after, before, "the old pod's hook is gone");
}

#[test]
fn a_namespace_that_vanishes_is_reported_and_disturbs_nobody_else() {
    let mesh = Mesh::start("vanish", "strict", &[]);
    let Mesh { agents, bed, b, client, near, far, .. } = mesh;
    let other = b.pod(PodSpec::new("shop", "other"));
    bed.apply();
    let _servers = [near.serve("hello", 8080), other.serve("hello", 8080)];
    client.wait_connect(other.addr(8080), true, SOON);
    let address = far.addr(8080);
    far.delete();
    // Its object still stands: nothing was published.
    wait_until("the agent to say what is wrong", SOON, || {
        let status = agents[1].status();
        status["pods"].as_array().unwrap().iter().any(|pod| {
            let problem = pod["problem"].as_str().unwrap_or_default();
            pod["name"] == "far" && pod["captured"] == false && problem.contains("network namespace")
        })
    });
    wait_until("only the other pod's hook to stand", SOON, || pod_links(&b).len() == 1);
    for to in [near.addr(8080), other.addr(8080), other.addr6(8080)] {
        assert!(client.connect_with(to, &["--count", "20"]).all_ok(), "{to}");
    }
    assert!(client.connect_with(address, &["--timeout", "8s"]).none_ok());
    bed.apply();
    let status = agents[1].status();
    assert_eq!(status["pods"].as_array().unwrap().len(), 1, "{status}");
}

#[test]
fn pins_of_a_pod_that_went_while_no_agent_ran_are_collected() {
    let mesh = Mesh::start("stale", "strict", &[]);
    let Mesh { mut agents, bed, b, client, far, .. } = mesh;
    let other = b.pod(PodSpec::new("shop", "other"));
    bed.apply();
    let _server = other.serve("hello", 8080);
    client.wait_connect(other.addr(8080), true, SOON);
    let before = links(&b);
    assert_eq!(pod_links(&b).len(), 2);
    agents[1].kill();
    far.delete();
    assert_eq!(links(&b), before, "a dead agent's pins stay");
    bed.publish();
    agents[1].restart();
    let after = links(&b);
    assert_eq!(pod_links(&b).len(), 1, "{after:?}");
    assert!(after.iter().all(|(name, inode)| before.get(name) == Some(inode)), "the others were kept");
    assert!(client.connect_with(other.addr(8080), &["--count", "20"]).all_ok());
}

#[test]
fn a_pod_that_was_released_while_no_agent_ran_is_let_go() {
    let mut mesh = Mesh::start("released", "strict", &[]);
    let _server = mesh.far.serve("hello", 8080);
    mesh.agents[1].kill();
    mesh.bed.unlabel_namespace("shop");
    mesh.bed.apply();
    assert!(mesh.client.connect(mesh.far.addr(8080)).none_ok(), "it fails closed until an agent lets it go");
    mesh.agents[1].restart();
    assert_eq!(pod_links(&mesh.b), Vec::<String>::new());
    for to in [mesh.far.addr(8080), mesh.far.addr6(8080), mesh.far_service.addr()] {
        let seen = mesh.client.connect(to);
        assert!(seen.all_ok(), "{to}: {seen:?}");
    }
    assert_eq!((mesh.allowed(0), mesh.allowed(1)), (0, 0), "no agent has to do with it");
}
