//! The package on a Debian machine of its own: from its installation to its purge, under systemd.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use aya::programs::loaded_programs;
use lab::{
    agent::{Metrics, Series},
    eventually,
    inconclusive::{self, Count},
    machine::{Machine, Rights, Version},
    traffic::{First, Traffic},
    truth,
};

lab::scenarios! {
    Nothing 20 s:
        an_upgrade_under_traffic_keeps_what_was_edited;
    Nothing 10 s:
        killed_or_hanging_it_is_started_again;
    Nothing 5 s:
        a_clean_machine_runs_it_and_forgets_it,
        it_reloads_all_or_nothing_and_the_journal_knows_what_is_bad,
        without_rights_it_is_installed_all_the_same_and_says_why;
}

const CONFIG: &str = "/etc/tcpwarden/tcpwarden.toml";
const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const PORT: u16 = 8001;

/// A machine with the package installed and its service serving.
fn installed() -> Machine {
    let machine = Machine::boot(Rights::Whole);
    machine.install(Version::This);
    assert_eq!(machine.service("ActiveState"), "active", "{}", journal(&machine, ""));
    machine
}

fn journal(machine: &Machine, options: &str) -> String {
    machine.sh(&format!("journalctl --unit=tcpwarden --no-pager --output=cat {options}"))
}

fn scrape(machine: &Machine) -> Metrics {
    machine.scrape().expect("the service serves")
}

fn programs_in_the_kernel() -> BTreeSet<u32> {
    loaded_programs().filter_map(Result::ok).map(|program| program.id()).collect()
}

