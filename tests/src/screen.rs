//! A terminal with someone in front of it: tmux runs a program, is sent keys, and tells what stands on the screen.

use std::{
    fs,
    process::{Command, Output},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{host::Host, within};

/// A program on a terminal of 80 columns and 24 rows; ended on drop.
#[derive(Debug)]
pub struct Screen {
    directory: TempDir,
}

impl Screen {
    /// Starts a command line of a shell on a host, on a terminal that calls itself `terminal`. The shell stays, and says how it ended.
    #[must_use]
    pub fn start(host: &Host, terminal: &str, line: &str) -> Self {
        let screen = Self { directory: TempDir::new().expect("a temporary directory") };
        // No status line: the program has all rows.
        let settings = format!("set -g status off\nset -g default-terminal {terminal}\n");
        fs::write(screen.directory.path().join("tmux.conf"), settings).expect("a configuration");
        let shell = format!("exec nsenter --net={} sh", host.path());
        screen.tmux(&["new-session", "-d", "-x", "80", "-y", "24", &shell]);
        screen.keys(&["-l", &format!("clear; {line}; echo ended by $?")]);
        screen.keys(&["Enter"]);
        screen
    }

    fn tmux(&self, args: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(args).output().expect("tmux runs");
        assert!(status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8_lossy(&stdout).into_owned()
    }

    fn command(&self, args: &[&str]) -> Command {
        let path = |name| self.directory.path().join(name);
        let mut command = Command::new("tmux");
        command.env_remove("TMUX").arg("-S").arg(path("socket")).arg("-f").arg(path("tmux.conf")).args(args);
        command
    }

    /// Presses keys, as tmux calls them.
    pub fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// The program that runs on it.
    #[must_use]
    pub fn program(&self) -> Pid {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        let children =
            fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).expect("the shell runs");
        children.trim().parse().ok().and_then(Pid::from_raw).expect("one program runs")
    }

    /// Asks the program to end, as a service manager would.
    pub fn terminate(&self) {
        kill_process(self.program(), Signal::TERM).expect("it runs");
    }

    /// The lines on the screen.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.tmux(&["capture-pane", "-p"]).lines().map(str::to_owned).collect()
    }

    /// What is on the screen, with the sequences that set letters apart.
    #[must_use]
    pub fn with_attributes(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Waits until `find` finds something on the screen; panics with the screen.
    pub fn shows<T>(&self, what: &str, find: impl Fn(&[String]) -> Option<T>) -> T {
        let found = within(Duration::from_secs(20), || {
            let lines = self.lines();
            find(&lines).ok_or(lines)
        });
        found.unwrap_or_else(|lines| panic!("no {what} on the screen:\n{}", lines.join("\n")))
    }

    /// Waits for a line that contains a text.
    #[expect(clippy::must_use_candidate, reason = "often only its being there matters")]
    pub fn line(&self, text: &str) -> String {
        self.shows(text, |lines| lines.iter().find(|line| line.contains(text)).cloned())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.command(&["kill-server"]).output();
    }
}
