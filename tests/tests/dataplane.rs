//! Connections through the mesh.

use ambit_harness::{PodSpec, ServiceSpec, Testbed};

#[test]
fn enrolled_pods_talk_across_nodes() {
    let bed = Testbed::new("first");
    let (a, b) = (bed.node("a"), bed.node("b"));
    let client = a.pod(PodSpec::new("shop", "client").service_account("client"));
    let server = b.pod(PodSpec::new("shop", "server").service_account("server").label("app", "server"));
    let service = bed.service(ServiceSpec::new("shop", "server").select("app", "server").port(80, 8080));
    bed.label_namespace("shop", "strict");
    bed.publish();
    let _server = server.serve("hello", 8080);
    let _agents = (a.start_agent(&[]), b.start_agent(&[]));
    for to in [server.addr(8080), server.addr6(8080), service.addr(), service.addr6()] {
        let connects = client.connect(to);
        eprintln!("{to} {connects:?}");
        eprintln!("{}", _agents.0.log());
        eprintln!("{}", _agents.1.log());
        assert!(connects.all_ok(), "{to}: {connects:?}");
    }
}