/// Ids of the eBPF programs that the service has loaded.
fn programs_of_the_service(machine: &Machine) -> BTreeSet<u32> {
    let pid = machine.service("MainPID");
    let lines = machine.sh(&format!("cat /proc/{pid}/fdinfo/* 2>/dev/null | grep ^prog_id: || true"));
    lines.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn assert_gone(programs: &BTreeSet<u32>) {
    assert!(programs.len() >= 6, "an agent has five hooks and a census: {programs:?}");
    eventually(Duration::from_secs(10), || {
        let left: Vec<_> = programs_in_the_kernel().intersection(programs).copied().collect();
        if left.is_empty() { Ok(()) } else { Err(format!("programs {left:?} are left in the kernel")) }
    });
}

/// Waits until systemd runs the service in another process, and it serves; returns the process.
fn restarted(machine: &Machine, before: &str) -> String {
    eventually(Duration::from_secs(20), || {
        let (state, pid) = (machine.service("ActiveState"), machine.service("MainPID"));
        match machine.scrape() {
            Some(_) if state == "active" && pid != before => Ok(()),
            _ => Err(format!("{state}, process {pid} after {before}: {}", journal(machine, ""))),
        }
    });
    machine.service("MainPID")
}

/// Everything in the file system but what the system itself writes as it runs.
fn files(machine: &Machine) -> BTreeSet<String> {
    let list = "find / -xdev -path /var/log -prune -o -path /var/cache -prune -o -path '/var/lib/dpkg/*' -prune \
                -o -path '/var/lib/systemd/*' -prune -o -path '/var/lib/apt/*' -prune -o -path '/tmp/*' -prune \
                -o -path '/var/tmp/*' -prune -o -print";
    machine.sh(list).lines().map(str::to_owned).collect()
}

fn a_clean_machine_runs_it_and_forgets_it() {
    let machine = Machine::boot(Rights::Whole);
    let before = files(&machine);
    machine.install(Version::This);
    for property in ["is-active", "is-enabled"] {
        machine.sh(&format!("systemctl {property} tcpwarden"));
    }
    assert_eq!(machine.service("NRestarts"), "0");
    assert_eq!(machine.sh("tcpwarden --version").trim(), format!("tcpwarden {}", env!("CARGO_PKG_VERSION")));

    // Every hook as on a host of one's own: with the least rights, behind the whole sandbox.
    let metrics = scrape(&machine);
    for hook in [
        "inet_sock_set_state",
        "tcp_retransmit_skb",
        "tcp_retransmit_synack",
        "tcp_receive_reset",
        "tcp_send_reset",
        "time_wait",
    ] {
        assert_eq!(metrics.value("probe_info", &[("probe", hook), ("mode", "btf")]), Some(1.0), "{hook}");
    }
    let status = machine.sh("cat /proc/$(systemctl show --value --property=MainPID tcpwarden)/status");
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    // It was given CAP_PERFMON (38) and CAP_BPF (39), and gave them up.
    assert_eq!(field("CapBnd:"), Some("000000c000000000"), "{status}");
    assert_eq!(field("CapEff:"), Some("0000000000000000"), "{status}");
    assert!(field("Uid:").is_some_and(|uid| !uid.starts_with('0')), "{status}");
    assert!(machine.sh("systemd-analyze security --no-pager --threshold=20 tcpwarden").contains("OK"));

    connections_are_those_of_the_kernel(&machine);

    let programs = programs_of_the_service(&machine);
    machine.sh("apt-get remove --yes tcpwarden");
    assert_gone(&programs);
    assert!(machine.scrape().is_none(), "it still serves");
    let left = machine.sh(&format!("ls {CONFIG} /var/lib/private/tcpwarden/alerts.json"));
    assert_eq!(left.lines().count(), 2, "removal keeps configuration and state: {left}");
    machine.sh("apt-get purge --yes tcpwarden");
    let left: Vec<String> = files(&machine).difference(&before).cloned().collect();
    assert_eq!(left, [""; 0], "purged, and still there");
    for (nothing, there) in [("process", "pgrep tcpwarden"), ("user", "getent passwd tcpwarden")] {
        assert!(!machine.try_sh(there).status.success(), "its {nothing} is left");
    }
    assert_eq!(machine.sh("dpkg-query --list 'tcpwarden*' 2>/dev/null | grep tcpwarden || true"), "");
}

/// The kernel counts every connection that was accepted; so does the service.
fn connections_are_those_of_the_kernel(machine: &Machine) {
    const CONNECTIONS: usize = 50;
    let port = PORT.to_string();
    let peer = LOOPBACK.to_string();
    let inbound = Series { peer: &peer, port: &port, direction: "inbound" };
    let told = |metrics: &Metrics| metrics.peer("peer_connections_total", inbound, &[]);
    let accepted = || truth::nstat(machine.host(), "TcpPassiveOpens");

    let (told_before, accepted_before) = (told(&scrape(machine)), accepted());
    let server = Traffic::drain(machine.host(), LOOPBACK, PORT, CONNECTIONS);
    Traffic::flood(machine.host(), LOOPBACK, LOOPBACK, PORT, CONNECTIONS).finish();
    server.finish();
    let accepted = accepted() - accepted_before;
    assert!(accepted >= CONNECTIONS as u64, "the kernel counts {accepted}");
    // The agent reads its maps every second; all is told when a census shows what ss shows.
    let sockets = |sockets: truth::Sockets| -> truth::Sockets {
        sockets.into_iter().filter(|((_, socket_port, _), _)| *socket_port == PORT).collect()
    };
    eventually(Duration::from_secs(10), || {
        let told = sockets(scrape(machine).sockets("inbound"));
        let right = sockets(truth::sockets_by_local_port(machine.host()));
        if told == right && !right.is_empty() { Ok(()) } else { Err(format!("told {told:?}, ss {right:?}")) }
    });
    let metrics = scrape(machine);
    let count = Count { what: "connections".to_owned(), told: told(&metrics) - told_before, truth: accepted };
    inconclusive::compare([count], &metrics).unwrap_or_else(|complaint| panic!("{complaint}"));
}

fn it_reloads_all_or_nothing_and_the_journal_knows_what_is_bad() {
    let machine = installed();
    let process = machine.service("MainPID");
    machine.sh(&format!(
        "sed -i 's/^exported_peers = .*/exported_peers = 7/' {CONFIG} && systemctl reload tcpwarden"
    ));
    eventually(Duration::from_secs(10), || {
        let said = journal(&machine, "--priority=info");
        if said.contains("configuration reloaded") { Ok(()) } else { Err(said) }
    });
    assert_eq!(scrape(&machine).value("config_last_reload_successful", &[]), Some(1.0));
    assert_eq!(journal(&machine, "--priority=err"), "", "nothing was bad so far");

    machine.sh(&format!(
        "printf '[web]\\nnonsense = 1\\n[limits]\\npeers = 1\\n' > {CONFIG} && systemctl reload tcpwarden"
    ));
    eventually(Duration::from_secs(10), || {
        let bad = journal(&machine, "--priority=err");
        if bad.contains("the old configuration stays in force") { Ok(()) } else { Err(bad) }
    });
    eventually(Duration::from_secs(10), || {
        match scrape(&machine).value("config_last_reload_successful", &[]) {
            Some(0.0) => Ok(()),
            other => Err(format!("the last reload is told as {other:?}")),
        }
    });
    assert_eq!(machine.service("MainPID"), process, "the same process, undisturbed");

    // Started with it, it says what is wrong and is not tried again.
    assert!(!machine.try_sh("systemctl restart tcpwarden").status.success());
    let bad = journal(&machine, "--priority=err");
    assert!(bad.lines().any(|line| line.starts_with("tcpwarden: ") && line.contains(CONFIG)), "{bad}");
    assert_eq!(machine.service("ExecMainStatus"), "2");
    assert_eq!(machine.service("ActiveState"), "failed", "{bad}");
}

fn killed_or_hanging_it_is_started_again() {
    let machine = installed();
    machine.sh("mkdir -p /run/systemd/system/tcpwarden.service.d
         printf '[Service]\\nWatchdogSec=3s\\n' > /run/systemd/system/tcpwarden.service.d/test.conf
         systemctl daemon-reload && systemctl restart tcpwarden");
    let first = machine.service("MainPID");
    let programs = programs_of_the_service(&machine);
    machine.sh("systemctl kill --kill-whom=main --signal=KILL tcpwarden");
    let second = restarted(&machine, &first);
    assert_gone(&programs);
    let programs = programs_of_the_service(&machine);
    machine.sh("systemctl kill --kill-whom=main --signal=STOP tcpwarden");
    restarted(&machine, &second);
    assert_gone(&programs);
    assert_eq!(machine.service("NRestarts"), "2");
    assert!(journal(&machine, "").contains("Watchdog timeout"), "{}", journal(&machine, ""));
}

fn an_upgrade_under_traffic_keeps_what_was_edited() {
    let machine = installed();
    machine.sh(&format!(
        "sed -i 's/^exported_peers = .*/exported_peers = 7/' {CONFIG} && systemctl reload tcpwarden"
    ));
    let edited = machine.sh(&format!("cat {CONFIG}"));
    let before = machine.service("MainPID");
    let programs = programs_of_the_service(&machine);

    let _server = Traffic::welcome(machine.host(), LOOPBACK, PORT + 1, 60, First::Client);
    let mut client = Traffic::pace(machine.host(), LOOPBACK, PORT + 1, 5, 100.0, First::Client);
    machine.install(Version::Next);
    assert_gone(&programs);
    restarted(&machine, &before);
    let (connected, failed) = client.paced();
    assert!(connected > 0 && failed == 0, "{failed} connections failed, {connected} came about");
    connections_are_those_of_the_kernel(&machine);

    assert!(machine.sh("dpkg-query --show --showformat='${Version}' tcpwarden").ends_with("+next"));
    assert_eq!(machine.sh(&format!("cat {CONFIG}")), edited);
    let new = machine.sh(&format!("cat {CONFIG}.dpkg-dist"));
    assert!(!new.contains("max_requests") && !new.contains("exported_peers = 7"));
}

fn without_rights_it_is_installed_all_the_same_and_says_why() {
    let machine = Machine::boot(Rights::WithoutBpf);
    // Tried as often as anywhere, but sooner.
    machine.sh("mkdir -p /run/systemd/system/tcpwarden.service.d
         printf '[Service]\\nRestartSec=100ms\\n' > /run/systemd/system/tcpwarden.service.d/test.conf");
    machine.install(Version::This);
    assert_eq!(machine.sh("dpkg-query --show --showformat='${Status}' tcpwarden"), "install ok installed");
    eventually(Duration::from_mins(1), || match machine.service("ActiveState").as_str() {
        "failed" => Ok(()),
        state => Err(format!("{state}: {}", journal(&machine, ""))),
    });
    let bad = journal(&machine, "--priority=err");
    assert!(bad.contains("tcpwarden: missing right CAP_BPF and CAP_PERFMON"), "{bad}");
    machine.sh("apt-get purge --yes tcpwarden");
}
