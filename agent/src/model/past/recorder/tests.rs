use std::sync::Arc;

use super::*;
use crate::model::{
    Clocks, Direction, Peer, QueueFigures, SelfFigures,
    pool::{Load, Outgrown, PoolFigures},
    refusals::{End, RefusedReuse},
};

fn account(connections: u64) -> ExportedAccount {
    let mut counters = Counters::zeroed();
    counters.connections = connections;
    ExportedAccount {
        who: Some((Peer::Address([192, 0, 2, 1].into()), 443)),
        direction: Direction::Inbound,
        counters,
        sockets: Default::default(),
        stalled: 0,
        gave_up: 0,
        challenged_gave_up: 0,
        calls: probe_ebpf::account::Calls::default(),
        callers: Vec::new(),
        connections_per_second: 0.0,
        pool: None,
        ephemeral: None,
    }
}

/// A pool that somebody configured.
fn pool() -> PoolFigures {
    let configured = Ranges::whole(&[(10, 19)]);
    PoolFigures {
        source_ports: 0,
        bounds: None,
        observed: Ranges::default(),
        confidence: 0.0,
        is_known: false,
        remembered: false,
        configured: Some(configured),
        outside: 0,
        reachable: Some(10),
        gaps: None,
        elsewhere: None,
        is_learning: false,
        local: Some([192, 0, 2, 1].into()),
        local_addresses: 1,
        load: Load { time_wait: 0.0, live: 0.0, rate: 0.0, ends: [0.0; 60] },
        accepted: 0.0,
        refused: 0.0,
        same_clock: 0.0,
        other_clock: 0.0,
        accepts_reuse: false,
        turn: None,
        chance: None,
        outgrown: None,
        circling: None,
        exhaustion_seconds: None,
        forecast_confidence: 1.0,
    }
}

fn snapshot(unix_seconds: f64, accounts: Vec<ExportedAccount>) -> Snapshot {
    Snapshot { taken: Clocks { monotonic_ns: 0, unix_seconds }, accounts, ..Snapshot::default() }
}

/// The connections of the only account, second by second.
fn connections(recorder: &mut Recorder, accounts: Vec<ExportedAccount>) -> Vec<u32> {
    let Recorded { samples, .. } = recorder.record(&snapshot(1.0, accounts));
    let of_accounts = samples.iter().filter(|(series, _)| *series != Series::Host);
    of_accounts.map(|(_, sample)| sample[Field::Connections]).collect()
}

#[test]
fn each_event_is_in_exactly_one_second() {
    let mut recorder = Recorder::default();
    assert_eq!(connections(&mut recorder, vec![account(5)]), [5], "all of a new account's are new");
    assert_eq!(connections(&mut recorder, vec![account(12)]), [7]);
    assert_eq!(connections(&mut recorder, vec![]), [] as [u32; 0], "it is not shown for a while");
    assert_eq!(connections(&mut recorder, vec![account(20)]), [8]);
    assert_eq!(connections(&mut recorder, vec![account(3)]), [3], "it was forgotten and begins anew");
}

#[test]
fn the_first_snapshot_tells_how_things_stand() {
    let mut first = snapshot(1_000.0, vec![]);
    first.tells.time_wait = true;
    first.host.sysctls = vec![("net.core.somaxconn", 4_096)];
    first.host.listen_queues = vec![QueueFigures { port: 80, waiting: 3, limit: 3, sockets: vec![1] }];
    let mut recorder = Recorder::default();
    let Recorded { samples, events } = recorder.record(&first);
    assert_eq!(samples[0].1[Field::QueuePercent], 75, "four may wait");
    let [Event::AgentStarted { .. }, Event::Settings { values, unknown }] =
        [&events[0].event, &events[1].event]
    else {
        panic!("how things stand, not {events:?}")
    };
    assert!(!unknown.contains(&"time_wait_syns".to_owned()) && unknown.contains(&"retransmits".to_owned()));
    assert_eq!(values.get("net.core.somaxconn"), Some(&4_096));
    assert_eq!(recorder.record(&first).events, [], "nothing has changed");
    first.host.sysctls = vec![("net.core.somaxconn", 128)];
    let changed = recorder.record(&first).events;
    let name = "net.core.somaxconn".to_owned();
    let event = Event::SettingChanged { name, before: Some(4_096), after: Some(128) };
    assert_eq!(changed, [Happened { time: 1_000.0, event }]);
}

#[test]
fn with_the_syn_watch_its_repeated_syns_are_kept_and_no_sum_of_both() {
    let mut account = account(1);
    account.counters.syn_retries = 3;
    account.counters.watched_syns = 50;
    account.counters.watched_syn_retries = 9;
    for (syn_watch, kept) in [(true, (50, 9)), (false, (0, 3))] {
        let mut now = snapshot(1.0, vec![account.clone()]);
        now.tells.syn_watch = syn_watch;
        let samples = Recorder::default().record(&now).samples;
        let sample = samples.into_iter().find(|(series, _)| *series != Series::Host).expect("kept").1;
        assert_eq!((sample[Field::Syns], sample[Field::SynRetries]), kept);
    }
}

