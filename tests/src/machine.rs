//! A Debian machine of its own, with systemd as its first process: what the package meets where it is installed. A container, or the whole
//! virtual machine that the lab runs in.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{agent::Metrics, host::Host, http, process::Process, workspace};

/// Where the service serves unless it is told otherwise.
const ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 9796);

/// Set where the lab runs in a virtual machine for it alone: the directory with the package.
const OURS: &str = "LAB_PACKAGE";

/// Takes away what a scenario left behind.
const CLEAN: &str = "
    dpkg --purge tcpwarden
    rm -rf /run/systemd/system/tcpwarden.service.d /etc/tcpwarden /var/lib/private/tcpwarden
    systemctl daemon-reload
    systemctl reset-failed
    journalctl --quiet --rotate --vacuum-time=1s
";

/// Where a container sees the directory that the packages lie in.
const PACKAGES: &str = "/packages";

/// Whether the machine's processes may use eBPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// As on a host of one's own.
    Whole,
    /// As in a container of someone else's.
    WithoutBpf,
}

/// A running machine; it has no network but its loopback. Whatever was installed is gone on drop.
#[derive(Debug)]
pub struct Machine {
    host: Host,
    /// The container; `None` is the machine we run on.
    process: Option<Process>,
    packages: TempDir,
}

impl Machine {
    /// Boots it, and waits until everything is started.
    #[must_use]
    pub fn boot(rights: Rights) -> Self {
        let packages = TempDir::new().expect("a temporary directory");
        if env::var_os(OURS).is_some() {
            assert_eq!(rights, Rights::Whole, "nobody takes rights from the machine we run on");
            let machine = Self { host: Host::ours(), process: None, packages };
            machine.sh(CLEAN);
            return machine;
        }
        let root = workspace("target/machine/bookworm");
        assert!(root.is_dir(), "{} is missing; `cargo xtask test` makes it", root.display());
        let host = Host::new("machine");
        let mut command = Command::new("systemd-nspawn");
        // Registering it would need a systemd outside.
        command.args(["--quiet", "--register=no", "--keep-unit", "--volatile=overlay", "--boot"]);
        command.arg("--directory").arg(root).arg(format!("--machine={}", host.name()));
        command.arg(format!("--network-namespace-path={}", host.path()));
        command.arg(format!("--bind-ro={}:{PACKAGES}", packages.path().display()));
        if rights == Rights::Whole {
            command.args(["--capability=all", "--system-call-filter=bpf perf_event_open"]);
        }
        let directory = TempDir::new().expect("a temporary directory");
        let mut process = Process::start("the machine".to_owned(), directory, command);
        let pid = process.pid();
        process.ready(|| {
            let booted = inside(pid, "systemctl is-active --quiet multi-user.target")?;
            booted.status.success().then(|| (200, String::new()))
        });
        Self { host, process: Some(process), packages }
    }

    /// Its network, for traffic and for what the system's own tools say of it.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Runs a shell script as its root.
    #[must_use]
    pub fn try_sh(&self, script: &str) -> Output {
        match &self.process {
            Some(process) => inside(process.pid(), script).expect("the machine runs"),
            None => sh(Command::new("sh"), script),
        }
    }

    /// As [`Machine::try_sh`], for what must not fail; returns what it printed.
    #[expect(clippy::must_use_candidate, reason = "most scripts print nothing")]
    pub fn sh(&self, script: &str) -> String {
        let Output { status, stdout, stderr } = self.try_sh(script);
        assert!(status.success(), "{script}: {status}: {}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).expect("it prints text")
    }

    /// Installs a version of our package as an administrator would who is not asked what to do with an edited configuration.
    pub fn install(&self, version: Version) {
        let file = version.put_into(&self.packages);
        let directory = match &self.process {
            Some(_) => Path::new(PACKAGES),
            None => self.packages.path(),
        };
        let package = directory.join(file);
        self.sh(&format!(
            "apt-get install --yes --option Dpkg::Options::=--force-confold {}",
            package.display()
        ));
    }

    /// A property of the service, as systemd tells it.
    #[must_use]
    pub fn service(&self, property: &str) -> String {
        self.sh(&format!("systemctl show --value --property={property} tcpwarden")).trim().to_owned()
    }

    /// Scrapes the service; `None` when nothing answers.
    #[must_use]
    pub fn scrape(&self) -> Option<Metrics> {
        let (status, body) = http::get(&self.host, ADDRESS.into(), "/metrics")?;
        (status == 200).then(|| Metrics::parse(&body))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let Some(process) = &mut self.process else {
            let _ = self.try_sh(CLEAN);
            return;
        };
        // The machine outlives a systemd-nspawn that is killed; but when its first process ends, all of it does.
        if let Some(first) = first_process(process.pid()) {
            let _ = kill_process(first, Signal::KILL);
            process.wait();
        }
    }
}

/// The first process of the machine that this systemd-nspawn has started; `None` before it has.
fn first_process(nspawn: Pid) -> Option<Pid> {
    let nspawn = nspawn.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{nspawn}/task/{nspawn}/children")).ok()?;
    Pid::from_raw(children.trim().parse().ok()?)
}

/// Runs a script in the machine that this systemd-nspawn has started; `None` before it has.
fn inside(nspawn: Pid, script: &str) -> Option<Output> {
    let first = first_process(nspawn)?.as_raw_nonzero().to_string();
    let mut command = Command::new("nsenter");
    command.args([
        "--target", &first, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd",
    ]);
    command.arg("sh");
    Some(sh(command, script))
}

/// Runs a script by a shell, with what a fresh login of root's has around it.
fn sh(mut shell: Command, script: &str) -> Output {
    let shell = shell.args(["-ec", script]).env_clear().stdin(Stdio::null());
    shell.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("DEBIAN_FRONTEND", "noninteractive");
    shell.output().expect("nsenter runs (util-linux), and sh")
}

/// A version of our package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// As it was made.
    This,
    /// The same with a higher version and one key less in its configuration.
    Next,
}

impl Version {
    /// Puts the package into a directory, and returns its name there.
    fn put_into(self, directory: &TempDir) -> String {
        let home = env::var_os(OURS).map_or_else(|| workspace("target/package"), PathBuf::from);
        let packages = fs::read_dir(home).into_iter().flatten().filter_map(Result::ok);
        let mut packages =
            packages.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "deb"));
        let package =
            packages.next().expect("there is a package in target/package (`cargo xtask package` makes it)");
        let to = |name: &str| directory.path().join(name);
        match self {
            Self::This => fs::copy(&package, to("this.deb")).map(|_| "this.deb".to_owned()).expect("a copy"),
            Self::Next => {
                let repack = "
                    dpkg-deb --raw-extract \"$1\" \"$2\"
                    sed -i 's/^Version: .*/&+next/' \"$2/DEBIAN/control\"
                    sed -i '/^max_requests/d' \"$2/etc/tcpwarden/tcpwarden.toml\"
                    dpkg-deb --root-owner-group --build \"$2\" \"$3\"
                ";
                let mut sh = Command::new("sh");
                sh.args(["-ec", repack, "sh"]).arg(package).arg(to("next")).arg(to("next.deb"));
                let output = sh.output().expect("sh runs");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                "next.deb".to_owned()
            }
        }
    }
}
