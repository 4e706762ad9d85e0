//! Configuration files: every file under `config/valid` is right, every one under `config/invalid` is refused with the
//! words of its first line, and the shipped file holds every key with its default.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tcpwarden::config::{
    AlertName, CensusMode, Channel, HookMode, Measure, Secret, Settings, Severity, Thresholds, Window,
};

fn files(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(directory);
    let entries = fs::read_dir(directory).expect("the fixtures are there");
    let files: Vec<_> = entries.map(|entry| entry.expect("a file").path()).collect();
    assert!(!files.is_empty());
    files
}

fn shipped() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/tcpwarden.toml");
    fs::read_to_string(file).expect("the shipped file is there")
}

#[test]
fn valid_files_are_accepted() {
    for file in files("valid") {
        if let Err(error) = Settings::load(Some(&file)) {
            panic!("{}: {error}", file.display());
        }
    }
}

#[test]
fn invalid_files_are_refused_in_the_words_of_their_first_line() {
    for file in files("invalid") {
        let text = fs::read_to_string(&file).expect("a fixture");
        let words =
            text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("the first line tells");
        let error = Settings::load(Some(&file)).expect_err(&file.display().to_string()).to_string();
        assert!(error.contains(words), "{}: {error}", file.display());
        assert_eq!(error.lines().count(), 1, "one line: {error}");
    }
}

#[test]
fn everything_can_be_set() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid/everything.toml");
    let settings = Settings::load(Some(&file)).expect("right");
    let default = Settings::default();
    assert_eq!((settings.hooks, settings.census), (HookMode::Tracepoint, CensusMode::Netlink));
    assert_eq!(settings.max_requests, None);
    assert_ne!(settings.listen_address, default.listen_address);
    assert_ne!(settings.limits, default.limits);
    assert!(settings.syn_watch);
    assert_eq!(settings.groups[0].port_pool, Some(vec![(1_024, 1_024), (2_048, 16_383), (20_000, 29_999)]));
}

#[test]
fn every_alert_can_be_set_for_everyone_and_for_one_peer() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid/everything.toml");
    let settings = Settings::load(Some(&file)).expect("right");
    let near = AlertName::TimeWaitNearPoolLimit;
    let all = settings.alerts.of(near, Some("192.0.2.99"));
    assert_eq!((all.enabled, all.critical_peers), (false, 3));
    assert_eq!((all.hold, all.keep_firing_for), (Duration::from_secs(5), Duration::from_mins(2)));
    assert_eq!(all.thresholds(Measure::UsedRatio), Some(Thresholds { warn: 0.7, crit: 0.9, clear: 0.6 }));
    let own = settings.alerts.of(near, Some("nat"));
    assert_eq!((own.enabled, own.critical_peers), (true, 3), "what it does not say is as for everyone");
    assert_eq!(own.thresholds(Measure::UsedRatio), Some(Thresholds { warn: 0.5, crit: 0.6, clear: 0.4 }));
    assert_eq!(own.thresholds(Measure::SecondsLeft), all.thresholds(Measure::SecondsLeft));
    assert!(!settings.alerts.of(AlertName::SynRetriesHigh, Some("nat")).enabled);
    assert!(settings.alerts.of(AlertName::SynRetriesHigh, Some("other")).enabled);
    let degraded = settings.alerts.of(AlertName::AgentDegraded, None);
    assert_eq!(
        degraded.thresholds(Measure::LostPerMinute),
        Some(Thresholds { warn: 5.0, crit: 1000.0, clear: 0.0 })
    );
}

