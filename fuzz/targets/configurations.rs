//! The configuration.

#![no_main]
#![expect(clippy::expect_used, reason = "a fuzz target fails by panicking")]

use std::{net::IpAddr, path::Path, time::Duration};

use libfuzzer_sys::{Corpus, fuzz_target};
use tcpwarden::config::{ConfigError, Mistake, Settings, Window};

fuzz_target!(|text: &str| -> Corpus {
    // A file may name others; devices and pipes are not to be read here.
    if ["/dev", "/proc", "/sys", "\\"].iter().any(|place| text.contains(place)) {
        return Corpus::Reject;
    }
    match Settings::parse(text, Path::new("tcpwarden.toml")) {
        Ok(settings) => is_right(&settings),
        Err(ConfigError::Wrong(mistakes)) => {
            assert!(mistakes.iter().next().is_some(), "a mistake is told");
            for mistake in mistakes.iter() {
                is_told(mistake, text);
            }
            let told = mistakes.to_string().lines().count();
            let all = mistakes.iter().count();
            assert_eq!(told, if all == 1 { 1 } else { all + 1 }, "a line for each: {mistakes}");
        }
        Err(error) => unreachable!("nothing was read: {error}"),
    }
    Corpus::Keep
});

/// Each mistake names a line that there is, in one line of text.
fn is_told(Mistake { line, what }: &Mistake, text: &str) {
    assert!(what.trim().len() > 5, "{what:?}");
    assert!(!what.chars().any(char::is_control), "{what:?}");
    assert!(what.len() <= 2 * text.len() + 1_000, "{what:?}");
    let line = line.expect("every mistake of a text is in a line of it");
    assert!((1..=text.split('\n').count()).contains(&line), "line {line}: {what}");
}

/// What was accepted can be put to work.
fn is_right(settings: &Settings) {
    assert!(settings.telemetry_path.starts_with('/') && settings.telemetry_path != "/");
    assert!(settings.cpu_budget > 0.0 && settings.cpu_budget <= 1.0);
    let (shortest, longest) = settings.census_interval;
    assert!(Duration::ZERO < shortest && shortest <= longest);
    assert!(settings.limits.peers >= 64 && settings.limits.syns <= 1 << 24);
    for group in &settings.groups {
        assert!(!group.name.is_empty() && !group.networks.is_empty());
        for network in &group.networks {
            let mapped = matches!(network.addr(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
            assert!(!mapped || network.prefix_len() < 96, "{network} is IPv4");
        }
        let ports =
            group.port_pool.iter().flatten().flat_map(|&(low, high)| [u32::from(low), u32::from(high)]);
        assert!(ports.clone().all(|port| port > 0) && ports.is_sorted(), "{:?}", group.port_pool);
    }
    for overlap in settings.overlaps() {
        assert!(overlap.outer.0.contains(&overlap.inner.0) && overlap.outer.1 != overlap.inner.1);
    }
    for silence in &settings.silences {
        match silence.window {
            Window::Once(from, to) => assert!(from < to),
            Window::Weekly(days, from, to) => {
                assert!((1..=0x7f).contains(&days));
                // Within a week it begins and it ends.
                let holds = |second| silence.window.holds(second);
                assert!((0..7).any(|day| holds(day * 86_400 + from)), "{from} to {to}");
            }
        }
    }
    for receiver in &settings.receivers {
        assert!(!receiver.name.is_empty());
    }
}
