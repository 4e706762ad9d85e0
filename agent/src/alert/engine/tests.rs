use std::{collections::HashMap, net::IpAddr, path::Path, sync::Arc};

use probe_ebpf::account::{CONNECT_FAILURES, ConnectFailure};

use super::*;
use crate::{
    alert::{EphemeralFact, PoolFact},
    config::{Measure, Settings},
    model::{
        CloseWaits, Destination, Events, HostFigures, LostFigures, Peer, QueueFigures, Tells,
        habits::Habits,
        names::{NameTrouble, StaleAddress, WatchId},
        pool::{Chance, EphemeralFigures, Gaps, Load, Outgrown, PoolFigures, Range, Ranges},
    },
};

/// An engine, the facts it is shown, and the time.
struct Play {
    engine: Engine,
    now: Now,
    pools: Vec<(AccountId, PoolFigures)>,
    troubled: HashMap<AccountId, Events>,
    ephemeral: Vec<(AccountId, EphemeralFigures)>,
    left_behind: HashSet<AccountId>,
    destinations: HashMap<AccountId, Destination>,
    close_waits: BTreeMap<u16, CloseWaits>,
    habits: Habits,
    host: HostFigures,
    stale: Vec<(AccountId, StaleAddress)>,
    names: Vec<NameTrouble>,
    lost: u64,
    drift: i64,
    config_reloaded: bool,
    history_trouble: Option<&'static str>,
    unreached: Vec<Arc<str>>,
}

const NEAR: AlertName = AlertName::TimeWaitNearPoolLimit;
const REFUSED: AlertName = AlertName::PortReuseRefused;
const RETRIES: AlertName = AlertName::SynRetriesHigh;

impl Play {
    fn new(config: &str) -> Self {
        let settings = Settings::parse(config, Path::new("test")).expect("right");
        Self {
            engine: Engine::new(settings.alerts, settings.silences),
            now: Now { monotonic: Duration::from_secs(1_000), unix: 1_795_000_000 },
            pools: Vec::new(),
            troubled: HashMap::new(),
            ephemeral: Vec::new(),
            left_behind: HashSet::new(),
            destinations: HashMap::new(),
            close_waits: BTreeMap::new(),
            habits: Habits::default(),
            host: HostFigures::default(),
            stale: Vec::new(),
            names: Vec::new(),
            lost: 0,
            drift: 0,
            config_reloaded: true,
            history_trouble: None,
            unreached: Vec::new(),
        }
    }

    /// Goes on for some seconds; returns what was raised (with its severity) and what was over.
    fn seconds(&mut self, seconds: u64) -> Vec<(AlertName, Option<Severity>)> {
        let mut changes = Vec::new();
        for _ in 0..seconds {
            self.now.monotonic += Duration::from_secs(1);
            self.now.unix += 1;
            let pools: Vec<PoolFact<'_>> = self
                .pools
                .iter()
                .map(|(account, figures)| PoolFact { account, address: ADDRESS, figures })
                .collect();
            let ephemeral: Vec<EphemeralFact<'_>> = self
                .ephemeral
                .iter()
                .map(|(account, figures)| EphemeralFact { account, address: ADDRESS, figures })
                .collect();
            let lost = [
                LostFigures { map: "connections", events: self.lost },
                LostFigures { map: "events", events: self.now.unix },
            ];
            let facts = Facts {
                pools: &pools,
                troubled: &self.troubled,
                ephemeral: &ephemeral,
                left_behind: &self.left_behind,
                destinations: &self.destinations,
                close_waits: &self.close_waits,
                habits: &self.habits,
                tells: Tells {
                    time_wait: true,
                    challenged: true,
                    aborted_early: true,
                    stalled: true,
                    ..Tells::default()
                },
                host: &self.host,
                stale: &self.stale,
                names: &self.names,
                lost: &lost,
                drift: self.drift,
                config_reloaded: self.config_reloaded,
                history_trouble: self.history_trouble,
                unreached: &self.unreached,
            };
            changes.extend(self.engine.evaluate(self.now, &facts).into_iter().map(|change| match change {
                Change::Raised(alert) | Change::Severity(alert) => (alert.name, Some(alert.severity)),
                Change::Over(alert) => (alert.name, None),
            }));
        }
        changes
    }

    fn raised(&self) -> Vec<(AlertName, Severity)> {
        self.engine.raised().map(|alert| (alert.name, alert.severity)).collect()
    }

    fn only(&self) -> &Alert {
        let raised: Vec<&Alert> = self.engine.raised().collect();
        let [alert] = raised.as_slice() else { panic!("{raised:?}") };
        alert
    }

