//! The figures of one account over time.

use super::{Line, lines};
use crate::model::past::{Field, Sample, Span};

/// Draws what there is to see of an account: its ports, its connections as they came, and those that are open.
#[must_use]
pub fn account(samples: &[(u64, Sample)], span: Span) -> Vec<String> {
    let line = |name, value: fn(&Sample) -> u32| Line {
        name,
        points: samples.iter().map(|(time, sample)| (*time, f64::from(value(sample)))).collect(),
    };
    let groups = [
        (
            "Ports",
            vec![
                line("in TIME_WAIT", |sample| sample[Field::TimeWait]),
                line("taken of the pool", |sample| sample[Field::PortsTaken]),
                line("of the pool", |sample| sample[Field::PoolSize]),
            ],
        ),
        (
            "Per second or minute",
            vec![
                line("connections", |sample| sample[Field::Connections]),
                line("SYNs repeated", |sample| sample[Field::SynRetries]),
                line("SYNs refused by TIME_WAIT", Sample::refused),
                line("SYNs refused by open connections", |sample| sample[Field::Challenged]),
                line("failed", Sample::failed),
                line("aborted early", |sample| sample[Field::AbortedEarly]),
            ],
        ),
        (
            "Open connections",
            vec![
                line("open", |sample| sample[Field::Established]),
                line("waiting for an answer", |sample| sample[Field::Stalled]),
                line("in CLOSE_WAIT", |sample| sample[Field::CloseWait]),
            ],
        ),
    ];
    let is_flat = |line: &Line<'_>| line.points.iter().all(|(_, value)| *value == 0.0);
    groups
        .into_iter()
        .map(|(caption, mut drawn)| {
            // That there was nothing all the time is said by the first line alone.
            let mut is_first = true;
            drawn.retain(|line| std::mem::take(&mut is_first) || !is_flat(line));
            lines(caption, span, &drawn)
        })
        .collect()
}
