//! The five hooks, and the ways to attach each.

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, ProgramError, TracePoint},
};
use probe_ebpf::tally::Tally;

use crate::config::HookMode;

/// A place in the kernel that tells us something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The tracepoint's name, and the stem of the names of its programs.
    pub name: &'static str,
    /// Its category in tracefs.
    pub category: &'static str,
    /// Where the kernel side counts its runs.
    pub runs: Tally,
    /// What is not known without it.
    pub tells: &'static str,
}

/// All of them. The first is the one the agent cannot do without.
pub const HOOKS: [Hook; 5] = [
    Hook {
        name: "inet_sock_set_state",
        category: "sock",
        runs: Tally::RunsState,
        tells: "connections, closes, lifetimes, reuse",
    },
    Hook {
        name: "tcp_retransmit_skb",
        category: "tcp",
        runs: Tally::RunsRetransmit,
        tells: "outbound SYN retries, retransmits",
    },
    Hook {
        name: "tcp_retransmit_synack",
        category: "tcp",
        runs: Tally::RunsSynack,
        tells: "inbound SYN retries, SYN-ACK retries",
    },
    Hook {
        name: "tcp_receive_reset",
        category: "tcp",
        runs: Tally::RunsReceiveReset,
        tells: "resets by the peer",
    },
    Hook { name: "tcp_send_reset", category: "tcp", runs: Tally::RunsSendReset, tells: "resets by us" },
];

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Typed tracepoint (`tp_btf`).
    Btf,
    /// Classic tracepoint, through perf.
    Tracepoint,
}

impl Mode {
    /// As it is written in metrics and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Btf => "btf",
            Self::Tracepoint => "tracepoint",
        }
    }

    /// Name of the program that serves `hook` in this mode.
    #[must_use]
    pub fn program(self, hook: Hook) -> String {
        match self {
            Self::Btf => format!("{}_btf", hook.name),
            Self::Tracepoint => format!("{}_tp", hook.name),
        }
    }
}

/// What became of one hook.
#[derive(Clone, Debug)]
pub struct HookReport {
    /// The hook.
    pub hook: Hook,
    /// How it is attached; `None` is not at all.
    pub mode: Option<Mode>,
    /// Each way that failed, with the reason.
    pub refused: Vec<(Mode, String)>,
}

impl HookReport {
    /// The reasons in one line.
    #[must_use]
    pub fn reasons(&self) -> String {
        let reasons: Vec<_> =
            self.refused.iter().map(|(mode, reason)| format!("{}: {reason}", mode.name())).collect();
        reasons.join("; ")
    }
}

/// Why the ways are closed before anything is tried.
pub(super) struct Obstacles {
    pub btf: Option<String>,
    pub tracepoint: Option<String>,
}

/// Attaches one hook in the best way `wanted` allows.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    btf: Option<&Btf>,
    hook: Hook,
    wanted: HookMode,
    obstacles: &Obstacles,
) -> HookReport {
    let modes: &[Mode] = match wanted {
        HookMode::Auto => &[Mode::Btf, Mode::Tracepoint],
        HookMode::Btf => &[Mode::Btf],
        HookMode::Tracepoint => &[Mode::Tracepoint],
    };
    let mut report = HookReport { hook, mode: None, refused: Vec::new() };
    for &mode in modes {
        let obstacle = match mode {
            Mode::Btf => &obstacles.btf,
            Mode::Tracepoint => &obstacles.tracepoint,
        };
        let outcome = match obstacle {
            Some(reason) => Err(reason.clone()),
            None => attach_as(ebpf, btf, hook, mode).map_err(|error| one_line(&error)),
        };
        match outcome {
            Ok(()) => {
                report.mode = Some(mode);
                break;
            }
            Err(reason) => report.refused.push((mode, reason)),
        }
    }
    report
}

fn attach_as(ebpf: &mut Ebpf, btf: Option<&Btf>, hook: Hook, mode: Mode) -> Result<(), ProgramError> {
    let name = mode.program(hook);
    let program = ebpf.program_mut(&name).ok_or(ProgramError::NotLoaded)?;
    match (mode, btf) {
        (Mode::Btf, Some(btf)) => {
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(hook.name, btf)?;
            program.attach()?;
        }
        (Mode::Btf, None) => return Err(ProgramError::NotLoaded),
        (Mode::Tracepoint, _) => {
            let program: &mut TracePoint = program.try_into()?;
            program.load()?;
            program.attach(hook.category, hook.name)?;
        }
    }
    Ok(())
}

/// A refusal in one line: the verifier's last word instead of its whole log.
pub(super) fn one_line(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        let summary = ["verification time", "stack depth", "processed "];
        let is_verdict =
            |line: &&str| !line.trim().is_empty() && !summary.iter().any(|start| line.starts_with(start));
        let last = log.lines().rev().find(is_verdict);
        return match last {
            Some(line) => format!("the kernel refused the program: {io_error}: {}", line.trim()),
            None => format!("the kernel refused the program: {io_error}"),
        };
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text.replace('\n', " ")
}
