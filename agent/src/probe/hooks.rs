//! The hooks, and the ways to attach each.

use std::{fs::File, path::Path};

use aya::{
    Btf, Ebpf,
    programs::{
        BtfTracePoint, CgroupAttachMode, CgroupSkb, CgroupSkbAttachType, FExit, ProgramError, TracePoint,
    },
};
use probe_ebpf::tally::Tally;

use super::prototypes::Prototypes;
use crate::config::HookMode;

/// A place in the kernel that tells us something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// What it is called here.
    pub name: &'static str,
    /// Where the kernel side counts its runs.
    pub runs: Tally,
    /// What is not known without it.
    pub tells: &'static str,
    /// The ways to attach it, best first.
    pub ways: &'static [Way],
}

/// One way to attach a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// By which mechanism.
    pub mode: Mode,
    /// The tracepoint's category in tracefs, or what takes its place.
    pub category: &'static str,
    /// The tracepoint or function, and the stem of the program's name.
    pub target: &'static str,
    /// The argument types that the program knows how to read, where it gets typed ones: those of the kernels from 5.10 to 7.2.
    pub known: &'static [&'static str],
}

impl Way {
    const fn btf(category: &'static str, target: &'static str, known: &'static [&'static str]) -> Self {
        Self { mode: Mode::Btf, category, target, known }
    }

    const fn classic(category: &'static str, target: &'static str) -> Self {
        Self { mode: Mode::Tracepoint, category, target, known: &[] }
    }

    /// Name of the program that serves it.
    #[must_use]
    pub fn program(self) -> String {
        let Self { mode, target, .. } = self;
        match mode {
            Mode::Btf => format!("{target}_btf"),
            Mode::Tracepoint => format!("{target}_tp"),
            Mode::Fexit => format!("{target}_fexit"),
            Mode::Cgroup => target.to_owned(),
        }
    }
}

/// All of them. The first is the one the agent cannot do without.
pub const HOOKS: [Hook; 7] = [
    Hook {
        name: "inet_sock_set_state",
        runs: Tally::RunsState,
        tells: "connections, closes, lifetimes, reuse",
        ways: &[
            Way::btf("sock", "inet_sock_set_state", &["struct sock *, int, int"]),
            Way::classic("sock", "inet_sock_set_state"),
        ],
    },
    Hook {
        name: "tcp_retransmit_skb",
        runs: Tally::RunsRetransmit,
        tells: "outbound SYN retries, retransmits",
        ways: &[
            Way::btf(
                "tcp",
                "tcp_retransmit_skb",
                &["struct sock *, struct sk_buff *", "struct sock *, struct sk_buff *, int"],
            ),
            Way::classic("tcp", "tcp_retransmit_skb"),
        ],
    },
    Hook {
        name: "tcp_retransmit_synack",
        runs: Tally::RunsSynack,
        tells: "inbound SYN retries, SYN-ACK retries",
        ways: &[
            Way::btf("tcp", "tcp_retransmit_synack", &["struct sock *, struct request_sock *"]),
            Way::classic("tcp", "tcp_retransmit_synack"),
        ],
    },
    Hook {
        name: "tcp_receive_reset",
        runs: Tally::RunsReceiveReset,
        tells: "resets by the peer",
        ways: &[
            Way::btf("tcp", "tcp_receive_reset", &["struct sock *"]),
            Way::classic("tcp", "tcp_receive_reset"),
        ],
    },
    Hook {
        name: "tcp_send_reset",
        runs: Tally::RunsSendReset,
        tells: "resets by us",
        ways: &[
            Way::btf(
                "tcp",
                "tcp_send_reset",
                &["struct sock *, struct sk_buff *", "struct sock *, struct sk_buff *, enum sk_rst_reason"],
            ),
            Way::classic("tcp", "tcp_send_reset"),
        ],
    },
    Hook {
        name: "time_wait",
        runs: Tally::RunsTimeWait,
        tells: "SYNs that meet TIME_WAIT, inbound SYN retries into it",
        ways: &[
            Way::btf("skb", "kfree_skb", &["struct sk_buff *, void *, enum skb_drop_reason, struct sock *"]),
            Way {
                mode: Mode::Fexit,
                category: "net",
                target: "tcp_timewait_state_process",
                known: &["struct inet_timewait_sock *, struct sk_buff *, struct tcphdr *"],
            },
        ],
    },
    Hook {
        name: "syn_watch",
        runs: Tally::RunsSynWatch,
        tells: "every SYN received, and every one repeated",
        ways: &[Way { mode: Mode::Cgroup, category: "cgroup_skb", target: "syn_watch", known: &[] }],
    },
];

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Typed tracepoint (`tp_btf`).
    Btf,
    /// Classic tracepoint, through perf.
    Tracepoint,
    /// Return of a kernel function.
    Fexit,
    /// Filter of everything a cgroup's sockets receive.
    Cgroup,
}

