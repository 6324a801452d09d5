//! The steps of the demo, in order: before, strict, then the label switched live.

use anyhow::Result;

use crate::interrupt;
use crate::probe::{Observation, try_connection, watch_calculator};
use crate::row::{CONNECTIONS, Mode};
use crate::table::{Paint, Step, sentence};
use crate::world::{NAMESPACE, POLICY, World};

/// Which mode follows which, and how the table calls it.
const STEPS: [(Mode, &str); 5] = [
    (Mode::None, "before ambit: no agent runs, everyone reaches multiplication, the payload is readable"),
    (Mode::Strict, "mode strict, policy \"only mathfanboy and percentage reach multiplication\""),
    (Mode::Audit, "label switched live to audit: nothing is refused, pods of the mesh still use TLS"),
    (Mode::Permissive, "label switched live to permissive: the policy holds, outsiders may reach the rest"),
    (Mode::None, "label switched live to none: as before"),
];

/// How many log lines of an agent are shown for a row that is not as expected.
const LOG_LINES: usize = 6;

/// Runs every step, or the first alone; tells on standard error what happens while it does.
pub(crate) fn run(world: &mut World, without_agents: bool, paint: Paint) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let planned = if without_agents { &STEPS[..1] } else { &STEPS[..] };
    let mut number = 0;
    for (index, &(mode, title)) in planned.iter().enumerate() {
        eprintln!("\n{}", paint.bold(&format!("[{}/{}] {title}", index + 1, planned.len())));
        if index == 1 {
            eprintln!("  {}", paint.dim("starting an agent on each node"));
            world.start_agents();
            world.bed.write_object("policy.yaml", POLICY);
        }
        world.bed.label_namespace(NAMESPACE, mode.label());
        world.bed.apply();
        let mut step = Step { title: title.into(), observations: Vec::new() };
        for connection in CONNECTIONS {
            interrupt::check()?;
            number += 1;
            let logged = logs(world);
            let observation = try_connection(world, connection, mode, number)?;
            tell(world, &observation, &logged, paint);
            step.observations.push(observation);
        }
        interrupt::check()?;
        let logged = logs(world);
        let observation = watch_calculator(world, mode)?;
        tell(world, &observation, &logged, paint);
        step.observations.push(observation);
        steps.push(step);
    }
    Ok(steps)
}

/// Returns how long each agent's log is, to know later what it said since.
fn logs(world: &World) -> Vec<usize> {
    world.agents.iter().map(|agent| agent.log().lines().count()).collect()
}

fn tell(world: &World, observation: &Observation, logged: &[usize], paint: Paint) {
    let sentence = sentence(observation);
    if observation.row.ok {
        eprintln!("  {} {sentence}", paint.good("✓"));
        return;
    }
    let expected = &observation.row.expected;
    eprintln!("  {} {sentence}; expected: {expected}", paint.bad("✗"));
    for ((agent, before), node) in world.agents.iter().zip(logged).zip(&world.nodes) {
        let log = agent.log();
        let said: Vec<&str> = log.lines().skip(*before).collect();
        for line in &said[said.len().saturating_sub(LOG_LINES)..] {
            eprintln!("      {}: {line}", node.name());
        }
    }
}
