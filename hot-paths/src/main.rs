//! What the agent computes each second, and at each scrape, over and over: `hot-paths PATH TIMES`.
//!
//! Their instructions are counted (`cargo xtask test`), which gives the same figure however busy the machine is. What comes before the
//! first time is the same for any number of times, and falls out of the difference.

#![expect(clippy::print_stdout, reason = "it prints the names of the paths")]
#![expect(clippy::expect_used, reason = "what cannot be computed is not counted")]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, bail};
use bytemuck::Zeroable as _;
use probe_ebpf::{
    account::{Account, AccountKey, INBOUND, PeerKey},
    source_ports::{FILLED_IN, PortSet},
    sweep::{Held, HeldAt, state},
};
use tcpwarden::{
    alert::{Engine, Facts, Now, PoolFact},
    config::Settings,
    model::{
        AccountId, Accounts, Direction, ExportedAccount, Groups, Peer, Retention, Snapshot, Tells,
        habits::Habits,
        past::Recorder,
        pool::{PoolFigures, Pools, TimeWaits},
    },
    serve::{self, AlertView, RefusedConnections, View},
};

/// Peers that are known, and those with series of their own.
const KNOWN: u32 = 10_000;
const SHOWN: u32 = 100;

/// Of these ports a peer draws.
const POOL: std::ops::RangeInclusive<u16> = 2_048..=16_383;

/// A path, and what it is called.
type Path = (&'static str, fn(u32));

const PATHS: [Path; 7] = [
    ("read_10000_quiet_accounts", read_quiet),
    ("read_10000_accounts", read),
    ("rank_and_export_10000_accounts", rank),
    ("settle_census_of_10000_peers", settle),
    ("infer_pool_of_14336_ports", infer),
    ("judge_alerts_of_100_pools", judge),
    ("record_and_render_100_accounts", render),
];

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, times] = args.as_slice() else {
        for (name, _) in PATHS {
            println!("{name}");
        }
        return Ok(());
    };
    let Some((_, path)) = PATHS.iter().find(|(path, _)| path == name) else { bail!("no path {name}") };
    path(times.parse().context("TIMES")?);
    Ok(())
}

fn peer(number: u32) -> PeerKey {
    PeerKey::new(IpAddr::V4(Ipv4Addr::from_bits(0x0A00_0000 + number)), 443, INBOUND)
}

/// What the kernel has counted for a peer after so many seconds.
fn counted(seconds: u32) -> Account {
    let mut account = Account::zeroed();
    account.counters.connections = u64::from(seconds) * 3;
    account.counters.closes[0] = u64::from(seconds) * 3;
    account.counters.lifetime.buckets[2] = u64::from(seconds) * 3;
    account
}

