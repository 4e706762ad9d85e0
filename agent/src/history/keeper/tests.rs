use std::fs;

use bytemuck::Zeroable as _;
use probe_ebpf::{
    account::{Calls, Counters},
    sweep::{STATES, state},
};
use tempfile::TempDir;

use super::*;
use crate::model::{
    Clocks, Direction, ExportedAccount, HostFigures, Peer,
    past::{Field, Span},
    pool::{EphemeralFigures, Load},
};

const SETTINGS: HistorySettings = HistorySettings {
    bytes: 32 * 1024 * 1024,
    detail: Duration::from_hours(1),
    keep: Duration::from_hours(24),
};

const EVERYTHING: Span = Span { from: 0, to: 1 << 40 };

fn keeper(directory: &TempDir) -> Keeper {
    Keeper::open(directory.path().join("history.db"), SETTINGS).expect("opened")
}

/// A peer whose figures all move, as those of a busy NAT gateway do.
fn busy(number: u8, random: &mut fastrand::Rng, before: &Counters) -> ExportedAccount {
    let mut counters = *before;
    let opened = random.u64(200..280);
    counters.connections += opened;
    counters.closes[0] += opened - random.u64(..4);
    counters.syn_retries += random.u64(..12);
    counters.time_wait_accepted += random.u64(..200);
    counters.time_wait_refused[0] += random.u64(..9);
    counters.refused_connected[0] += random.u64(..5);
    counters.retransmits += random.u64(..3);
    counters.lifetime.sum_ns += opened * random.u64(5_000_000..60_000_000);
    counters.reuse.buckets[5] += opened;
    counters.reuse.sum_ns += opened * random.u64(30_000_000_000..50_000_000_000);
    let mut sockets = [0; STATES];
    sockets[state::ESTABLISHED as usize] = random.u32(20..90);
    sockets[state::TIME_WAIT as usize] = random.u32(12_000..14_300);
    sockets[state::FIN_WAIT2 as usize] = random.u32(..9);
    ExportedAccount {
        who: Some((Peer::Address([192, 0, 2, number].into()), 443)),
        direction: Direction::Inbound,
        counters,
        sockets,
        stalled: 0,
        connections_per_second: 0.0,
        gave_up: 0,
        challenged_gave_up: 0,
        calls: Calls::default(),
        callers: Vec::new(),
        pool: None,
        ephemeral: Some(EphemeralFigures {
            size: 14_336,
            local: None,
            local_addresses: 1,
            load: Load { time_wait: random.f64() * 14_000.0, live: 50.0, rate: 240.0, ends: [0.0; 60] },
            reuses: false,
            exhaustion_seconds: random.f64() * 60.0,
        }),
    }
}

#[test]
fn a_day_of_a_hundred_busy_peers_fits_into_256_mib() {
    let directory = TempDir::new().expect("a directory");
    let mut keeper = keeper(&directory);
    let mut random = fastrand::Rng::with_seed(7);
    let mut counters = vec![Counters::zeroed(); 100];
    let mut bytes = [0; 2];
    // What the file takes when it is empty counts once, not every five minutes.
    for (round, bytes) in (0..).zip(&mut bytes) {
        for unix in round * 300..(round + 1) * 300 {
            let mut snapshot = second(unix, u64::from(unix));
            for (number, before) in (0..100).zip(&mut counters) {
                let account = busy(number, &mut random, before);
                *before = account.counters;
                snapshot.accounts.push(account);
            }
            keeper.take(&snapshot, Vec::new());
        }
        keeper.flush();
        *bytes = keeper.status().bytes;
    }
    let day = (bytes[1] - bytes[0]) * 12 * 24;
    // Minutes are a sixtieth of it.
    assert!(day + day / 60 < 250 * 1024 * 1024, "{day} bytes");
}

/// A second in which the host has so many mini-sockets.
fn second(unix: u32, buckets: u64) -> Snapshot {
    Snapshot {
        taken: Clocks { monotonic_ns: u64::from(unix) * 1_000_000_000, unix_seconds: f64::from(unix) + 0.4 },
        host: HostFigures { time_wait_buckets: buckets, ..HostFigures::default() },
        ..Snapshot::default()
    }
}

fn buckets(store: &Store, span: Span) -> Vec<(u64, u32)> {
    let samples = store.samples(&Series::Host, span).expect("read");
    samples.into_iter().map(|(time, sample)| (time, sample[Field::Buckets])).collect()
}

#[test]
fn seconds_are_kept_and_minutes_made_of_them() {
    let directory = TempDir::new().expect("a directory");
    let mut keeper = keeper(&directory);
    for unix in 3_590..3_670_u32 {
        keeper.take(&second(unix, u64::from(unix)), Vec::new());
    }
    let seconds = buckets(keeper.current(), Span { from: 3_590, to: 3_670 });
    assert_eq!(seconds, (3_590..3_670_u32).map(|unix| (u64::from(unix), unix)).collect::<Vec<_>>());
    keeper.stop();
    let store = Store::read(&directory.path().join("history.db")).expect("readable");
    let day = Span { from: 0, to: 86_400 };
    assert_eq!(
        buckets(&store, day),
        [(3_540, 3_599), (3_600, 3_659), (3_660, 3_669)],
        "the highest of each minute"
    );
}

