//! What `cargo xtask test` does beside the lab, which sleeps most of the time: it builds, counts and fuzzes on what the lab leaves of the
//! processors.

use std::{env, fs::File, path::Path, process::Command, thread, time::Instant};

use anyhow::Context as _;
use clap::Args;

use crate::{fuzz, instructions, package, setup, shell, shell::run, times};

/// What is compiled prints much, and who reads it would compute beside the lab, too: it is printed when both have ended.
const LOG: &str = "target/beside-the-lab.log";

/// As long as it is locked, something runs beside the lab. The scenarios that want nothing beside them wait for it (`tests/src/suite.rs`).
const LOCK: &str = "target/beside-the-lab.lock";

#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct BesideTheLab {
    /// Build the package of the last commit once more in another directory, and compare
    #[arg(long)]
    pub(crate) verify_package: bool,
}

/// Says so while it lives.
pub(crate) fn locked() -> anyhow::Result<File> {
    let file = File::create(LOCK).with_context(|| format!("cannot create {LOCK}"))?;
    file.lock().with_context(|| format!("cannot lock {LOCK}"))?;
    Ok(file)
}

/// Runs all of it in a process of its own, which computes only while nobody else wants to.
pub(crate) fn run_idle(options: BesideTheLab) -> anyhow::Result<()> {
    let log = File::create(LOG).with_context(|| format!("cannot create {LOG}"))?;
    let xtask = env::current_exe().context("this program does not know where it is")?;
    let mut idle = Command::new("chrt");
    idle.args(["--idle", "0"]).arg(xtask).arg("beside-the-lab");
    idle.args(options.verify_package.then_some("--verify-package"));
    run(idle.stdout(log.try_clone()?).stderr(log))
}

/// Prints what it printed.
pub(crate) fn print() -> anyhow::Result<()> {
    let mut log = File::open(LOG).with_context(|| format!("cannot read {LOG}"))?;
    std::io::copy(&mut log, &mut std::io::stdout()).map(drop).context("cannot print")
}

/// The package, the count of instructions, fuzzing, and the dependencies.
pub(crate) fn everything(options: BesideTheLab) -> anyhow::Result<()> {
    let begun = Instant::now();
    let done = package::package(&package::Options::default()).and_then(|_shipped| {
        thread::scope(|scope| {
            // It has a directory of its own, and half of the time it links, on one processor.
            let verified = scope.spawn(|| if options.verify_package { package::verify() } else { Ok(()) });
            let others = instructions::test().and_then(|()| fuzz::test()).and_then(|()| dependencies());
            shell::both(others, verified)
        })
    });
    times::print(begun.elapsed(), Path::new("target/times-beside-the-lab.json"))?;
    done
}

/// Whether every dependency has a licence that is allowed, one version, and comes from the registry.
fn dependencies() -> anyhow::Result<()> {
    setup::cargo_deny()?;
    shell::cargo(&["deny", "check", "licenses", "bans", "sources"], None)?;
    println!(
        "not checked: whether a known vulnerability is in a dependency, which takes the RustSec database from the network; run: cargo deny check advisories"
    );
    Ok(())
}
