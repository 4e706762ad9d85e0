//! What a process costs.

use std::{
    io,
    process::{Child, Command, Stdio},
    time::Instant,
};

use procfs::process::{Process, Stat};
use rustix::{
    process::Pid,
    time::{ClockId, clock_gettime},
};

/// Processor time of a process and of its children that have ended, in seconds.
pub fn processor_seconds(pid: Pid) -> f64 {
    let Stat { utime, stime, cutime, cstime, .. } = process(pid).stat().expect("it runs");
    let children = u64::try_from(cutime + cstime).unwrap_or_default();
    (utime + stime + children) as f64 / procfs::ticks_per_second() as f64
}

/// Processor time of this thread, in milliseconds.
pub fn thread_ms() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// Memory of its own, resident, in MiB: what no file backs.
pub fn own_memory_mib(pid: Pid) -> f64 {
    process(pid).status().expect("it runs").rssanon.unwrap_or_default() as f64 / 1_024.0
}

/// Whether it holds an eBPF program.
pub fn holds_programs(pid: Pid) -> bool {
    let directory = format!("/proc/{}/fdinfo", pid.as_raw_nonzero());
    let files = std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    files.filter_map(|file| std::fs::read_to_string(file.path()).ok()).any(|text| text.contains("prog_id:"))
}

/// What its eBPF maps take in the kernel, in MiB.
pub fn maps_mib(pid: Pid) -> f64 {
    let directory = format!("/proc/{}/fdinfo", pid.as_raw_nonzero());
    let files = std::fs::read_dir(directory).expect("it runs").filter_map(Result::ok);
    let mut maps = std::collections::BTreeMap::new();
    for text in files.filter_map(|file| std::fs::read_to_string(file.path()).ok()) {
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<u64>().ok()
        };
        if let (Some(id), Some(bytes)) = (value("map_id:"), value("memlock:")) {
            maps.insert(id, bytes);
        }
    }
    maps.values().sum::<u64>() as f64 / 1_048_576.0
}

/// What a command took that has ended, or a request of something that goes on.
#[derive(Clone, Copy, Debug)]
pub struct Spent {
    /// By the clock, in milliseconds.
    pub wall_ms: f64,
    /// Of processors, in milliseconds.
    pub processor_ms: f64,
    /// Memory of its own in MiB, of something that goes on. The kernel's most of a command (ru_maxrss) is that of whoever forked it
    /// where that had more (fs/exec.c exec_mmap(), 6.18).
    pub memory_mib: Option<f64>,
}

/// Runs a command to its end; what it prints goes nowhere.
#[expect(clippy::zombie_processes, reason = "wait() below is wait4(2), which tells what was used")]
pub fn spend(mut command: Command) -> Spent {
    let begun = Instant::now();
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (status, usage) = wait(&child).unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert_eq!(status, 0, "{command:?} failed");
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    Spent {
        wall_ms: begun.elapsed().as_secs_f64() * 1e3,
        processor_ms: ms(usage.ru_utime) + ms(usage.ru_stime),
        memory_mib: None,
    }
}

/// The exit status of a child, and what it and its own children used.
fn wait(child: &Child) -> io::Result<(i32, libc::rusage)> {
    let pid = libc::pid_t::try_from(child.id()).expect("a pid is positive");
    let mut status = 0;
    // SAFETY: all zeroes is a valid rusage; both places are ours, and wait4(2) writes to them before it returns.
    let (waited, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid, &raw mut status, 0, &raw mut usage), usage)
    };
    if waited == pid { Ok((status, usage)) } else { Err(io::Error::last_os_error()) }
}

fn process(pid: Pid) -> Process {
    Process::new(pid.as_raw_nonzero().get()).expect("it runs")
}
