//! The licences of all that is linked into the binary, word for word, as most of them ask for.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

/// How the files are called that crates keep their licences in.
const NAMES: [&str; 5] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];

const HEAD: &str = "\
What tcpwarden is linked with, beside Rust's standard library (MIT OR Apache-2.0), the C library musl (MIT) and SQLite (public
domain): each text with the crates that it covers, after the crates that come without one.
";

/// Collects them; crates are what `trees`, each a `cargo tree`, print, and their sources lie in cargo's home.
pub(crate) fn collect(trees: impl IntoIterator<Item = Command>, cargo_home: &Path) -> anyhow::Result<String> {
    let mut crates = BTreeMap::new();
    for tree in trees {
        crates.append(&mut linked(tree)?);
    }
    let mut parts = vec![format!("{HEAD}\n")];
    let mut texts: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, licence) in &crates {
        let files = files(&source(cargo_home, name)?)?;
        if files.is_empty() {
            parts.push(format!("{name}: {licence}\n"));
        }
        for file in files {
            let text =
                fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let covered = texts.entry(text.trim().replace('\r', "")).or_default();
            if covered.last() != Some(&name.as_str()) {
                covered.push(name);
            }
        }
    }
    let rule = "-".repeat(80);
    for (text, crates) in texts {
        parts.push(format!("\n{rule}\n{}\n\n{text}\n", crates.join(", ")));
    }
    Ok(parts.concat())
}

/// The crates of a tree that are not our own, as `NAME-VERSION`, with the licence they declare.
fn linked(mut tree: Command) -> anyhow::Result<BTreeMap<String, String>> {
    let options = ["--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe"];
    let output =
        tree.args(options).args(["--format", "{p}|{l}"]).output().context("cannot run cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let lines = String::from_utf8(output.stdout)?;
    // `NAME vVERSION|LICENCE`; our own have their path behind the version.
    let crates = lines.lines().filter_map(|line| {
        let (package, licence) = line.split_once('|')?;
        let (name, version) = package.split_once(" v")?;
        (!version.contains('(')).then(|| (format!("{name}-{version}"), licence.to_owned()))
    });
    Ok(crates.collect())
}

/// Where the sources of a crate are unpacked.
fn source(cargo_home: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let registries = fs::read_dir(cargo_home.join("registry/src")).context("cargo has fetched nothing")?;
    let mut places = registries.filter_map(Result::ok).map(|registry| registry.path().join(name));
    places
        .find(|place| place.is_dir())
        .with_context(|| format!("the sources of {name} are not in cargo's home"))
}

/// The licences in a crate's directory, in order.
fn files(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
    files.retain(|file| {
        let name = file.file_name().map(|name| name.to_string_lossy().to_uppercase()).unwrap_or_default();
        file.is_file() && NAMES.iter().any(|start| name.starts_with(start))
    });
    files.sort();
    Ok(files)
}
