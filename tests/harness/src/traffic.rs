//! Runs the program `traffic` where the traffic is to come from, and reads what it reports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::binaries;
use crate::must;
use crate::place::Place;
use crate::process::Process;

/// What a run of `traffic connect` saw.
#[derive(Clone, Debug, Deserialize)]
pub struct Connects {
    /// Connections that did everything they should.
    pub ok: u64,
    /// Connections that did not.
    pub failed: u64,
    /// Failures by kind: refused, reset, timeout, eof, unreachable, mismatch, or the system's words.
    pub errors: BTreeMap<String, u64>,
    /// The client's getpeername, of the last good connection.
    pub getpeername: Option<SocketAddr>,
    /// The client's getsockname, of the last good connection.
    pub getsockname: Option<SocketAddr>,
    /// What the server said of the last good connection: its `accept`, `getpeername` and `getsockname` addresses.
    pub hello: Option<BTreeMap<String, SocketAddr>>,
    /// The median time of a whole exchange, in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile, in milliseconds.
    pub p99_ms: f64,
}

impl Connects {
    /// Returns whether every connection succeeded.
    pub fn all_ok(&self) -> bool {
        self.failed == 0 && self.ok > 0
    }

    /// Returns whether no connection succeeded.
    pub fn none_ok(&self) -> bool {
        self.ok == 0 && self.failed > 0
    }
}

/// A running `traffic serve`.
pub struct Server {
    process: Process,
}

impl Server {
    /// Stops the server and returns its counters: `connections` accepted, `bytes` read, `aborted` by the peer.
    #[track_caller]
    pub fn stop(mut self) -> Value {
        let printed = self.process.stop();
        must(last_json(&printed).with_context(|| format!("read the server's counters from {printed:?}")))
    }

    /// Returns the process, to kill or signal it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

impl Place {
    /// Runs `traffic ARGS…` here to its end and returns its JSON result.
    #[track_caller]
    pub fn traffic(&self, args: &[&str]) -> Value {
        must(self.try_traffic(args))
    }

    fn try_traffic(&self, args: &[&str]) -> Result<Value> {
        let output = self.command(binaries::find("traffic")?).args(args).output().context("run traffic")?;
        last_json(&String::from_utf8_lossy(&output.stdout)).with_context(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("`traffic {}` in {} ended with {}: {said}", args.join(" "), self.name(), output.status)
        })
    }

    /// Starts `traffic ARGS…` here; its JSON result stands in [`Process::stdout`] once it has ended.
    #[track_caller]
    pub fn traffic_spawn(&self, args: &[&str]) -> Process {
        self.spawn(must(binaries::find("traffic")), args)
    }

    /// Starts a server here on `port` of all addresses of both families, and waits until it listens.
    ///
    /// `mode` is one of `traffic serve --mode`: hello (then echo), echo, discard, sum, transfer, source, reset, close, stall.
    #[track_caller]
    pub fn serve(&self, mode: &str, port: u16) -> Server {
        self.serve_on(mode, &format!("[::]:{port}"), &[])
    }

    /// Starts a server on an address of the caller's choice, with more arguments.
    #[track_caller]
    pub fn serve_on(&self, mode: &str, listen: &str, more: &[&str]) -> Server {
        let args = [&["serve", "--mode", mode, "--listen", listen], more].concat();
        let mut process = self.traffic_spawn(&args);
        process.wait_log("listening");
        Server { process }
    }

    /// Makes one connection to a `hello` server, exchanges a payload both ways and ends it in order.
    #[track_caller]
    pub fn connect(&self, to: SocketAddr) -> Connects {
        self.connect_with(to, &[])
    }

    /// As [`Place::connect`], with arguments of `traffic connect` such as `--count 10000 --concurrency 500`.
    #[track_caller]
    pub fn connect_with(&self, to: SocketAddr, more: &[&str]) -> Connects {
        let to = to.to_string();
        let result = self.traffic(&[&["connect", to.as_str()], more].concat());
        must(serde_json::from_value(result).context("read the result of traffic connect"))
    }

    /// Starts a server here that sends back UDP datagrams on `port` of all addresses of both families.
    #[track_caller]
    pub fn reflect(&self, port: u16) -> Process {
        let mut process = self.traffic_spawn(&["reflect", "--listen", &format!("[::]:{port}")]);
        process.wait_log("listening");
        process
    }

    /// Sends one UDP datagram to a reflecting server and returns what came of it: `answered`, `silence`, or how sending
    /// failed.
    #[track_caller]
    pub fn datagram(&self, to: SocketAddr, more: &[&str]) -> String {
        let to = to.to_string();
        let result = self.traffic(&[&["datagram", to.as_str(), "--timeout", "1s"], more].concat());
        result["outcome"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits up to `timeout` until one connection to `to` succeeds (`wanted`) or fails (not `wanted`).
    #[track_caller]
    pub fn wait_connect(&self, to: SocketAddr, wanted: bool, timeout: Duration) -> Connects {
        let what = format!("{} to {} {to}", self.name(), if wanted { "reach" } else { "be refused by" });
        crate::wait_for(&what, timeout, || {
            let result = self.connect_with(to, &["--timeout", "2s"]);
            (result.all_ok() == wanted).then_some(result)
        })
    }
}

impl Process {
    /// Returns the JSON result of a `traffic` that has ended.
    #[track_caller]
    pub fn result(&self) -> Value {
        must(last_json(&self.stdout()).with_context(|| format!("read the result in {:?}", self.log())))
    }
}

fn last_json(printed: &str) -> Result<Value> {
    let line = printed.lines().rfind(|line| line.starts_with('{')).context("it printed no JSON")?;
    serde_json::from_str(line).context("it printed broken JSON")
}
