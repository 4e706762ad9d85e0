//! Installing what is missing. Every step looks first, says what it does, and, where it may not do it, prints the exact
//! command for someone who may.

use std::{env, fs, path::Path, process::Command};

use anyhow::{Context as _, bail};

use crate::shell::{find, is_root, output, run};

/// Version of the linker that turns LLVM bitcode into eBPF objects.
const BPF_LINKER: &str = "0.13.0";

/// Versions of what makes the package.
const CARGO_DEB: &str = "3.8.0";
const CARGO_CYCLONEDX: &str = "0.5.9";

/// Programs that the lab calls, and the Debian packages that have them.
const TEST_TOOLS: [(&str, &str); 15] = [
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("nstat", "iproute2"),
    ("nft", "nftables"),
    ("tcpdump", "tcpdump"),
    ("sysctl", "procps"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("journalctl", "systemd"),
    ("unshare", "util-linux"),
    ("curl", "curl"),
    ("openssl", "openssl"),
    ("dpkg-deb", "dpkg"),
    ("mmdebstrap", "mmdebstrap"),
    ("systemd-nspawn", "systemd-container"),
];

/// Debian packages that are unpacked below [`TOOLS`], each into a directory of its name, and the programs wanted of them.
const TAKEN_OUT: [(&str, &[&str]); 2] = [
    ("prometheus", &["prometheus", "promtool"]),
    ("prometheus-alertmanager", &["prometheus-alertmanager", "amtool"]),
];
const TOOLS: &str = "target/tools";
const MACHINE: &str = "target/machine/bookworm";
const BIN: &str = "usr/bin";

/// What compiling needs: nightly Rust with its sources for the kernel side, and a linker for its LLVM.
pub(crate) fn build_tools() -> anyhow::Result<()> {
    if find("rustup").is_none() {
        bail!(
            "rustup is needed to manage the stable and nightly toolchains; install it (Debian: apt-get install rustup)"
        );
    }
    nightly()?;
    bpf_linker()?;
    if find("cc").is_none() {
        apt(&["gcc", "libc6-dev"])?;
    }
    Ok(())
}

fn nightly() -> anyhow::Result<()> {
    let installed = output("rustup", &["toolchain", "list"]).context("rustup toolchain list failed")?;
    if !installed.lines().any(|line| line.starts_with("nightly-")) {
        run(Command::new("rustup").args(["toolchain", "install", "nightly", "--profile", "minimal"]))?;
    }
    let components =
        output("rustup", &["component", "list", "--toolchain", "nightly", "--installed"]).unwrap_or_default();
    if !components.lines().any(|line| line == "rust-src") {
        run(Command::new("rustup").args(["component", "add", "rust-src", "--toolchain", "nightly"]))?;
    }
    Ok(())
}

/// The linker reads the bitcode that nightly writes, so it must be built against the same major version of LLVM.
fn bpf_linker() -> anyhow::Result<()> {
    let llvm = nightly_llvm()?;
    if let Some(linker) = find("bpf-linker")
        && links_llvm(&linker, llvm)
    {
        return Ok(());
    }
    let libraries = ["libLLVM.so", "libPolly.a"].map(|name| format!("/usr/lib/llvm-{llvm}/lib/{name}"));
    if libraries.iter().any(|library| !Path::new(library).exists()) {
        apt(&[&format!("llvm-{llvm}-dev"), &format!("libpolly-{llvm}-dev")])?;
    }
    let feature = format!("llvm-{llvm}");
    run(Command::new("cargo").env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}")).args([
        "install",
        "bpf-linker",
        "--version",
        BPF_LINKER,
        "--locked",
        "--force",
        "--no-default-features",
        "--features",
        &feature,
    ]))
}

/// Major version of nightly's LLVM.
fn nightly_llvm() -> anyhow::Result<u32> {
    let version = output("rustup", &["run", "nightly", "rustc", "-vV"])
        .context("rustup run nightly rustc -vV failed")?;
    let llvm = version.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    llvm.and_then(|llvm| llvm.split('.').next()?.parse().ok())
        .context("nightly's rustc does not tell its LLVM version")
}

/// Whether an installed linker works and loads the right LLVM.
fn links_llvm(linker: &Path, llvm: u32) -> bool {
    let works = Command::new(linker).arg("--version").output().is_ok_and(|output| output.status.success());
    // `libLLVM.so.22.1 => /lib/…`, or `libLLVM-14.so.1 => …` on older packages.
    let libraries = output("ldd", &[&linker.to_string_lossy()]).unwrap_or_default();
    let names = libraries.lines().filter_map(|line| line.split_whitespace().next()?.strip_prefix("libLLVM"));
    let wanted = llvm.to_string();
    works && names.into_iter().any(|name| name.split(['.', '-']).any(|part| part == wanted))
}

/// What the package needs beside the build: Rust's and C's side of musl, and who packs and who lists what was packed.
pub(crate) fn package_tools() -> anyhow::Result<()> {
    run(Command::new("rustup").args(["--quiet", "target", "add", "x86_64-unknown-linux-musl"]))?;
    if find("musl-gcc").is_none() {
        apt(&["musl-tools"])?;
    }
    cargo_tool("cargo-deb", CARGO_DEB, &["--version"])?;
    cargo_tool("cargo-cyclonedx", CARGO_CYCLONEDX, &["cyclonedx", "--version"])
}

