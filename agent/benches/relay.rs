//! How fast a trunk relays, alone: `cargo bench -p ambit-agent --features bench`. Both agents' sides and both applications
//! share one thread. It asserts nothing.
// divan::main writes a function that nobody documents.
#![allow(missing_docs)]

use ambit_agent::dataplane::measured::Relay;
use divan::{Bencher, counter::BytesCount};
use tokio::runtime::{Builder, Runtime};

fn main() {
    divan::main();
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

/// Bytes from one application to the other.
#[divan::bench(args = [1 << 10, 64 << 10, 1 << 20])]
fn bulk(bencher: Bencher<'_, '_>, bytes: usize) {
    let runtime = runtime();
    let mut relay = runtime.block_on(Relay::open()).expect("a trunk can be opened");
    let (sent, mut received) = (vec![7; bytes], vec![0; bytes]);
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        runtime.block_on(relay.send(&sent, &mut received)).expect("the trunk carries it");
    });
}

/// 64 bytes there and back.
#[divan::bench]
fn round_trip(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let mut relay = runtime.block_on(Relay::open()).expect("a trunk can be opened");
    bencher.bench_local(|| runtime.block_on(relay.round_trip()).expect("the trunk carries it"));
}
