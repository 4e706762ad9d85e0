//! Builds the kernel side and puts the object where `probe` embeds it.

use anyhow::{Context as _, anyhow};
use aya_build::{Package, Toolchain, build_ebpf};

fn main() -> anyhow::Result<()> {
    let manifest = std::env::var("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?;
    let root_dir = format!("{manifest}/../probe-ebpf");
    let probe = Package { name: "probe-ebpf", root_dir: &root_dir, ..Default::default() };
    build_ebpf([probe], Toolchain::default())
        .map_err(|error| anyhow!("{error:#}\nthe kernel side needs nightly Rust with rust-src and bpf-linker: `cargo xtask setup` installs what is missing"))
}
