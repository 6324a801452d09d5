//! The direct lane: connections between enrolled pods of one node, decided upon by the kernel.

use ambit_harness::{PodSpec, ServiceSpec, Testbed};

const ONLY_WEB: &str = "
apiVersion: ambit.dev/v1alpha1
kind: AccessPolicy
metadata: {namespace: shop, name: db}
spec:
  selector: {matchLabels: {app: db}}
  rules:
  - from: [{serviceAccounts: [web]}]
    to: [{ports: [8080]}]
";

#[test]
fn pods_of_one_node_talk_directly_as_the_policy_says() {
    let bed = Testbed::new("lane");
    let node = bed.node("a");
    let web = node.pod(PodSpec::new("shop", "web").service_account("web"));
    let api = node.pod(PodSpec::new("shop", "api").service_account("api"));
    let db = node.pod(PodSpec::new("shop", "db").service_account("db"));
    let service = bed.service(ServiceSpec::new("shop", "db").select("app", "db").port(80, 8080));
    bed.label_namespace("shop", "strict");
    bed.write_object("policy.yaml", ONLY_WEB);
    bed.publish();
    let _server = db.serve("hello", 8080);
    let agent = node.start_agent(&["--same-node", "direct"]);
    for (to, dialled) in [
        (db.addr(8080), db.addr(8080)),
        (db.addr6(8080), db.addr6(8080)),
        (service.addr(), service.addr()),
        (service.addr6(), service.addr6()),
    ] {
        let allowed = web.connect(to);
        assert!(allowed.all_ok(), "{to}: {allowed:?}\n{}", agent.log());
        assert_eq!(allowed.getpeername, Some(dialled));
        let refused = api.connect(to);
        assert!(refused.none_ok() && refused.errors.contains_key("refused"), "{to}: {refused:?}");
    }
    eprintln!("{}", agent.log());
    eprintln!("{:#}", agent.status());
    assert_eq!(agent.status()["connections"]["tunnels"], 0);
}
