//! When each agent and Prometheus warned, and whether that was early enough and right.

use std::{fmt::Write as _, ops::RangeInclusive, process::ExitCode};

use lab::{
    fleet::{Balance, said::forecasts},
    inconclusive,
};

use crate::{
    Options,
    play::{FORECAST, Played, Server},
};

/// So many seconds before the first refused SYN there must be a forecast,
const FORESEEN: RangeInclusive<f64> = 4.0..=10.0;
/// and it must be right to within so many.
const TOLERANCE: f64 = 2.5;

/// Behind a hash, all ports that can come here are taken in the end.
const ALL_TAKEN: f64 = 0.97;

/// The load kept its pace if it made this share of its connections.
const PACE: f64 = 0.97;

/// Prints what was measured; the exit code says whether all of it is as it should.
pub(crate) fn verdict(options: Options, played: &Played) -> ExitCode {
    let Played { step, servers, prometheus, attempts, planned, failed, wrong } = played;
    println!(
        "\n{attempts} connections attempted, of which {failed} failed; the load stepped up at {step:.0} s; in seconds since then:"
    );
    let mut complaints = wrong.clone();
    if (*attempts as f64) < PACE * planned {
        complaints
            .push(format!("only {attempts} of {planned:.0} connections: this machine is too slow for them"));
    }
    for (number, server) in (1..).zip(servers) {
        let found =
            if options.is_refused() { forecast_in_time(options, server, *step) } else { stays_calm(server) };
        complaints.extend(found.into_iter().map(|found| format!("server {number}: {found}")));
        println!("server {number}: {}", summary(server, *step));
    }
    let first = servers.iter().filter_map(first_refused).reduce(f64::min);
    for ((name, severity), at) in prometheus {
        println!("Prometheus: {name} ({severity}) {:+.1}{}", at - step, ahead(*at, first));
        if !options.is_refused() || at < step {
            complaints.push(format!("Prometheus: {name} ({severity}), without need"));
        }
    }
    let is_conclusive = inconclusive::conclude();
    let is_right = complaints.is_empty();
    println!("{}", if is_right { "as it should".to_owned() } else { complaints.join("; ") });
    if is_right && is_conclusive { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn first_refused(server: &Server) -> Option<f64> {
    server.first_refused.values().copied().reduce(f64::min)
}

/// When it first raised the forecast, with this severity.
fn raised(server: &Server, severity: &str) -> Option<f64> {
    server.raised.get(&(FORECAST.to_owned(), severity.to_owned())).copied()
}

/// When it first raised the forecast at all.
fn warned(server: &Server) -> Option<f64> {
    [raised(server, "warning"), raised(server, "critical")].into_iter().flatten().reduce(f64::min)
}

fn ahead(at: f64, first: Option<f64>) -> String {
    first.map_or_else(String::new, |first| {
        let ahead = first - at;
        format!(
            " ({:.1} s {} the first refused SYN)",
            ahead.abs(),
            if ahead < 0.0 { "after" } else { "before" }
        )
    })
}

/// How far off the forecasts of a while before the first refusal were, over all NAT addresses, if they had any for each.
fn errors(server: &Server) -> Option<Vec<f64>> {
    let errors = server.first_refused.iter().map(|(address, &first)| {
        let span = first - FORESEEN.end()..=first - FORESEEN.start();
        let forecasts = forecasts(server.said.get(address)?, span);
        (!forecasts.is_empty()).then(|| forecasts.into_iter().map(move |at| at - first))
    });
    Some(errors.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
}

fn most_used(server: &Server) -> f64 {
    server.said.values().flatten().filter_map(|said| said.used).fold(0.0, f64::max)
}

fn summary(server: &Server, step: f64) -> String {
    let first = first_refused(server);
    let moment = |at: Option<f64>| {
        at.map_or_else(|| "never".to_owned(), |at| format!("{:+.1}{}", at - step, ahead(at, first)))
    };
    let errors = errors(server).filter(|errors| !errors.is_empty()).map_or_else(
        || "none".to_owned(),
        |errors| {
            let [low, high] =
                [f64::min, f64::max].map(|of| errors.iter().copied().reduce(of).unwrap_or_default());
            format!("{low:+.1} to {high:+.1} s off")
        },
    );
    let refused = first.map_or_else(|| "never".to_owned(), |first| format!("{:+.1}", first - step));
    let mut text = format!(
        "first warning {}, critical {}; first refused SYN {refused}; forecasts of 4 to 10 s before it: {errors}; most used {:.2}; \
         {} of {} attempts refused",
        moment(warned(server)),
        moment(raised(server, "critical")),
        most_used(server),
        server.refused,
        server.syns,
    );
    for ((name, severity), at) in server.raised.iter().filter(|((name, _), _)| name != FORECAST) {
        let _ = write!(text, "; {name} ({severity}) {:+.1}", at - step);
    }
    text
}

/// What is wrong with the warning of a server whose SYNs were refused.
fn forecast_in_time(options: Options, server: &Server, step: f64) -> Vec<String> {
    let Some(first) = first_refused(server) else { return vec!["nothing was refused".to_owned()] };
    let early = server.raised.iter().filter(|&(_, &at)| at < step);
    let early = early.map(|((name, severity), _)| format!("{name} ({severity}) before the load stepped up"));
    let ahead = options.size.ahead();
    let is_early = warned(server).is_some_and(|at| first - at >= ahead);
    let errors = errors(server).unwrap_or_default();
    let is_right = !errors.is_empty() && errors.iter().all(|error| error.abs() <= TOLERANCE);
    let is_full = options.balance != Balance::Hash || most_used(server) >= ALL_TAKEN;
    [
        (is_early, format!("it did not warn {ahead:.0} s before the first refused SYN")),
        (
            is_right,
            format!("4 to 10 s ahead it had no forecast, or one that was off by more than {TOLERANCE} s"),
        ),
        (is_full, format!("the ratio never came to {ALL_TAKEN}")),
    ]
    .into_iter()
    .filter_map(|(holds, complaint)| (!holds).then_some(complaint))
    .chain(early)
    .collect()
}

/// What is wrong with a server where no port comes back in time.
fn stays_calm(server: &Server) -> Vec<String> {
    let alerts = server.raised.keys().map(|(name, severity)| format!("{name} ({severity}) without need"));
    let refused = (server.refused > 0).then(|| format!("{} SYNs were refused", server.refused));
    alerts.chain(refused).collect()
}