fn at(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

/// Accounts that are a second old.
fn known() -> Accounts {
    let retention =
        Retention { exported: SHOWN as usize, capacity: 131_072, forget_after: Duration::from_mins(10) };
    let mut accounts = Accounts::new(Groups::default(), retention);
    for number in 0..KNOWN {
        accounts.read(at(1), AccountKey { peer: peer(number), half_open: false }, &counted(1));
    }
    accounts.rank(at(1), &HashSet::new());
    accounts
}

fn read(times: u32) {
    let mut accounts = known();
    for second in (2..).take(times as usize) {
        for number in 0..KNOWN {
            let key = AccountKey { peer: peer(number), half_open: false };
            accounts.read(at(second), key, &counted(second));
        }
    }
    black_box(accounts);
}

fn read_quiet(times: u32) {
    let mut accounts = known();
    for second in (2..).take(times as usize) {
        for number in 0..KNOWN {
            let key = AccountKey { peer: peer(number), half_open: false };
            accounts.read(at(second), key, &counted(1));
        }
    }
    black_box(accounts);
}

fn rank(times: u32) {
    let mut accounts = known();
    for second in (2..).take(times as usize) {
        accounts.rank(at(second), &HashSet::new());
        black_box(accounts.export());
    }
}

fn settle(times: u32) {
    let mut accounts = known();
    let census: Vec<Held> = (0..KNOWN).map(held).collect();
    for second in (2..).take(times as usize) {
        accounts.settle(at(second), black_box(&census));
    }
    black_box(accounts);
}

fn held(number: u32) -> Held {
    let mut held = Held::none(peer(number));
    held.sockets[state::TIME_WAIT as usize] = 180;
    held
}

/// A pool whose peer hands out its ports in turn and makes so many connections a second.
fn pools(times: u32, rate: u32) -> Vec<(PeerKey, PoolFigures)> {
    let mut pools = Pools::new(1);
    let mut drawn = POOL.cycle();
    for second in (1..).take(times as usize + 1) {
        let mut ports = PortSet { filled_in: FILLED_IN, ..PortSet::zeroed() };
        drawn.by_ref().take(rate as usize).for_each(|port| ports.insert(port));
        let mut counters = counted(second).counters;
        counters.connections = u64::from(second) * u64::from(rate);
        pools.read(at(second), &peer(0), &counters, true);
        let local = peer(0).addr;
        pools.settle(at(second), &[HeldAt { peer: peer(0), local, live: 0, time_wait: 180 }]);
        pools.choose(at(second), |_| true);
        pools.observe(at(second), &peer(0), black_box(&ports), None);
    }
    pools.figures(at(times + 2), TimeWaits { left: f64::INFINITY, made: 0, overflows: 0 }, |_| None).collect()
}

fn infer(times: u32) {
    black_box(pools(times, 1_000));
}

fn judge(times: u32) {
    let settings =
        Settings::parse("", std::path::Path::new("none")).expect("nothing is wrong in an empty file");
    let mut engine = Engine::new(settings.alerts, settings.silences);
    let (_, figures) = pools(10, 3).pop().expect("a pool is recorded");
    let accounts: Vec<AccountId> = (0..SHOWN)
        .map(|number| AccountId {
            peer: Peer::Address(Ipv4Addr::from_bits(0x0A00_0000 + number).into()),
            port: 443,
            direction: Direction::Inbound,
        })
        .collect();
    let pools: Vec<PoolFact<'_>> = accounts
        .iter()
        .zip(0..)
        .map(|(account, number)| PoolFact {
            account,
            address: Ipv4Addr::from_bits(0x0A00_0000 + number).into(),
            figures: &figures,
        })
        .collect();
    let snapshot = snapshot();
    let facts = Facts {
        pools: &pools,
        troubled: &HashMap::new(),
        ephemeral: &[],
        destinations: &HashMap::new(),
        close_waits: &BTreeMap::new(),
        habits: &Habits::default(),
        tells: snapshot.tells,
        host: &snapshot.host,
        lost: &[],
        drift: 0,
        stale: &[],
        left_behind: &HashSet::new(),
        names: &[],
        config_reloaded: true,
        history_trouble: None,
        unreached: &[],
    };
    for second in (2..).take(times as usize) {
        let now = Now { monotonic: at(second), unix: 1_795_000_000 + u64::from(second) };
        black_box(engine.evaluate(now, black_box(&facts)));
    }
}

/// A host with accounts of which every figure is told.
fn snapshot() -> Snapshot {
    let accounts = (0..SHOWN).map(|number| ExportedAccount {
        who: Some((Peer::Address(Ipv4Addr::from_bits(0x0A00_0000 + number).into()), 443)),
        direction: Direction::Inbound,
        counters: counted(1_000_000).counters,
        sockets: held(number).sockets,
        stalled: 0,
        gave_up: 0,
        challenged_gave_up: 0,
        calls: probe_ebpf::account::Calls::default(),
        callers: Vec::new(),
        connections_per_second: 3.0,
        pool: None,
        ephemeral: None,
    });
    let tells = Tells {
        retransmits: true,
        synack_retries: true,
        resets_peer: true,
        resets_local: true,
        time_wait: true,
        challenged: true,
        syn_watch: true,
        stalled: true,
        aborted_early: true,
        timestamps: true,
    };
    Snapshot { accounts: accounts.collect(), tells, ..Snapshot::default() }
}

fn render(times: u32) {
    let view = View { snapshot: Arc::new(snapshot()), alerts: AlertView::default() };
    let mut recorder = Recorder::default();
    for _ in 0..times {
        black_box(recorder.record(&view.snapshot));
        black_box(serve::render(&view, &RefusedConnections::default()).expect("it can be rendered"));
    }
}
