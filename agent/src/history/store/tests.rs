#![expect(clippy::indexing_slicing, reason = "a test fails by panicking")]

use tempfile::TempDir;

use super::*;
use crate::model::past::{Event, Field};

const MIB: u64 = 1024 * 1024;

fn peer(host: u8) -> Series {
    let peer = Peer::Address([192, 0, 2, host].into());
    Series::Account(AccountId { peer, port: 443, direction: Direction::Inbound })
}

/// A block of samples that pack badly, as if much happened.
fn restless(seed: u64) -> Block {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut block = Block::default();
    for slot in 0..SLOTS {
        let mut sample = Sample::default();
        for field in Field::ALL {
            sample[field] = random.u32(..);
        }
        block.set(slot, sample);
    }
    block
}

fn row(step: u64, start: u64, series: Series, seed: u64) -> Row {
    Row { step, start, series, block: restless(seed) }
}

fn listener(time: f64, port: u16) -> Happened {
    Happened { time, event: Event::ListenerOpened { port } }
}

fn everything() -> Span {
    Span { from: 0, to: 1 << 40 }
}

#[test]
fn what_is_written_is_read_by_another_connection_meanwhile() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("history.db");
    let mut writer = Store::open(&path).expect("made");
    let rows = [row(SECOND, 600, peer(1), 1), row(SECOND, 660, peer(1), 2), row(MINUTE, 0, Series::Host, 3)];
    writer.add(&rows, &[listener(601.5, 80), listener(599.0, 81)]).expect("written");

    let reader = Store::read(&path).expect("readable");
    assert_eq!(reader.series(everything()).expect("read"), [Series::Host, peer(1)]);
    let span = Span { from: 655, to: 665 };
    let samples = reader.samples(&peer(1), span).expect("read");
    let times: Vec<u64> = samples.iter().map(|(time, _)| *time).collect();
    assert_eq!(times, (655..665).collect::<Vec<_>>());
    assert_eq!(Some(&samples[0].1), restless(1).samples().nth(55).map(|(_, sample)| sample));
    let events = reader.events(everything(), 10).expect("read");
    assert_eq!(events, [listener(599.0, 81), listener(601.5, 80)], "by time, not as they came");
    assert_eq!(reader.events(everything(), 1).expect("read"), [listener(601.5, 80)], "the last ones");
}

#[test]
fn a_long_span_is_read_minute_by_minute() {
    let mut store = Store::in_memory().expect("a store");
    let rows = [row(SECOND, 3_600, peer(1), 1), row(MINUTE, 3_600, peer(1), 2)];
    store.add(&rows, &[]).expect("written");
    let times = |span| -> Vec<u64> {
        store.samples(&peer(1), span).expect("read").iter().map(|(time, _)| *time).collect()
    };
    assert_eq!(times(Span { from: 3_600, to: 3_603 }), [3_600, 3_601, 3_602]);
    let long = times(Span { from: 3_600, to: 3_600 * 4 });
    assert_eq!((long.len(), long[1]), (60, 3_660));
    // Where there are no seconds any more, minutes stand for them.
    assert_eq!(times(Span { from: 7_080, to: 7_200 }), [7_080, 7_140]);
}

#[test]
fn groups_and_addresses_of_one_name_are_two_series() {
    let mut store = Store::in_memory().expect("a store");
    let group = |name: &str| {
        let peer = Peer::Group(name.into());
        Series::Account(AccountId { peer, port: 443, direction: Direction::Outbound })
    };
    let series = [Series::Host, group("192.0.2.1"), group(""), peer(1)];
    let rows: Vec<Row> = series.iter().map(|series| row(SECOND, 60, series.clone(), 1)).collect();
    store.add(&rows, &[]).expect("written");
    let mut expected = series.to_vec();
    expected.sort();
    assert_eq!(store.series(everything()).expect("read"), expected);
}