    fn pool(&mut self, used: f64, seconds_left: f64) {
        self.pools = vec![(account(1), pool(used, seconds_left))];
    }

    fn refused(&mut self, refused: u64) {
        let events = Events { refused, refused_late: 1, ..Events::default() };
        self.troubled = HashMap::from([(account(1), events)]);
    }
}

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));
const WARNING: Option<Severity> = Some(Severity::Warning);
const CRITICAL: Option<Severity> = Some(Severity::Critical);

fn account(number: u8) -> AccountId {
    AccountId { peer: Peer::Address([198, 51, 100, number].into()), port: 443, direction: Direction::Inbound }
}

/// A pool of 14,336 ports.
fn pool(used: f64, seconds_left: f64) -> PoolFigures {
    let ranges = Ranges::whole(&[(2_048, 16_383)]);
    PoolFigures {
        source_ports: 14_336,
        bounds: Some((2_048, 16_383)),
        observed: ranges,
        confidence: 1.0,
        is_known: true,
        remembered: false,
        configured: None,
        outside: 0,
        reachable: Some(14_336),
        gaps: None,
        elsewhere: None,
        is_learning: false,
        local: Some([192, 0, 2, 1].into()),
        local_addresses: 1,
        load: Load { time_wait: used * 14_336.0, live: 0.0, rate: 240.0, ends: [0.0; 60] },
        accepted: 0.0,
        refused: 0.0,
        same_clock: 0.0,
        other_clock: 0.0,
        accepts_reuse: false,
        turn: None,
        chance: None,
        outgrown: None,
        circling: None,
        exhaustion_seconds: Some(seconds_left),
        forecast_confidence: 1.0,
    }
}

#[test]
fn an_alert_is_pending_then_raised_then_over() {
    let mut play = Play::new("[alerts.TimeWaitNearPoolLimit]\nfor = \"5s\"\nkeep_firing_for = \"20s\"\n");
    play.pool(0.85, f64::INFINITY);
    assert_eq!(play.seconds(5), [], "pending");
    assert_eq!(play.engine.quiet().len(), 1);
    assert_eq!(play.seconds(1), [(NEAR, WARNING)]);
    assert_eq!(play.seconds(300), [], "raised once");
    play.pool(0.75, f64::INFINITY);
    assert_eq!(play.seconds(300), [], "between clear and warn it stays");
    play.pool(0.70, f64::INFINITY);
    assert_eq!(play.seconds(20), [], "it must be good for a while");
    assert_eq!(play.seconds(1), [(NEAR, None)]);
    assert_eq!(play.seconds(300), []);
    play.pool(0.75, f64::INFINITY);
    assert_eq!(play.seconds(300), [], "below warn it is not raised again");
}

#[test]
fn noise_of_one_reading_raises_nothing_and_ends_nothing() {
    let mut play = Play::new("");
    for _ in 0..50 {
        play.pool(0.85, f64::INFINITY);
        assert_eq!(play.seconds(1), []);
        play.pool(0.1, f64::INFINITY);
        assert_eq!(play.seconds(1), []);
    }
    play.pool(0.85, f64::INFINITY);
    assert_eq!(play.seconds(2), [(NEAR, WARNING)]);
    for _ in 0..50 {
        play.pool(0.1, f64::INFINITY);
        assert_eq!(play.seconds(5), []);
        play.pool(0.85, f64::INFINITY);
        assert_eq!(play.seconds(1), []);
    }
}

#[test]
fn a_group_may_have_thresholds_of_its_own() {
    let mut play = Play::new(
        "[[peer]]\nname = \"nat\"\ncidrs = [\"198.51.100.0/24\"]\nalerts.PortReuseRefused = { refused_per_minute = { warn = 20 } }\n",
    );
    let group = AccountId { peer: Peer::Group(Arc::from("nat")), ..account(1) };
    let events = Events { refused: 5, ..Events::default() };
    play.troubled = HashMap::from([(group, events)]);
    assert_eq!(play.seconds(10), []);
    play.refused(5);
    assert_eq!(play.seconds(10), [(REFUSED, WARNING)]);
}

#[test]
fn an_alert_that_is_switched_off_is_never_raised_and_ends_at_once() {
    let mut play = Play::new("");
    play.refused(5);
    assert_eq!(play.seconds(10), [(REFUSED, WARNING)]);
    let settings =
        Settings::parse("[alerts.PortReuseRefused]\nenabled = false\n", Path::new("test")).expect("right");
    play.engine.reconfigure(settings.alerts, settings.silences);
    assert_eq!(play.seconds(10), [(REFUSED, None)]);
    assert_eq!(play.seconds(100), []);
}

