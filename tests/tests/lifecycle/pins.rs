//! What a node's agent has pinned, as the file system shows it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use ambit_harness::Node;

/// Returns the pinned links by name, each with what tells it from another pin of the same name.
pub(crate) fn links(node: &Node) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(node.bpffs().join("links")).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().ino())).collect()
}

/// Returns the names of the links that stand in pods' network namespaces.
pub(crate) fn pod_links(node: &Node) -> Vec<String> {
    links(node).into_keys().filter(|name| name.starts_with("lookup")).collect()
}
