//! Web configurations: every file under `web-config/valid` is right, every other one is refused with the words of its first
//! line. The lab holds the verdicts against promtool's: `invalid` are refused by both, `unsupported` by us alone, and
//! `newer` have keys that not every promtool knows.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod pki;

use std::{
    fs,
    path::{Path, PathBuf},
};

use pki::Authority;
use tcpwarden::serve::Protection;
use tempfile::TempDir;

/// The fixtures of one kind, beside the certificates that they name.
fn files(kind: &str) -> (TempDir, Vec<PathBuf>) {
    let directory = TempDir::new().expect("a temporary directory");
    let authority = Authority::new();
    authority.sign("localhost").write(directory.path());
    fs::write(directory.path().join("ca.crt"), &authority.certificate).expect("written");
    fs::write(directory.path().join("other.key"), authority.sign("other").key).expect("written");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/web-config").join(kind);
    let fixtures = fs::read_dir(fixtures).expect("the fixtures are there");
    let copies: Vec<_> = fixtures
        .map(|entry| {
            let fixture = entry.expect("a file");
            let copy = directory.path().join(fixture.file_name());
            fs::copy(fixture.path(), &copy).expect("copied");
            copy
        })
        .collect();
    assert!(!copies.is_empty());
    (directory, copies)
}

#[test]
fn valid_files_are_accepted() {
    let (_directory, files) = files("valid");
    for file in files {
        if let Err(error) = Protection::load(Some(&file)) {
            panic!("{}: {error}", file.display());
        }
    }
}

#[test]
fn other_files_are_refused_in_the_words_of_their_first_line() {
    for kind in ["invalid", "unsupported", "newer"] {
        let (_directory, files) = files(kind);
        for file in files {
            let text = fs::read_to_string(&file).expect("a fixture");
            let words =
                text.lines().next().and_then(|line| line.strip_prefix("# ")).expect("the first line tells");
            let Err(error) = Protection::load(Some(&file)) else { panic!("{} is accepted", file.display()) };
            let error = error.to_string();

            assert!(error.contains(words), "{}: {error}", file.display());
            assert!(error.contains(file.to_str().expect("a path")), "it names the file: {error}");
            assert_eq!(error.lines().count(), 1, "one line: {error}");
            assert!(!error.contains("$2y$") && !error.contains("swordfish"), "it tells a secret: {error}");
        }
    }
}

#[test]
fn without_a_file_nothing_is_protected() {
    assert_eq!(Protection::load(None).expect("right").to_string(), "plain HTTP, no users");
}

#[test]
fn a_file_that_is_not_there_is_refused() {
    let Err(error) = Protection::load(Some(Path::new("/nowhere/web.yml"))) else { panic!("it is accepted") };
    let error = error.to_string();
    assert!(
        error.contains("/nowhere/web.yml: No such file") && error.contains("--web.config.file"),
        "{error}"
    );
}

#[test]
fn the_reference_has_every_key_and_its_example_is_right() {
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/web-config.md");
    let reference = fs::read_to_string(reference).expect("the reference is there");
    let example =
        reference.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let (directory, _) = files("valid");
    let authority = directory.path().join("ca.crt");
    fs::copy(authority, directory.path().join("clients-ca.crt")).expect("copied");
    let file = directory.path().join("web.yml");
    let load = |text: &str| {
        fs::write(&file, text).expect("written");
        Protection::load(Some(&file))
    };
    assert_eq!(load(example).expect("the example is right").to_string(), "TLS, users: 1");

    for section in ["", "tls_server_config", "http_server_config", "http_server_config:\n headers"] {
        // The parser itself tells which keys there are.
        let probe = if section.is_empty() {
            "no_such_key: 1".to_owned()
        } else {
            format!("{section}:\n  no_such_key: 1")
        };
        let Err(error) = load(&probe) else { panic!("{probe} is accepted") };
        let error = error.to_string();
        let (_, keys) = error
            .split_once("expected one of ")
            .unwrap_or_else(|| error.split_once("expected ").expect("keys"));
        let keys = keys.split(" at line").next().expect("keys");
        for key in keys.split([',', ' ', '`']).filter(|key| !key.is_empty() && *key != "or") {
            assert!(
                reference.contains(&format!("{key}:")) || reference.contains(&format!("`{key}`")),
                "the reference lacks {key}"
            );
        }
    }
}