#[test]
fn receivers_and_silences_mean_what_they_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid/everything.toml");
    let settings = Settings::load(Some(&file)).expect("right");
    let [ops, hook, journal] = settings.receivers.as_slice() else { panic!("{:?}", settings.receivers) };
    let Channel::Alertmanager(endpoint) = &ops.channel else { panic!("{ops:?}") };
    assert_eq!((&*ops.name, ops.min_severity), ("ops", Severity::Critical));
    assert_eq!((endpoint.url.host(), endpoint.url.port_u16()), (Some("alertmanager"), Some(9093)));
    let Channel::Webhook(endpoint, secret) = &hook.channel else { panic!("{hook:?}") };
    assert_eq!(secret.as_ref().map(Secret::expose), Some("s3cret"));
    assert_eq!(endpoint.authorization.as_ref().map(Secret::expose), Some("s3cret"));
    assert!(!format!("{settings:?}").contains("s3cret"), "a secret is never shown");
    assert_eq!(journal.channel, Channel::Journal);
    let windows: Vec<Window> = settings.silences.iter().map(|silence| silence.window).collect();
    // `date -ud 2026-12-24T13:00:00Z +%s`, and of the end.
    let once = Window::Once(1_798_117_200, 1_798_178_400);
    assert_eq!(windows, [Window::Weekly(0b110_0000, 22 * 3600, 2 * 3600 + 30 * 60), once]);
    assert_eq!(settings.labels["site"], "seoul");
}

#[test]
fn watched_names_have_one_spelling_and_are_asked_for_every_second() {
    let text = "[[watch]]\nname = \"DB-writer.Example.\"\nport = 3306\n[[watch]]\nname = \"_db.x\"\nport = 1\nevery = \"100ms\"\n[[watch]]\nname = \"eager.example\"\nport = 1\nfailing_every = \"25ms\"\n";
    let settings = Settings::parse(text, Path::new("two")).expect("right");
    let watches: Vec<(&str, u16, u128, u128)> = settings
        .watches
        .iter()
        .map(|watch| (&*watch.name, watch.port, watch.every.as_millis(), watch.failing_every.as_millis()))
        .collect();
    // While it fails, none is asked for more seldom than ever.
    let expected =
        [("db-writer.example.", 3306, 1_000, 250), ("_db.x", 1, 100, 100), ("eager.example", 1, 1_000, 25)];
    assert_eq!(watches, expected);
}

#[test]
fn what_all_watched_names_cost_together_is_bounded() {
    let watch =
        |n: usize, every: &str| format!("[[watch]]\nname = \"n{n}\"\nport = 1\nevery = \"{every}\"\n");
    let names = |count: usize, every: &str| (0..count).map(|n| watch(n, every)).collect::<String>();
    assert!(Settings::parse(&names(1_000, "1s"), Path::new("most")).is_ok());
    let error = |text: String| Settings::parse(&text, Path::new("more")).expect_err("too many").to_string();
    assert!(error(names(1_001, "1s")).contains("watch = 1001 names: are more than 1000"));
    assert!(error(names(101, "100ms")).contains("watch = 1010 lookups per second: are more than 1000"));
}

#[test]
fn all_mistakes_are_told_at_once_each_with_its_line() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/mistakes/several.toml");
    let error = Settings::load(Some(&file)).expect_err("wrong").to_string();
    let told: Vec<&str> = error.lines().skip(1).map(str::trim).collect();
    let expected = [
        "line 2: unknown field `listen`",
        "line 3: web.telemetry_path = metrics: must begin with /",
        "line 6: invalid type: string \"much\", expected f64",
        "line 7: census.min_interval = 7200s: must be above 0s",
        "line 9: missing field `name`",
        "line 14: peer \"lab\".cidrs[1] = ten: is no network",
        "line 17: alerts.PortReuseRefused.refused_per_minute = { warn = 100, crit = 10, clear = 0 }: clear must",
        "line 21: unknown variant `pager`, expected one of `alertmanager`, `webhook`, `journal`",
    ];
    assert_eq!(told.len(), expected.len(), "{error}");
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.starts_with(expected), "{told:?} is not {expected:?}");
    }
}

#[test]
fn a_file_of_nothing_but_mistakes_is_not_told_to_its_end() {
    let keys: Vec<String> = (0..100_000).map(|key| format!("key{key} = 1\n")).collect();
    let error = Settings::parse(&keys.concat(), Path::new("wrong")).expect_err("wrong").to_string();
    assert_eq!(error.lines().count(), 102, "the head, 100 mistakes, and that there are more");
    assert!(error.ends_with(
        "line 100000: more than 100 mistakes; what follows is not looked at, correct these first"
    ));
}

#[test]
fn what_lies_too_deep_has_a_line() {
    for deep in [format!("{}x = 1\n", "k.".repeat(100)), format!("x = {}\n", "[".repeat(100))] {
        let text = format!("[web]\nmax_requests = 1\n{deep}[state]\n");
        let error = Settings::parse(&text, Path::new("deep")).expect_err("too deep").to_string();
        assert!(error.contains("line 3: ") && error.contains("recursion"), "{error}");
    }
}

