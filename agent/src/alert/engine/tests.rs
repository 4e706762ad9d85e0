use std::{collections::HashMap, net::IpAddr, path::Path, sync::Arc};

use probe_ebpf::account::ConnectFailure;

use super::*;
use crate::{
    alert::{EphemeralFact, PoolFact},
    config::{Measure, Settings},
    model::{
        CloseWaits, Destination, Events, HostFigures, LostFigures, Peer, QueueFigures, Tells,
        names::{NameTrouble, StaleAddress, WatchId},
        pool::{EphemeralFigures, Load, PoolFigures, Ranges},
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
    host: HostFigures,
    stale: Vec<(AccountId, StaleAddress)>,
    names: Vec<NameTrouble>,
    lost: u64,
    config_reloaded: bool,
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
            host: HostFigures::default(),
            stale: Vec::new(),
            names: Vec::new(),
            lost: 0,
            config_reloaded: true,
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
                tells: Tells { time_wait: true, aborted_early: true, stalled: true, ..Tells::default() },
                host: &self.host,
                stale: &self.stale,
                names: &self.names,
                lost: &lost,
                config_reloaded: self.config_reloaded,
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
        self.troubled = HashMap::from([(account(1), Events { refused, ..Events::default() })]);
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
        configured: None,
        outside: 0,
        load: Load { time_wait: used * 14_336.0, live: 0.0, rate: 240.0, ends: [0.0; 60] },
        accepted: 0.0,
        refused: 0.0,
        accepts_reuse: false,
        exhaustion_seconds: Some(seconds_left),
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
fn a_forecast_warns_and_becomes_critical_and_calms_down() {
    let mut play = Play::new("");
    play.pool(0.3, 45.0);
    assert_eq!(play.seconds(2), [(NEAR, WARNING)]);
    let alert = play.only();
    assert_eq!(alert.exhausted_at, Some(play.now.unix + 45));
    assert_eq!((alert.figure.measure, alert.figure.value, alert.figure.limit), ("seconds_left", 45.0, 60.0));
    assert!(
        alert.text.contains(
            "198.51.100.1 towards port 443 draws its source ports from 2048-16383 (14336 ports, seen)"
        ),
        "{}",
        alert.text
    );
    assert!(alert.text.contains("30 % of them are taken here"), "{}", alert.text);
    assert!(alert.text.contains("they run out in 45 s"), "{}", alert.text);
    play.pool(0.97, 12.0);
    assert_eq!(play.seconds(2), [(NEAR, CRITICAL)]);
    play.pool(0.85, f64::INFINITY);
    assert_eq!(play.seconds(60), []);
    assert_eq!(play.seconds(1), [(NEAR, WARNING)], "after a minute without, it is no longer critical");
}

#[test]
fn time_waits_that_accept_everything_are_no_matter() {
    let mut play = Play::new("");
    let accepted = PoolFigures { accepts_reuse: true, accepted: 500.0, ..pool(1.0, f64::INFINITY) };
    play.pools = vec![(account(1), accepted)];
    assert_eq!(play.seconds(30), []);
}

#[test]
fn refused_syns_explain_repeated_ones() {
    let mut play = Play::new("");
    let events = Events { refused: 30, syn_retries: 22, connections: 50, ..Events::default() };
    play.troubled = HashMap::from([(account(1), events)]);
    assert_eq!(play.seconds(60), [(REFUSED, WARNING)]);
    let events = Events { syn_retries: 22, connections: 50, ..Events::default() };
    play.troubled = HashMap::from([(account(1), events)]);
    assert_eq!(
        play.seconds(120),
        [(REFUSED, None), (RETRIES, CRITICAL)],
        "30 % of them, and nothing explains it"
    );
}

#[test]
fn repeated_syns_count_from_ten_on_and_by_direction() {
    let mut play = Play::new("");
    let outbound = AccountId { direction: Direction::Outbound, ..account(2) };
    let events = |syn_retries| Events { syns: 100, syn_retries, connections: 7, ..Events::default() };
    play.troubled = HashMap::from([(outbound.clone(), events(9))]);
    assert_eq!(play.seconds(60), []);
    play.troubled = HashMap::from([(outbound, events(10))]);
    assert_eq!(play.seconds(60), [(RETRIES, WARNING)]);
    assert!(play.only().text.contains("10 of 110 in the last minute (9 %)"), "{}", play.only().text);
}

#[test]
fn many_peers_at_once_are_critical() {
    let mut play = Play::new("[alerts.PortReuseRefused]\ncritical_peers = 3\n");
    let events = Events { refused: 2, ..Events::default() };
    play.troubled = (1..=2).map(|number| (account(number), events)).collect();
    assert_eq!(play.seconds(10), [(REFUSED, WARNING); 2]);
    play.troubled = (1..=3).map(|number| (account(number), events)).collect();
    assert_eq!(play.seconds(10), [(REFUSED, CRITICAL); 3]);
    let reach = &play.engine.raised().next().expect("raised").reach;
    assert_eq!((reach.peers, reach.ports.as_slice()), (3, &[443][..]));
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
            QueueFigures { port: 80, waiting: 9, limit: 10 },
            QueueFigures { port: 81, waiting: 0, limit: 0 },
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
fn the_agent_tells_of_itself() {
    let degraded = AlertName::AgentDegraded;
    let mut play = Play::new("");
    assert_eq!(play.seconds(100), [], "evidence that makes room for later one is no loss");
    play.lost = 20;
    assert_eq!(play.seconds(30), [(degraded, WARNING)]);
    assert!(play.only().text.contains("20 events found no room in connections"), "{}", play.only().text);
    assert_eq!(play.seconds(120), [(degraded, None)]);
    play.config_reloaded = false;
    play.unreached = vec![Arc::from("ops")];
    assert_eq!(play.seconds(30), [(degraded, WARNING)]);
    let text = &play.only().text;
    assert!(text.contains("was refused") && text.contains("not reached for five minutes: ops"), "{text}");
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
    after.pools =
        vec![(account(1), PoolFigures { confidence: 0.1, exhaustion_seconds: None, ..pool(0.85, 0.0) })];
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

fn destination(number: u8) -> AccountId {
    AccountId { direction: Direction::Outbound, port: 3_306, ..account(number) }
}

fn failures(reason: ConnectFailure, count: u64) -> [u64; 5] {
    let mut failures = [0; 5];
    failures[reason as usize] = count;
    failures
}

#[test]
fn a_backend_that_answers_nothing_is_told_with_what_it_costs() {
    let mut play = Play::new("");
    let events = Events {
        syns: 3,
        syn_retries: 12,
        failures: failures(ConnectFailure::Timeout, 2),
        lost_ns: 28_000_000_000,
        ..Events::default()
    };
    play.troubled = HashMap::from([(destination(1), events)]);
    let told = Destination {
        stalled: 20,
        open: 20,
        is_failing: true,
        answered_ago: Some(Duration::from_secs(75)),
        callers: vec![Arc::from("httpd")],
    };
    play.destinations = HashMap::from([(destination(1), told)]);
    // The repeated SYNs and the connections that wait have this cause, and no alert of their own.
    assert_eq!(play.seconds(60), [(AlertName::BackendNotAnswering, WARNING)]);
    assert_eq!(
        play.only().text,
        "198.51.100.1 port 3306 does not answer: 15 SYNs of ours in the last minute; 2 attempts failed, after 14.0 s each \
         (called by httpd); it last answered 1m 15s ago"
    );
    assert_eq!(play.only().figure.measure, "unanswered_per_minute");
}

#[test]
fn a_refusal_is_an_answer_and_now_and_then_a_syn_is_lost() {
    let silent = Destination { is_failing: true, ..Destination::default() };
    let answered =
        |seconds| Destination { answered_ago: Some(Duration::from_secs(seconds)), ..silent.clone() };
    let syns = |syns, syn_retries| Events { syns, syn_retries, ..Events::default() };
    for (events, destination_now) in [
        (
            Events { syns: 50, failures: failures(ConnectFailure::Refused, 50), ..Events::default() },
            silent.clone(),
        ),
        (syns(50, 4), answered(1)),
        (syns(50, 4), Destination { is_failing: false, ..answered(30) }),
        (syns(1, 1), silent.clone()),
    ] {
        let mut play = Play::new("");
        play.troubled = HashMap::from([(destination(1), events)]);
        play.destinations = HashMap::from([(destination(1), destination_now)]);
        let raised = play.seconds(60);
        assert!(!raised.contains(&(AlertName::BackendNotAnswering, WARNING)), "{events:?}: {raised:?}");
    }
    // A service moved away, and everyone followed.
    let mut play = Play::new("");
    play.troubled = HashMap::from([(destination(1), syns(12, 40))]);
    play.destinations =
        HashMap::from([(destination(1), Destination { stalled: 12, open: 12, ..silent.clone() })]);
    play.left_behind = HashSet::from([destination(1)]);
    assert_eq!(play.seconds(60), []);
    // That it answered within the minute does not help for long.
    let mut play = Play::new("");
    play.troubled = HashMap::from([(destination(1), Events { connections: 46, ..syns(50, 0) })]);
    play.destinations = HashMap::from([(destination(1), answered(6))]);
    assert_eq!(play.seconds(11), [(AlertName::BackendNotAnswering, WARNING)]);
    assert!(play.only().text.contains("does not answer: 4 SYNs of ours"), "{}", play.only().text);
}

#[test]
fn what_waited_already_is_usual_and_what_comes_on_top_is_hanging() {
    let mut play = Play::new("");
    let waiting = |stalled, open| {
        let destination_now = Destination { stalled, open, ..Destination::default() };
        HashMap::from([(destination(1), destination_now)])
    };
    play.destinations = waiting(30, 40);
    assert_eq!(play.seconds(60), [], "long polls, say");
    play.destinations = waiting(39, 45);
    assert_eq!(play.seconds(60), [], "nine more");
    play.destinations = waiting(41, 90);
    assert_eq!(play.seconds(60), [], "less than half of all");
    play.destinations = waiting(41, 45);
    assert_eq!(play.seconds(11), [(AlertName::DependencyHanging, WARNING)]);
    play.destinations.clear();
    assert_eq!(play.seconds(61), [(AlertName::DependencyHanging, None)]);
    // A destination that is new began at nothing.
    play.destinations = waiting(12, 12);
    assert_eq!(play.seconds(11), [(AlertName::DependencyHanging, WARNING)]);
}

#[test]
fn aborted_connections_are_told_as_a_share() {
    let mut play = Play::new("");
    let events = |aborted, connections| Events { connections, aborted, ..Events::default() };
    play.troubled = HashMap::from([(account(1), events(9, 9))]);
    assert_eq!(play.seconds(60), [], "nine are few");
    play.troubled = HashMap::from([(account(1), events(19, 100))]);
    assert_eq!(play.seconds(60), []);
    play.troubled = HashMap::from([(account(1), events(20, 100))]);
    assert_eq!(play.seconds(11), [(AlertName::AbortedEarly, WARNING)]);
    play.troubled = HashMap::from([(account(1), events(50, 100))]);
    assert_eq!(play.seconds(11), [(AlertName::AbortedEarly, CRITICAL)]);
}

fn close_waits(sockets: u64) -> BTreeMap<u16, CloseWaits> {
    BTreeMap::from([(8_080, CloseWaits { sockets, owners: vec![(Arc::from("java"), 9)] })])
}

#[test]
fn close_waits_that_stay_and_become_more_are_told_of_their_port() {
    let mut play = Play::new("");
    play.close_waits = close_waits(400);
    assert_eq!(play.seconds(60), [], "so many were there before");
    // They come and go.
    for _ in 0..10 {
        play.close_waits = close_waits(400);
        assert_eq!(play.seconds(10), []);
        play.close_waits = close_waits(0);
        assert_eq!(play.seconds(1), []);
    }
    play.close_waits = close_waits(60);
    assert_eq!(play.seconds(26), [(AlertName::CloseWaitGrowing, WARNING)]);
    assert_eq!(play.only().subject, Subject::Port(8_080));
    assert_eq!(
        play.only().text,
        "60 connections on port 8080 were closed by their peers and not by our program (CLOSE_WAIT), and they become more; java keeps 9"
    );
    play.close_waits.clear();
    assert_eq!(play.seconds(61), [(AlertName::CloseWaitGrowing, None)]);
}

#[test]
fn our_own_ports_run_out_like_a_peers() {
    let mut play = Play::new("");
    let figures = |reuses, exhaustion_seconds| EphemeralFigures {
        size: 28_232,
        load: Load { time_wait: 24_000.0, live: 100.0, rate: 400.0, ends: [0.0; 60] },
        reuses,
        exhaustion_seconds,
    };
    play.ephemeral = vec![(destination(1), figures(true, f64::INFINITY))];
    assert_eq!(play.seconds(60), [], "those in TIME_WAIT may be used again");
    play.ephemeral = vec![(destination(1), figures(false, 10.3))];
    assert_eq!(play.seconds(2), [(AlertName::EphemeralPortsNearLimit, CRITICAL)]);
    assert_eq!(
        play.only().text,
        "towards 198.51.100.1 port 3306, 24100 of our 28232 ports are taken (85 %), 24000 in TIME_WAIT; \
         at 400 connections/s they run out in 10 s"
    );
}

fn stale(gone_seconds: f64) -> Vec<(AccountId, StaleAddress)> {
    let stale = StaleAddress {
        is_failing: false,
        id: WatchId { name: Arc::from("lb.example"), port: 443 },
        address: ADDRESS,
        gone_seconds,
        called_seconds_ago: 4.0,
        connections: 2,
        processes: vec![Arc::from("httpd"), Arc::from("java")],
    };
    vec![(AccountId { direction: Direction::Outbound, ..account(1) }, stale)]
}

#[test]
fn an_address_that_is_called_after_it_left_its_name_is_told_with_who_calls() {
    let mut play = Play::new("");
    play.stale = stale(59.0);
    assert_eq!(play.seconds(5), []);
    play.stale = stale(61.0);
    assert_eq!(play.seconds(2), [(AlertName::StaleAddress, WARNING)]);
    assert_eq!(
        play.only().text,
        "198.51.100.1 port 443 is called by httpd, java, last 4 s ago, but lb.example has not listed it for 61 s; 2 connections to it are \
         open or being opened"
    );
    play.stale = stale(601.0);
    assert_eq!(play.seconds(2), [(AlertName::StaleAddress, CRITICAL)]);
    play.stale.clear();
    let over: Vec<_> = play.seconds(61);
    assert_eq!(over.last(), Some(&(AlertName::StaleAddress, None)));
}

#[test]
fn a_stale_address_that_does_not_answer_is_told_at_once() {
    let mut play = Play::new("");
    play.stale = stale(12.0);
    play.stale[0].1.is_failing = true;
    assert_eq!(play.seconds(2), [(AlertName::StaleAddress, WARNING)]);
    assert!(play.only().text.contains("last 4 s ago and does not answer, but"), "{}", play.only().text);
}

#[test]
fn a_stale_address_explains_its_repeated_syns() {
    let mut play = Play::new("");
    let (stale_account, _) = stale(61.0)[0].clone();
    play.stale = stale(61.0);
    play.seconds(1);
    let events = Events { syns: 20, syn_retries: 60, ..Events::default() };
    play.troubled = HashMap::from([(stale_account, events)]);
    play.seconds(30);
    assert_eq!(play.raised(), [(AlertName::StaleAddress, Severity::Warning)]);
}

#[test]
fn a_name_that_does_not_resolve_is_told_once_for_all_its_ports() {
    let mut play = Play::new("");
    let trouble = |unresolved_seconds, slow_seconds| NameTrouble {
        name: Arc::from("db.example"),
        unresolved_seconds,
        why: "192.0.2.53 answers SERVFAIL".to_owned(),
        slow_seconds,
    };
    play.names = vec![trouble(9.0, 0.2)];
    assert_eq!(play.seconds(5), []);
    play.names = vec![trouble(12.0, 0.2)];
    assert_eq!(play.seconds(2), [(AlertName::NameNotResolving, WARNING)]);
    assert_eq!(play.only().subject, Subject::Name(Arc::from("db.example")));
    assert_eq!(play.only().text, "db.example has not resolved for 12 s: 192.0.2.53 answers SERVFAIL");
    let labels = play.only().subject.labels().map(|(name, value)| format!("{name}={value}"));
    assert_eq!(labels, ["peer=", "port=", "direction=", "name=db.example"]);
    let saved: Vec<Alert> = play.engine.save().iter().filter_map(SavedAlert::alert).collect();
    assert_eq!(saved[0].subject, play.only().subject);
    play.names = vec![trouble(0.0, 2.0)];
    play.seconds(1);
    assert_eq!(play.only().text, "db.example resolves slowly: each of the last lookups took 2.0 s at least");
    play.names = vec![trouble(0.0, 0.3)];
    assert_eq!(play.seconds(61), [(AlertName::NameNotResolving, None)]);
    // A name that is watched no more is over, too.
    play.names = vec![trouble(100.0, 0.3)];
    play.seconds(2);
    play.names.clear();
    play.seconds(61);
    assert_eq!(play.raised(), []);
}
