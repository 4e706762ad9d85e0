//! Compiles the eBPF programs of a crate, for build scripts.

#![expect(clippy::print_stdout, reason = "a build script talks to cargo so")]

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow};
use aya_build::{Package, Toolchain, build_ebpf};

/// The toolchain that compiles eBPF programs; rustup reads the same file. A later one may write other bitcode than the linker reads, and
/// other instructions than the verifier has been shown.
const TOOLCHAIN: &str = include_str!("../../probe-ebpf/rust-toolchain");

/// Compiles the programs of `package`, in the directory of this name beside the crate whose build script calls this, and puts the
/// object into `OUT_DIR`.
///
/// # Errors
/// When the programs do not compile, or what compiles them is missing.
pub fn build(package: &str, directory: &str) -> anyhow::Result<()> {
    let variable =
        |name: &str| env::var_os(name).map(PathBuf::from).with_context(|| format!("cargo sets {name}"));
    let crate_directory = variable("CARGO_MANIFEST_DIR")?.join("..").join(directory);
    let root_dir = crate_directory.to_str().context("the path of the workspace is not UTF-8")?;
    share_the_build(&variable("OUT_DIR")?, package)?;
    // The types of the programs name the files they come from, and these names are shipped: as they are in the repository, not as on
    // the machine that built them. The kernel side has flags of its own, so this is for the nightly cargo that aya-build calls.
    for (option, value) in
        [("CARGO_UNSTABLE_TRIM_PATHS", "true"), ("CARGO_PROFILE_RELEASE_TRIM_PATHS", "all")]
    {
        // SAFETY: a build script that calls this has started no other thread.
        unsafe { env::set_var(option, value) };
    }
    println!("cargo:rerun-if-changed={}", crate_directory.join("../probe-ebpf/rust-toolchain").display());
    build_ebpf([Package { name: package, root_dir, ..Default::default() }], Toolchain::Custom(TOOLCHAIN.trim()))
        .map_err(|error| {
            anyhow!("{error:#}\nthe eBPF programs need {} with rust-src, and bpf-linker: `cargo xtask setup` installs what is missing", TOOLCHAIN.trim())
        })
}

/// Points the directory in which aya-build lets cargo work to one that all profiles, targets and packages of this workspace share: the
/// programs come out the same, and take half a minute, most of it for Rust's core library.
fn share_the_build(out_dir: &Path, package: &str) -> anyhow::Result<()> {
    let target = out_dir.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists());
    let target =
        target.with_context(|| format!("{} is in no target directory of cargo's", out_dir.display()))?;
    let shared = target.join("kernel-side");
    fs::create_dir_all(&shared).with_context(|| format!("cannot create {}", shared.display()))?;
    // As aya-build calls it.
    let directory = out_dir.join("aya-build/target");
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let link = directory.join(package);
    if fs::read_link(&link).is_ok_and(|to| to == shared) {
        return Ok(());
    }
    if link.exists() {
        fs::remove_dir_all(&link).with_context(|| format!("cannot remove {}", link.display()))?;
    }
    symlink(&shared, &link).with_context(|| format!("cannot link {} to {}", link.display(), shared.display()))
}
