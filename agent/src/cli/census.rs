//! `tcpwarden census`: one census, printed.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    io::{self, BufWriter, Write as _},
    net::IpAddr,
    process::ExitCode,
};

use comfy_table::{CellAlignment, Table, presets};
use probe_ebpf::{
    account::PeerKey,
    sweep::{Held, HeldAt, state},
};
use tcpwarden::{
    api::{Census, PeerSockets},
    census::{self, SocketCounts, Source},
    config::{CensusMode, Settings},
    host,
    model::{AccountId, CONNECTED_STATES, Groups},
    probe::{Probe, Wishes, capability::Capability},
};

/// Takes it as is wanted and as our rights allow, and prints it.
pub(super) fn execute(wanted: CensusMode, json: bool) -> anyhow::Result<ExitCode> {
    let census = Taker::new(wanted)?.take()?;
    let mut out = BufWriter::new(io::stdout().lock());
    if json {
        serde_json::to_writer_pretty(&mut out, &census)?;
        writeln!(out)?;
    } else {
        print(&mut out, &census)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Takes one census after the other, each in the same way.
pub(super) struct Taker {
    /// None counts over netlink, which needs no rights.
    probe: Option<(Source, Probe)>,
    settings: Settings,
}

impl Taker {
    /// Chooses the best way our rights allow.
    pub fn new(wanted: CensusMode) -> anyhow::Result<Self> {
        let settings = Settings::default();
        let probe = match wanted {
            CensusMode::Netlink => None,
            _ => match load(wanted, &settings) {
                Ok(loaded) => Some(loaded),
                Err(error) if wanted == CensusMode::Auto => {
                    log::info!("counting over netlink: {error:#}");
                    None
                }
                Err(error) => return Err(error),
            },
        };
        Ok(Self { probe, settings })
    }

    /// Takes one.
    pub fn take(&mut self) -> anyhow::Result<Census> {
        let ports = host::ephemeral_ports();
        Ok(match &mut self.probe {
            Some((source, probe)) => document(
                *source,
                &source.take(probe, ports, self.settings.stalled_after, self.settings.limits.peers)?,
            ),
            None => document(Source::Netlink, &census::without_probe(ports)?),
        })
    }
}

fn load(wanted: CensusMode, settings: &Settings) -> anyhow::Result<(Source, Probe)> {
    let wishes = Wishes { limits: &settings.limits, syn_watch: false, aborted: settings.aborted };
    let mut probe = Probe::load(&Capability::detect()?, wishes)?;
    let (source, _) = Source::choose(wanted, &mut probe)?;
    probe.finish_loading();
    Ok((source, probe))
}

fn document(source: Source, census: &census::Census) -> Census {
    let mut peers: BTreeMap<AccountId, SocketCounts> = BTreeMap::new();
    for Held { peer: key, sockets, .. } in &census.rows {
        let row = peers.entry(Groups::default().account_of(key)).or_default();
        for (sum, count) in row.iter_mut().zip(sockets) {
            *sum += count;
        }
    }
    let mut by_local: BTreeMap<AccountId, BTreeMap<IpAddr, u32>> = BTreeMap::new();
    for held @ HeldAt { peer: key, local, .. } in &census.at {
        let row = by_local.entry(Groups::default().account_of(key)).or_default();
        *row.entry(PeerKey { addr: *local, ..*key }.address()).or_default() += held.sockets();
    }
    let mut peers: Vec<_> = peers.into_iter().collect();
    peers.sort_by_key(|(_, sockets)| Reverse(sockets.iter().sum::<u32>()));
    let peers = peers.into_iter().map(|(id, sockets)| PeerSockets {
        by_local_address: by_local.remove(&id).unwrap_or_default(),
        // Port 0 is what the kernel had no room for.
        peer: if id.port == 0 { "other".to_owned() } else { id.peer.to_string() },
        port: id.port,
        direction: id.direction.name().to_owned(),
        sockets: CONNECTED_STATES
            .iter()
            .map(|&(name, state)| (name.to_owned(), sockets[state as usize]))
            .collect(),
    });
    Census {
        source: source.name(),
        sockets: census.sockets(),
        listen: census.totals[state::LISTEN as usize],
        peers: peers.collect(),
    }
}

fn print(out: &mut impl io::Write, census: &Census) -> io::Result<()> {
    // States that nobody is in take no room.
    let used: Vec<_> = CONNECTED_STATES
        .iter()
        .map(|&(name, _)| name)
        .filter(|name| census.peers.iter().any(|line| line.sockets[*name] > 0))
        .collect();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(
        ["PEER", "PORT", "DIRECTION"]
            .map(str::to_owned)
            .into_iter()
            .chain(used.iter().map(|name| name.to_uppercase())),
    );
    for line in &census.peers {
        let counts = used.iter().map(|name| line.sockets[*name].to_string());
        table.add_row(
            [line.peer.clone(), line.port.to_string(), line.direction.clone()].into_iter().chain(counts),
        );
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    if !census.peers.is_empty() {
        writeln!(out, "{}", table.trim_fmt())?;
    }
    let peers = census.peers.len();
    writeln!(
        out,
        "{} sockets: {} listening, the rest with {peers} peers (by {})",
        census.sockets, census.listen, census.source
    )
}
