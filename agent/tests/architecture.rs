//! Holds ARCHITECTURE.md against the code: which module may import which, and which are pure. The page is the only copy of the table.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

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

fn page() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ARCHITECTURE.md");
    fs::read_to_string(file).expect("the page is there")
}

/// A row of the table.
#[derive(Debug)]
struct Row {
    rooms: Vec<String>,
    lives_there: String,
    may_import: String,
}

impl Row {
    fn may_import(&self, other: &str) -> bool {
        let (but, named) = match self.may_import.strip_prefix("everything") {
            Some(but) => (true, quoted(but)),
            None => (false, quoted(&self.may_import)),
        };
        named.iter().any(|name| name == other) != but
    }
}

fn table() -> Vec<Row> {
    let page = page();
    let lines = page.lines().skip_while(|line| !line.starts_with("| room of `agent/src` |")).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [rooms, lives_there, may_import] = cells.try_into().expect("three cells");
        let mut rooms: Vec<String> = quoted(rooms);
        rooms.dedup();
        Row { rooms, lives_there: lives_there.to_owned(), may_import: may_import.to_owned() }
    });
    rows.collect()
}

/// The modules that a text names: `model/`, `daemon.rs` and `config`, say.
fn quoted(text: &str) -> Vec<String> {
    let words = text.split('`').skip(1).step_by(2);
    words.map(|word| word.trim_end_matches('/').trim_end_matches(".rs").to_owned()).collect()
}

/// The modules that the page calls pure: rows of the table, and files named like (`state`, pure) in their row, or by their path.
fn pure() -> BTreeSet<String> {
    let marked = |text: &str, below: &str| -> Vec<String> {
        let before = text.split("`, pure)").collect::<Vec<_>>();
        let names = before.iter().take(before.len() - 1).filter_map(|text| text.rsplit_once("(`"));
        names.map(|(_, name)| format!("{below}{}", name.trim_end_matches(".rs"))).collect()
    };
    let mut pure = BTreeSet::new();
    for row in table() {
        if row.lives_there.ends_with(": pure") {
            pure.extend(row.rooms.clone());
        }
        pure.extend(marked(&row.lives_there, &format!("{}/", row.rooms[0])));
    }
    pure.extend(page().lines().filter(|line| !line.starts_with('|')).flat_map(|line| marked(line, "")));
    pure
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

/// The modules at the root of the crate that a file names by `super::super::…`; `depth` is how far below the root it lies.
fn climbs(text: &str, depth: usize) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("super::").filter(|(at, _)| !text[..*at].ends_with("super::")) {
        let mut rest = &text[at..];
        let mut supers = 0;
        while let Some(after) = rest.strip_prefix("super::") {
            (rest, supers) = (after, supers + 1);
        }
        if supers >= depth {
            found.extend(imports(&format!("crate::{rest}")));
        }
    }
    found
}

/// How many modules a file lies below the root of the crate.
fn depth(file: &Path) -> usize {
    let path = file.strip_prefix(source()).expect("within").with_extension("");
    path.components().filter(|component| component.as_os_str() != "mod").count()
}

#[test]
fn every_room_imports_only_what_the_table_allows() {
    let table = table();
    let rooms: BTreeSet<&String> = table.iter().flat_map(|row| &row.rooms).collect();
    for row in &table {
        for file in row.rooms.iter().flat_map(|room| files_of(room)) {
            let text = fs::read_to_string(&file).expect("source text");
            let climbed = climbs(&text, depth(&file));
            let imports = imports(&text).into_iter().chain(climbed).filter(|import| rooms.contains(import));
            for import in imports {
                assert!(
                    row.rooms.contains(&import) || row.may_import(&import),
                    "{}: {:?} must not import {import}",
                    file.display(),
                    row.rooms
                );
            }
            // A test may make up accounts as the kernel side has them.
            let is_test = file.ends_with("tests.rs");
            assert!(
                is_test
                    || !text.contains("probe_ebpf::")
                    || row.may_import.contains("ABI")
                    || row.may_import.contains("everything"),
                "{}: {:?} must not know the ABI",
                file.display(),
                row.rooms
            );
        }
    }
}

#[test]
fn the_table_knows_every_room_once() {
    let mut rooms = Vec::new();
    for entry in fs::read_dir(source()).expect("the source") {
        let path = entry.expect("an entry").path();
        rooms.push(path.file_stem().expect("a name").to_string_lossy().into_owned());
    }
    rooms.sort();
    rooms.dedup();
    let mut known: Vec<String> = table().into_iter().flat_map(|row| row.rooms).collect();
    known.push("lib".to_owned());
    known.sort();
    assert_eq!(rooms, known);
}

#[test]
fn the_pure_modules_read_no_clock_and_do_no_io() {
    let pure = pure();
    for known in ["alert", "model", "notify/outbox", "report", "top/state", "visible"] {
        assert!(pure.contains(known), "the page calls {known} pure: {pure:?}");
    }
    for module in pure {
        for file in files_of(&module) {
            let text = fs::read_to_string(&file).expect("source text");
            let code: Vec<&str> = text.lines().filter_map(|line| line.split("//").next()).collect();
            for word in IMPURE {
                assert!(
                    !code.iter().any(|line| line.contains(word)),
                    "{}: {module} is pure and must not use {word}",
                    file.display()
                );
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
    let text =
        "use super::super::{host::A, probe::B};\nuse super::peer::C;\nlet x = super::super::serve::d();";
    let found: Vec<_> = climbs(text, 2).into_iter().collect();
    assert_eq!(found, ["host", "probe", "serve"]);
    assert!(climbs(text, 3).is_empty());
}