#[test]
fn it_stays_within_its_bytes_and_the_oldest_goes() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("history.db");
    let mut store = Store::open(&path).expect("made");
    let bytes = 12 * MIB;
    store.bound(bytes).expect("bounded");
    let mut last = 0;
    // Blocks of about 12 KB each: 48 MiB in all.
    for minute in 0..4_000_u64 {
        last = minute * 60;
        if store.is_crowded(bytes).expect("read") {
            store.trim(0, 0, bytes).expect("trimmed");
        }
        store.add(&[row(SECOND, last, peer(1), minute)], &[listener(last as f64, 80)]).expect("room is made");
    }
    let log = std::fs::metadata(directory.path().join("history.db-wal")).expect("the log").len();
    let file = std::fs::metadata(&path).expect("the file").len();
    assert!(file <= bytes && log <= 2 * LOG_BYTES, "{file} bytes, log {log}");
    let kept = |from| store.samples_of(&peer(1), Span { from, to: from + 60 }, SECOND).expect("read").len();
    assert_eq!((kept(0), kept(last)), (0, 60));
    assert_eq!(store.events(everything(), usize::MAX).expect("read").len(), 4_000, "figures make room first");
}

#[test]
fn what_is_too_old_goes_and_its_room_is_given_back() {
    let directory = TempDir::new().expect("a directory");
    let mut store = Store::open(&directory.path().join("history.db")).expect("made");
    let rows: Vec<Row> = (0..400).map(|minute| row(SECOND, minute * 60, peer(1), minute)).collect();
    store.add(&rows, &[listener(5.0, 80)]).expect("written");
    store.add(&[row(MINUTE, 0, peer(2), 1), row(MINUTE, 36_000, peer(3), 1)], &[]).expect("written");
    let before = store.bytes().expect("read");
    for _ in 0..4 {
        store.trim(3_000_000, 10_000, 100 * MIB).expect("trimmed");
    }
    assert_eq!(store.series(everything()).expect("read"), [peer(3)]);
    assert_eq!(store.events(everything(), 10).expect("read"), []);
    let after = store.bytes().expect("read");
    assert!(after * 10 < before, "{after} of {before} bytes");
}

#[test]
fn a_file_without_room_says_so() {
    let directory = TempDir::new().expect("a directory");
    let mut store = Store::open(&directory.path().join("history.db")).expect("made");
    store.bound(64 * 1024).expect("bounded");
    let rows: Vec<Row> = (0..40).map(|minute| row(SECOND, minute * 60, peer(1), minute)).collect();
    let error = store.add(&rows, &[]).expect_err("it is full");
    assert!(error.to_string().contains("full") && !error.is_broken(), "{error}");
    assert_eq!(store.series(everything()).expect("read"), [], "all or nothing");
}

#[test]
fn what_is_no_history_is_recognised() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("history.db");
    std::fs::write(&path, "this is a text, and no database of anyone at all").expect("written");
    assert!(Store::open(&path).expect_err("no database").is_broken());
    assert!(Store::read(&path).is_err());
    assert!(!Store::open(Path::new("/proc/no/such/place")).expect_err("no place").is_broken());
}

#[test]
fn a_torn_file_is_recognised() {
    let directory = TempDir::new().expect("a directory");
    let path = directory.path().join("history.db");
    let mut store = Store::open(&path).expect("made");
    let rows: Vec<Row> = (0..40).map(|minute| row(SECOND, minute * 60, peer(1), minute)).collect();
    store.add(&rows, &[]).expect("written");
    drop(store);
    let mut bytes = std::fs::read(&path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0xA5);
    std::fs::write(&path, bytes).expect("written");
    let error = Store::open(&path).expect_err("it is torn");
    assert!(error.is_broken(), "{error}");
}

#[test]
fn how_things_stood_before_a_span_belongs_to_it() {
    let mut store = Store::in_memory().expect("a store");
    let settings = |time, value| Happened {
        time,
        event: Event::Settings {
            values: [("a".to_owned(), value)].into(),
            unknown: vec!["stalled".to_owned()],
        },
    };
    let name = "a".to_owned();
    let changed =
        Happened { time: 300.0, event: Event::SettingChanged { name, before: Some(2), after: Some(3) } };
    let events =
        [settings(50.0, 1), settings(100.0, 2), listener(200.0, 80), changed.clone(), listener(5_000.0, 81)];
    store.add(&[], &events).expect("written");
    let past = store.past(Span { from: 4_000, to: 6_000 }).expect("read");
    assert_eq!(past.events, [settings(100.0, 2), changed, listener(5_000.0, 81)]);
}
