//! Tests of `ambit check`.

use std::fs;

use super::*;

const BAD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Pods\n";
const GOOD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {ambit.dev/mode: loud}}\nstatus: {podIP: 10.0.0.1}\n";

#[test]
fn problems_are_printed_with_place_field_and_hint() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pods.yaml");
    fs::write(&path, BAD).unwrap();
    let mut out = Vec::new();
    print_text(&mut out, &check(std::slice::from_ref(&path), "cluster.local")).unwrap();
    let expected = "\
error: PATH:1:1: status.podIP: the pod has no address
    add `status: {podIP: ADDRESS}`
error: PATH:6:1: kind: unknown kind \"Pods\"
    did you mean `Pod`? (ambit reads Namespace, Pod, Service, EndpointSlice, AccessPolicy, ClusterAccessPolicy, List)
1 file, 2 objects: 2 errors, 0 warnings
";
    assert_eq!(String::from_utf8(out).unwrap(), expected.replace("PATH", &path.display().to_string()));
}

#[test]
fn json_holds_every_finding() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.yaml"), GOOD).unwrap();
    let mut out = Vec::new();
    print_json(&mut out, &check(&[directory.path().to_owned()], "cluster.local")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&out).unwrap();
    assert_eq!(report["valid"], true);
    assert_eq!((&report["files"], &report["objects"]), (&1.into(), &1.into()));
    assert_eq!(report["errors"], serde_json::json!([]));
    let warning = &report["warnings"][0];
    assert_eq!((&warning["line"], &warning["column"]), (&3.into(), &30.into()));
    assert_eq!(warning["field"], "metadata.labels[\"ambit.dev/mode\"]");
    assert!(warning["hint"].is_null() && warning["message"].as_str().unwrap().contains("loud"), "{warning}");
}

#[test]
fn the_exit_code_tells_valid_from_invalid() {
    let directory = tempfile::tempdir().unwrap();
    let (good, bad) = (directory.path().join("good.yaml"), directory.path().join("bad.yaml"));
    fs::write(&good, GOOD).unwrap();
    fs::write(&bad, BAD).unwrap();
    let missing = directory.path().join("missing.yaml");
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for (paths, valid) in [
        (vec![good.clone()], true),
        (vec![good.clone(), good.clone()], true),
        (vec![bad.clone()], false),
        (vec![good.clone(), bad], false),
        (vec![good.clone(), missing], false),
        (vec![good, empty], false),
    ] {
        let checked = check(&paths, "cluster.local");
        assert_eq!(checked.is_valid(), valid, "{paths:?}");
        let args = CheckArgs { paths, output: OutputFormat::Json, trust_domain: "cluster.local".to_owned() };
        let expected = if valid { ExitCode::SUCCESS } else { ExitCode::FAILURE };
        assert_eq!(report(&args, &mut Vec::new()).unwrap(), expected);
    }
}
