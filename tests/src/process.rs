//! Servers under test, as processes.

use std::{
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{eventually, within};

/// A running program with its log in a file; killed on drop if it still runs. The log is shown when the test fails.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    _directory: TempDir,
}

impl Process {
    /// Starts `command`; `directory` holds its log, and whatever else it lives on, until it has ended.
    pub(crate) fn start(name: String, directory: TempDir, mut command: Command) -> Self {
        let log = directory.path().join("log");
        // A program may open its standard error again by its name: neither overwrites what the other has written.
        let stderr = File::options().create_new(true).append(true).open(&log).expect("a log file");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name, child, log, _directory: directory }
    }

    /// Waits until `probe`, which asks it over HTTP, is answered with 200.
    pub(crate) fn ready(&mut self, probe: impl Fn() -> Option<(u16, String)>) {
        eventually(Duration::from_secs(30), || {
            if let Ok(Some(status)) = self.child.try_wait() {
                // The code of a shell, and of nsenter, for a program that is not there.
                let remedy =
                    if status.code() == Some(127) { " (`cargo xtask setup` fetches it)" } else { "" };
                panic!("{} ended with {status}{remedy}", self.name);
            }
            match probe() {
                Some((200, _)) => Ok(()),
                other => Err(format!("{} is not ready: {other:?}", self.name)),
            }
        });
    }

    /// Everything it logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the log is text")
    }

    /// Its id (nsenter replaces itself by it).
    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn end(&mut self) {
        let _ = rustix::process::kill_process(self.pid(), rustix::process::Signal::TERM);
        let _ = within(Duration::from_secs(5), || match self.child.try_wait() {
            Ok(None) => Err(()),
            _ => Ok(()),
        });
    }

    /// Ends it where it stands, if it still runs.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits until it has ended, which it should within a minute.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let Self { name, child, .. } = self;
        let ended = within(Duration::from_mins(1), || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it still runs".to_owned()),
            Err(error) => Err(error.to_string()),
        });
        ended.unwrap_or_else(|complaint| panic!("{name} does not end: {complaint}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let _ = writeln!(std::io::stderr(), "log of {}:\n{}", self.name, self.log());
        }
    }
}
