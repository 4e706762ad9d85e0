//! `cargo xtask build` and `cargo xtask run`.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::Context as _;

use crate::shell;

const BINARY: &str = "target/release/tcpwarden";

/// Builds the daemon.
pub(crate) fn build() -> anyhow::Result<()> {
    shell::run(Command::new("cargo").args(["build", "--release", "--package", "tcpwarden"]))
}

/// Becomes the daemon; as root through sudo if need be, which may ask for a password.
pub(crate) fn run(args: &[String]) -> anyhow::Result<()> {
    let mut command = if shell::is_root() {
        Command::new(BINARY)
    } else {
        let mut command = Command::new("sudo");
        command.arg(BINARY);
        command
    };
    command.arg("run").args(args);
    println!("+ {BINARY} run {}", args.join(" "));
    Err(command.exec()).with_context(|| format!("cannot run {BINARY}"))
}
