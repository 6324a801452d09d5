//! Agents as the testbed handles them: published objects are waited for, refusals are told, deaths are survived.

use std::time::Duration;

use ambit_harness::{Agent, Pod, PodSpec, Testbed};

const REFUSE_ALL: &str = "apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\n\
                          metadata: {namespace: shop, name: nobody}\nspec: {action: Allow}\n";

struct Shop {
    agents: [Agent; 2],
    client: Pod,
    server: Pod,
    bed: Testbed,
}

fn strict_shop() -> Shop {
    let bed = Testbed::new("shop");
    let nodes = [bed.node("a"), bed.node("b")];
    let client = nodes[0].pod(PodSpec::new("shop", "client"));
    let server = nodes[1].pod(PodSpec::new("shop", "server"));
    bed.label_namespace("shop", "strict");
    bed.publish();
    let agents = nodes.each_ref().map(|node| node.start_agent(&[]));
    Shop { agents, client, server, bed }
}

#[test]
fn apply_returns_only_when_every_change_is_in_force() {
    let shop = strict_shop();
    let _server = shop.server.serve("hello", 8080);
    for _ in 0..5 {
        assert!(shop.client.connect(shop.server.addr(8080)).all_ok());
        shop.bed.write_object("policy.yaml", REFUSE_ALL);
        shop.bed.apply();
        assert!(shop.client.connect(shop.server.addr(8080)).none_ok());
        shop.bed.remove_object("policy.yaml");
        shop.bed.apply();
    }
}

#[test]
fn a_refused_file_is_told_also_when_it_is_refused_twice() {
    let shop = strict_shop();
    for text in ["kind: AccessPolicy\n", "kind: AccessPolicy # again\n"] {
        shop.bed.write_object("bad.yaml", text);
        let errors = shop.bed.try_apply();
        assert!(errors.iter().any(|e| e.starts_with("a: ") && e.contains("bad.yaml")), "{errors:?}");
        assert!(errors.iter().any(|e| e.starts_with("b: ")), "{errors:?}");
    }
    shop.bed.remove_object("bad.yaml");
    assert_eq!(shop.bed.try_apply(), Vec::<String>::new());
}

#[test]
fn an_agent_is_killed_and_restarted_with_its_command_line() {
    let mut shop = strict_shop();
    let _server = shop.server.serve("hello", 8080);
    let before = shop.agents[0].pid();
    shop.agents[0].kill();
    assert!(shop.client.connect(shop.server.addr(8080)).none_ok());
    shop.bed.label_namespace("other", "audit");
    shop.bed.apply();
    shop.agents[0].restart();
    assert_ne!(shop.agents[0].pid(), before);
    assert_eq!(shop.agents[0].status()["pods"][0]["name"], "client");
    shop.client.wait_connect(shop.server.addr(8080), true, Duration::from_secs(10));
    let capture = shop.bed.capture();
    assert!(shop.client.connect_with(shop.server.addr6(8080), &["--payload", "secret-of-the-shop"]).all_ok());
    let captured = capture.stop();
    assert!(captured.report().only_tls() && captured.tls_seen(15008), "{:?}", captured.report());
    assert!(!captured.contains("secret-of-the-shop"));
    shop.agents[0].stop();
    assert!(shop.agents[0].log().contains("agent stopped"));
}
