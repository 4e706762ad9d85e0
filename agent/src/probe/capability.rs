//! What this kernel and our rights allow, asked before anything is loaded.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use procfs::process::Process;

/// Where the kernel publishes its types.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

const CAP_SYS_ADMIN: u8 = 21;
const CAP_PERFMON: u8 = 38;
const CAP_BPF: u8 = 39;

/// The facts on which the choice of hooks rests.
#[derive(Clone, Debug)]
pub struct Capability {
    /// `uname -r`.
    pub release: String,
    /// Whether the kernel publishes its types (BTF).
    pub btf: bool,
    /// The lockdown level in force, or `None` where the kernel does not say.
    pub lockdown: Option<String>,
    /// Where tracefs is mounted.
    pub tracefs: Option<PathBuf>,
    /// Rights that eBPF needs and this process lacks.
    pub missing_rights: Vec<&'static str>,
    /// Whether classic tracepoints may be opened (`CAP_SYS_ADMIN`, or `CAP_PERFMON` at a low paranoia level).
    pub perf_events: bool,
    /// Where the root of the unified cgroup hierarchy is mounted.
    pub cgroup: Option<PathBuf>,
    /// `net.ipv4.tcp_rfc1337`: a RST leaves TIME_WAIT alone.
    pub rfc1337: bool,
}

impl Capability {
    /// Asks the running kernel.
    ///
    /// # Errors
    /// When `/proc` is not readable.
    pub fn detect() -> io::Result<Self> {
        let effective = Process::myself().and_then(|me| me.status()).map_err(io::Error::other)?.capeff;
        let has = |capability: u8| effective & (1 << capability) != 0;
        let admin = has(CAP_SYS_ADMIN);
        let mut missing_rights = Vec::new();
        if !admin && !has(CAP_BPF) {
            missing_rights.push("CAP_BPF");
        }
        if !admin && !has(CAP_PERFMON) {
            missing_rights.push("CAP_PERFMON");
        }
        // Upstream refuses above 1 without CAP_PERFMON; Debian's level 3 and up wants CAP_SYS_ADMIN.
        let paranoid =
            read_trimmed("/proc/sys/kernel/perf_event_paranoid").and_then(|text| text.parse::<i32>().ok());
        Ok(Self {
            release: rustix::system::uname().release().to_string_lossy().into_owned(),
            btf: Path::new(KERNEL_BTF).exists(),
            lockdown: read_trimmed("/sys/kernel/security/lockdown").as_deref().and_then(lockdown_level),
            tracefs: tracefs(),
            missing_rights,
            perf_events: admin || (has(CAP_PERFMON) && paranoid.is_some_and(|level| level <= 2)),
            cgroup: cgroup(),
            rfc1337: read_trimmed("/proc/sys/net/ipv4/tcp_rfc1337").is_some_and(|value| value != "0"),
        })
    }
}

/// Inode number of our network namespace: the number the kernel keeps in `net->ns.inum`.
pub fn own_netns() -> io::Result<u32> {
    let inode = fs::metadata("/proc/self/ns/net")?.ino();
    u32::try_from(inode).map_err(io::Error::other)
}

/// The mounted tracefs, at its own place or at the old one inside debugfs.
fn tracefs() -> Option<PathBuf> {
    ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.join("events").is_dir())
}

/// The mounted cgroup2 file system: the hierarchy that sees the packets of all sockets.
fn cgroup() -> Option<PathBuf> {
    let mounts = Process::myself().and_then(|me| me.mountinfo()).ok()?;
    mounts.into_iter().find(|mount| mount.fs_type == "cgroup2").map(|mount| mount.mount_point)
}

fn read_trimmed(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The level in brackets: `none [integrity] confidentiality`.
fn lockdown_level(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(level, _)| level.to_owned())
}

#[cfg(test)]
mod tests {
    use super::lockdown_level;

    #[test]
    fn lockdown_level_is_the_one_in_brackets() {
        assert_eq!(lockdown_level("none [integrity] confidentiality").as_deref(), Some("integrity"));
        assert_eq!(lockdown_level("[none] integrity confidentiality").as_deref(), Some("none"));
        assert_eq!(lockdown_level("none integrity"), None);
    }
}
