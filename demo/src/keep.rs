//! What to try while the demo is kept running: commands that can be pasted as they are.

use std::fmt::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc::Receiver;

use ambit_harness::{Place, binary};

use crate::row::Mode;
use crate::table::Paint;
use crate::world::{NAMESPACE, World};

/// Puts the namespace back to strict, prints what to try, and waits for Ctrl-C.
pub(crate) fn running(world: &World, asked: &Receiver<()>, paint: Paint) {
    world.bed.label_namespace(NAMESPACE, Mode::Strict.label());
    world.bed.apply();
    eprintln!("{}", hints(world, paint));
    // The sender lives as long as the process waits for signals.
    let _ = asked.recv();
    eprintln!("removing everything");
}

fn hints(world: &World, paint: Paint) -> String {
    let mut text = String::new();
    let mut section = |title: &str, lines: &[String]| {
        let _ = writeln!(text, "\n{}", paint.bold(title));
        for line in lines {
            let _ = writeln!(text, "  {line}");
        }
    };
    let ambit = binary("ambit");
    let ask = |what: &str| -> Vec<String> {
        let sockets = world.agents.iter().map(|agent| agent.socket());
        sockets.map(|socket| format!("{} {what} --socket {}", ambit.display(), socket.display())).collect()
    };
    let (status, connections) = (ask("status"), ask("connections"));
    section(
        "The namespace rest-calculator is strict again. Ask the agents:",
        &[status, connections].concat(),
    );
    let url = world.url("multiplication", true, "mine");
    section("mathfanboy may call multiplication:", &[request(&world.place("mathfanboy"), &url)]);
    section(
        "addition, the pod outside the mesh and the host may not:",
        &["addition", "outside", "host"].map(|from| request(&world.place(from), &url)),
    );
    let explain = "explain --from rest-calculator/addition --to rest-calculator/multiplication --port 80";
    section("Ask why, and what to change:", &ask(explain)[..1]);
    let objects = world.bed.objects().display();
    section(
        "The agents read Kubernetes objects from a folder; edit them and watch it take effect:",
        &[
            format!("ls {objects}"),
            format!("cat {objects}/policy.yaml"),
            format!("sed -i 's/ambit.dev\\/mode: strict/ambit.dev\\/mode: audit/' {objects}/namespaces.yaml"),
        ],
    );
    section(
        "No rule and no process of ambit is in a pod:",
        &[
            format!("nsenter --net={} nft list ruleset", world.pod("addition").netns().display()),
            format!("cat {}/cgroup.procs", world.pod("addition").cgroup().display()),
        ],
    );
    section("Logs:", &[format!("ls {}/logs", world.bed.dir().display())]);
    section("To end it and remove everything:", &[format!("Ctrl-C here, or: kill {}", std::process::id())]);
    text
}

/// Returns a command line that asks `url` from a place, as a process of its own.
fn request(place: &Place, url: &str) -> String {
    let (netns, cgroup) = (place.netns(), place.cgroup());
    let curl = Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok();
    let client =
        if curl { "curl -sS --max-time 3".into() } else { format!("{} get", binary("calculator").display()) };
    format!(
        "nsenter --net={} sh -c 'echo $$ > {}/cgroup.procs; exec {client} \"{url}\"'",
        netns.display(),
        cgroup.display(),
    )
}
