//! What processes and the machine have used, as the kernel counts it.

use std::fs;

use anyhow::{Context, Result};

/// The kernel's unit of time in `/proc`, in seconds.
const TICK: f64 = 0.01;

/// Returns the CPU seconds of a process so far, user and system, ended threads included (proc(5), utime and stime).
pub(crate) fn used(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // The name in parentheses may hold anything.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).context("read stat");
    Ok((ticks(11)? + ticks(12)?) as f64 * TICK)
}

/// Returns the resident memory of a process in bytes (proc(5), VmRSS).
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let field = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kilobytes: u64 = field.trim().trim_end_matches(" kB").parse().context("read VmRSS")?;
    Ok(kilobytes * 1024)
}

/// The machine's time so far, in ticks.
#[derive(Clone, Copy)]
pub(crate) struct Machine {
    busy: u64,
    stolen: u64,
    all: u64,
}

impl Machine {
    /// Reads it (proc(5), the first line of `/proc/stat`).
    pub(crate) fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        let line = stat.lines().next().context("/proc/stat is empty")?;
        let ticks: Vec<u64> =
            line.split_whitespace().skip(1).take(8).filter_map(|field| field.parse().ok()).collect();
        let [user, nice, system, idle, wait, irq, softirq, stolen] = ticks[..] else {
            anyhow::bail!("/proc/stat has no such line: {line}");
        };
        let busy = user + nice + system + irq + softirq;
        Ok(Self { busy, stolen, all: busy + idle + wait + stolen })
    }

    /// Returns the shares of busy and stolen time since `before`, from 0 to 1.
    pub(crate) fn since(self, before: Self) -> (f64, f64) {
        let all = self.all.saturating_sub(before.all).max(1) as f64;
        (
            self.busy.saturating_sub(before.busy) as f64 / all,
            self.stolen.saturating_sub(before.stolen) as f64 / all,
        )
    }
}
