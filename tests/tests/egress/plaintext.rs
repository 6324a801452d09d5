//! What was to be mutual TLS never becomes plaintext.

use crate::world::World;

#[test]
fn a_tunnel_that_fails_is_not_replaced_by_an_endpoint_outside() {
    let mut world = World::new("no-fallback", "strict", "any", "hello", &[]);
    let (service, _guest) = world.mixed("hello");
    let client = world.client.clone();
    let calls =
        || client.connect_with(service.addr(), &["--count", "40", "--concurrency", "40", "--timeout", "15s"]);
    assert_eq!(calls().ok, 40);
    // The kernel chooses one of the two for each call. Without its agent the one inside cannot be reached.
    world.agents[1].kill();
    let seen = calls();
    assert!(seen.failed > 4, "calls that were to be carried over mutual TLS fail: {seen:?}");
    assert!(seen.ok > 4, "calls to the endpoint outside are served: {seen:?}");
    let rows = world.agents[0].connections();
    let plaintext =
        rows["connections"].as_array().unwrap().iter().filter(|row| row["path"] == "plaintext").count();
    assert_eq!(plaintext, 0, "{rows}");
}
