//! Programs as Debian ships them, each in a sandbox on a host of the lab.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::workload::Script;
use crate::{host::Host, process::Process, program, workspace};

/// Where `cargo xtask setup` unpacks the programs and the libraries that they need.
const PROGRAMS: &str = "target/machine/programs";

const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin";

/// What every script begins with. All output goes to the log of the process, which keeps standard error only.
const PRELUDE: &str = r#"
exec >&2
# every SECONDS COMMAND: runs the command again and again, with a pause.
every() { pause=$1; shift; while :; do "$@" || echo "FAILED: $*"; sleep "$pause"; done; }
# together COUNT COMMAND: runs so many of the command at the same time.
together() { count=$1; shift; for _ in $(seq "$count"); do "$@" & done; wait; }
"#;

/// The users that the programs look up. Root has no password: sshd lets it in without a key.
const PASSWD: &str = "\
root::0:0::/tmp:/bin/sh
nobody:x:65534:65534::/nonexistent:/bin/false
sshd:x:101:65534::/run/sshd:/bin/false
postgres:x:102:102::/data:/bin/sh
ftp:x:103:103::/data:/bin/false
opensmtpd:x:104:104::/var/empty:/bin/false
opensmtpq:x:105:105::/var/empty:/bin/false
";
const GROUP: &str = "\
root:x:0:
nogroup:x:65534:
postgres:x:102:
ftp:x:103:
opensmtpd:x:104:
opensmtpq:x:105:
";

/// What the programs find in their file system.
#[derive(Debug)]
pub(super) struct Sandbox {
    programs: PathBuf,
    etc: TempDir,
    server: IpAddr,
}

impl Sandbox {
    /// Scripts find the address of the server in `$SERVER`; names are resolved by this name server.
    pub(super) fn new(server: IpAddr, name_server: IpAddr) -> Self {
        let programs = workspace(PROGRAMS);
        assert!(programs.is_dir(), "{} is missing; `cargo xtask setup` makes it", programs.display());
        let etc = TempDir::new().expect("a temporary directory");
        let resolver = format!("nameserver {name_server}\noptions timeout:1 attempts:1\n");
        for (name, text) in [
            ("passwd", PASSWD),
            ("group", GROUP),
            ("hosts", "127.0.0.1 localhost\n"),
            ("mailname", "mail.example\n"),
            ("nsswitch.conf", "hosts: files dns\n"),
            ("resolv.conf", &resolver),
        ] {
            fs::write(etc.path().join(name), text).expect("written");
        }
        Self { programs, etc, server }
    }

    /// Runs a script on a host, until it is dropped.
    pub(super) fn start(&self, host: &Host, script: Script) -> Process {
        let (mut command, text) = match script {
            Script::Debian(text) => {
                let mut command = host.command("bwrap");
                command.args(["--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]);
                command.args(["--hostname", "lab", "--clearenv", "--setenv", "PATH", PATH]);
                for directory in ["usr", "lib", "lib64", "bin", "sbin"] {
                    let at = Path::new("/").join(directory);
                    command.arg("--ro-bind").arg(self.programs.join(directory)).arg(at);
                }
                command.arg("--ro-bind").arg(self.etc.path()).arg("/etc");
                command.args(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/run", "--tmpfs", "/tmp"]);
                command.args(["--tmpfs", "/var", "--symlink", "/run", "/var/run", "--tmpfs", "/data"]);
                command.args(["--chdir", "/data", "--setenv", "SERVER", &self.server.to_string(), "sh"]);
                (command, text)
            }
            Script::Lab(text) => {
                let mut command = host.command("sh");
                command.env("SERVER", self.server.to_string()).env("TRAFFIC", program("traffic"));
                (command, text)
            }
        };
        command.args(["-c", &format!("{PRELUDE}{text}")]);
        let directory = TempDir::new().expect("a temporary directory");
        Process::start(format!("on {}: {text}", host.name()), directory, command)
    }
}
