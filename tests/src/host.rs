//! A host: a network namespace of its own.

use std::{
    ffi::OsStr,
    fs::File,
    io::Write as _,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// RSTs, as [`Host::lose`] takes them. Of a client that has forgotten its connections they are what tells the server so.
pub const RESETS: &str = "tcp flags & rst == rst";

/// A network namespace with its loopback up; deleted on drop.
#[derive(Debug)]
pub struct Host {
    name: String,
    /// Whether it is the machine we run on, which nobody made.
    is_ours: bool,
}

impl Host {
    /// Makes a host; its name carries our pid and a number, so tests may run side by side.
    #[must_use]
    pub fn new(role: &str) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tw{}-{number}-{role}", std::process::id());
        let made = Command::new("ip").args(["netns", "add", &name]).output();
        match made {
            Ok(output) if output.status.success() => {}
            Ok(output) => panic!(
                "cannot make a network namespace (the lab needs root; `cargo xtask test --no-kernel` leaves it out): {}",
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(error) => panic!("cannot run ip (iproute2; `cargo xtask setup` installs it): {error}"),
        }
        let host = Self { name, is_ours: false };
        host.run("ip", ["link", "set", "lo", "up"]);
        host
    }

    /// The machine we run on, in a virtual machine that is there for the lab alone.
    pub(crate) fn ours() -> Self {
        Self { name: "ours".to_owned(), is_ours: true }
    }

    /// Name of the namespace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn path(&self) -> String {
        if self.is_ours { "/proc/1/ns/net".to_owned() } else { format!("/run/netns/{}", self.name) }
    }

    /// A command that will run on this host. Not `ip netns exec`, which mounts a fresh /sys without tracefs.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path())).arg(program);
        command
    }

    /// Runs a command on this host and returns what it printed; panics when it fails.
    pub fn run<A: AsRef<OsStr>>(&self, program: &str, args: impl IntoIterator<Item = A>) -> String {
        let mut command = self.command(program);
        command.args(args);
        let Output { status, stdout, stderr } = command.output().expect("nsenter runs (util-linux)");
        assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8_lossy(&stdout).into_owned()
    }

    /// Runs the words of `line` as a command, as in a shell without quotes.
    #[expect(clippy::must_use_candidate, reason = "most commands print nothing")]
    pub fn sh(&self, line: &str) -> String {
        let mut words = line.split_whitespace();
        let program = words.next().expect("a command");
        self.run(program, words)
    }

    /// Runs a command on this host that reads `input`; panics when it fails.
    pub fn feed(&self, program: &str, args: &[&str], input: &str) {
        let mut command = self.command(program);
        command.args(args).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("nsenter runs (util-linux)");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin.write_all(input.as_bytes()).expect("the command reads its input");
        drop(stdin);
        let output = child.wait_with_output().expect("it can be waited for");
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Sets a kernel setting of this host.
    pub fn sysctl(&self, name: &str, value: &str) {
        self.run("sysctl", ["-qw", &format!("{name}={value}")]);
    }

    /// From now on whatever comes to this TCP port from elsewhere is dropped, as if nobody were there.
    pub fn swallow(&self, port: u16) {
        let rules = format!(
            "table inet swallow {{ chain input {{ type filter hook input priority filter;\n\
             iifname != \"lo\" tcp dport {port} drop; }}\n}}\n"
        );
        self.feed("nft", &["-f", "-"], &rules);
    }

    /// From now on packets of this host that match an expression of nftables are lost on their way out.
    pub fn lose(&self, packets: &str) {
        let rules = format!(
            "add table inet lost\nadd chain inet lost output {{ type filter hook output priority filter; }}\n\
             add rule inet lost output {packets} drop\n"
        );
        self.feed("nft", &["-f", "-"], &rules);
    }

    /// Ends all that [`Self::lose`] began.
    pub fn lose_nothing(&self) {
        self.feed("nft", &["-f", "-"], "flush chain inet lost output\n");
    }

    /// Runs `inside` in a thread that has moved to this host.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let moved = scope.spawn(|| {
                let namespace = File::open(self.path()).expect("the namespace exists");
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(&namespace),
                    Some(LinkNameSpaceType::Network),
                )
                .expect("root may enter a namespace");
                inside()
            });
            moved.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if !self.is_ours {
            let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
        }
    }
}
