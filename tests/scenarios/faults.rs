//! Bad input and bad circumstances: one line with the remedy, the right exit code, and nothing left in the kernel.

use std::{collections::BTreeSet, fs, net::IpAddr, os::unix::fs::PermissionsExt as _, time::Duration};

use aya::programs::loaded_programs;
use lab::{
    agent::{Agent, Config, Ended},
    attaching::attaching,
    eventually,
    host::Host,
    program,
    traffic::Traffic,
};
use rustix::process::Signal;
use tempfile::TempDir;

lab::scenarios! {
    Others 10 s:
        a_second_agent_signals_and_kill;
    Others 5 s:
        wrong_usage_and_wrong_config_exit_with_2,
        a_port_in_use,
        missing_rights,
        a_kernel_without_ebpf,
        tracefs_absent;
}

/// It failed with `code` and one line that has all of `words`.
fn assert_refused(refusal: &Ended, code: i32, words: &[&str]) {
    assert_eq!(refusal.code, Some(code), "{refusal:?}");
    assert_eq!(refusal.stderr.lines().count(), 1, "one line: {refusal:?}");
    for word in words {
        assert!(refusal.stderr.contains(word), "no {word:?} in {refusal:?}");
    }
}

fn kernel_has(programs: &BTreeSet<u32>) -> bool {
    loaded_programs().filter_map(Result::ok).any(|program| programs.contains(&program.id()))
}

fn assert_gone(programs: &BTreeSet<u32>) {
    assert!(programs.len() >= 6, "an agent has five hooks and a census: {programs:?}");
    eventually(Duration::from_secs(10), || {
        if kernel_has(programs) { Err("programs are left in the kernel".to_owned()) } else { Ok(()) }
    });
}

fn wrong_usage_and_wrong_config_exit_with_2() {
    let host = Host::new("host");
    let directory = TempDir::new().expect("a temporary directory");
    let file = directory.path().join("tcpwarden.toml");
    let path = file.to_str().expect("a path");
    for (text, words) in [
        (
            "[web]\nlisten = \"127.0.0.1:1\"\n",
            ["line 2", "unknown field `listen`, expected one of `listen_address`"],
        ),
        ("[web\n", ["line 1", "tcpwarden.toml"]),
        ("[limits]\npeers = 1\n", ["limits.peers = 1", "between 64 and"]),
        ("[census]\ncpu_budget = 2.0\n", ["census.cpu_budget = 2", "at most 1"]),
        ("[census]\nmin_interval = \"5 parsecs\"\n", ["line 2", "parsecs"]),
        ("[[peer]]\nname = \"a\"\ncidrs = [\"10.0.0.0/33\"]\n", ["10.0.0.0/33", "write it as 192.0.2.0/24"]),
        (
            "[[peer]]\nname = \"other\"\ncidrs = [\"10.0.0.0/8\"]\n",
            ["peer \"other\".name = other", "must be a name other than"],
        ),
    ] {
        fs::write(&file, text).expect("a config file");
        for command in ["run", "check"] {
            assert_refused(&Agent::once(&host, &[], &[command, "--config.file", path]), 2, &words);
        }
    }
    for (text, words) in [
        ("tls_server_config:\n  cert_file: a\n", ["web.yml", "tls_server_config.key_file = none"]),
        ("basic_auth_users:\n  me: secret\n", ["basic_auth_users.me", "htpasswd -nBC 10"]),
    ] {
        let file = directory.path().join("web.yml");
        fs::write(&file, text).expect("a web config file");
        for command in ["run", "check"] {
            let args = [command, "--web.config.file", file.to_str().expect("a path")];
            assert_refused(&Agent::once(&host, &[], &args), 2, &words);
        }
    }
    let missing = Agent::once(&host, &[], &["run", "--config.file", "/nowhere/tcpwarden.toml"]);
    assert_refused(&missing, 2, &["/nowhere/tcpwarden.toml", "No such file", "--config.file"]);
    let unknown = Agent::once(&host, &[], &["run", "--web.listen"]);
    assert_eq!(unknown.code, Some(2), "{unknown:?}");
}

fn a_port_in_use() {
    let host = Host::new("host");
    let _taken = Traffic::serve(&host, IpAddr::from([127, 0, 0, 1]), 9796, 1, "hold");
    let refusal = Agent::once(&host, &[], &["run"]);
    assert_refused(&refusal, 1, &["127.0.0.1:9796", "(os error 98)", "--web.listen-address"]);
}