#[test]
fn the_host_has_alerts_of_its_own() {
    let mut play = Play::new("");
    play.host = HostFigures {
        time_wait_buckets: 9_600,
        time_wait_buckets_limit: Some(10_000),
        listen_overflows: 5_000,
        listen_queues: vec![
            QueueFigures { port: 80, waiting: 9, limit: 9, sockets: vec![1] },
            QueueFigures { port: 81, waiting: 0, limit: 0, sockets: vec![2] },
        ],
        ..HostFigures::default()
    };
    let raised = play.seconds(30);
    assert_eq!(
        raised,
        [(AlertName::ListenQueueOverflow, WARNING), (AlertName::TimeWaitNearBucketLimit, CRITICAL)],
        "what overflowed before we began is not ours"
    );
    play.host.listen_overflows += 3;
    assert_eq!(play.seconds(30), [(AlertName::ListenQueueOverflow, WARNING)]);
    let texts: Vec<&str> = play.engine.raised().map(|alert| alert.text.as_str()).collect();
    assert!(
        texts.iter().any(|text| text.contains("full 3 times") && text.contains("port 80: 9 of 10")),
        "{texts:?}"
    );
    assert_eq!(play.seconds(31), [], "the minute");
    assert_eq!(play.seconds(60), [(AlertName::ListenQueueOverflow, None)], "and another without");
}

#[test]
fn a_full_queue_is_critical_only_once_the_kernel_dropped_someone() {
    let overflow = AlertName::ListenQueueOverflow;
    let mut play = Play::new("");
    let mut queue = |waiting, limit, overflows| {
        let sockets = vec![1];
        play.host.listen_queues = vec![QueueFigures { port: 80, waiting, limit, sockets }];
        play.host.listen_overflows = overflows;
        let changes = play.seconds(70);
        let of_port = |alert: &&Alert| alert.subject == Subject::Port(80);
        (changes, play.engine.raised().find(of_port).map(|alert| alert.text.clone()).unwrap_or_default())
    };
    assert_eq!(queue(1, 1, 0).0, [], "one more may wait");
    let (changes, text) = queue(2, 1, 0);
    assert_eq!(changes, [(overflow, WARNING)], "it is full, and nobody else has come");
    assert_eq!(text, "2 connections wait to be accepted on port 80, which holds 2 (backlog 1)");
    assert_eq!(queue(0, 1, 0).0, [(overflow, None)]);
    let (changes, text) = queue(1, 0, 0);
    assert_eq!(changes, [(overflow, WARNING)], "listen(0) holds one");
    assert_eq!(text, "1 connections wait to be accepted on port 80, which holds 1 (backlog 0)");
    // The host's counter moves: its own alert warns, the port's is critical, until a minute and the time to end are over.
    let (changes, _) = queue(1, 0, 1);
    assert_eq!(changes, [(overflow, WARNING), (overflow, CRITICAL)]);
    assert_eq!(queue(1, 0, 1).0, [(overflow, None), (overflow, WARNING)]);
}

#[test]
fn the_agent_tells_of_itself() {
    let degraded = AlertName::AgentDegraded;
    let mut play = Play::new("");
    assert_eq!(play.seconds(100), [], "evidence that makes room for later one is no loss");
    play.lost = 20;
    assert_eq!(play.seconds(30), [(degraded, WARNING)]);
    assert!(
        play.only().text.contains("20 events dropped in the last minute: connections is full"),
        "{}",
        play.only().text
    );
    assert_eq!(play.seconds(120), [(degraded, None)]);
    play.config_reloaded = false;
    play.unreached = vec![Arc::from("ops")];
    assert_eq!(play.seconds(30), [(degraded, WARNING)]);
    let text = &play.only().text;
    assert!(
        text.contains("reload failed") && text.contains("receivers not reached for five minutes: ops"),
        "{text}"
    );
    play.config_reloaded = true;
    play.unreached.clear();
    assert_eq!(play.seconds(120), [(degraded, None)]);
    play.drift = -30;
    assert_eq!(play.seconds(30), [(degraded, WARNING)]);
    let text = &play.only().text;
    assert!(text.contains("found 30 TIME_WAIT and FIN_WAIT2 sockets fewer than the kernel counts"), "{text}");
}

#[test]
fn a_silence_holds_back_what_is_new_until_it_ends() {
    let mut play = Play::new(
        "[[silence]]\nalerts = [\"PortReuseRefused\"]\nstarts = 2026-11-18T00:00:00Z\nends = 2026-11-18T11:10:00Z\n",
    );
    // The play begins at 11:06:40, 200 seconds before the end.
    assert_eq!(play.now.unix, 1_795_000_000);
    play.refused(5);
    assert_eq!(play.seconds(199), [(REFUSED, WARNING)]);
    assert!(!play.only().announced, "raised, and not announced");
    assert_eq!(play.seconds(1), []);
    assert!(play.only().announced);
}

