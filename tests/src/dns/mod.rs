//! Names: a real name server, and programs that are told to ask it.

mod message;
pub mod odd;

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::PathBuf,
    process::Command,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rustix::process::{Signal, kill_process};
use tempfile::TempDir;

use crate::{host::Host, process::Process};

/// dnsmasq on a host of its own, for names below `example`; killed on drop.
#[derive(Debug)]
pub struct Dns {
    process: Process,
    file: PathBuf,
    names: Mutex<BTreeMap<String, IpAddr>>,
    host: Host,
}

/// When a change took effect: not before the one time, and not after the other.
#[derive(Clone, Copy, Debug)]
pub struct Changed {
    /// Just before the name server was told.
    pub begun: SystemTime,
    /// Just after it answered so.
    pub done: SystemTime,
}

impl Dns {
    /// Starts it, and waits until it answers; it knows no name yet.
    #[must_use]
    pub fn start(host: Host) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let file = directory.path().join("names");
        fs::write(&file, "").expect("written");
        let mut command = host.command("dnsmasq");
        command
            .args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--log-facility=-"])
            .args(["--user=root", "--no-resolv", "--no-hosts", "--local=/example/"])
            .arg(format!("--addn-hosts={}", file.display()));
        let mut process = Process::start(format!("dnsmasq on {}", host.name()), directory, command);
        process.ready(|| ask(&host, "ready.example").map(|_| (200, String::new())));
        Self { process, file, names: Mutex::default(), host }
    }

    /// From now on a name has this address and no other; tells when that took effect.
    pub fn point(&self, name: &str, address: IpAddr) -> Changed {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.insert(name.to_owned(), address);
        let mut text = String::new();
        for (name, address) in &*names {
            let _ = writeln!(text, "{address} {name}");
        }
        let begun = SystemTime::now();
        fs::write(&self.file, text).expect("written");
        kill_process(self.process.pid(), Signal::HUP).expect("it runs");
        let deadline = begun + Duration::from_secs(10);
        while ask(&self.host, name).is_none_or(|told| told != [address]) {
            assert!(SystemTime::now() < deadline, "the name server does not tell {name} {address}");
        }
        Changed { begun, done: SystemTime::now() }
    }
}

/// The IPv4 addresses that the name server of a host tells for a name; `None` when it does not answer.
fn ask(host: &Host, name: &str) -> Option<Vec<IpAddr>> {
    let socket = host.enter(|| UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    socket.send_to(&message::question(name), SocketAddr::from(([127, 0, 0, 1], 53))).ok()?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).ok()?;
    Some(message::addresses(&answer[..length]))
}

/// Which name server the programs started by it ask.
#[derive(Debug)]
pub struct Resolver {
    files: TempDir,
}

/// A program sees a resolv.conf of its own; other ways to resolve a name, which would leave the lab, are not there.
const WITH_ITS_RESOLVER: &str = r#"
    mount --bind "$0/resolv.conf" /etc/resolv.conf && mount --bind "$0/nsswitch.conf" /etc/nsswitch.conf && exec "$@"
"#;

impl Resolver {
    /// One that asks the name server at this address.
    #[must_use]
    pub fn at(server: IpAddr) -> Self {
        let files = TempDir::new().expect("a temporary directory");
        let write = |name, text: &str| fs::write(files.path().join(name), text).expect("written");
        write("resolv.conf", &format!("nameserver {server}\noptions timeout:1 attempts:1\n"));
        write("nsswitch.conf", "hosts: files dns\n");
        Self { files }
    }

    /// A command that will run on a host, with this resolver.
    #[must_use]
    pub fn command(&self, host: &Host, program: &str) -> Command {
        let mut command = host.command("unshare");
        command.args(["--mount", "sh", "-c", WITH_ITS_RESOLVER]).arg(self.files.path()).arg(program);
        command
    }
}