fn missing_rights() {
    let host = Host::new("host");
    // Nobody must be able to reach the binary.
    let directory = TempDir::new().expect("a temporary directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("our own directory");
    let copy = directory.path().join("tcpwarden");
    fs::copy(program("tcpwarden"), &copy).expect("a copy of the binary");
    let copy = copy.to_str().expect("a path");
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let not_root = |command: &str| {
        let words: Vec<&str> = nobody.iter().copied().chain([copy]).chain(command.split(' ')).collect();
        let output = host.command(words[0]).args(&words[1..]).output().expect("nsenter runs");
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    };
    assert_refused(&not_root("run"), 1, &["missing right CAP_BPF and CAP_PERFMON", "run as root"]);
    let check = not_root("check");
    assert_refused(&check, 1, &["missing right CAP_BPF and CAP_PERFMON"]);
    assert!(check.stdout.contains("rights    missing CAP_BPF and CAP_PERFMON"), "{check:?}");
    // A census needs no rights: it goes by netlink, or falls back to it and says so.
    for (command, said) in [("census", ""), ("census --census auto", "missing right")] {
        let census = not_root(command);
        assert_eq!(census.code, Some(0), "{census:?}");
        assert!(census.stdout.contains("(by netlink)") && census.stderr.contains(said), "{census:?}");
        assert_eq!(census.stderr.is_empty(), said.is_empty(), "{census:?}");
    }

    let only_one_missing = ["setpriv", "--bounding-set=-bpf,-sys_admin", "--inh-caps=-bpf,-sys_admin", "--"];
    assert_refused(&Agent::once(&host, &only_one_missing, &["run"]), 1, &["missing right CAP_BPF:"]);
}

fn a_kernel_without_ebpf() {
    let host = Host::new("host");
    let without = program("without-bpf");
    let wrapper = [without.to_str().expect("a path")];
    assert_refused(&Agent::once(&host, &wrapper, &["run"]), 1, &["no eBPF", "CONFIG_BPF_SYSCALL"]);
    assert_refused(&Agent::once(&host, &wrapper, &["check"]), 1, &["no eBPF"]);
}

fn tracefs_absent() {
    let host = Host::new("host");
    let agent = program("tcpwarden");
    let without_tracefs = |args: &str| {
        let script = format!("umount /sys/kernel/tracing && exec {} {args}", agent.display());
        let _attaching = attaching();
        let mut command = host.command("unshare");
        let output = command.args(["--mount", "sh", "-c", &script]).output().expect("nsenter runs");
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    };
    // Where the lockdown shuts it, mounting it would be no remedy.
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let words: &[&str] = if lockdown.contains("[confidentiality]") {
        &["lockdown=confidentiality shuts tracefs"]
    } else {
        &["tracefs is not mounted", "mount -t tracefs tracefs /sys/kernel/tracing"]
    };
    assert_refused(&without_tracefs("run --hooks tracepoint"), 1, words);
    // Typed tracepoints need none.
    let check = without_tracefs("check");
    assert!(check.code == Some(0) && check.stdout.contains("tracefs not mounted"), "{check:?}");
}

fn a_second_agent_signals_and_kill() {
    let host = Host::new("host");
    let mut first = Agent::start(&host, &[]);
    let second = Agent::once(&host, &[], &["run", "--web.listen-address", "127.0.0.1:9797"]);
    let pid = first.pid().as_raw_nonzero().to_string();
    assert_refused(&second, 1, &["another tcpwarden", &pid, "stop it first"]);
    // A census and a check need no daemon and disturb none.
    assert_eq!(Agent::once(&host, &[], &["check"]).code, Some(0));
    // Another namespace is another matter.
    let elsewhere = Host::new("elsewhere");
    drop(Agent::start(&elsewhere, &[]));

    let programs = first.loaded_programs();
    assert!(kernel_has(&programs));
    first.signal(Signal::TERM);
    assert_eq!(first.wait().code(), Some(0), "{}", first.log());
    assert_gone(&programs);

    // With the SYN watch, which hangs on the cgroup of the whole host.
    let watching = Config::new("[probe]\nsyn_watch = true\n");
    let mut killed = Agent::start(&host, &watching.args());
    let programs = killed.loaded_programs();
    killed.signal(Signal::KILL);
    killed.wait();
    assert_gone(&programs);
    drop(Agent::start(&host, &[]));
}
