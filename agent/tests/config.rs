//! Configuration files: every file under `config/valid` is right, every one under `config/invalid` is refused with the
//! words of its first line, and the shipped file holds every key with its default.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use tcpwarden::config::{CensusMode, HookMode, Settings};

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
    for section in ["web", "probe", "census", "limits"] {
        // The parser itself tells which keys there are.
        let probe = format!("[{section}]\nno_such_key = 1\n");
        let error = Settings::parse(&probe, Path::new("probe")).expect_err("an unknown key").to_string();
        let (_, expected) = error.split_once("expected ").expect("the message lists the keys");
        let keys: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        assert!(!keys.is_empty(), "{error}");
        let text = shipped();
        let (_, body) = text.split_once(&format!("\n[{section}]\n")).expect("the section is there");
        let body = body.split("\n[").next().expect("the section has a body");
        for key in keys {
            assert!(
                body.lines().any(|line| line.starts_with(&format!("{key} = "))),
                "[{section}] lacks {key}"
            );
        }
    }
    let uncommented: Vec<_> = shipped()
        .lines()
        .skip_while(|line| *line != "# [[peer]]")
        .map(|line| line.trim_start_matches("# ").to_owned())
        .collect();
    let settings =
        Settings::parse(&uncommented.join("\n"), Path::new("example")).expect("the example is right");
    assert_eq!(settings.groups.len(), 1);
}
