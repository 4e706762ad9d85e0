//! `cargo xtask bench`.

use std::process::Command;

use crate::{
    package::{self, Shipped},
    setup,
    shell::run,
};

/// Builds the agent as it is shipped, and measures what it costs.
pub(crate) fn bench(args: &[String]) -> anyhow::Result<()> {
    setup::build_tools()?;
    setup::require_root("measuring")?;
    setup::test_tools()?;
    setup::compared_tools()?;
    setup::tracefs()?;
    let Shipped { binary, .. } = package::package(&package::Options::default())?;
    run(Command::new("cargo").args(["build", "--release", "--package", "bench"]))?;
    run(Command::new("target/release/bench")
        .args(args)
        .env("PATH", setup::path_with_tools()?)
        .env("LAB_AGENT", binary))
}
