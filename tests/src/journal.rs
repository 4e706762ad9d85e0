//! The systemd journal, on a machine that need not run systemd: journald with a /run/systemd of its own.

use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;

/// journald keeps what it runs on, and what it writes, where only it and who joins it see them.
const ALONE: &str = "
    mkdir -p /run/systemd /run/log
    mount -t tmpfs none /run/systemd && mount -t tmpfs none /run/log && exec /lib/systemd/systemd-journald
";

/// A running journald; killed on drop, and its entries are gone.
#[derive(Debug)]
pub struct Journal {
    process: Process,
}

impl Journal {
    /// Starts it and waits until it listens.
    #[must_use]
    pub fn start() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", ALONE]);
        let mut journal = Self { process: Process::start("journald".to_owned(), directory, command) };
        let join = journal.join();
        journal.process.ready(|| {
            let mut look = Command::new("nsenter");
            let found = look.args([&join, "test", "-S", "/run/systemd/journal/socket"]).status().ok()?;
            found.success().then(|| (200, String::new()))
        });
        journal
    }

    /// The argument of nsenter that lets a program see this journal.
    #[must_use]
    pub fn join(&self) -> String {
        format!("--mount=/proc/{}/ns/mnt", self.process.pid().as_raw_nonzero())
    }

    /// The entries that match, such as `FIELD=value`, oldest first.
    #[must_use]
    pub fn entries(&self, matching: &str) -> Vec<Value> {
        let mut command = Command::new("nsenter");
        command.args([
            &self.join(),
            "sh",
            "-c",
            "exec journalctl -q -o json -D /run/log/journal/* \"$1\"",
            "sh",
            matching,
        ]);
        let output = command.stdin(Stdio::null()).output().expect("nsenter runs");
        assert!(output.status.success(), "journalctl: {}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("JSON is text");
        text.lines().map(|line| serde_json::from_str(line).expect("an entry")).collect()
    }
}