#[test]
fn what_a_message_quotes_stays_in_its_line() {
    for text in [r#"web.telemetry_path = "a\n\u001b[2J""#, r#""a\u001b[2J" = 1"#] {
        let error = Settings::parse(text, Path::new("wrong")).expect_err("wrong").to_string();
        assert!(error.contains(r"\u{1b}[2J") && !error.contains(char::is_control), "{error:?}");
    }
}

#[test]
fn a_file_of_10_mb_is_refused_before_it_is_read() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let file = directory.path().join("large.toml");
    fs::write(&file, "# padding\n".repeat(1_000_000)).expect("a file");
    let error = Settings::load(Some(&file)).expect_err("too large").to_string();
    assert!(error.contains("larger than 1048576 bytes"), "{error}");
}

#[test]
fn overlapping_networks_are_told() {
    let text = "[[peer]]\nname = \"office\"\ncidrs = [\"10.0.0.0/8\"]\n[[peer]]\nname = \"lab\"\ncidrs = [\"10.1.0.0/16\"]\n";
    let settings = Settings::parse(text, Path::new("two")).expect("right");
    let overlaps = settings.overlaps();
    let [overlap] = overlaps.as_slice() else { panic!("{overlaps:?}") };
    assert_eq!((&*overlap.inner.1, &*overlap.outer.1), ("lab", "office"));
}

#[test]
fn every_network_around_another_is_an_overlap_and_none_beside_it() {
    let group = |name, cidrs| format!("[[peer]]\nname = \"{name}\"\ncidrs = {cidrs}\n");
    let text = [
        group("a", r#"["10.0.0.0/8", "10.2.3.0/24", "2001:db8::/32"]"#),
        group("b", r#"["10.2.0.0/16", "10.3.0.0/16", "192.0.2.0/24"]"#),
        group("c", r#"["10.2.3.4", "2001:db8::1"]"#),
    ];
    let settings = Settings::parse(&text.concat(), Path::new("three")).expect("right");
    let mut found: Vec<String> = settings
        .overlaps()
        .iter()
        .map(|overlap| format!("{} in {}", overlap.inner.0, overlap.outer.0))
        .collect();
    found.sort();
    let expected = [
        "10.2.0.0/16 in 10.0.0.0/8",
        "10.2.3.0/24 in 10.2.0.0/16",
        "10.2.3.4/32 in 10.0.0.0/8",
        "10.2.3.4/32 in 10.2.0.0/16",
        "10.2.3.4/32 in 10.2.3.0/24",
        "10.3.0.0/16 in 10.0.0.0/8",
        "2001:db8::1/128 in 2001:db8::/32",
    ];
    assert_eq!(found, expected);
}

#[test]
fn v4_mapped_networks_are_ipv4() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config/valid/groups.toml");
    let settings = Settings::load(Some(&file)).expect("right");
    let networks: Vec<_> = settings.groups[0].networks.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32", "203.0.113.7/32"]);
}

#[test]
fn the_shipped_file_holds_the_defaults() {
    let settings = Settings::parse(&shipped(), Path::new("deploy/tcpwarden.toml")).expect("right");
    assert_eq!(settings, Settings::default());
}

#[test]
fn the_shipped_file_names_every_key() {
    // The parser itself tells which keys there are.
    let known = |text: &str| -> Vec<String> {
        let error = Settings::parse(text, Path::new("probe")).expect_err("an unknown key").to_string();
        let (_, expected) = error.split_once("expected ").expect("the message lists the keys");
        let keys: Vec<String> = expected.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert!(!keys.is_empty(), "{error}");
        keys
    };
    let mut sections = known("no_such_section = 1\n");
    // Of lists and of what has keys of the reader's own, the examples are held elsewhere; alerts follow.
    sections.retain(|section| {
        !["peer", "watch", "silence", "receiver", "labels", "alerts"].contains(&&**section)
    });
    assert!(sections.len() >= 6, "{sections:?}");
    for section in sections {
        let keys = known(&format!("[{section}]\nno_such_key = 1\n"));
        let text = shipped();
        let (_, body) = text.split_once(&format!("\n[{section}]\n")).expect("the section is there");
        let body = body.split("\n[").next().expect("the section has a body");
        for key in keys {
            assert!(
                body.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} = "))),
                "[{section}] lacks {key}"
            );
        }
    }
    for name in AlertName::ALL {
        let text = shipped();
        let (_, body) = text.split_once(&format!("\n[alerts.{name}]\n")).expect("the section is there");
        let body = body.split("\n[").next().expect("the section has a body");
        let mut keys = vec!["enabled", "for", "keep_firing_for"];
        keys.extend(name.is_of_peers().then_some("critical_peers"));
        keys.extend(name.measures().iter().map(|measure| measure.key()));
        let found: Vec<&str> = body
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| Some(line.split_once(" = ")?.0))
            .collect();
        assert_eq!(found, keys, "[alerts.{name}]");
    }
}

