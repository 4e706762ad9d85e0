//! What a machine boots into: a Debian system in memory with the programs of the lab.
//!
//! The kernel unpacks one archive after the other into its first file system, so the system is packed once, and what differs
//! (modules, programs) is a small archive behind it.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, bail};

use super::kernels::{CACHE, Image};
use crate::{setup, shell::run};

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
# Tracefs shows no tracepoint there, so none of the classic ones can be attached.
unset skip
grep -q '\[confidentiality\]' /sys/kernel/security/lockdown && skip='--skip classic'
/lab/scenarios --test-threads=1 $(cat /lab/filters) $skip
echo "== exit $?"
sync
poweroff -f
"#;

/// As a disk's first process finds it: the kernel's first file system cannot be left behind by a sandbox, so everything moves to another.
const SYSTEMD_INIT: &str = "#!/bin/sh
mount -t tmpfs -o mode=755,size=2g tmpfs /mnt
cp -a /bin /etc /home /lab /lib* /opt /root /sbin /srv /usr /var /mnt/
mkdir -p -m 755 /mnt/dev /mnt/proc /mnt/sys /mnt/run /mnt/mnt /mnt/boot /mnt/media
mkdir -p -m 1777 /mnt/tmp
mount -t proc proc /proc
exec switch_root /mnt /sbin/init
";

/// Plays the package's scenarios once systemd has started everything.
const UNIT: &str = "[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/lab/play
[Install]
WantedBy=multi-user.target
";
const PLAY: &str = r#"#!/bin/sh
export LAB_PACKAGE=/lab/package
exec > /dev/ttyS1 2>&1
echo "== scenarios"
/lab/scenarios --test-threads=1 $(cat /lab/filters)
echo "== exit $?"
sync
poweroff -f
"#;

/// What a machine does once it has booted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Task<'a> {
    /// Says what the kernel can do, and plays scenarios, without anything else running.
    Kernel(&'a [&'a str]),
    /// Plays the package's scenarios, with this package, under systemd.
    Package(&'a Path),
}

/// The archive of the system, packed once.
pub(super) fn system() -> anyhow::Result<PathBuf> {
    let root = setup::machine()?;
    let archive = root.with_extension("cpio");
    let made = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
    if made(&archive)
        .is_ok_and(|packed| made(&root.with_extension("packages")).is_ok_and(|made| made < packed))
    {
        return Ok(archive);
    }
    pack(root, &archive)?;
    Ok(archive)
}

/// The archive that goes behind the system's: this kernel's modules, and the lab.
pub(super) fn lab(image: &Image, programs: &[PathBuf], task: Task<'_>) -> anyhow::Result<PathBuf> {
    let name = match task {
        Task::Kernel(_) => format!("lab-{}", image.release),
        Task::Package(_) => format!("package-{}", image.release),
    };
    let root = Path::new(CACHE).join(&name);
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
    let init = match task {
        Task::Kernel(filters) => {
            fs::write(lab.join("filters"), filters.join(" "))?;
            INIT
        }
        Task::Package(package) => {
            let packages = lab.join("package");
            fs::create_dir_all(&packages)?;
            fs::copy(package, packages.join("tcpwarden.deb")).context("cannot copy the package")?;
            // Nobody takes rights from a whole machine.
            fs::write(lab.join("filters"), "package:: --skip without_rights")?;
            script(&lab.join("play"), PLAY)?;
            let units = root.join("etc/systemd/system");
            let wants = units.join("multi-user.target.wants");
            fs::create_dir_all(&wants)?;
            fs::write(units.join("lab.service"), UNIT)?;
            symlink("../lab.service", wants.join("lab.service"))?;
            // Nothing tells systemd of the port's device here, which it would wait for.
            symlink("/dev/null", units.join("serial-getty@ttyS0.service"))?;
            SYSTEMD_INIT
        }
    };
    script(&root.join("init"), init)?;
    let archive = Path::new(CACHE).join(format!("{name}.cpio"));
    pack(&root, &archive)?;
    fs::remove_dir_all(&root)?;
    Ok(archive)
}

fn script(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    run(Command::new("chmod").arg("755").arg(path))
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