#[test]
fn how_things_stand_is_told_anew_each_day() {
    let mut recorder = Recorder::default();
    let mut at = |time: f64| -> Vec<String> {
        let mut exported = account(1);
        exported.pool = Some(pool());
        let mut now = snapshot(time, vec![exported]);
        now.host.sysctls = vec![("net.core.somaxconn", 4_096)];
        let events = recorder.record(&now).events;
        events.iter().map(|happened| format!("{:?}", happened.event)).collect()
    };
    let first = at(1_000.0);
    assert_eq!(at(87_399.0), [] as [&str; 0]);
    assert_eq!(at(87_400.0), first[1..], "all but that the agent started");
    assert_eq!(at(87_401.0), [] as [&str; 0]);
    assert!(first.len() == 3 && first[2].starts_with("PoolKnown"), "{first:?}");
}

#[test]
fn a_block_that_was_outgrown_is_told_once() {
    let mut recorder = Recorder::default();
    let mut told = |low: Option<u16>, refused: usize| -> Vec<String> {
        let blocks = |low: u16| vec![Range { low, high: low + 63, step: 1 }];
        let outgrown =
            low.map(|low| Outgrown { blocks: blocks(low), refused, all_refused: refused, seconds: 60 });
        let mut exported = account(1);
        exported.pool = Some(PoolFigures { outgrown, ..pool() });
        let events = recorder.record(&snapshot(1.0, vec![exported])).events.into_iter();
        let texts = events.filter_map(|happened| match happened.event {
            Event::BlockOutgrown { text, .. } => Some(text),
            _ => None,
        });
        texts.collect()
    };
    assert_eq!(told(None, 0), [] as [&str; 0]);
    let texts = told(Some(1_344), 9);
    assert!(
        texts.len() == 1 && texts[0].starts_with("all 9 ") && texts[0].contains("1344-1407"),
        "{texts:?}"
    );
    assert_eq!(told(Some(1_344), 30), [] as [&str; 0]);
    assert_eq!(told(None, 0), [] as [&str; 0]);
    assert!(told(Some(1_472), 9)[0].contains("1472-1535"));
}

#[test]
fn refused_reuses_are_taken_once_even_when_they_made_room() {
    let reuse = |began: u32| RefusedReuse {
        state: 6,
        began: f64::from(began),
        remote: ([192, 0, 2, 1].into(), 10_141),
        local: ([192, 0, 2, 9].into(), 443),
        answers: [4, 0, 0],
        retries: 3,
        waited: std::time::Duration::from_secs(7),
        end: End::GaveUp,
    };
    let with = |before: u64, kept: std::ops::Range<u32>| Snapshot {
        refused_reuses: kept.map(reuse).collect::<Arc<[_]>>(),
        refused_reuses_before: before,
        ..snapshot(1.0, vec![])
    };
    let mut recorder = Recorder::default();
    let mut began = |snapshot: &Snapshot| -> Vec<f64> {
        let events = recorder.record(snapshot).events.into_iter();
        events
            .filter(|happened| matches!(happened.event, Event::RefusedReuse(_)))
            .map(|happened| happened.time)
            .collect()
    };
    assert_eq!(began(&with(0, 0..2)), [0.0, 1.0]);
    assert_eq!(began(&with(0, 0..2)), [] as [f64; 0]);
    // Two more came, and two made room.
    assert_eq!(began(&with(2, 2..4)), [2.0, 3.0]);
    // More came than are kept.
    assert_eq!(began(&with(90, 90..94)), [90.0, 91.0, 92.0, 93.0]);
}

#[test]
fn notices_are_told_by_what_became_of_them() {
    let told = |delivered, failed| {
        let figures =
            NotificationFigures { receiver: Arc::from("ops"), delivered, failed, ..Default::default() };
        Snapshot {
            itself: SelfFigures { notifications: vec![figures], ..Default::default() },
            ..snapshot(1.0, vec![])
        }
    };
    let mut recorder = Recorder::default();
    recorder.record(&told(5, 0));
    let events = recorder.record(&told(7, 1)).events;
    let event = |outcome: &str, notices| Event::Notices {
        receiver: "ops".to_owned(),
        outcome: outcome.to_owned(),
        notices,
    };
    let told: Vec<Event> = events.into_iter().map(|happened| happened.event).collect();
    assert_eq!(told, [event("delivered", 2), event("failed", 1)]);
}

#[test]
fn every_event_is_read_as_it_was_written() {
    let events = [
        Event::AgentStopped,
        Event::TrafficStep {
            who: Who { peer: "192.0.2.1".to_owned(), port: 443, direction: "inbound".to_owned() },
            before: 10.0,
            after: 240.5,
        },
        Event::SettingChanged { name: "a".to_owned(), before: None, after: Some(u64::MAX) },
    ];
    for event in events {
        let happened = Happened { time: 1_795_000_000.25, event };
        let text = serde_json::to_string(&happened).expect("written");
        assert_eq!(serde_json::from_str::<Happened>(&text).expect("read"), happened, "{text}");
    }
}
