//! Incident I1 at its real size: three NAT addresses, each with the source ports 2048–16383, in front of a server that closes
//! first, and a box that loses the bare ACK. The load steps up to twice what the pools can bear; the timeline says when the
//! agent knew what.
//!
//! The last line is the verdict; the exit code is 1 when a figure of the agent differs from the wire, the inferred pool is not the
//! real one, or the warning came less than 20 s before the pool was full.

#![expect(clippy::print_stdout, reason = "it tells its story on the terminal")]

use std::{
    collections::BTreeSet,
    process::ExitCode,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use lab::{
    agent::{Agent, Metrics},
    capture::{Capture, Reuses},
    inconclusive,
    nat::{Nat, Pool, nat},
    reports::supported,
    topology::Family,
    traffic::{First, Traffic},
    truth,
};

const PORT: u16 = 443;
const ADDRESSES: u8 = 3;
const LOW: u16 = 2_048;
const HIGH: u16 = 16_383;
const PORTS: f64 = (HIGH - LOW + 1) as f64;

/// What one address can bear: a port is free again 60 s after its connection was closed.
const POOL_RATE: f64 = PORTS / 60.0;

/// Seconds and connections a second per address: every port is used once, with three quarters of them taken at most; the load
/// falls; it steps up to twice the pool's rate.
const PHASES: [(&str, usize, f64); 3] =
    [("warming up", 85, 180.0), ("calm", 64, 50.0), ("load steps up", 50, 2.0 * POOL_RATE)];

/// How long before the pools are full the warning must come.
const AHEAD: Duration = Duration::from_secs(20);

/// When what was first noticed, since the begin.
#[derive(Debug, Default)]
struct Noticed {
    step: Option<Duration>,
    warning: Option<Duration>,
    pools_then: Vec<String>,
    full: Option<Duration>,
    refused: Option<Duration>,
    failed: Option<Duration>,
    most_time_waits: u64,
}

fn main() -> ExitCode {
    inconclusive::begin("nat-pool");
    let net = nat(&Pool {
        family: Family::V4,
        addresses: ADDRESSES,
        ports: Some(LOW..=HIGH),
        loses_bare_ack: true,
    });
    let server_address = Nat::server_address(Family::V4);
    let agent = Agent::start(&net.server, &[]);
    let capture = Capture::start(&net.server);
    let time = PHASES.iter().map(|(_, seconds, _)| seconds + 15).sum();
    let server = Traffic::welcome(&net.server, server_address, PORT, time, First::Server);
    let begun = Instant::now();
    let mut noticed = Noticed::default();
    println!(
        "    s  what happens    | used by address      runs out in s        reuse after  refused  failed requests"
    );
    let mut failed_before = 0;
    for (phase, (name, seconds, rate)) in PHASES.into_iter().enumerate() {
        if phase == 2 {
            noticed.step = Some(begun.elapsed());
        }
        println!("{:>5}  {name}: {rate:.0} connections/s per address", begun.elapsed().as_secs());
        failed_before += thread::scope(|scope| {
            let (sender, failures) = channel();
            for client in &net.clients {
                let sender = sender.clone();
                let rate = rate * f64::from(ADDRESSES) / net.clients.len() as f64;
                scope.spawn(move || {
                    let mut client =
                        Traffic::pace(client, server_address, PORT, seconds, rate, First::Server);
                    let last = client.watch_pace(|_, failed| {
                        let _ = sender.send((false, failed));
                    });
                    let _ = sender.send((true, last.1));
                });
            }
            drop(sender);
            watch(&agent, begun, &failures, failed_before, &mut noticed)
        });
    }
    drop(server);
    noticed.most_time_waits = noticed.most_time_waits.max(truth::time_wait_buckets(&net.server));
    let wire = capture.stop();
    // The last clients have given up by then.
    thread::sleep(Duration::from_secs(12));
    let wire: Vec<Reuses> = (0..ADDRESSES)
        .map(|number| wire.reuses(Nat::address(Family::V4, number), server_address, PORT))
        .collect();
    verdict(&agent, &wire, &noticed)
}

/// Looks at the agent every second until all clients have ended; returns how many of their requests failed.
fn watch(
    agent: &Agent<'_>,
    begun: Instant,
    failures: &Receiver<(bool, u64)>,
    failed_before: u64,
    noticed: &mut Noticed,
) -> u64 {
    let mut failed = 0;
    let mut final_failed = 0;
    let mut ticks = 0;
    let mut interval_before = reuse(&agent.scrape());
    loop {
        let deadline = Instant::now() + Duration::from_secs(1);
        loop {
            match failures.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((true, last)) => final_failed += last,
                Ok((false, so_far)) => failed = failed.max(so_far),
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => break,
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return final_failed,
            }
        }
        let now = begun.elapsed();
        let metrics = agent.scrape();
        let figures = |name: &str| -> Vec<Option<f64>> {
            addresses().map(|peer| metrics.value(name, &[("peer", &peer)])).collect()
        };
        let used = figures("peer_pool_used_ratio");
        let left = figures("peer_pool_exhaustion_seconds");
        let refused: u64 = addresses().map(|peer| metrics.reuses(&peer, PORT).refused_by_ack).sum();
        let total = failed_before + failed + final_failed;
        let note = |moment: &mut Option<Duration>, holds: bool, what: &str| {
            if holds && moment.is_none() {
                *moment = Some(now);
                println!("{:>5}  {what}", now.as_secs());
                return true;
            }
            false
        };
        let (_, alerts) = agent.get("/api/v1/alerts").unwrap_or_default();
        if note(&mut noticed.warning, alerts.contains("TimeWaitNearPoolLimit"), "THE AGENT WARNS") {
            noticed.pools_then = addresses().map(|peer| pool(&metrics, &peer)).collect();
            for alert in agent.log().lines().filter(|line| line.contains("TimeWaitNearPoolLimit")) {
                println!("       {}", alert.split_once("warn: ").map_or(alert, |(_, text)| text));
            }
        }
        note(&mut noticed.full, used.iter().flatten().any(|&ratio| ratio >= 0.999), "a pool is full");
        note(&mut noticed.refused, refused > 0, "the first SYN is refused");
        note(&mut noticed.failed, total > 0, "the first request fails");
        let buckets = metrics.value("time_wait_buckets", &[]).unwrap_or_default();
        noticed.most_time_waits = noticed.most_time_waits.max(as_count(buckets));
        ticks += 1;
        if ticks % 5 == 0 {
            let percent: Vec<String> =
                used.iter().map(|ratio| shown(ratio.map(|r| r * 100.0), "%")).collect();
            let left: Vec<String> = left.iter().map(|&seconds| shown(seconds, "")).collect();
            let (seconds, count) = reuse(&metrics);
            let interval = (count > interval_before.1)
                .then(|| (seconds - interval_before.0) / (count - interval_before.1));
            interval_before = (seconds, count);
            println!(
                "{:>5}                  | {:<20} {:<20} {:>11} {refused:>8} {total:>7}",
                now.as_secs(),
                percent.join(" "),
                left.join(" "),
                shown(interval, " s")
            );
        }
    }
}

