//! The agent under load, with faults thrown in, for as long as is asked: `soak [MINUTES]`.
//!
//! The exit code is 1 when a figure differed from the truth, the agent grew, or a scrape was not answered for more than a second while
//! the agent was not stopped.

#![expect(clippy::print_stdout, reason = "it tells its story on the terminal")]

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use lab::{
    inconclusive,
    soak::{Plan, Report, play},
};

/// The longest time without an answered scrape.
const PATIENCE: Duration = Duration::from_secs(1);

fn main() -> anyhow::Result<ExitCode> {
    let minutes: u64 = match std::env::args().nth(1) {
        Some(minutes) => minutes.parse().context("MINUTES is no number")?,
        None => 60,
    };
    let time = Duration::from_mins(minutes);
    let plan = Plan {
        time,
        rate: 5_000.0,
        fault_every: Duration::from_secs(5),
        checkpoint_every: (time / 12).clamp(Duration::from_secs(75), Duration::from_mins(5)),
    };
    inconclusive::begin("soak");
    let report = play(plan, |line| println!("{line}"));
    let verdict = verdict(&report);
    Ok(if inconclusive::conclude() { verdict } else { ExitCode::FAILURE })
}

/// Prints what came of it; whether all was as it should be.
fn verdict(report: &Report) -> ExitCode {
    let Report { figures, wrong, growth, longest_gap, scrapes, faults, checkpoints, most_time_waits, load } =
        report;
    let (connected, failed, seconds) = load;
    println!(
        "\n{:<20} {:>12} {:>12} {:>9} {:>9} {:>9}",
        "FIGURE", "TRUTH", "TOLD", "LACKING", "MISSED", "ALLOWED"
    );
    for figure in figures {
        let truth = match figure.doubt {
            0 => figure.truth.to_string(),
            doubt => format!("{} +{doubt}", figure.truth),
        };
        println!(
            "{:<20} {truth:>12} {:>12} {:>9} {:>9} {:>9}",
            figure.name,
            figure.told,
            figure.lacking(),
            figure.missed,
            figure.missed + figure.unseen
        );
    }
    println!("\n{:<20} {:>9} {:>9}  MEDIANS", "GROWTH", "GREW BY", "ALLOWED");
    for growth in growth {
        let medians: Vec<String> = growth.medians.iter().map(|median| format!("{median:.0}")).collect();
        println!("{:<20} {:>9.0} {:>9}  {}", growth.kind, growth.growth, growth.allowed, medians.join(" "));
    }
    println!("\nFAULTS");
    for (name, count) in faults {
        println!("{count:>5}  {name}");
    }
    let mut complaints = wrong.clone();
    let grown = growth.iter().filter(|growth| growth.growth > growth.allowed);
    complaints.extend(grown.map(|growth| format!("{} grew by {:.1}", growth.kind, growth.growth)));
    if longest_gap.time > PATIENCE {
        complaints.push("a scrape was not answered for more than a second".to_owned());
    }
    println!(
        "\n{connected} connections ({:.0} a second), {failed} failed; up to {most_time_waits} TIME_WAITs; {checkpoints} checkpoints; \
         {} scrapes answered, {} not, the longest gap {:.2} s (fault: {}): {}",
        *connected as f64 / seconds,
        scrapes.0,
        scrapes.1,
        longest_gap.time.as_secs_f64(),
        longest_gap.fault,
        if complaints.is_empty() { "as it should".to_owned() } else { complaints.join("; ") }
    );
    if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
