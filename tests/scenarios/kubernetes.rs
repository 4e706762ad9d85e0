//! The agent in its pod, with the rights that the chart's manifest gives it and no others.

use std::{fs, time::Duration};

use lab::{
    agent::Agent,
    attaching::exact,
    host::Host,
    pod::Pod,
    topology::{Family, Pair, pair},
    traffic::Traffic,
};

lab::scenarios! {
    Others 5 s:
        the_rights_of_the_manifest_are_enough_and_all_there_is,
        the_memory_limit_of_the_manifest_has_room_for_the_default_limits;
}

const PORT: u16 = 9001;
const CONNECTIONS: usize = 25;

fn the_rights_of_the_manifest_are_enough_and_all_there_is() {
    let pair = pair();
    let pod = Pod::new();
    let agent = Agent::start_pod(&pair.server, &pod);
    let pid = agent.pid_in_pod();

    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent runs");
    let of = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_else(|| panic!("no {name} in {status}")).trim()
    };
    // It was started with what the manifest gives, and has given that up by now. Bubblewrap leaves the bounding set as it was;
    // without new privileges there is no way to what is in it.
    for set in ["CapPrm", "CapEff"] {
        assert_eq!(u64::from_str_radix(of(set), 16), Ok(0), "{set}");
    }
    assert_eq!(of("NoNewPrivs"), "1");
    let mounts = fs::read_to_string(format!("/proc/{pid}/mounts")).expect("the agent runs");
    let mut writable = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (at, options) = (words.next()?, words.nth(1)?);
        (options.split(',').any(|option| option == "rw")
            && !at.starts_with("/proc")
            && !at.starts_with("/dev"))
        .then_some(at)
    });
    assert_eq!(writable.next(), Some("/var/lib/tcpwarden"));
    assert_eq!(writable.next(), None);

    let metrics = agent.scrape();
    let hooks = metrics.body.lines().filter(|line| line.starts_with("tcpwarden_probe_info{"));
    let (off, on): (Vec<_>, Vec<_>) = hooks.partition(|line| line.contains("probe=\"syn_watch\""));
    assert!(off.len() == 1 && on.len() >= 5, "{on:?}");
    for hook in on {
        assert!(hook.contains("mode=\"btf\"") || hook.contains("mode=\"iter\""), "{hook}");
    }

    // What happens on the node is seen from within the pod.
    let _exact = exact();
    let server_address = Pair::server_address(Family::V4);
    let server = Traffic::drain(&pair.server, server_address, PORT, CONNECTIONS);
    Traffic::flood(&pair.client, Pair::client_address(Family::V4), server_address, PORT, CONNECTIONS)
        .finish();
    server.finish();
    let client = Pair::client_address(Family::V4).to_string();
    lab::eventually(Duration::from_secs(10), || {
        match agent.scrape().sum("peer_connections_total", "inbound", Some(&client)) {
            found if found == CONNECTIONS as u64 => Ok(()),
            other => Err(format!("{other} connections")),
        }
    });
}

fn the_memory_limit_of_the_manifest_has_room_for_the_default_limits() {
    let host = Host::new("node");
    let pod = Pod::new();
    let agent = Agent::start_pod(&host, &pod);
    let pid = agent.pid_in_pod();
    let kernel = map_bytes(pid) / 1024;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent runs");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it has memory");
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    // 3.7 KB per peer, and as many peers as fit into the maps.
    let peers = (16_384 + 4_096) * 3_700 / 1_024;
    let limit = pod.memory_limit() * 1024;
    assert!(kernel > 10 * 1024, "the maps are found");
    assert!(kernel + peak + peers < limit, "{kernel} + {peak} + {peers} KiB of {limit}");
}

/// What the kernel charges for the maps of a process.
fn map_bytes(pid: i32) -> u64 {
    let directory = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("the agent runs");
    let texts = directory.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
    let maps = texts.filter(|text| text.contains("map_id:"));
    maps.filter_map(|text| {
        text.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse::<u64>().ok())
    })
    .sum()
}
