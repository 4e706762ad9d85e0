//! A report in Markdown.

use std::fmt::{self, Write as _};

use super::{
    Report, Touched,
    judge::{Hypothesis, Verdict},
    words::{clock, percent, stamp},
};
use crate::{
    model::{grouped, past::second_of},
    visible::visible,
};

/// Writes a report in Markdown (CommonMark, with the tables of GitHub).
#[must_use]
pub fn markdown(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write(report, &mut text);
    text
}

fn write(report: &Report, out: &mut String) -> fmt::Result {
    writeln!(out, "# {}: {} to {}\n", plain(&report.host), stamp(report.from), clock(report.to))?;
    writeln!(out, "## Summary\n")?;
    for sentence in &report.summary {
        writeln!(out, "{}\n", plain(sentence))?;
    }
    writeln!(out, "## Affected peers\n")?;
    if report.touched.is_empty() {
        writeln!(out, "Nobody, as far as the figures say.\n")?;
    } else {
        writeln!(
            out,
            "| Peer | Port | Connections | Most per s | Most TIME_WAIT | Pool | Most used | Fewest seconds left | Refused by TIME_WAIT | by open connections | SYNs repeated | Failed | Early |"
        )?;
        writeln!(out, "|---|---|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|")?;
        for peer in &report.touched {
            row(peer, out)?;
        }
        writeln!(out)?;
    }
    writeln!(out, "## What the evidence says\n")?;
    for hypothesis in &report.hypotheses {
        weighed(hypothesis, out)?;
    }
    writeln!(out, "## What to do next\n")?;
    for advice in &report.advice {
        writeln!(out, "- {}", plain(advice))?;
    }
    writeln!(out, "\n## Timeline (UTC)\n")?;
    for entry in &report.timeline {
        writeln!(out, "- {} {}", stamp(second_of(entry.time)), plain(&entry.text))?;
    }
    writeln!(out, "\n## Limits in force\n")?;
    writeln!(out, "| Setting | Value | Matters here | Why |\n|---|--:|---|---|")?;
    for setting in &report.settings {
        let matters = if setting.matters { "yes" } else { "no" };
        writeln!(
            out,
            "| {} | {} | {matters} | {} |",
            plain(&setting.name),
            setting.value,
            plain(&setting.why)
        )?;
    }
    writeln!(out, "\n## What could not be known\n")?;
    for unknown in &report.unknown {
        writeln!(out, "- {}", plain(unknown))?;
    }
    if report.unknown.is_empty() {
        writeln!(out, "Nothing is missing in this span.")?;
    }
    Ok(())
}

fn row(peer: &Touched, out: &mut String) -> fmt::Result {
    let none = || "–".to_owned();
    let pool = match (&peer.ports, peer.pool_size) {
        (Some(ports), Some(size)) => format!("{} ({})", plain(ports), grouped(size)),
        (None, Some(size)) if size > 0 => grouped(size),
        _ => none(),
    };
    writeln!(
        out,
        "| {} | {} ({}) | {} | {:.0} | {} | {pool} | {} | {} | {} | {} | {} | {} | {} |",
        plain(&peer.who.peer),
        peer.who.port_name(),
        peer.who.direction,
        grouped(peer.connections),
        peer.most_per_second,
        grouped(peer.most_time_wait.0),
        peer.highest_used_ratio.map_or_else(none, |(ratio, at)| format!(
            "{} at {}",
            percent(ratio),
            clock(at)
        )),
        peer.fewest_seconds_left.map_or_else(none, |(left, at)| format!("{left} at {}", clock(at))),
        grouped(peer.refused),
        grouped(peer.challenged),
        grouped(peer.syn_retries),
        grouped(peer.failed),
        grouped(peer.aborted_early),
    )
}

fn weighed(hypothesis: &Hypothesis, out: &mut String) -> fmt::Result {
    let Hypothesis { statement, verdict, supporting, opposing, .. } = hypothesis;
    let emphasis = if *verdict == Verdict::Supported { "**" } else { "" };
    writeln!(out, "### {} – {emphasis}{}{emphasis}\n", plain(statement), verdict.name())?;
    for (side, figures) in [("for it", supporting), ("against it", opposing)] {
        for figure in figures {
            writeln!(out, "- {side}: {}", plain(figure))?;
        }
    }
    writeln!(out)
}

/// Text that means nothing but itself: names may hold anything.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in visible(text).chars() {
        match letter {
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '&' | '~' | '!' => {
                plain.push('\\');
                plain.push(letter);
            }
            letter => plain.push(letter),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_mean_nothing_but_themselves() {
        assert_eq!(plain("a|b <script> [x](y) *z*"), "a\\|b \\<script\\> \\[x\\](y) \\*z\\*");
        assert_eq!(plain("line\nbreak\u{1b}[2J \u{202e}evil"), "line\u{fffd}break\u{fffd}\\[2J \u{fffd}evil");
    }
}
