//! `ambit check`, and command lines that are wrong.

use std::path::Path;
use std::process::{Command, Output};

use ambit_harness::binary;
use serde_json::Value;

use crate::cases::CASES;

const SERVER: &str = "apiVersion: v1\nkind: Pod\nmetadata: {namespace: shop, name: server}\n\
                      spec: {nodeName: a}\nstatus: {phase: Running, podIP: 10.1.0.10}\n";

fn ambit(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(binary("ambit")).args(arguments).current_dir(folder).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn check_tells_file_line_field_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("server.yaml"), SERVER).unwrap();
    for case in &CASES {
        std::fs::write(folder.path().join("z-mistake.yaml"), case.text).unwrap();
        let (code, text, _) = ambit(folder.path(), &["check", "server.yaml", "z-mistake.yaml"]);
        assert_eq!(code, Some(1), "{}: {text}", case.name);
        let first = text.lines().next().unwrap();
        assert!(
            first.starts_with("error: z-mistake.yaml") && first.contains(case.place),
            "{}: {text}",
            case.name
        );
        assert!(first.contains(case.says) && text.contains(case.hint), "{}: {text}", case.name);
        assert!(text.contains("1 error,"), "{}: {text}", case.name);

        let (code, json, _) = ambit(folder.path(), &["check", "-o", "json", "."]);
        assert_eq!(code, Some(1), "{}: {json}", case.name);
        let report: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(report["valid"], false);
        let error = &report["errors"][0];
        assert!(error["file"].as_str().unwrap().ends_with("z-mistake.yaml"), "{}: {json}", case.name);
        assert!(error["line"].as_u64() > Some(0), "{}: {json}", case.name);
        assert_eq!(
            error["field"].as_str().filter(|field| !field.is_empty()),
            case.field,
            "{}: {json}",
            case.name
        );
        assert!(error["message"].as_str().unwrap().contains(case.says), "{}: {json}", case.name);
    }
}

#[test]
fn check_passes_what_is_valid_with_its_warnings() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("server.yaml"), SERVER).unwrap();
    let (code, text, _) = ambit(folder.path(), &["check", "server.yaml"]);
    assert_eq!((code, text.as_str()), (Some(0), "1 file, 1 object: 0 errors, 0 warnings\n"));
    let label = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {ambit.dev/mode: of}}\n";
    std::fs::write(folder.path().join("label.yaml"), label).unwrap();
    let (code, text, _) = ambit(folder.path(), &["check", "."]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("warning:") && text.contains("label.yaml:3:") && text.contains("\"of\""), "{text}");
    let (code, text, _) = ambit(folder.path(), &["check", "nowhere.yaml"]);
    assert_eq!(code, Some(1));
    assert!(text.contains("nowhere.yaml: cannot be read"), "{text}");
    let (code, json, _) = ambit(folder.path(), &["check", "-o", "json", "server.yaml"]);
    assert_eq!(code, Some(0));
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap()["valid"], true);
}

#[test]
fn a_wrong_command_line_says_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let wrong: [(&[&str], i32, &[&str]); 10] = [
        (&["agent"], 2, &["--node <NAME>", "--source <dir:PATH>"]),
        (&["agent", "--node", "a"], 2, &["--source <dir:PATH>"]),
        (&["agent", "--node", "a", "--source", "/etc/objects"], 2, &["dir:PATH", "such as dir:"]),
        (&["agent", "--node", "a", "--source", "xds:host"], 2, &["dir:PATH"]),
        (&["agent", "--node", "a", "--source", "dir:.", "--cert-ttl", "1s"], 2, &["at least 2s"]),
        (&["agent", "--node", "a", "--source", "dir:.", "--cert-ttl", "soon"], 2, &["24h"]),
        (&["check"], 2, &["<FILE-OR-DIR>"]),
        (&["stauts"], 2, &["status"]),
        (&["status", "--socket", "nobody.sock"], 1, &["no agent answers at nobody.sock", "--socket"]),
        (&["connections", "--socket", "nobody.sock"], 1, &["no agent answers at nobody.sock"]),
    ];
    for (arguments, code, words) in wrong {
        let (found, stdout, stderr) = ambit(folder.path(), arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {stderr}");
        assert_eq!(stdout, "", "{arguments:?}: nothing for programs");
        for word in words {
            assert!(stderr.contains(word), "{arguments:?}: {word:?} in {stderr}");
        }
    }
}
