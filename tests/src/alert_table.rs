//! Which alerts each scenario raised, beside those that its incident is to raise.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

use crate::{inconclusive, suite::write_json};

static ROWS: Mutex<Rows> = Mutex::new(Rows::new());

/// By the scenario's name.
type Rows = BTreeMap<&'static str, Row>;

/// The alerts of one scenario, by name.
#[derive(Debug, Default, Serialize)]
struct Row {
    /// That it is to raise; `None` where it does not hold all alerts against a list.
    due: Option<BTreeSet<String>>,
    raised: BTreeSet<String>,
}

impl Row {
    fn cell(&self, alert: &str) -> char {
        let is_due = self.due.as_ref().map(|due| due.contains(alert));
        match (self.raised.contains(alert), is_due) {
            (true, Some(false)) => '!',
            (true, _) => 'x',
            (false, Some(true)) => '-',
            (false, _) => '.',
        }
    }
}

fn rows() -> MutexGuard<'static, Rows> {
    ROWS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The scenario of this thread has seen these alerts raised.
pub(crate) fn note_raised(alerts: impl Iterator<Item = String>) {
    if let Some(scenario) = inconclusive::scenario() {
        rows().entry(scenario).or_default().raised.extend(alerts);
    }
}

/// It is to raise these and no others.
pub(crate) fn note_due(alerts: impl Iterator<Item = String>) {
    if let Some(scenario) = inconclusive::scenario() {
        let mut rows = rows();
        let due = rows.entry(scenario).or_default().due.get_or_insert_default();
        due.extend(alerts);
    }
}

/// Prints the table of all scenarios that asked for alerts, and writes it to a file.
pub(crate) fn print() {
    let rows = rows();
    let _ = write!(std::io::stdout(), "{}", table(&rows));
    write_json("target/alerts.json", &*rows);
}

fn table(rows: &Rows) -> String {
    let mut text = String::new();
    let alerts: BTreeSet<&String> =
        rows.values().flat_map(|row| row.raised.iter().chain(row.due.iter().flatten())).collect();
    if rows.is_empty() {
        return text;
    }
    let _ = writeln!(text, "alerts by scenario: x raised, ! raised and not due, - due and not raised");
    for (number, alert) in (1..).zip(&alerts) {
        let _ = writeln!(text, "{number:>3} {alert}");
    }
    for number in 1..=alerts.len() {
        let _ = write!(text, "{number:>3}");
    }
    text.push('\n');
    for (scenario, row) in rows {
        for alert in &alerts {
            let _ = write!(text, "{:>3}", row.cell(alert));
        }
        let _ = writeln!(text, "  {scenario}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_what_is_due_from_what_is_not() {
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        let rows = Rows::from([
            ("exact", Row { due: Some(set(&["A", "B"])), raised: set(&["B", "C"]) }),
            ("loose", Row { due: None, raised: set(&["C"]) }),
        ]);
        assert_eq!(
            table(&rows),
            "\
alerts by scenario: x raised, ! raised and not due, - due and not raised
  1 A
  2 B
  3 C
  1  2  3
  -  x  !  exact
  .  .  x  loose
"
        );
    }
}
