//! Putting what the rooms measured into the shapes that the model's snapshot has.

use std::time::{Duration, SystemTime};

use probe_ebpf::tally::{TALLIES, Tally};

use super::{alerting::Alerting, names::WatchedNames, pools::SourcePorts, remembering::Remembering};
use crate::{
    census::{self, SocketCounts, Source},
    host, logging,
    model::{
        Accounts, CensusFigures, HostFigures, LostFigures, Overhead, ProbeFigures, QueueFigures, RunFigures,
        SelfFigures, Tells,
    },
    probe::{HOOKS, Probe},
};

/// What is kept of the last census until the next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Census {
    totals: SocketCounts,
    figures: CensusFigures,
}

impl Census {
    /// `kernel` is the kernel's own count of TIME_WAIT and FIN_WAIT2 sockets, read right after the census.
    pub fn new(census: &census::Census, kernel: u64, lasting_drift: i64, interval: Duration) -> Self {
        let figures = CensusFigures {
            cost: census.cost,
            sockets: census.sockets(),
            without_account: u64::from(census.without_account),
            drift: i64::from(census.mini_sockets) - signed(kernel),
            lasting_drift,
            interval,
        };
        Self { totals: census.totals, figures }
    }
}

/// Which figures the attached hooks give.
pub(super) fn tells(probe: &Probe, source: Source) -> Tells {
    let hooks = probe.hooks();
    let attached = |runs: Tally| hooks.iter().any(|report| report.hook.runs == runs && report.way.is_some());
    Tells {
        retransmits: attached(Tally::RunsRetransmit),
        synack_retries: attached(Tally::RunsSynack),
        resets_peer: attached(Tally::RunsReceiveReset),
        resets_local: attached(Tally::RunsSendReset),
        time_wait: attached(Tally::RunsTimeWait),
        challenged: probe.knows_challenged(),
        syn_watch: attached(Tally::RunsSynWatch),
        stalled: source == Source::Iter,
        aborted_early: probe.knows_layout(),
        timestamps: probe.knows_layout(),
    }
}

/// The host's figures now.
pub(super) fn host(census: &Census) -> anyhow::Result<HostFigures> {
    let counters = host::Counters::read()?;
    let queues = host::listen_queues()?;
    Ok(HostFigures {
        sockets: census.totals,
        time_wait_buckets: host::SocketStats::read()?.time_wait_buckets,
        time_wait_buckets_limit: host::sysctl("net.ipv4.tcp_max_tw_buckets"),
        time_wait_overflows: counters.time_wait_overflows,
        listen_queues: queues
            .into_iter()
            .map(|host::ListenQueue { port, waiting, limit, sockets }| QueueFigures {
                port,
                waiting,
                limit,
                sockets,
            })
            .collect(),
        listen_overflows: counters.listen_overflows,
        listen_drops: counters.listen_drops,
        syncookies_sent: counters.syncookies_sent,
        syn_challenges: counters.syn_challenges,
        sysctls: host::sysctls(),
    })
}

/// What [`itself`] looks at.
#[derive(Clone, Copy)]
pub(super) struct Agent<'a> {
    pub probe: &'a Probe,
    pub source: Source,
    pub census: &'a Census,
    pub accounts: &'a Accounts,
    pub source_ports: &'a SourcePorts,
    pub names: &'a WatchedNames,
    pub alerting: &'a Alerting,
    pub remembering: &'a Remembering,
    pub tallies: &'a [u64; TALLIES as usize],
    pub overheads: &'a [Overhead; HOOKS.len()],
    /// Of the kernel's own count of SYNs on open connections, those since the agent attached.
    pub challenges: i64,
    pub config_reloaded: bool,
    pub started_at: SystemTime,
}

/// A count as something to subtract from.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The agent's figures of itself now.
pub(super) fn itself(agent: Agent<'_>) -> anyhow::Result<SelfFigures> {
    let Agent {
        probe,
        source,
        census,
        accounts,
        source_ports,
        names: _,
        alerting,
        remembering,
        tallies,
        overheads,
        challenges,
        config_reloaded,
        started_at,
    } = agent;
    let usage = host::ProcessUsage::read()?;
    let since_epoch = started_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Ok(SelfFigures {
        probes: probes(probe, source, tallies, overheads),
        lost: lost(agent),
        census: census.figures,
        challenged_drift: probe
            .knows_challenged()
            .then(|| signed(tallies[Tally::ChallengedSyns as usize]) - challenges),
        peers: accounts.len(),
        peers_evicted: accounts.evicted(),
        recorded_peers: source_ports.recorded(),
        notifications: alerting.notifications(),
        state_last_save_successful: alerting.is_saved() && source_ports.is_saved(),
        history: remembering.figures(),
        config_last_reload_successful: config_reloaded,
        cpu_seconds: usage.cpu_seconds,
        resident_bytes: usage.resident_bytes,
        open_fds: usage.open_fds,
        start_time_seconds: since_epoch.as_secs_f64(),
    })
}

fn probes(
    probe: &Probe,
    source: Source,
    tallies: &[u64; TALLIES as usize],
    overheads: &[Overhead; HOOKS.len()],
) -> Vec<ProbeFigures> {
    let stats = probe.program_stats();
    let hooks = probe.hooks().iter().enumerate().map(|(index, report)| {
        let hook = report.hook;
        let runs = report.way.map(|_| RunFigures {
            runs: tallies[hook.runs as usize],
            seconds: overheads[index].seconds(),
            missed: stats.iter().find(|stats| stats.hook == index).and_then(|stats| stats.missed),
        });
        // What it would be, where it is not attached at all.
        let way = report.way.unwrap_or(hook.ways[0]);
        let hook_name = format!("{}:{}", way.category, way.target);
        ProbeFigures { probe: hook.name, hook: hook_name, mode: report.mode(), runs }
    });
    let hook = match source {
        Source::Iter => "iter/tcp",
        Source::Netlink => "sock_diag",
    };
    let census = ProbeFigures { probe: "census", hook: hook.to_owned(), mode: source.name(), runs: None };
    hooks.chain([census]).collect()
}

fn lost(agent: Agent<'_>) -> Vec<LostFigures> {
    let Agent { tallies, accounts, source_ports, names, alerting, remembering, .. } = agent;
    let lost = |map, kind: Tally| LostFigures { map, events: tallies[kind as usize] };
    vec![
        lost("peers", Tally::LostPeers),
        lost("half_open_peers", Tally::LostHalfOpen),
        lost("connections", Tally::LostConnections),
        lost("closed_tuples", Tally::LostClosed),
        lost("syns", Tally::LostSyns),
        lost("refusals", Tally::LostRefusals),
        lost("evidence", Tally::LostEvidence),
        lost("local_addresses", Tally::LostLocalAddresses),
        LostFigures { map: "source_ports", events: source_ports.unrecorded() },
        LostFigures { map: "block_syns", events: source_ports.unsearched() },
        LostFigures { map: "remembered_pools", events: source_ports.evicted() },
        LostFigures { map: "habits", events: accounts.habits().forgotten() },
        LostFigures { map: "events", events: source_ports.dropped() },
        LostFigures { map: "lookups", events: names.lost() },
        LostFigures { map: "alerts", events: alerting.left_out() },
        LostFigures { map: "history", events: remembering.lost() },
        LostFigures { map: "log", events: logging::lost() },
    ]
}