/// Sum of the reuse intervals so far in seconds, and their number.
fn reuse(metrics: &Metrics) -> (f64, f64) {
    let sum = |name: &str| -> f64 {
        let name = format!("tcpwarden_peer_port_reuse_seconds_{name}{{");
        let lines = metrics.body.lines().filter(|line| line.starts_with(&name) && line.contains("\"443\""));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    };
    (sum("sum"), sum("count"))
}

fn addresses() -> impl Iterator<Item = String> {
    (0..ADDRESSES).map(|number| Nat::address(Family::V4, number).to_string())
}

fn shown(value: Option<f64>, unit: &str) -> String {
    match value {
        None => "?".to_owned(),
        Some(value) if value.is_infinite() => "never".to_owned(),
        Some(value) => format!("{value:.0}{unit}"),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a gauge that counts")]
fn as_count(value: f64) -> u64 {
    value as u64
}

/// The observed pool of a peer, as far as metrics tell.
fn pool(metrics: &Metrics, peer: &str) -> String {
    let value = |name: &str| shown(metrics.value(name, &[("peer", peer)]), "");
    let size = metrics.value("peer_pool_size", &[("peer", peer), ("source", "observed")]);
    format!("{}-{} ({})", value("peer_source_port_min"), value("peer_source_port_max"), shown(size, ""))
}

/// Whether a report names the cause, and of each address its range, how full it was, and how many seconds were left when it warned.
fn tells(report: &Value, noticed: &Noticed) -> bool {
    println!("\nthe report: {:#}", report["summary"]);
    let touched = report["touched"].as_array().map_or(&[][..], Vec::as_slice);
    let tells = |peer: String| {
        let told = touched.iter().find(|told| told["peer"] == peer.as_str());
        told.is_some_and(|told| {
            let used = told["highest_used_ratio"][0].as_f64().unwrap_or_default();
            told["ports"] == format!("{LOW}-{HIGH}")
                && told["pool_size"].as_f64() == Some(PORTS)
                && used > 0.99
                && told["fewest_seconds_left"][0] == 0
                && told["refused"].as_u64() > Some(0)
        })
    };
    let causes = supported(report);
    causes.first().is_some_and(|cause| cause == "pool_too_small")
        && addresses().all(tells)
        && noticed.warning.is_some()
}

/// Compares what the agent told with the wire, and says how it went.
fn verdict(agent: &Agent<'_>, wire: &[Reuses], noticed: &Noticed) -> ExitCode {
    let metrics = &agent.scrape();
    let report = agent.report(&[]);
    let told: Vec<Reuses> = addresses().map(|peer| metrics.reuses(&peer, PORT)).collect();
    let missed = metrics.lines_with(&["probe_missed_runs_total", "lost_total"]);
    for ((peer, told), wire) in addresses().zip(&told).zip(wire) {
        println!("\n{peer}\n  the agent {told:?}\n  the wire  {wire:?}");
    }
    if !missed.is_empty() {
        println!("missed or lost, as the agent says itself:\n{missed}");
    }
    println!("most TIME_WAITs: {}; pools when it warned: {:?}", noticed.most_time_waits, noticed.pools_then);
    let right = format!("{LOW}-{HIGH} ({PORTS})");
    let pools: BTreeSet<&str> = noticed.pools_then.iter().map(String::as_str).collect();
    let ahead = noticed.full.zip(noticed.warning).and_then(|(full, warning)| full.checked_sub(warning));
    let after = noticed.warning.zip(noticed.step).and_then(|(warning, step)| warning.checked_sub(step));
    let counts = wire.iter().zip(&told).flat_map(|(wire, told)| wire.counts(told));
    let compared = inconclusive::compare(counts, metrics);
    let is_conclusive = inconclusive::conclude();
    let failures: Vec<&str> = [
        (compared.is_ok() && is_conclusive, "the agent's figures differ from the wire"),
        (pools == BTreeSet::from([right.as_str()]), "the inferred pools are not the real ones"),
        (ahead.is_some_and(|ahead| ahead >= AHEAD), "the warning did not come 20 s ahead"),
        (after.is_some(), "the warning came before the load stepped up"),
        (noticed.most_time_waits >= 43_000, "fewer than 43,000 TIME_WAITs"),
        (
            wire.iter().all(|wire| wire.refused_by_ack > 0 && wire.syn_retries > 0),
            "the incident did not happen",
        ),
        (tells(&report, noticed), "the report does not tell the cause, the peers, the range and the seconds"),
    ]
    .into_iter()
    .filter_map(|(holds, complaint)| (!holds).then_some(complaint))
    .collect();
    let seconds = |moment: Option<Duration>| {
        moment.map_or("never".to_owned(), |moment| format!("{:.0} s", moment.as_secs_f64()))
    };
    println!(
        "warned {} after the step and {} before the pool was full; first refused SYN at {}, first failed request at {}; \
         {} SYNs were refused: {}",
        seconds(after),
        seconds(ahead),
        seconds(noticed.refused),
        seconds(noticed.failed),
        wire.iter().map(|wire| wire.refused_by_ack).sum::<u64>(),
        if failures.is_empty() { "as it should".to_owned() } else { failures.join("; ") }
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
