//! Running other programs, visibly.

use std::{
    env,
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Instant,
};

use anyhow::{Context as _, anyhow, bail};

use crate::{setup, times};

/// Whether we are root, and may install packages and load eBPF.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Says what it runs, runs it, and fails when it fails.
pub(crate) fn run(command: &mut Command) -> anyhow::Result<()> {
    println!("+ {}", line(command));
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("cannot run {}", line(command)))?;
    times::note(line(command), begun.elapsed());
    if !status.success() {
        bail!("{} failed: {status}", line(command));
    }
    Ok(())
}

/// Runs cargo, with the tools of the tests on the PATH.
pub(crate) fn cargo(args: &[&str], filter: Option<&str>) -> anyhow::Result<()> {
    run(Command::new("cargo").args(args).args(filter).env("PATH", setup::path_with_tools()?))
}

/// What a program prints, if it is there and succeeds.
pub(crate) fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Where a program is, on the PATH or where system tools live.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(extra).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// The files of a directory whose names end so. That there are none is an error: a tool would find nothing to complain of.
pub(crate) fn files(directory: &Path, end: &str) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", directory.display()))?.path();
        if path.to_string_lossy().ends_with(end) {
            files.push(path);
        }
    }
    if files.is_empty() {
        bail!("{} has no file *{end}", directory.display());
    }
    files.sort();
    Ok(files)
}

/// The command as one would type it, with the environment it is given but the PATH.
fn line(command: &Command) -> String {
    let environment = command
        .get_envs()
        .filter(|(key, _)| *key != "PATH" && *key != "DEBIAN_FRONTEND")
        .filter_map(|(key, value)| Some(format!("{}={}", key.display(), value?.display())));
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .map(Into::into);
    environment.chain(words).collect::<Vec<String>>().join(" ")
}

/// Waits for what runs beside, whether or not what ran here failed.
pub(crate) fn both(
    here: anyhow::Result<()>,
    beside: thread::ScopedJoinHandle<'_, anyhow::Result<()>>,
) -> anyhow::Result<()> {
    if let Err(error) = &here {
        println!("{error:#}; what runs beside it is waited for");
    }
    let beside = beside.join().map_err(|_panic| anyhow!("a check panicked, see above"))?;
    here.and(beside)
}
