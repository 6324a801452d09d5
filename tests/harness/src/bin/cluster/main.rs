//! Prints the objects of a large cluster, to measure commands that read many: `cluster > objects.yaml`.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    io::stdout().lock().write_all(ambit_harness::ClusterSize::LARGE.objects().as_bytes())
}
