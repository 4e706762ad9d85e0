//! The families of the host and of the agent itself: few series, so a registry is built anew for each scrape and holds
//! exactly what the snapshot holds.

use std::sync::atomic::Ordering;

use prometheus::{
    Counter, CounterVec, Encoder as _, Gauge, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use super::{AlertView, RefusedConnections, View};
use crate::{
    alert::Subject,
    config::{AlertName, Severity},
    model::{CONNECTED_STATES, CensusFigures, HostFigures, SelfFigures, UNCONNECTED_STATES},
};

pub(super) fn encode(
    view: &View,
    refused: &RefusedConnections,
    body: &mut Vec<u8>,
) -> prometheus::Result<()> {
    let View { snapshot, alerts } = view;
    let page = Page(Registry::new_custom(Some("tcpwarden".to_owned()), None)?);
    host(&page, &snapshot.host)?;
    itself(&page, &snapshot.itself)?;
    states(&page, alerts)?;
    connections(&page, refused)?;
    let process = Page(Registry::new_custom(Some("process".to_owned()), None)?);
    usage(&process, &snapshot.itself)?;
    let encoder = TextEncoder::new();
    encoder.encode(&page.0.gather(), body)?;
    encoder.encode(&process.0.gather(), body)
}

fn host(page: &Page, host: &HostFigures) -> prometheus::Result<()> {
    let sockets = page.gauges(
        "sockets",
        "All TCP sockets by state as of the last census; timewait sockets as time_wait or fin_wait2.",
        &["state"],
    )?;
    for (name, state) in CONNECTED_STATES.into_iter().chain(UNCONNECTED_STATES) {
        sockets.with_label_values(&[name]).set(i64::from(host.sockets[state as usize]));
    }
    page.gauge(
        "time_wait_buckets",
        "Mini-sockets (TIME_WAIT and FIN_WAIT2) that the kernel counts against its limit.",
        host.time_wait_buckets,
    )?;
    if let Some(limit) = host.time_wait_buckets_limit {
        page.gauge(
            "time_wait_buckets_limit",
            "Mini-sockets there may be (net.ipv4.tcp_max_tw_buckets).",
            limit,
        )?;
    }
    page.counter(
        "time_wait_overflows_total",
        "Connections that got no TIME_WAIT because of that limit.",
        host.time_wait_overflows,
    )?;
    let waiting = page.gauges(
        "listen_queue",
        "Connections waiting to be accepted in the fullest accept queue of the port.",
        &["port"],
    )?;
    let limits = page.gauges(
        "listen_queue_limit",
        "Backlog of the fullest accept queue of the port; the queue holds one connection more.",
        &["port"],
    )?;
    for queue in &host.listen_queues {
        let port = queue.port.to_string();
        waiting.with_label_values(&[&port]).set(signed(queue.waiting));
        limits.with_label_values(&[&port]).set(signed(queue.limit));
    }
    page.counter(
        "listen_overflows_total",
        "Times an accept queue was full when a connection arrived.",
        host.listen_overflows,
    )?;
    page.counter(
        "listen_drops_total",
        "SYNs and final ACKs that listeners dropped, for whatever reason.",
        host.listen_drops,
    )?;
    page.counter(
        "syncookies_sent_total",
        "SYN cookies sent because a queue of pending requests was full.",
        host.syncookies_sent,
    )?;
    page.counter(
        "syn_challenges_total",
        "Segments with SYN on connections that are still open, by the kernel's own count (TcpExtTCPSYNChallenge).",
        host.syn_challenges,
    )?;
    let sysctls = page.gauges(
        "sysctl",
        "Kernel settings that decide how many connections the host can take.",
        &["name"],
    )?;
    for (name, value) in &host.sysctls {
        sysctls.with_label_values(&[name]).set(signed(*value));
    }
    Ok(())
}

fn itself(page: &Page, figures: &SelfFigures) -> prometheus::Result<()> {
    let build = page.gauges("build_info", "The version that is running; always 1.", &["version"])?;
    build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);

    let info = page.gauges(
        "probe_info",
        "How each probe is attached (unavailable: not at all); always 1.",
        &["probe", "hook", "mode"],
    )?;
    let runs = page.counters("probe_runs_total", "Times a probe's program ran.", &["probe"])?;
    let seconds = page.seconds("probe_run_seconds_total", "Time a probe's program ran: its runs at the cost per run, while the kernel keeps statistics of it (kernel.bpf_stats_enabled).", &["probe"])?;
    let missed = page.counters(
        "probe_missed_runs_total",
        "Runs that the kernel left out because the program was running on that CPU already.",
        &["probe"],
    )?;
    for probe in &figures.probes {
        info.with_label_values(&[probe.probe, probe.hook.as_str(), probe.mode]).set(1);
        let Some(figures) = &probe.runs else { continue };
        runs.with_label_values(&[probe.probe]).inc_by(figures.runs);
        if let Some(value) = figures.seconds {
            seconds.with_label_values(&[probe.probe]).inc_by(value);
        }
        if let Some(value) = figures.missed {
            missed.with_label_values(&[probe.probe]).inc_by(value);
        }
    }

    let lost =
        page.counters("lost_total", "Events dropped because something was full, by what: a map or ring of the kernel side, or a list or queue of the agent (alerts, history, lookups, log).", &["map"])?;
    for loss in &figures.lost {
        lost.with_label_values(&[loss.map]).inc_by(loss.events);
    }
    census(page, &figures.census)?;
    if let Some(challenged) = figures.challenged_drift {
        let drift = page.register(IntGauge::new(
            "challenged_drift_syns",
            "Segments with SYN on open connections seen since the agent started, less the kernel's own count (TcpExtTCPSYNChallenge) in that time.",
        )?)?;
        drift.set(challenged);
    }
    page.gauge("peers", "Accounts known, one per peer, port and direction.", figures.peers as u64)?;
    page.counter(
        "peers_evicted_total",
        "Accounts forgotten because they had neither sockets nor events for a while.",
        figures.peers_evicted,
    )?;
    page.gauge(
        "recorded_peers",
        "Peers, counted per port, whose source ports are recorded (at most limits.tracked_peers).",
        figures.recorded_peers as u64,
    )?;
    let notifications = page.counters(
        "notifications_total",
        "Notices to a receiver by what became of them: delivered; failed or rejected, and told again; superseded, as they were no longer true; dropped for want of room.",
        &["receiver", "outcome"],
    )?;
    for figures in &figures.notifications {
        for (outcome, count) in [
            ("delivered", figures.delivered),
            ("failed", figures.failed),
            ("rejected", figures.rejected),
            ("superseded", figures.superseded),
            ("dropped", figures.dropped),
        ] {
            notifications.with_label_values(&[&*figures.receiver, outcome]).inc_by(count);
        }
    }
    page.gauge(
        "state_last_save_successful",
        "Whether what a restart needs, the state of alerts and the known pools, was saved when it last changed.",
        u64::from(figures.state_last_save_successful),
    )?;
    if let Some(history) = &figures.history {
        page.gauge(
            "history_on_disk",
            "Whether the past is kept on disk; if not, its last hours are in memory.",
            u64::from(history.trouble.is_none()),
        )?;
        page.gauge("history_bytes", "How large the past is.", history.bytes)?;
        page.gauge(
            "history_limit_bytes",
            "How large it may become ([history] size_mib).",
            history.limit_bytes,
        )?;
    }
    page.gauge(
        "config_last_reload_successful",
        "Whether the last configuration that was given is in force.",
        u64::from(figures.config_last_reload_successful),
    )
}

