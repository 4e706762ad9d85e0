//! What the kernel knows about our programs: runs, time, and runs it left out.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::{Ebpf, programs::Program};

use super::hooks::HookReport;

/// The kernel's statistics of one attached program, as far as it keeps them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProgramStats {
    /// Index of the hook in the probe's list.
    pub hook: usize,
    /// Runs while the kernel's statistics were on.
    pub runs: u64,
    /// Nanoseconds spent in them.
    pub run_time_ns: u64,
    /// Runs left out because the program was already running on that CPU (5.12 on); events that were not counted.
    pub missed: Option<u64>,
}

pub(super) fn of(ebpf: &Ebpf, hooks: &[HookReport]) -> Vec<ProgramStats> {
    hooks
        .iter()
        .enumerate()
        .filter_map(|(index, report)| {
            let program = ebpf.program(&report.way?.program())?;
            let fd = match program {
                Program::BtfTracePoint(program) => program.fd(),
                Program::TracePoint(program) => program.fd(),
                Program::FExit(program) => program.fd(),
                Program::CgroupSkb(program) => program.fd(),
                _ => return None,
            };
            let fd = fd.ok()?.as_fd().as_raw_fd();
            let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
            Some(parse(index, &text))
        })
        .collect()
}

/// The lines `run_time_ns:\t123` of a program's fdinfo (kernel/bpf/syscall.c bpf_prog_show_fdinfo()).
fn parse(hook: usize, text: &str) -> ProgramStats {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().parse().ok()
    };
    ProgramStats {
        hook,
        runs: value("run_cnt").unwrap_or_default(),
        run_time_ns: value("run_time_ns").unwrap_or_default(),
        missed: value("recursion_misses"),
    }
}

#[cfg(test)]
mod tests {
    use super::{ProgramStats, parse};

    #[test]
    fn fdinfo_is_read_by_name() {
        let text = "pos:\t0\nprog_type:\t26\nrun_time_ns:\t460\nrun_cnt:\t10\nrecursion_misses:\t2\nverified_insns:\t9\n";
        assert_eq!(parse(3, text), ProgramStats { hook: 3, runs: 10, run_time_ns: 460, missed: Some(2) });
        assert_eq!(parse(0, "prog_id:\t1\n").missed, None);
    }
}
