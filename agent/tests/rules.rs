//! The Prometheus rules of deploy/ have the agent's thresholds, times and severities.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use serde::Deserialize;
use tcpwarden::config::{AlertName, Measure, Settings, Severity};

#[derive(Debug, Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
struct Rule {
    alert: Option<String>,
    expr: String,
    #[serde(rename = "for", default, with = "humantime_serde")]
    hold: Duration,
    #[serde(default, with = "humantime_serde")]
    keep_firing_for: Duration,
    labels: Option<Labels>,
}

#[derive(Debug, Deserialize)]
struct Labels {
    severity: String,
}

/// Where a rule cannot say what the agent says, and why.
const OTHERWISE: [(AlertName, Severity, &str); 3] = [
    (
        AlertName::StaleAddress,
        Severity::Critical,
        "Prometheus knows names and not how many of their addresses are stale: five at once are told by the agent only",
    ),
    (
        AlertName::NameNotResolving,
        Severity::Warning,
        "a name does not resolve when no lookup of a minute was answered",
    ),
    (AlertName::NameNotResolving, Severity::Critical, "as above, for another minute"),
];

/// Fewer events of a minute than these are no share of anything (alert/readings.rs); shares of a configured pool.
const NO_THRESHOLDS: [(AlertName, &[f64]); 2] =
    [(AlertName::SynRetriesHigh, &[10.0]), (AlertName::PoolDiffers, &[])];

fn rules() -> Vec<Rule> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/prometheus/tcpwarden-rules.yml");
    let text = fs::read_to_string(file).expect("the rules are there");
    let rules: Rules = serde_saphyr::from_str(&text).expect("YAML");
    rules.groups.into_iter().flat_map(|group| group.rules).collect()
}

/// The numbers that an expression compares with by `>=` and `<=`, which is how a threshold is written.
fn thresholds(expression: &str) -> BTreeSet<String> {
    let words: Vec<&str> = expression.split_whitespace().collect();
    let compared = words.windows(2).filter(|pair| [">=", "<="].contains(&pair[0]));
    compared.filter_map(|pair| pair[1].parse::<f64>().ok()).map(|number| number.to_string()).collect()
}

#[test]
fn every_alert_has_the_thresholds_and_times_of_the_agent() {
    let settings = Settings::default();
    let rules = rules();
    for name in AlertName::ALL {
        let own = settings.alerts.of(name, None);
        let mut seen = 0;
        for (severity, label) in [(Severity::Warning, "warning"), (Severity::Critical, "critical")] {
            let is_it = |rule: &&Rule| {
                rule.alert.as_deref() == Some(&*name.to_string())
                    && rule.labels.as_ref().is_some_and(|labels| labels.severity == label)
            };
            let Some(rule) = rules.iter().find(is_it) else { continue };
            seen += 1;
            assert_eq!(rule.keep_firing_for, own.keep_firing_for, "{name} {label}: keep_firing_for");
            if OTHERWISE.iter().any(|(known, which, _)| (*known, *which) == (name, severity)) {
                continue;
            }
            assert_eq!(rule.hold, own.hold, "{name} {label}: for");
            let of = |measure: &Measure| {
                let all = own.thresholds(*measure).expect("every measure has thresholds");
                if severity == Severity::Warning { all.warn } else { all.crit }
            };
            let mut expected: BTreeSet<String> =
                name.measures().iter().map(of).map(|number| number.to_string()).collect();
            if severity == Severity::Critical && name.is_of_peers() {
                expected.insert(own.critical_peers.to_string());
            }
            let besides = NO_THRESHOLDS.iter().find(|(known, _)| *known == name);
            expected.extend(besides.into_iter().flat_map(|(_, numbers)| *numbers).map(ToString::to_string));
            if name == AlertName::SynRetriesHigh {
                // What these explain is not told twice.
                for (cause, measure) in [
                    (AlertName::PortReuseRefused, Measure::RefusedPerMinute),
                    (AlertName::HalfOpenConnections, Measure::ChallengedPerMinute),
                ] {
                    let cause = settings.alerts.of(cause, None);
                    let explained = cause.thresholds(measure).expect("it has thresholds");
                    expected.insert(explained.warn.to_string());
                }
            }
            if name == AlertName::PoolDiffers {
                // One port outside.
                expected.insert(1.0_f64.to_string());
            }
            assert_eq!(thresholds(&rule.expr), expected, "{name} {label}: {}", rule.expr);
        }
        assert!(seen > 0, "no rule is for {name}");
    }
}

#[test]
fn every_rule_is_for_an_alert_of_the_agent_or_for_its_absence() {
    for rule in rules() {
        let Some(alert) = rule.alert else { continue };
        let known = AlertName::ALL.iter().any(|name| name.to_string() == alert);
        assert!(known || alert == "TcpwardenDown", "{alert} is no alert of the agent's");
    }
}