fn census(page: &Page, census: &CensusFigures) -> prometheus::Result<()> {
    page.float("census_seconds", "CPU time of the last census.", census.cost.as_secs_f64())?;
    page.float(
        "census_interval_seconds",
        "Time until the next census; it grows with the cost, to stay within the CPU budget.",
        census.interval.as_secs_f64(),
    )?;
    page.gauge("census_sockets", "Sockets counted by the last census.", census.sockets)?;
    page.gauge(
        "census_sockets_without_account",
        "Sockets found by the last census whose peers have no account, because the map of accounts is full; they are counted in peer=\"other\".",
        census.without_account,
    )?;
    let drift = page.register(IntGauge::new(
        "census_drift_sockets",
        "TIME_WAIT and FIN_WAIT2 sockets found by the last census, minus the kernel's own count at the time.",
    )?)?;
    drift.set(census.drift);
    let lasting = page.register(IntGauge::new("census_lasting_drift_sockets", "TIME_WAIT and FIN_WAIT2 sockets by which each of the last censuses was off the kernel's own counts before and after it, at least; negative where it found fewer.")?)?;
    lasting.set(census.lasting_drift);
    Ok(())
}

/// Whether each alert is raised. Those about the host are there from the start, the others from when they are pending.
fn states(page: &Page, alerts: &AlertView) -> prometheus::Result<()> {
    let labels = ["alert", "severity", "peer", "port", "direction", "name"];
    let states = page.gauges("alert", "Whether an alert is raised, with which severity.", &labels)?;
    let set = |name: AlertName, subject: &Subject, raised: Option<Severity>| {
        let [(_, peer), (_, port), (_, direction), (_, watched)] = subject.labels();
        for severity in Severity::ALL {
            let values = [name.name(), severity.name(), &peer, &port, &direction, &watched];
            states.with_label_values(&values).set(i64::from(raised == Some(severity)));
        }
    };
    for name in AlertName::ALL.into_iter().filter(|name| name.is_of_host()) {
        set(name, &Subject::Host, None);
    }
    for (name, subject) in &alerts.quiet {
        set(*name, subject, None);
    }
    for alert in &alerts.raised {
        set(alert.name, &alert.subject, Some(alert.severity));
    }
    Ok(())
}

