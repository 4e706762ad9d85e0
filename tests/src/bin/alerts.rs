//! Incident I1, small, and how everyone who should hears of it and of its end: the agent's own notices, Prometheus with the shipped
//! rules, Alertmanager, webhooks.
//!
//! The last line is the verdict; the exit code is 1 when someone never heard, when an alert was raised that does not belong to the
//! incident, when a panel of the dashboard was empty, or when the agent's own notice took more than ten seconds.

#![expect(clippy::print_stdout, reason = "it tells its story on the terminal")]

use std::{process::ExitCode, time::Duration};

use lab::alerting::{CONDITION, Ends, MOMENTS, NOTICE, Story, play};

/// The agent's own notice must be there so soon after the condition.
const SOON: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    println!("    s  what happens");
    let story = play(Ends::AsShipped, |moment, at| println!("{:>5.1}  {moment}", at.as_secs_f64()));
    let Story { moments, empty_panels, strangers } = &story;
    let after = |moment| moments.get(moment)?.checked_sub(*moments.get(CONDITION)?);
    let mut complaints: Vec<String> = MOMENTS
        .iter()
        .filter(|moment| !moments.contains_key(*moment))
        .map(|moment| format!("it never came that {moment}"))
        .collect();
    complaints.extend(strangers.iter().map(|alert| format!("a strange alert {alert}")));
    complaints.extend(empty_panels.iter().map(|panel| format!("an empty panel {panel}")));
    let notice = after(NOTICE).unwrap_or_default();
    if notice > SOON {
        complaints.push("the agent's own notice took more than ten seconds".to_owned());
    }
    println!();
    for moment in &MOMENTS[1..9] {
        if let Some(after) = after(moment) {
            println!("{:>5.1} s after the first sign: {moment}", after.as_secs_f64());
        }
    }
    println!(
        "the agent's own notice reached Alertmanager {:.1} s after the pool was 80 % taken: {}",
        notice.as_secs_f64(),
        if complaints.is_empty() { "as it should".to_owned() } else { complaints.join("; ") }
    );
    if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
