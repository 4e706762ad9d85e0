//! What the agent itself uses.

use anyhow::Context as _;
use procfs::{
    WithCurrentSystemInfo as _,
    process::{LimitValue, Process},
};

/// The agent's own use of the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessUsage {
    /// User and system time, all threads.
    pub cpu_seconds: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Open file descriptors.
    pub open_fds: u64,
}

impl ProcessUsage {
    /// Reads it.
    pub fn read() -> anyhow::Result<Self> {
        let me = Process::myself().context("cannot read /proc/self")?;
        let stat = me.stat().context("cannot read /proc/self/stat")?;
        let ticks = procfs::ticks_per_second() as f64;
        Ok(Self {
            cpu_seconds: (stat.utime + stat.stime) as f64 / ticks,
            resident_bytes: stat.rss_bytes().get(),
            open_fds: me.fd_count().context("cannot read /proc/self/fd")? as u64,
        })
    }
}

/// How many files the agent may have open.
///
/// # Errors
/// When `/proc` is not readable.
pub fn most_open_files() -> anyhow::Result<usize> {
    let limits = Process::myself().and_then(|me| me.limits()).context("cannot read /proc/self/limits")?;
    Ok(match limits.max_open_files.soft_limit {
        LimitValue::Value(files) => usize::try_from(files).unwrap_or(usize::MAX),
        LimitValue::Unlimited => usize::MAX,
    })
}