fn connections(page: &Page, refused: &RefusedConnections) -> prometheus::Result<()> {
    let family = page.counters(
        "http_connections_refused_total",
        "Connections to the agent's own port that it closed: too many at the same time (limit), too slow or idle for too long (timeout), no TLS or not the right one (tls).",
        &["reason"],
    )?;
    for (reason, count) in [("limit", &refused.limit), ("timeout", &refused.timeout), ("tls", &refused.tls)] {
        family.with_label_values(&[reason]).inc_by(count.load(Ordering::Relaxed));
    }
    Ok(())
}

fn usage(page: &Page, figures: &SelfFigures) -> prometheus::Result<()> {
    page.register(Counter::new("cpu_seconds_total", "User and system CPU time of the agent.")?)?
        .inc_by(figures.cpu_seconds);
    page.gauge("resident_memory_bytes", "Resident memory of the agent.", figures.resident_bytes)?;
    page.gauge("open_fds", "Open file descriptors of the agent.", figures.open_fds)?;
    page.float(
        "start_time_seconds",
        "When the agent started, in seconds since the epoch.",
        figures.start_time_seconds,
    )
}

/// A registry that is filled once.
struct Page(Registry);

impl Page {
    fn register<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        collector: C,
    ) -> prometheus::Result<C> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn gauge(&self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        self.register(IntGauge::new(name, help)?)?.set(signed(value));
        Ok(())
    }

    fn float(&self, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
        self.register(Gauge::new(name, help)?)?.set(value);
        Ok(())
    }

    fn counter(&self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        self.register(IntCounter::new(name, help)?)?.inc_by(value);
        Ok(())
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<CounterVec> {
        self.register(CounterVec::new(Opts::new(name, help), labels)?)
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