/// The keys of `[alerts.NAME]` with their values, as a text has them.
fn alert_section(text: &str, name: AlertName) -> Vec<(String, String)> {
    let begin = format!("[alerts.{name}]");
    let section = text.lines().map(str::trim).skip_while(|line| *line != begin).skip(1);
    let lines = section.take_while(|line| line.contains(" = "));
    let pair = |line: &str| {
        let (key, value) = line.split_once(" = ").expect("a key");
        (key.to_owned(), value.split(" #").next().expect("a value").trim().to_owned())
    };
    lines.map(pair).collect()
}

#[test]
fn each_runbook_names_the_thresholds_that_are_shipped() {
    let shipped = shipped();
    for name in AlertName::ALL {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/runbooks/{name}.md"));
        let page = fs::read_to_string(file).expect("each alert has a page");
        assert!(page.starts_with(&format!("# {name}\n")), "{name}");
        let told = alert_section(&page, name);
        let right = alert_section(&shipped, name);
        assert!(!told.is_empty(), "the page of {name} has no [alerts.{name}]");
        for pair in &told {
            assert!(right.contains(pair), "the page of {name} says {pair:?}, not as shipped: {right:?}");
        }
        for measure in name.measures() {
            assert!(told.iter().any(|(key, _)| key == measure.key()), "the page of {name} lacks {measure:?}");
        }
    }
}

#[test]
fn the_examples_in_the_shipped_file_are_right() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    fs::write(directory.path().join("secret"), "s3cret\n").expect("a secret");
    fs::write(directory.path().join("ca.pem"), "-----BEGIN CERTIFICATE-----\n").expect("a certificate");
    let text = shipped();
    let examples = text.lines().skip_while(|line| *line != "# [[peer]]");
    let examples: Vec<&str> = examples
        .map(|line| line.strip_prefix("# ").unwrap_or_default())
        .filter(|line| line.starts_with('[') || line.contains(" = "))
        .collect();
    let file = directory.path().join("tcpwarden.toml");
    let text = examples.join("\n").replace("/etc/tcpwarden/", "");
    let settings = Settings::parse(&text, &file).expect("the examples are right");
    let found = (settings.groups.len(), settings.silences.len(), settings.receivers.len());
    assert_eq!((found, settings.labels.len()), ((1, 2, 3), 1));
    assert_eq!(settings.watches.len(), 1);
    // Every key of a list is shown.
    for (list, keys) in [
        ("peer", vec!["name", "cidrs", "port_pool", "alerts"]),
        ("watch", vec!["name", "port", "every", "failing_every"]),
        ("silence", vec!["alerts", "peers", "starts", "ends", "days", "from", "to"]),
        (
            "receiver",
            vec!["name", "type", "url", "authorization_file", "ca_file", "hmac_secret_file", "min_severity"],
        ),
    ] {
        // The parser itself tells which keys there are.
        let error = Settings::parse(&format!("[[{list}]]\nno_such_key = 1\n"), &file).expect_err("unknown");
        let error = error.to_string();
        let (_, expected) = error.split_once("expected one of ").expect("the message lists the keys");
        let known: Vec<&str> =
            expected.lines().next().expect("a line").split('`').skip(1).step_by(2).collect();
        assert_eq!(known, keys);
        for key in keys {
            assert!(examples.iter().any(|line| line.starts_with(key)), "[[{list}]] lacks {key}");
        }
    }
}
