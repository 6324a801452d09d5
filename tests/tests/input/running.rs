//! Mistakes in the folder of a running agent.

use std::time::Duration;

use ambit_harness::{Agent, Pod, PodSpec, Process, Server, Testbed, wait_until};
use serde_json::Value;

use crate::cases::CASES;

const PORT: u16 = 8080;

struct World {
    client: Pod,
    server: Pod,
    agents: [Agent; 2],
    _application: Server,
    bed: Testbed,
}

fn world(name: &str) -> World {
    let bed = Testbed::new(name);
    let (a, b) = (bed.node("a"), bed.node("b"));
    let server = a.pod(PodSpec::new("shop", "server").service_account("server"));
    let client = b.pod(PodSpec::new("shop", "client").service_account("client"));
    bed.label_namespace("shop", "strict");
    bed.publish();
    let application = server.serve("hello", PORT);
    let agents = [a.start_agent(&[]), b.start_agent(&[])];
    World { client, server, agents, _application: application, bed }
}

fn traffic(world: &World) -> Process {
    let mut process = world.client.traffic_spawn(&["loop", &world.server.addr(PORT).to_string()]);
    process.wait_log("looping");
    process
}

#[track_caller]
fn undisturbed(mut traffic: Process) {
    let printed = traffic.stop();
    let result: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(result["failed"], 0, "{result}");
    assert!(result["ok"].as_u64().unwrap() > 2, "{result}");
}

#[test]
fn a_mistake_is_told_and_changes_nothing_until_it_is_mended() {
    let world = world("input-running");
    let traffic = traffic(&world);
    for case in &CASES {
        let before = world.agents[0].status()["snapshot"].clone();
        world.bed.write_object("z-mistake.yaml", case.text);
        let told = world.bed.try_apply();
        assert_eq!(told.len(), 2, "{}: one error from each agent: {told:?}", case.name);
        for words in ["z-mistake.yaml", case.place, case.field.unwrap_or_default(), case.says, case.hint] {
            assert!(told.iter().all(|line| line.contains(words)), "{}: {words:?} in {told:?}", case.name);
        }
        let status = world.agents[0].status();
        assert_eq!(status["snapshot"], before, "{}: the last valid state stays", case.name);
        let line = status["source"]["errors"][0].as_str().unwrap().to_owned();
        assert!(world.agents[0].log().contains(&line), "{}: {line} in the log", case.name);
        // What else changes waits with it.
        world.bed.label_namespace("shop", "none");
        world.bed.publish();
        assert_eq!(world.agents[0].status()["source"]["errors"][0], line, "{}", case.name);
        assert_eq!(world.agents[0].status()["pods"][0]["mode"], "strict", "{}", case.name);
        world.bed.label_namespace("shop", "strict");
        world.bed.remove_object("z-mistake.yaml");
        world.bed.apply();
        assert_eq!(world.agents[0].status()["source"]["errors"], serde_json::json!([]), "{}", case.name);
    }
    // Mended in place rather than removed.
    world.bed.write_object("z-mistake.yaml", CASES[7].text);
    assert_eq!(world.bed.try_apply().len(), 2);
    undisturbed(traffic);
    world.bed.write_object(
        "z-mistake.yaml",
        &format!("{}  rules: [{{from: [{{anyone: true}}]}}]\n", CASES[7].text),
    );
    world.bed.apply();
    assert!(world.client.connect(world.server.addr(PORT)).none_ok(), "the mended policy is in force");
}

#[test]
fn an_emptied_folder_releases_nobody() {
    let world = world("input-emptied");
    let traffic = traffic(&world);
    let (from, to) = (world.bed.objects().to_owned(), world.bed.dir().join("aside"));
    std::fs::rename(&from, &to).unwrap();
    wait_until("the missing folder to be told", Duration::from_secs(10), || {
        world.agents[0].status()["source"]["errors"].to_string().contains("list the objects in")
    });
    std::fs::create_dir(&from).unwrap();
    wait_until("the emptied folder to be told", Duration::from_secs(10), || {
        world.agents[0].status()["source"]["errors"].to_string().contains("holds no objects any more")
    });
    assert_eq!(world.agents[0].status()["pods"][0]["captured"], true);
    std::fs::remove_dir(&from).unwrap();
    std::fs::rename(&to, &from).unwrap();
    wait_until("the folder to be read again", Duration::from_secs(10), || {
        world.agents[0].status()["source"]["errors"].as_array().is_some_and(Vec::is_empty)
    });
    undisturbed(traffic);
}

#[test]
fn a_label_value_that_nobody_knows_is_strict_and_a_warning() {
    let world = world("input-label");
    let traffic = traffic(&world);
    world.bed.label_namespace("shop", "permisive");
    world.bed.apply();
    for agent in &world.agents {
        let status = agent.status();
        assert_eq!(status["pods"][0]["mode"], "strict");
        let warnings = status["source"]["warnings"].to_string();
        for words in ["namespaces.yaml:", "ambit.dev/mode", "permisive", "enforced as strict"] {
            assert!(warnings.contains(words), "{words} in {warnings}");
            assert!(agent.log().contains(words), "{words} in the log");
        }
    }
    undisturbed(traffic);
}
