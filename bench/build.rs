//! Builds the programs to compare with.

use anyhow::{Context as _, anyhow};
use aya_build::{Package, Toolchain, build_ebpf};

fn main() -> anyhow::Result<()> {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?;
    let root_dir = format!("{manifest}/../bench-ebpf");
    build_ebpf(
        [Package { name: "yardsticks", root_dir: &root_dir, ..Default::default() }],
        Toolchain::default(),
    )
    .map_err(|error| anyhow!("{error:#}"))
}
