//! What a guest said of its kernel, and the table made of it.

use std::{fmt, fs};

use anyhow::Context as _;

use super::{kernels::Kernel, machine::Lockdown};

/// Where the table stands.
const README: &str = "README.md";
/// What stands before and behind it.
const BEGIN: &str = "<!-- kernels: written by `cargo xtask vm` -->\n";
const END: &str = "<!-- end of kernels -->";

/// What became of one kernel at one level of lockdown.
#[derive(Debug)]
pub(super) struct Outcome {
    kernel: Kernel,
    lockdown: Lockdown,
    release: String,
    /// How each hook is attached, and the census is taken, in the words of `tcpwarden check`.
    modes: Vec<(String, String)>,
    /// The same where typed hooks and the iterator are not wanted.
    classic_modes: Vec<(String, String)>,
    /// What is kept of the rights.
    keeps: String,
    /// What became of the scenarios.
    pub(super) verdict: Verdict,
}

/// What became of the scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) passed: u32,
    pub(super) failed: u32,
    /// Those about what this kernel lacks: they play nothing.
    ignored: u32,
}

impl Outcome {
    /// Reads what the guest printed.
    pub(super) fn read(
        kernel: Kernel,
        lockdown: Lockdown,
        release: &str,
        text: &str,
    ) -> anyhow::Result<Self> {
        // A failed assertion prints such signs, too, but not at the beginning of a line.
        let text = format!("\n{text}");
        let mut parts = text.split("\n== ");
        let mut part = |name: &str| {
            let found = parts.find_map(|part| part.strip_prefix(name));
            found.with_context(|| format!("the guest did not get to its {name}"))
        };
        let (check, classic, scenarios) = (part("check\n")?, part("classic\n")?, part("scenarios\n")?);
        let verdict = Verdict::read(scenarios)?;
        let keeps = check.lines().find_map(|line| line.strip_prefix("once attached, it keeps "));
        Ok(Self {
            kernel,
            lockdown,
            release: release.to_owned(),
            modes: modes(check),
            classic_modes: modes(classic),
            keeps: keeps.unwrap_or("all rights").split(':').next().unwrap_or_default().to_owned(),
            verdict,
        })
    }

    fn mode(&self, hook: &str) -> &str {
        self.modes.iter().find(|(name, _)| name == hook).map_or("?", |(_, mode)| mode)
    }

    /// How the TCP tracepoints are attached, all in one word if it is the same for all.
    fn tracepoints(&self) -> String {
        let mut modes: Vec<&str> = TRACEPOINTS.iter().map(|hook| self.mode(hook)).collect();
        modes.dedup();
        modes.join(", ")
    }

    /// Whether classic tracepoints would do, where typed ones fail.
    fn classic(&self) -> &str {
        let state = self.classic_modes.iter().find(|(name, _)| name == TRACEPOINTS[0]);
        state.map_or("unavailable", |(_, mode)| mode)
    }
}

impl Verdict {
    /// Reads the last line of the scenarios.
    pub(super) fn read(text: &str) -> anyhow::Result<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("test result: "));
        let line = line.context("the scenarios did not come to an end")?;
        let count = |what: &str| -> anyhow::Result<u32> {
            let words: Vec<&str> = line.split([' ', ';']).collect();
            let number = words.windows(2).find(|pair| pair[1] == what).and_then(|pair| pair[0].parse().ok());
            number.with_context(|| format!("how many {what}? {line}"))
        };
        Ok(Self { passed: count("passed")?, failed: count("failed")?, ignored: count("ignored")? })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, ignored } = self;
        write!(f, "{passed} scenarios passed, {failed} failed, {ignored} ignored")
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; tracepoints {}", self.verdict, self.tracepoints())
    }
}

/// The hooks that are TCP tracepoints.
const TRACEPOINTS: [&str; 5] = [
    "inet_sock_set_state",
    "tcp_retransmit_skb",
    "tcp_retransmit_synack",
    "tcp_receive_reset",
    "tcp_send_reset",
];

/// The table, in Markdown.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let mut table = String::from(
        "| kernel | lockdown | TCP tracepoints | SYNs that meet TIME_WAIT | SYN watch | census | owners | or by classic tracepoints | keeps | scenarios passed |\n\
         |---|---|---|---|---|---|---|---|---|---|\n",
    );
    for outcome in outcomes {
        let cells = [
            format!("{} ({})", outcome.release, outcome.kernel.shipped_by()),
            outcome.lockdown.name().to_owned(),
            outcome.tracepoints(),
            outcome.mode("time_wait").to_owned(),
            outcome.mode("syn_watch").to_owned(),
            outcome.mode("census").to_owned(),
            outcome.mode("owners").to_owned(),
            outcome.classic().to_owned(),
            outcome.keeps.clone(),
            format!("{} of {}", outcome.verdict.passed, outcome.verdict.passed + outcome.verdict.failed),
        ];
        table.extend(["| ", &cells.join(" | "), " |\n"]);
    }
    table
}

/// Puts the table into the README.
pub(super) fn write(table: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(README).context("cannot read README.md")?;
    let place = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = place.context("README.md has no place for the table of kernels")?;
    fs::write(README, format!("{before}{BEGIN}{table}{END}{after}")).context("cannot write README.md")
}

/// The first two columns of the table that `tcpwarden check` prints.
fn modes(check: &str) -> Vec<(String, String)> {
    let rows = check.lines().skip_while(|line| !line.starts_with("HOOK")).skip(1);
    rows.take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with(char::is_whitespace))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_is_read_off_the_last_line() {
        let text = "running 4 tests\ntest result: \u{1b}[31mFAILED\u{1b}[0m. 1 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out\n";
        let verdict = Verdict::read(text).ok();
        assert_eq!(verdict, Some(Verdict { passed: 1, failed: 1, ignored: 2 }));
        assert!(Verdict::read("running 4 tests\n").is_err(), "they did not come to an end");
    }
}
