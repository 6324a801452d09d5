//! Tests of the watch, against real directories.

use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;
use tokio::sync::watch::Receiver;

use super::*;

/// Longer than a change can take, unless it is never seen.
const PATIENCE: Duration = Duration::from_secs(30);

fn pod(name: &str, address: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nstatus: {{podIP: {address}}}\n")
}

/// A directory with one pod, watched.
fn started() -> (TempDir, PathBuf, FileSource) {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("objects");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("a.yaml"), pod("a", "10.0.0.1")).unwrap();
    let source = watch(&directory, "cluster.local", Start::Valid).unwrap();
    (root, directory, source)
}

/// Waits until what is published fulfils a condition.
#[track_caller]
fn wait<T>(receiver: &Receiver<Arc<T>>, condition: impl Fn(&T) -> bool) -> Arc<T> {
    let mut receiver = receiver.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let awaited = tokio::time::timeout(PATIENCE, receiver.wait_for(|value| condition(value))).await;
        Arc::clone(&awaited.expect("the change has been seen").expect("the source lives"))
    })
}

fn has(name: &str) -> impl Fn(&Snapshot) -> bool {
    move |snapshot| snapshot.workload_named("default", name).is_some()
}

#[test]
fn a_new_file_becomes_a_new_version() {
    let (_root, directory, source) = started();
    assert_eq!(source.snapshots.borrow().version(), 1);
    fs::write(directory.join("b.yaml"), pod("b", "10.0.0.2")).unwrap();
    let snapshot = wait(&source.snapshots, has("b"));
    assert!(snapshot.version() > 1 && has("a")(&snapshot));
    let status = wait(&source.status, |status| status.version == snapshot.version());
    assert_eq!((status.files, status.objects, status.errors.len()), (2, 2, 0));
}

#[test]
fn a_bad_change_keeps_the_last_state_and_says_why() {
    let (_root, directory, source) = started();
    fs::write(directory.join("a.yaml"), "kind: [").unwrap();
    let status = wait(&source.status, |status| !status.errors.is_empty());
    assert!(status.errors[0].contains("a.yaml:1:"), "{:?}", status.errors);
    assert_eq!((status.version, source.snapshots.borrow().version()), (1, 1));
    assert!(has("a")(&source.snapshots.borrow()));

    fs::write(directory.join("a.yaml"), pod("c", "10.0.0.3")).unwrap();
    let status = wait(&source.status, |status| status.errors.is_empty());
    assert_eq!(status.version, 2);
    wait(&source.snapshots, |snapshot| has("c")(snapshot) && !has("a")(snapshot));
}

#[test]
fn a_change_of_two_files_applies_whole_or_not_at_all() {
    let (_root, directory, source) = started();
    let bad_policy =
        "apiVersion: ambit.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: p}\nspec: {action: Deny}\n";
    fs::write(directory.join("p.yaml"), bad_policy).unwrap();
    fs::write(directory.join("b.yaml"), pod("b", "10.0.0.2")).unwrap();
    wait(&source.status, |status| !status.errors.is_empty());
    assert!(!has("b")(&source.snapshots.borrow()));
    fs::remove_file(directory.join("p.yaml")).unwrap();
    wait(&source.snapshots, has("b"));
}

#[test]
fn a_file_that_is_renamed_over_is_read_again() {
    let (_root, directory, source) = started();
    fs::write(directory.join(".a.swp"), pod("edited", "10.0.0.1")).unwrap();
    fs::rename(directory.join(".a.swp"), directory.join("a.yaml")).unwrap();
    wait(&source.snapshots, has("edited"));
}

#[test]
fn a_swapped_link_is_followed() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("objects");
    for (version, name) in [("..1", "one"), ("..2", "two")] {
        fs::create_dir_all(directory.join(version)).unwrap();
        fs::write(directory.join(version).join("pods.yaml"), pod(name, "10.0.0.1")).unwrap();
    }
    symlink("..1", directory.join("..data")).unwrap();
    symlink("..data/pods.yaml", directory.join("pods.yaml")).unwrap();
    let source = watch(&directory, "cluster.local", Start::Valid).unwrap();
    assert!(has("one")(&source.snapshots.borrow()));
    symlink("..2", directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
    wait(&source.snapshots, |snapshot| has("two")(snapshot) && !has("one")(snapshot));
}

#[test]
fn a_change_behind_a_link_that_nobody_notifies_is_found() {
    let (root, directory, source) = started();
    let elsewhere = root.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("b"), pod("b", "10.0.0.2")).unwrap();
    symlink(elsewhere.join("b"), directory.join("b.yaml")).unwrap();
    wait(&source.snapshots, has("b"));
    fs::write(elsewhere.join("b"), pod("changed", "10.0.0.2")).unwrap();
    wait(&source.snapshots, has("changed"));
}

#[test]
fn a_directory_that_is_removed_and_made_again_is_followed() {
    let (_root, directory, source) = started();
    fs::remove_dir_all(&directory).unwrap();
    wait(&source.status, |status| !status.errors.is_empty());
    assert!(has("a")(&source.snapshots.borrow()));
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("b.yaml"), pod("b", "10.0.0.2")).unwrap();
    wait(&source.snapshots, has("b"));
    fs::create_dir(directory.join("more")).unwrap();
    fs::write(directory.join("more/c.yaml"), pod("c", "10.0.0.3")).unwrap();
    wait(&source.snapshots, has("c"));
    fs::write(directory.join("more/c.yaml"), pod("d", "10.0.0.3")).unwrap();
    wait(&source.snapshots, has("d"));
}

#[test]
fn a_directory_that_loses_all_its_files_releases_nobody() {
    let (_root, directory, source) = started();
    fs::remove_file(directory.join("a.yaml")).unwrap();
    let status = wait(&source.status, |status| !status.errors.is_empty());
    assert!(status.errors[0].contains("holds no objects any more"), "{:?}", status.errors);
    assert!(has("a")(&source.snapshots.borrow()));
}

#[test]
fn an_invalid_directory_is_an_error_at_the_start() {
    let (_root, directory, source) = started();
    drop(source);
    fs::write(directory.join("b.yaml"), "kind: [").unwrap();
    assert!(matches!(watch(&directory, "cluster.local", Start::Valid), Err(LoadError::Invalid(_))));
    assert!(matches!(
        watch(&directory.join("none"), "cluster.local", Start::Valid),
        Err(LoadError::Directory { .. })
    ));
}

#[test]
fn a_dropped_source_ends_its_thread() {
    let (_root, _directory, mut source) = started();
    let mut snapshots =
        std::mem::replace(&mut source.snapshots, watch::channel(Arc::new(Snapshot::empty())).1);
    drop(source);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let closed = async { while snapshots.changed().await.is_ok() {} };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, closed).await }).expect("the sender is gone");
}
