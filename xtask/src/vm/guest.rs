//! What a machine boots into: a Debian system in memory with the programs of the lab.
//!
//! The kernel unpacks one archive after the other into its first file system, so the system is packed once, and what differs
//! (modules, programs) is a small archive behind it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use super::kernels::{CACHE, Image};
use crate::shell::run;

/// What the lab calls, and an init that loads modules.
const PACKAGES: &str =
    "systemd,systemd-sysv,dbus,iproute2,nftables,tcpdump,procps,kmod,curl,openssl,ca-certificates";
/// Where the lab's programs lie in the guest.
const LAB: &str = "lab";

/// Mounts what an init mounts, runs the lab, and switches the machine off. Results go to the second serial port, the kernel's words
/// to the first.
const INIT: &str = r#"#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t securityfs securityfs /sys/kernel/security
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
# Not autoloaded by what needs it: a setting of connection tracking is made before the first rule.
modprobe nf_conntrack
exec > /dev/ttyS1 2>&1
printf '[probe]\nsyn_watch = true\n' > /tmp/watch.toml
echo "== check"
/lab/tcpwarden check --config.file /tmp/watch.toml
echo "== classic"
/lab/tcpwarden check --hooks tracepoint --census netlink
echo "== scenarios"
/lab/scenarios --test-threads=1 --color=never $(cat /lab/filters)
echo "== exit $?"
sync
poweroff -f
"#;

/// The archive of the system, packed once.
pub(super) fn system() -> anyhow::Result<PathBuf> {
    let archive = Path::new(CACHE).join("system.cpio");
    if archive.is_file() {
        return Ok(archive);
    }
    let root = Path::new(CACHE).join("system");
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    run(Command::new("mmdebstrap").args(["--quiet", "--variant=minbase", "--mode=root"]).args([
        &format!("--include={PACKAGES}"),
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        "bookworm",
        &root.to_string_lossy(),
    ]))?;
    pack(&root, &archive)?;
    fs::remove_dir_all(&root)?;
    Ok(archive)
}

/// The archive that goes behind the system's: this kernel's modules, and the lab.
pub(super) fn lab(image: &Image, programs: &[PathBuf], filters: &[&str]) -> anyhow::Result<PathBuf> {
    let root = Path::new(CACHE).join(format!("lab-{}", image.release));
    if root.exists() {
        fs::remove_dir_all(&root)?;
    }
    // /lib is a link in the system; a directory of that name would take its place.
    let modules = root.join("usr/lib/modules");
    let lab = root.join(LAB);
    fs::create_dir_all(&modules)?;
    fs::create_dir_all(&lab)?;
    run(Command::new("cp").arg("-a").arg(&image.modules).arg(&modules))?;
    run(Command::new("depmod").args(["--basedir", &root.join("usr").to_string_lossy(), &image.release]))?;
    for program in programs {
        let name = program.file_stem().context("a program has a name")?.to_string_lossy();
        // cargo's hash behind the name of a test is of no use there.
        let name = name.split('-').next().filter(|name| *name == "scenarios").unwrap_or(&name);
        run(Command::new("objcopy").arg("--strip-debug").arg(program).arg(lab.join(name)))?;
    }
    fs::write(lab.join("filters"), filters.join(" "))?;
    let init = root.join("init");
    fs::write(&init, INIT)?;
    run(Command::new("chmod").arg("755").arg(&init))?;
    let archive = Path::new(CACHE).join(format!("lab-{}.cpio", image.release));
    pack(&root, &archive)?;
    fs::remove_dir_all(&root)?;
    Ok(archive)
}

/// Packs a directory as the kernel's initramfs wants it. Uncompressed: an emulated processor is slow at undoing it.
fn pack(root: &Path, archive: &Path) -> anyhow::Result<()> {
    let half = archive.with_extension("partial");
    let mut names = Command::new("find")
        .args([".", "-print0"])
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run find")?;
    let packed = Command::new("cpio")
        .args(["--quiet", "--null", "--create", "--format=newc"])
        .current_dir(root)
        .stdin(names.stdout.take().context("find prints names")?)
        .stdout(fs::File::create(&half)?)
        .status()
        .context("cannot run cpio")?;
    if !names.wait()?.success() || !packed.success() {
        bail!("cannot pack {}: cpio {packed}", root.display());
    }
    Ok(fs::rename(&half, archive)?)
}
