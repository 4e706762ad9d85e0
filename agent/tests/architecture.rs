//! Holds the import table of ARCHITECTURE.md: which room may know which.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Each room with the rooms it may import. `main` and `cli` may import everything.
const TABLE: [(&str, &[&str]); 18] = [
    ("visible", &[]),
    ("config", &[]),
    ("sock_diag", &[]),
    ("probe", &["config"]),
    ("census", &["config", "probe", "sock_diag"]),
    ("host", &["sock_diag"]),
    ("logging", &["visible"]),
    ("model", &["visible"]),
    ("alert", &["model", "config"]),
    ("http_client", &["config"]),
    ("notify", &["alert", "model", "config", "http_client"]),
    ("api", &["alert", "model"]),
    ("plot", &["model"]),
    ("report", &["model", "plot", "visible"]),
    ("serve", &["alert", "api", "model", "plot", "config", "visible"]),
    ("top", &["api", "config", "http_client", "model", "visible"]),
    ("history", &["model", "config"]),
    (
        "daemon",
        &[
            "alert",
            "census",
            "config",
            "history",
            "host",
            "logging",
            "model",
            "notify",
            "probe",
            "serve",
            "sock_diag",
        ],
    ),
];

/// What the pure rooms must not even name.
const IMPURE: [&str; 7] =
    ["std::fs", "std::net::Tcp", "std::process", "std::thread", "Instant", "SystemTime", "std::env"];

/// The files with `unsafe` in them, and why no library does it for them.
const UNSAFE: [(&str, &str); 2] = [
    ("probe/load.rs", "malloc_trim() gives back what the kernel's types took; nothing else calls it"),
    ("probe/table.rs", "aya has no BPF_MAP_LOOKUP_BATCH"),
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn rust_files(path: &Path, into: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a directory") {
            rust_files(&entry.expect("an entry").path(), into);
        }
    } else if path.extension().is_some_and(|extension| extension == "rs") {
        into.push(path.to_owned());
    }
}

fn files_of(room: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for path in [source().join(room), source().join(format!("{room}.rs"))] {
        if path.exists() {
            rust_files(&path, &mut files);
        }
    }
    assert!(!files.is_empty(), "the room {room} is there");
    files
}

/// The rooms that a file imports: what follows `crate::`, alone or as a list in braces.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for rest in text.split("crate::").skip(1) {
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    c if depth == 0 => name.push(c),
                    _ => {}
                }
            }
            let rooms = name.split(',').filter_map(|item| item.trim().split("::").next());
            found.extend(rooms.filter(|room| !room.is_empty()).map(str::to_owned));
        } else {
            found.extend(rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().map(str::to_owned));
        }
    }
    found
}

#[test]
fn every_room_imports_only_what_the_table_allows() {
    for (room, allowed) in TABLE {
        for file in files_of(room) {
            let text = fs::read_to_string(&file).expect("source text");
            for import in imports(&text) {
                assert!(
                    import == room || allowed.contains(&import.as_str()),
                    "{}: {room} must not import {import}",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn the_table_knows_every_room() {
    let mut rooms = BTreeSet::new();
    for entry in fs::read_dir(source()).expect("the source") {
        let path = entry.expect("an entry").path();
        rooms.insert(path.file_stem().expect("a name").to_string_lossy().into_owned());
    }
    let known =
        TABLE.iter().map(|(room, _)| (*room).to_owned()).chain(["lib", "main", "cli"].map(str::to_owned));
    assert_eq!(rooms, known.collect());
}

#[test]
fn the_pure_rooms_read_no_clock_and_do_no_io() {
    for room in ["model", "alert"] {
        for file in files_of(room) {
            let text = fs::read_to_string(&file).expect("source text");
            for word in IMPURE {
                assert!(!text.contains(word), "{}: {room} is pure and must not use {word}", file.display());
            }
        }
    }
}

#[test]
fn only_the_files_of_the_list_are_unsafe() {
    let mut files = Vec::new();
    rust_files(&source(), &mut files);
    let found: BTreeSet<String> = files
        .iter()
        .filter(|file| is_unsafe(&fs::read_to_string(file).expect("source text")))
        .map(|file| file.strip_prefix(source()).expect("within").display().to_string())
        .collect();
    assert_eq!(found, UNSAFE.map(|(file, _)| file.to_owned()).into());
}

/// Whether the word stands anywhere but in a comment.
fn is_unsafe(text: &str) -> bool {
    let code = text.lines().filter_map(|line| line.split("//").next());
    code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_')).any(|word| word == "unsafe")
}

#[test]
fn the_test_itself_sees_what_is_unsafe() {
    assert!(
        is_unsafe("let x = unsafe { f() };") && is_unsafe("#[unsafe(no_mangle)]") && is_unsafe("unsafe\n{")
    );
    assert!(!is_unsafe("// unsafe\nlet unsafe_code = 1; // unsafe"));
}

#[test]
fn the_test_itself_sees_imports() {
    let text = "use crate::{config::{A, B}, model::C};\nuse crate::probe::D;\nlet x = crate::host::e();";
    let found: Vec<_> = imports(text).into_iter().collect();
    assert_eq!(found, ["config", "host", "model", "probe"]);
}