#[test]
fn a_restart_within_a_minute_goes_on_with_it() {
    let directory = TempDir::new().expect("a directory");
    for (range, at_rest) in [(600..620_u32, true), (630..640, false)] {
        let mut keeper = keeper(&directory);
        for unix in range {
            keeper.take(&second(unix, 7), Vec::new());
        }
        if at_rest {
            keeper.stop();
        } else {
            // As when it is killed, but for the seconds since the last writing.
            keeper.current();
        }
    }
    let store = Store::read(&directory.path().join("history.db")).expect("readable");
    let times: Vec<u64> =
        buckets(&store, Span { from: 600, to: 660 }).into_iter().map(|(time, _)| time).collect();
    assert_eq!(times, (600..620).chain(630..640).collect::<Vec<_>>());
}

#[test]
fn what_is_no_history_is_set_aside_and_kept() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("history.db");
    for (name, text) in [("history.db.broken", "first"), ("history.db.broken1", "second")] {
        let text = format!("{text}: no database, whatever its name may say");
        fs::write(&path, &text).expect("written");
        let mut keeper = keeper(&directory);
        assert_eq!(keeper.status().trouble, None);
        keeper.take(&second(60, 1), Vec::new());
        keeper.stop();
        assert_eq!(fs::read_to_string(directory.path().join(name)).expect("kept"), text);
    }
}

#[test]
fn without_a_file_memory_serves_until_there_is_one() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("made-later/history.db");
    // A file where the directory should be.
    fs::write(directory.path().join("made-later"), "").expect("written");
    let mut keeper = Keeper::open(path.clone(), SETTINGS).expect("opened");
    for unix in 0..10 {
        keeper.take(&second(unix, 5), Vec::new());
    }
    assert!(keeper.status().trouble.is_some());
    assert_eq!(buckets(keeper.current(), EVERYTHING).len(), 0, "no minute is over");
    assert_eq!(buckets(keeper.current(), Span { from: 0, to: 60 }).len(), 10);
    fs::remove_file(directory.path().join("made-later")).expect("removed");
    keeper.tidy();
    assert_eq!(keeper.status().trouble, None);
    let store = Store::read(&path).expect("readable");
    assert_eq!(buckets(&store, Span { from: 0, to: 60 }).len(), 10, "what memory held is in the file");
    let events = store.events(EVERYTHING, 10).expect("read");
    assert!(matches!(events.first(), Some(Happened { event: Event::AgentStarted { .. }, .. })));
}

#[test]
fn a_file_that_fails_later_is_told_and_nothing_stops() {
    let directory = TempDir::new().expect("a directory");
    let mut keeper = keeper(&directory);
    keeper.take(&second(60, 1), Vec::new());
    keeper.flush();
    // No room for another page, as on a full disk.
    keeper.store.bound(16_384).expect("bounded");
    let mut random = fastrand::Rng::with_seed(7);
    for unix in 61..9_000 {
        keeper.take(&second(unix, random.u64(..1_000_000)), Vec::new());
        if unix % 60 == 0 {
            keeper.flush();
        }
    }
    keeper.flush();
    let trouble = keeper.status().trouble.expect("it is told");
    assert!(trouble.contains("full"), "{trouble}");
    assert_eq!(buckets(keeper.current(), Span { from: 8_990, to: 9_000 }).len(), 10);
}

#[test]
fn a_clock_that_is_set_back_harms_nothing() {
    let directory = TempDir::new().expect("a directory");
    let mut keeper = keeper(&directory);
    for unix in (600..660).chain(100..130).chain(660..670) {
        keeper.take(&second(unix, 3), Vec::new());
    }
    let count = |keeper: &mut Keeper, from, to| buckets(keeper.current(), Span { from, to }).len();
    assert_eq!(
        [count(&mut keeper, 600, 660), count(&mut keeper, 100, 130), count(&mut keeper, 660, 670)],
        [60, 30, 10]
    );
}

#[test]
fn a_file_that_somebody_removed_is_made_anew() {
    let directory = TempDir::new().expect("a directory");
    let mut keeper = keeper(&directory);
    keeper.take(&second(60, 1), Vec::new());
    keeper.flush();
    fs::remove_file(directory.path().join("history.db")).expect("removed");
    keeper.tidy();
    keeper.take(&second(61, 2), Vec::new());
    keeper.flush();
    assert_eq!(keeper.status().trouble, None);
    let store = Store::read(&directory.path().join("history.db")).expect("there again");
    assert_eq!(buckets(&store, Span { from: 60, to: 62 }).last(), Some(&(61, 2)));
}