/// Installs a tool of cargo's in the right version, which `ask` makes it tell.
fn cargo_tool(name: &str, version: &str, ask: &[&str]) -> anyhow::Result<()> {
    if output(name, ask).is_some_and(|answer| answer.split_whitespace().any(|word| word == version)) {
        return Ok(());
    }
    // Not optimised: building it takes longer than all it does.
    run(Command::new("cargo").args(["install", name, "--version", version, "--locked", "--force", "--debug"]))
}

/// What the lab needs beside the build.
pub(crate) fn test_tools() -> anyhow::Result<()> {
    let mut packages: Vec<&str> = TEST_TOOLS
        .iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    if !packages.is_empty() {
        apt(&packages)?;
    }
    monitoring()
}

/// The file system of a Debian machine with systemd, as an administrator finds it; the lab boots it, and never writes to it.
pub(crate) fn machine() -> anyhow::Result<()> {
    let root = Path::new(MACHINE);
    if root.exists() {
        return Ok(());
    }
    let unfinished = root.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).with_context(|| format!("cannot remove {}", unfinished.display()))?;
    }
    fs::create_dir_all(&unfinished).with_context(|| format!("cannot create {}", unfinished.display()))?;
    let packages = "--include=systemd,systemd-sysv,dbus,iproute2,procps";
    as_root(
        "mmdebstrap",
        &["--quiet", "--variant=minbase", packages, "bookworm", &unfinished.to_string_lossy()],
    )?;
    fs::rename(&unfinished, root).with_context(|| format!("cannot rename {}", unfinished.display()))
}

/// Prometheus and Alertmanager with their tools; it needs no root.
pub(crate) fn monitoring() -> anyhow::Result<()> {
    TAKEN_OUT.iter().try_for_each(|(package, programs)| take_out(package, programs))
}

/// Programs of a Debian package whose installation would start a server: they are only taken out of it.
fn take_out(package: &str, programs: &[&str]) -> anyhow::Result<()> {
    let directory = Path::new(TOOLS).join(package);
    let there = |program: &&str| find(program).is_some() || directory.join(BIN).join(program).exists();
    if programs.iter().all(there) {
        return Ok(());
    }
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let download = || run(Command::new("apt-get").args(["download", package]).current_dir(&directory));
    if download().is_err() {
        as_root("apt-get", &["update"])?;
        download()?;
    }
    let archive = fs::read_dir(&directory)?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get download {package} left no package in {}", directory.display()))?;
    run(Command::new("dpkg").arg("-x").arg(&archive).arg(&directory))?;
    fs::remove_file(&archive).with_context(|| format!("cannot remove {}", archive.display()))
}

/// Puts the tools that are not installed system-wide on the PATH of the tests.
pub(crate) fn path_with_tools() -> anyhow::Result<std::ffi::OsString> {
    let tools = env::current_dir()?.join(TOOLS);
    let tools = TAKEN_OUT.map(|(package, _)| tools.join(package).join(BIN));
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(Into::into);
    Ok(env::join_paths(env::split_paths(&path).chain(system).chain(tools))?)
}

/// Classic tracepoints are described and opened through tracefs.
pub(crate) fn tracefs() -> anyhow::Result<()> {
    if Path::new("/sys/kernel/tracing/events").is_dir() {
        return Ok(());
    }
    as_root("mount", &["-t", "tracefs", "tracefs", "/sys/kernel/tracing"])
}

/// The daemon needs tracefs only where the kernel publishes no types.
pub(crate) fn tracefs_without_btf() -> anyhow::Result<()> {
    if Path::new("/sys/kernel/btf/vmlinux").exists() { Ok(()) } else { tracefs() }
}

fn apt(packages: &[&str]) -> anyhow::Result<()> {
    if find("apt-get").is_none() {
        bail!("this is no Debian; install by hand what provides: {}", packages.join(" "));
    }
    let mut install = vec!["install", "-y", "--no-install-recommends"];
    install.extend(packages);
    // The lists may be missing or old; they are fetched only if it does not work without.
    if as_root("apt-get", &install).is_err() {
        as_root("apt-get", &["update"])?;
        as_root("apt-get", &install)?;
    }
    Ok(())
}

/// Runs a command as root, through sudo if that asks no password; else says what to run.
fn as_root(program: &str, args: &[&str]) -> anyhow::Result<()> {
    if is_root() {
        return run(Command::new(program).env("DEBIAN_FRONTEND", "noninteractive").args(args));
    }
    let sudo = Command::new("sudo").args(["-n", "true"]).output().is_ok_and(|output| output.status.success());
    if sudo {
        return run(Command::new("sudo").arg("-n").arg(program).args(args));
    }
    bail!("this needs root; run: sudo {program} {}", args.join(" "))
}

/// Fails with the reason where the lab cannot run.
pub(crate) fn require_root(what: &str) -> anyhow::Result<()> {
    if is_root() {
        return Ok(());
    }
    bail!("{what} needs root: run as root, or leave out what needs the kernel with --no-kernel")
}
