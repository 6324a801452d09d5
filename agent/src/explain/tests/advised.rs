//! Does what an answer proposes, as a person would with the text alone, and asks again.

use super::world::World;
use super::{Change, ask};

/// Writes a change into the objects.
fn carry_out(world: &mut World, change: &Change) {
    let indented = |lines: &str| lines.lines().map(|line| format!("  {line}\n")).collect::<String>();
    let words: Vec<&str> = change.what.split(' ').collect();
    match words.as_slice() {
        ["label", "the", kind, rest @ ..] => {
            let (label, value) = rest.iter().find_map(|word| word.split_once('=')).unwrap();
            let labels = match *kind {
                "namespace" => world.namespaces.get_mut(rest[0]).unwrap(),
                _ => &mut world.pods.get_mut(&format!("{}/{}", rest[2], rest[0])).unwrap().0,
            };
            labels.insert(label.to_owned(), value.to_owned());
        }
        // The lists stand at the end of these policies.
        ["add", "to", kind, name, ..] => {
            let id = format!("{kind} {}", name.trim_end_matches(','));
            world.policies.get_mut(&id).unwrap().push_str(&indented(&change.lines));
        }
        ["give", kind, name, ..] => {
            let policy = world.policies.get_mut(&format!("{kind} {name}")).unwrap();
            *policy = policy.replace("  rules: []\n", &indented(&change.lines));
        }
        ["add", "this", ..] => {
            world.policies.insert(format!("new {}", world.policies.len()), change.lines.clone());
        }
        ["remove", kind, name, ..] => {
            let id = format!("{kind} {}", name.trim_end_matches(','));
            assert!(world.policies.remove(&id).is_some(), "{id}");
        }
        other => panic!("nobody would know what to do with {other:?}"),
    }
}

#[test]
fn what_is_proposed_turns_the_answer() {
    let callers =
        ["shop/web", "shop/api", "shop/far", "lab/rat", "kept/app", "plain/pod", "host", "192.0.2.1"];
    let called = [
        "shop/db-0",
        "shop/web",
        "shop/far",
        "lab/rat",
        "lab/odd",
        "kept/app",
        "plain/pod",
        "192.0.2.2",
        "198.51.100.1",
    ];
    let mut turned = 0;
    for from in callers {
        for (to, protocol) in called.iter().flat_map(|to| [(to, "TCP"), (to, "UDP")]) {
            let world = World::shop();
            let Ok(before) = ask(&world, from, to, 5432, protocol) else {
                assert!(from == "host" || from == "192.0.2.1");
                continue;
            };
            if before.changes.is_empty() {
                // Nothing keeps a pod from itself, and a pod of the mesh is never outside of it.
                assert!(from == *to, "{from} {to} {protocol}: nothing is proposed");
                continue;
            }
            let mut after = world.clone();
            before.changes.iter().for_each(|change| carry_out(&mut after, change));
            let again = ask(&after, from, to, 5432, protocol).unwrap();
            assert_ne!(before.verdict, again.verdict, "{from} {to} {protocol}: {:#?}", before.changes);
            turned += 1;
        }
    }
    assert!(turned > 100, "{turned}");
}