impl Mode {
    /// As it is written in metrics and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Btf => "btf",
            Self::Tracepoint => "tracepoint",
            Self::Fexit => "fexit",
            Self::Cgroup => "cgroup",
        }
    }

    /// Whether the operator allows it.
    fn is_wanted(self, request: Request<'_>) -> bool {
        match self {
            Self::Btf | Self::Fexit => request.wanted != HookMode::Tracepoint,
            Self::Tracepoint => request.wanted != HookMode::Btf,
            Self::Cgroup => request.syn_watch,
        }
    }
}

/// What became of one hook.
#[derive(Clone, Debug)]
pub struct HookReport {
    /// The hook.
    pub hook: Hook,
    /// How it is attached; `None` is not at all.
    pub way: Option<Way>,
    /// Each way that failed, with the reason.
    pub refused: Vec<(Mode, String)>,
    /// Nobody asked for it, or every way to attach it was excluded.
    pub off: bool,
}

impl HookReport {
    /// How it is attached, as it is written in metrics and on the command line.
    #[must_use]
    pub fn mode(&self) -> &'static str {
        match self.way {
            Some(way) => way.mode.name(),
            None if self.off => "off",
            None => "unavailable",
        }
    }

    /// Whether it tells all it can: only a classic tracepoint that stands in for a typed one knows less.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let is_stopgap = |way: Way| way.mode == Mode::Tracepoint && !self.refused.is_empty();
        self.off || self.way.is_some_and(|way| !is_stopgap(way))
    }

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

/// What is asked for, and what the ways need.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub wanted: HookMode,
    pub syn_watch: bool,
    pub btf: Option<&'a Btf>,
    pub cgroup: Option<&'a Path>,
    pub prototypes: &'a Prototypes,
    pub obstacles: &'a Obstacles,
}

/// Attaches one hook in the best way that is wanted and works.
pub(super) fn attach(ebpf: &mut Ebpf, hook: Hook, request: Request<'_>) -> HookReport {
    let is_wanted = |way: &&Way| way.mode.is_wanted(request);
    let off = !hook.ways.iter().any(|way| is_wanted(&way));
    let mut report = HookReport { hook, way: None, refused: Vec::new(), off };
    for &way in hook.ways.iter().filter(is_wanted) {
        let obstacle = match way.mode {
            Mode::Btf | Mode::Fexit => {
                request.obstacles.btf.clone().or_else(|| request.prototypes.obstacle(&way))
            }
            Mode::Tracepoint => request.obstacles.tracepoint.clone(),
            Mode::Cgroup if request.cgroup.is_none() => {
                Some("the unified cgroup hierarchy (cgroup2) is not mounted".to_owned())
            }
            Mode::Cgroup => None,
        };
        let outcome = match obstacle {
            Some(reason) => Err(reason),
            None => attach_as(ebpf, way, request).map_err(|error| one_line(&error)),
        };
        match outcome {
            Ok(()) => {
                report.way = Some(way);
                break;
            }
            Err(reason) => report.refused.push((way.mode, reason)),
        }
    }
    report
}

fn attach_as(ebpf: &mut Ebpf, way: Way, request: Request<'_>) -> Result<(), ProgramError> {
    let program = ebpf.program_mut(&way.program()).ok_or(ProgramError::NotLoaded)?;
    match (way.mode, request.btf, request.cgroup) {
        (Mode::Btf, Some(btf), _) => {
            let program: &mut BtfTracePoint = program.try_into()?;
            program.load(way.target, btf)?;
            program.attach()?;
        }
        (Mode::Fexit, Some(btf), _) => {
            let program: &mut FExit = program.try_into()?;
            program.load(way.target, btf)?;
            program.attach()?;
        }
        (Mode::Tracepoint, ..) => {
            let program: &mut TracePoint = program.try_into()?;
            program.load()?;
            program.attach(way.category, way.target)?;
        }
        (Mode::Cgroup, _, Some(cgroup)) => {
            let program: &mut CgroupSkb = program.try_into()?;
            program.load()?;
            let cgroup = File::open(cgroup)?;
            // A link stands beside those of others by itself; the kernel wants no flag that says so.
            program.attach(cgroup, CgroupSkbAttachType::Ingress, CgroupAttachMode::Single)?;
        }
        _ => return Err(ProgramError::NotLoaded),
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
