//! A streaming writer of Prometheus text format 0.0.4, for families too large to build in memory first.

use std::fmt::Display;
use std::io::Write as _;

/// What a family holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Writes samples; the buffer is memory, so nothing can fail.
pub(super) struct Text<'a> {
    body: &'a mut Vec<u8>,
}

/// Labels that begin every sample of one account, written once.
pub(super) struct Labels(String);

impl Labels {
    /// Escapes and joins `name="value"` pairs.
    pub fn new(pairs: &[(&str, &dyn Display)]) -> Self {
        let mut text = String::new();
        for (name, value) in pairs {
            if !text.is_empty() {
                text.push(',');
            }
            text.push_str(name);
            text.push_str("=\"");
            text.push_str(&escaped(&value.to_string()));
            text.push('"');
        }
        Self(text)
    }
}

/// A label's value as it is written between quotes.
pub(super) fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text
}

/// A number as the format spells it: infinity is `+Inf`.
pub(super) struct Float(pub f64);

impl Display for Float {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == f64::INFINITY { f.write_str("+Inf") } else { self.0.fmt(f) }
    }
}

impl<'a> Text<'a> {
    pub fn new(body: &'a mut Vec<u8>) -> Self {
        Self { body }
    }

    /// Begins a family. `help` must be one line.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// One sample, with one more label if given (its value must need no escaping).
    pub fn sample(&mut self, name: &str, labels: &Labels, extra: Option<(&str, &str)>, value: impl Display) {
        match extra {
            None => self.line(format_args!("{name}{{{}}} {value}", labels.0)),
            Some((key, label)) => self.line(format_args!("{name}{{{},{key}=\"{label}\"}} {value}", labels.0)),
        }
    }

    /// A histogram from buckets that are not cumulated; bounds and sum in nanoseconds, shown in seconds.
    pub fn histogram(
        &mut self,
        name: &str,
        labels: &Labels,
        bounds_ns: &[u64],
        buckets: &[u64],
        sum_ns: u64,
    ) {
        let labels = &labels.0;
        let mut count = 0;
        for (bound, bucket) in bounds_ns.iter().zip(buckets) {
            count += bucket;
            self.line(format_args!("{name}_bucket{{{labels},le=\"{}\"}} {count}", seconds(*bound)));
        }
        count += buckets.get(bounds_ns.len()).copied().unwrap_or_default();
        self.line(format_args!("{name}_bucket{{{labels},le=\"+Inf\"}} {count}"));
        self.line(format_args!("{name}_sum{{{labels}}} {}", seconds(sum_ns)));
        self.line(format_args!("{name}_count{{{labels}}} {count}"));
    }

    fn line(&mut self, arguments: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.body, "{arguments}");
    }
}

/// Nanoseconds as seconds; `f64`'s shortest form that reads back the same.
fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Text<'_>)) -> String {
        let mut body = Vec::new();
        write(&mut Text::new(&mut body));
        String::from_utf8(body).expect("text")
    }

    #[test]
    fn label_values_are_escaped() {
        let labels = Labels::new(&[("peer", &"a\"b\\c\nd"), ("port", &443)]);
        assert_eq!(
            written(|text| text.sample("x_total", &labels, Some(("by", "peer")), 3)),
            "x_total{peer=\"a\\\"b\\\\c\\nd\",port=\"443\",by=\"peer\"} 3\n"
        );
    }

    #[test]
    fn histogram_buckets_are_cumulated_and_in_seconds() {
        let labels = Labels::new(&[("peer", &"p")]);
        assert_eq!(
            written(|text| text.histogram(
                "h",
                &labels,
                &[1_000_000, 60_000_000_000],
                &[2, 3, 4],
                1_500_000_000
            )),
            "h_bucket{peer=\"p\",le=\"0.001\"} 2\nh_bucket{peer=\"p\",le=\"60\"} 5\n\
             h_bucket{peer=\"p\",le=\"+Inf\"} 9\nh_sum{peer=\"p\"} 1.5\nh_count{peer=\"p\"} 9\n"
        );
    }
}