#[test]
fn what_was_announced_before_a_silence_stays_so() {
    let mut play = Play::new(
        "[[silence]]\nstarts = 2026-11-18T11:07:00Z\nends = 2026-11-18T12:00:00Z\npeers = [\"198.51.100.1\"]\n",
    );
    play.refused(5);
    play.seconds(10);
    assert!(play.only().announced);
    play.seconds(30);
    assert!(play.only().announced);
    play.troubled.insert(account(2), Events { refused: 5, ..Events::default() });
    play.lost = 5;
    play.seconds(30);
    assert!(play.engine.raised().all(|alert| alert.announced), "it is about one peer only");
}

#[test]
fn after_a_restart_what_was_raised_is_known() {
    let mut before = Play::new("");
    before.pool(0.85, f64::INFINITY);
    before.refused(5);
    before.seconds(10);
    let saved = before.engine.save();
    assert_eq!(saved.len(), 2);

    let mut after = Play::new("");
    after.engine.restore(after.now, &saved);
    assert_eq!(after.raised(), before.raised());
    // Its pool is not known again for a while; the refused SYNs have ceased.
    after.pools = vec![(
        account(1),
        PoolFigures {
            confidence: 0.1,
            is_known: false,
            reachable: None,
            exhaustion_seconds: None,
            ..pool(0.85, 0.0)
        },
    )];
    assert_eq!(after.seconds(119), [], "neither announced anew nor over");
    assert_eq!(
        after.engine.raised().map(|alert| alert.since).max(),
        before.engine.raised().map(|alert| alert.since).max()
    );
    after.pool(0.85, f64::INFINITY);
    assert_eq!(after.seconds(300), [(REFUSED, None)], "what ceased meanwhile is over, what goes on is not");
    assert_eq!(after.raised(), [(NEAR, Severity::Warning)]);
}

#[test]
fn alerts_are_bounded_and_what_finds_no_room_is_counted() {
    let mut play = Play::new("");
    let many = (0..2_000_u32).map(|number| {
        let peer = Peer::Address(std::net::Ipv4Addr::from(0x0a00_0000 + number).into());
        (AccountId { peer, ..account(1) }, Events { refused: 3, ..Events::default() })
    });
    play.troubled = many.collect();
    play.seconds(3);
    assert_eq!(play.engine.raised().count(), CAPACITY);
    assert!(play.engine.left_out() >= 1_000);
}

#[test]
fn a_state_file_restores_no_more_than_can_be_raised() {
    let mut play = Play::new("");
    play.troubled = [(account(1), Events { refused: 3, ..Events::default() })].into();
    play.seconds(3);
    let alert = play.engine.raised().next().expect("it is raised").clone();
    let port = |port| SavedAlert::of(&Alert { subject: Subject::Port(port), ..alert.clone() });
    let saved: Vec<SavedAlert> = (0..2_000).map(port).collect();
    let mut after = Play::new("");
    after.engine.restore(after.now, &saved);
    assert_eq!(after.engine.raised().count(), CAPACITY);
}

#[test]
fn a_configured_pool_that_is_not_true_is_told() {
    let mut play = Play::new("");
    let configured = Some(Ranges::whole(&[(1_024, 65_535)]));
    play.pools = vec![(account(1), PoolFigures { configured, ..pool(0.1, f64::INFINITY) })];
    assert_eq!(play.seconds(30), [(AlertName::PoolDiffers, WARNING)]);
    let text = &play.only().text;
    assert!(
        text.contains("configured 1024-65535 (64512 ports)") && text.contains("none outside 2048-16383"),
        "{text}"
    );
    assert_eq!(play.only().figure, Figure::NONE);
}

#[test]
fn every_measure_has_an_order_of_thresholds_that_can_be_reached() {
    let alerts = Alerts::default();
    for name in AlertName::ALL {
        for &measure in name.measures() {
            let thresholds = alerts.of(name, None).thresholds(measure).expect("it has some");
            let (warn, crit, clear) = (thresholds.warn, thresholds.crit, thresholds.clear);
            let ordered = if measure == Measure::SecondsLeft {
                crit < warn && warn <= clear
            } else {
                clear < warn && warn < crit
            };
            assert!(ordered, "{name} {measure:?}");
        }
    }
}

mod aborted;
mod inbound;
mod outbound;
