//! `tcpwarden census`: one census, printed.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    process::ExitCode,
};

use comfy_table::{CellAlignment, Table, presets};
use probe_ebpf::sweep::{Held, state};
use serde::Serialize;
use tcpwarden::{
    census::{self, Census, SocketCounts, Source},
    config::{CensusMode, Settings},
    host,
    model::{AccountId, CONNECTED_STATES, Groups},
    probe::{Probe, Wishes, capability::Capability},
};

/// One peer, as `--json` prints it.
#[derive(Serialize)]
struct Line {
    peer: String,
    port: u16,
    direction: &'static str,
    sockets: BTreeMap<&'static str, u32>,
}

/// The whole census, as `--json` prints it.
#[derive(Serialize)]
struct Report {
    source: &'static str,
    sockets: u64,
    listen: u32,
    peers: Vec<Line>,
}

/// Takes it in the best way our rights allow, and prints it.
pub(super) fn execute(wanted: CensusMode, json: bool) -> anyhow::Result<ExitCode> {
    let (source, census) = take(wanted)?;
    let report = report(source, &census);
    let mut out = io::stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    } else {
        print(&mut out, &report)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn take(wanted: CensusMode) -> anyhow::Result<(Source, Census)> {
    if wanted == CensusMode::Netlink {
        return Ok((Source::Netlink, census::without_probe(host::ephemeral_ports())?));
    }
    match with_probe(wanted, &Settings::default()) {
        Ok(taken) => Ok(taken),
        Err(error) if wanted == CensusMode::Auto => {
            log::info!("counting over netlink: {error:#}");
            Ok((Source::Netlink, census::without_probe(host::ephemeral_ports())?))
        }
        Err(error) => Err(error),
    }
}

fn with_probe(wanted: CensusMode, settings: &Settings) -> anyhow::Result<(Source, Census)> {
    let wishes = Wishes { limits: &settings.limits, syn_watch: false, aborted: settings.aborted };
    let mut probe = Probe::load(&Capability::detect()?, wishes)?;
    let (source, _) = Source::choose(wanted, &mut probe)?;
    let census = source.take(&mut probe, host::ephemeral_ports(), settings.stalled_after)?;
    Ok((source, census))
}

fn report(source: Source, census: &Census) -> Report {
    let mut peers: BTreeMap<AccountId, SocketCounts> = BTreeMap::new();
    for Held { peer: key, sockets, .. } in &census.rows {
        let row = peers.entry(Groups::default().account_of(key)).or_default();
        for (sum, count) in row.iter_mut().zip(sockets) {
            *sum += count;
        }
    }
    let mut peers: Vec<_> = peers.into_iter().collect();
    peers.sort_by_key(|(_, sockets)| std::cmp::Reverse(sockets.iter().sum::<u32>()));
    let lines = peers.into_iter().map(|(id, sockets)| Line {
        // Port 0 is what the kernel had no room for.
        peer: if id.port == 0 { "other".to_owned() } else { id.peer.to_string() },
        port: id.port,
        direction: id.direction.name(),
        sockets: CONNECTED_STATES.iter().map(|&(name, state)| (name, sockets[state as usize])).collect(),
    });
    Report {
        source: source.name(),
        sockets: census.sockets(),
        listen: census.totals[state::LISTEN as usize],
        peers: lines.collect(),
    }
}

fn print(out: &mut impl io::Write, report: &Report) -> io::Result<()> {
    // States that nobody is in take no room.
    let used: Vec<_> = CONNECTED_STATES
        .iter()
        .map(|&(name, _)| name)
        .filter(|name| report.peers.iter().any(|line| line.sockets[name] > 0))
        .collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(
        ["PEER", "PORT", "DIRECTION"]
            .map(str::to_owned)
            .into_iter()
            .chain(used.iter().map(|name| name.to_uppercase())),
    );
    for line in &report.peers {
        let counts = used.iter().map(|name| line.sockets[name].to_string());
        table.add_row(
            [line.peer.clone(), line.port.to_string(), line.direction.to_owned()].into_iter().chain(counts),
        );
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    if !report.peers.is_empty() {
        writeln!(out, "{}", table.trim_fmt())?;
    }
    let peers = report.peers.len();
    writeln!(
        out,
        "{} sockets: {} listening, the rest with {peers} peers (by {})",
        report.sockets, report.listen, report.source
    )
}
