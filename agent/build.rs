//! Builds the kernel side and puts the object where `probe` embeds it.

use anyhow::{Context as _, anyhow};
use aya_build::{Package, Toolchain, build_ebpf};

fn main() -> anyhow::Result<()> {
    // The types of the programs name the files they come from, and these names are shipped: as they are in the repository, not as on
    // the machine that built them. The kernel side has flags of its own, so this is for the nightly cargo that aya-build calls.
    for (option, value) in
        [("CARGO_UNSTABLE_TRIM_PATHS", "true"), ("CARGO_PROFILE_RELEASE_TRIM_PATHS", "all")]
    {
        // SAFETY: no other thread has been started.
        unsafe { std::env::set_var(option, value) };
    }
    let manifest = std::env::var("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?;
    let root_dir = format!("{manifest}/../probe-ebpf");
    let probe = Package { name: "probe-ebpf", root_dir: &root_dir, ..Default::default() };
    build_ebpf([probe], Toolchain::default())
        .map_err(|error| anyhow!("{error:#}\nthe kernel side needs nightly Rust with rust-src and bpf-linker: `cargo xtask setup` installs what is missing"))
}
