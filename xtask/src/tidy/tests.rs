//! The house rules, shown on files that break them and on files that keep them.

use super::*;

/// Checks one file in a workspace of its own, and returns what is found as `line: text`.
fn findings(path: &str, text: &str) -> Vec<String> {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, text).unwrap();
    let findings = check(root.path()).unwrap();
    assert!(findings.iter().all(|finding| finding.path == Path::new(path)));
    findings.iter().map(|finding| format!("{}: {}", finding.line, finding.text)).collect()
}

#[track_caller]
fn assert_broken(path: &str, text: &str, line: usize, word: &str) {
    let found = findings(path, text);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with(&format!("{line}: ")) && found[0].contains(word), "{found:?}");
}

#[track_caller]
fn assert_kept(path: &str, text: &str) {
    assert_eq!(findings(path, text), [] as [String; 0]);
}

#[test]
fn four_hundred_lines_are_enough() {
    let line = "//! x\n";
    assert_kept("a/src/x.rs", &line.repeat(400));
    assert_broken("a/src/x.rs", &line.repeat(401), 401, "split");
}

#[test]
fn file_opens_with_what_it_owns() {
    assert_broken("a/src/x.rs", "fn x() {}\n", 1, "//!");
    assert_broken("a/build.rs", "", 1, "//!");
}

#[test]
fn modules_lie_beside_their_directory() {
    assert_broken("a/src/x/mod.rs", "//! x\n", 1, "foo.rs");
}

#[test]
fn module_is_named_after_what_it_owns() {
    for name in ["utils", "common", "helpers", "manager"] {
        assert_broken(&format!("a/src/{name}.rs"), "//! x\n", 1, name);
        assert_broken("a/src/x.rs", &format!("//! x\npub(crate) mod {name} {{}}\n"), 2, name);
    }
    assert_kept("a/src/common_name.rs", "//! x\nfn manager() {}\n");
}

#[test]
fn stubs_and_reminders_are_left_over() {
    assert_broken("a/src/x.rs", "//! x\nfn f() { todo!() }\n", 2, "todo!");
    assert_broken("a/src/x.rs", "//! x\nfn f() { unimplemented!(\"later\") }\n", 2, "unimplemented!");
    assert_broken("a/src/x.rs", concat!("//! x\nfn f() {} // FIX", "ME: wrong\n"), 2, "issue");
    assert_kept("a/src/x.rs", "//! todo!() is refused\nconst RULE: &str = \"todo!()\";\n");
}

#[test]
fn unsafe_stays_at_the_kernels_border() {
    let text = "//! x\nfn f() {\n    unsafe { g() }\n}\n";
    assert_broken("agent/core/src/x.rs", text, 3, "agent/bpf");
    assert_kept("agent/bpf/src/x.rs", text);
    assert_kept("ebpf-programs/src/x.rs", text);
    assert_kept("agent/core/src/lib.rs", "//! x\n#![forbid(unsafe_code)]\n// No unsafe here.\n");
}

#[test]
fn no_test_is_ignored() {
    assert_broken("a/src/x.rs", "//! x\n#[test]\n#[ignore]\nfn f() {}\n", 3, "ignored");
    assert_broken("a/src/x.rs", "//! x\n#[test]\n#[ignore = \"slow\"]\nfn f() {}\n", 3, "ignored");
    assert_broken("a/src/x.rs", "//! x\n#[cfg_attr(debug_assertions, ignore)]\nfn f() {}\n", 2, "ignored");
    assert_kept("a/src/x.rs", "//! x\nfn f(a: u8, ignore: u8) {}\n");
}

#[test]
fn no_test_sleeps() {
    let inline =
        "//! x\nfn f() { thread::sleep(D); }\n#[cfg(test)]\nmod tests {\n    fn g() { sleep(D); }\n}\n";
    assert_broken("a/src/x.rs", inline, 5, "condition");
    assert_broken("a/src/x/tests.rs", "//! x\nfn g() { std::thread::sleep(D); }\n", 2, "condition");
    assert_broken(
        "tests/tests/dataplane.rs",
        "//! x\nasync fn f() { for _ in 0..9 { time::sleep(D).await; } }\n",
        2,
        "condition",
    );
}

#[test]
fn waiting_outside_tests_is_allowed() {
    let text = "//! x\n#[cfg(test)]\nmod tests;\nfn f() { thread::sleep(D); }\n";
    assert_kept("a/src/x.rs", text);
    assert_kept("tests/harness/src/wait.rs", "//! x\nfn f() { thread::sleep(D); }\n");
    let after = "//! x\n#[cfg(test)]\nmod tests {\n    fn g() {}\n}\nfn f() { thread::sleep(D); }\n";
    assert_kept("a/src/x.rs", after);
}

#[test]
fn pausing_between_two_looks_is_waiting() {
    for wait in
        ["while !met() {\n sleep(D).await;\n}", "loop {\n if met() { return; }\n thread::sleep(D);\n}"]
    {
        assert_kept("tests/tests/policy.rs", &format!("//! x\nasync fn until() {{\n{wait}\n}}\n"));
    }
    let nested = "//! x\nfn f() {\nloop {\nfn g() {\nsleep(D);\n}\n}\n}\n";
    assert_broken("tests/tests/policy.rs", nested, 5, "condition");
}

#[test]
fn built_and_hidden_files_are_passed_over() {
    let root = tempfile::tempdir().unwrap();
    for dir in ["src", "target/debug", ".cache", "elsewhere"] {
        fs::create_dir_all(root.path().join(dir)).unwrap();
        fs::write(root.path().join(dir).join("x.rs"), "fn x() {}\n").unwrap();
    }
    fs::write(root.path().join("elsewhere/CACHEDIR.TAG"), "").unwrap();
    let paths: Vec<_> = check(root.path()).unwrap().into_iter().map(|finding| finding.path).collect();
    assert_eq!(paths, [Path::new("src/x.rs")]);
}

#[test]
fn empty_workspace_is_no_success() {
    assert!(check(tempfile::tempdir().unwrap().path()).is_err());
}
