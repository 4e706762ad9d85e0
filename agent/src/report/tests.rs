use std::net::IpAddr;

use super::*;
use crate::model::{
    AccountId, Direction, Peer,
    past::{AlertEvent, Event, FailoverEvent, Field, Happened, RefusedReuseEvent, Sample, Series, Span},
};

const BEGIN: u64 = 1_795_000_000;
const SPAN: Span = Span { from: BEGIN, to: BEGIN + 120 };

fn account(host: u8, port: u16, direction: Direction) -> Series {
    let peer = Peer::Address([192, 0, 2, host].into());
    Series::Account(AccountId { peer, port, direction })
}

/// A sample of each second of the span.
fn seconds(each: impl Fn(u32, &mut Sample)) -> Vec<(u64, Sample)> {
    (0..120)
        .map(|second| {
            let mut sample = Sample::default();
            each(second, &mut sample);
            (BEGIN + u64::from(second), sample)
        })
        .collect()
}

fn past(series: impl IntoIterator<Item = (Series, Vec<(u64, Sample)>)>, events: Vec<Event>) -> Past {
    let quiet = (Series::Host, seconds(|_, _| {}));
    let settings = Event::Settings {
        values: [
            ("net.ipv4.tcp_fin_timeout".to_owned(), 5),
            ("net.ipv4.tcp_max_tw_buckets".to_owned(), 1_800_000),
        ]
        .into(),
        unknown: Vec::new(),
    };
    let at = |event| Happened { time: BEGIN as f64 + 30.0, event };
    Past {
        span: SPAN,
        series: [quiet].into_iter().chain(series).collect(),
        events: [settings].into_iter().chain(events).map(at).collect(),
    }
}

fn alert(name: &str, host: u8, port: u16, direction: Direction) -> Event {
    Event::AlertRaised(AlertEvent {
        alert: name.to_owned(),
        severity: "critical".to_owned(),
        peer: format!("192.0.2.{host}"),
        port: Some(port),
        direction: direction.name().to_owned(),
        name: String::new(),
        since: BEGIN + 30,
        text: format!("the text of {name}"),
    })
}

/// A healthy service: connections come, live shortly, and end.
fn healthy() -> (Series, Vec<(u64, Sample)>) {
    let samples = seconds(|_, sample| {
        sample[Field::Established] = 12;
        sample[Field::Connections] = 20;
        sample[Field::ClosedPeer] = 20;
        sample[Field::LivedMillis] = 10_000;
    });
    (account(9, 8080, Direction::Inbound), samples)
}

/// A NAT address with 14,336 ports, all of them in TIME_WAIT after a minute.
fn exhausted(host: u8) -> (Series, Vec<(u64, Sample)>) {
    let samples = seconds(|second, sample| {
        sample[Field::TimeWait] = (second * 480).min(14_336);
        sample[Field::PoolSize] = 14_336;
        sample[Field::PortsTaken] = (second * 480).min(14_336);
        sample[Field::SecondsLeft] = 30_u32.saturating_sub(second);
        sample[Field::Connections] = 480;
        sample[Field::ClosedLocal] = 478;
        sample[Field::LivedMillis] = 4_800;
        if second > 30 {
            sample[Field::RefusedByAck] = 4;
            sample[Field::SynRetries] = 3;
            sample[Field::GaveUp] = 1;
            sample[Field::Reused] = 100;
            sample[Field::ReusedAfterMillis] = 2_500_000;
        }
    });
    (account(host, 443, Direction::Inbound), samples)
}

/// The pool of a peer became known.
fn pool(host: u8, ports: &str, size: u32) -> Event {
    Event::PoolKnown {
        who: Who { peer: format!("192.0.2.{host}"), port: 443, direction: "inbound".to_owned() },
        ports: ports.to_owned(),
        size,
        configured: false,
    }
}

fn verdicts(report: &Report) -> Vec<(&'static str, Verdict)> {
    report.hypotheses.iter().map(|hypothesis| (hypothesis.name, hypothesis.verdict)).collect()
}

fn supported(report: &Report) -> Vec<&'static str> {
    let supported = verdicts(report).into_iter().filter(|(_, verdict)| *verdict == Verdict::Supported);
    supported.map(|(name, _)| name).collect()
}

#[test]
fn an_exhausted_pool_is_named_and_the_other_suspicions_are_rejected_with_figures() {
    let refused = Event::RefusedReuse(RefusedReuseEvent {
        peer: "192.0.2.1".to_owned(),
        peer_port: 10_141,
        address: IpAddr::from([192, 0, 2, 200]),
        port: 443,
        state: "time_wait".to_owned(),
        end: "gave_up".to_owned(),
        retries: 3,
        waited_seconds: 7.0,
        answers: serde_json::from_str(r#"{"ack":4,"reset":0,"none":0}"#).expect("answers"),
    });
    let events = vec![
        pool(1, "2048-16383", 14_336),
        pool(2, "2048-16383", 14_336),
        alert("TimeWaitNearPoolLimit", 1, 443, Direction::Inbound),
        alert("PortReuseRefused", 2, 443, Direction::Inbound),
        refused,
    ];
    let past = past([exhausted(1), exhausted(2), healthy()], events);
    let report = write("b1", &past, None);
    assert_eq!(supported(&report), ["pool_too_small", "something_between"], "{:?}", verdicts(&report));
    let rejected = report.hypotheses.iter().filter(|hypothesis| hypothesis.verdict == Verdict::Rejected);
    assert!(rejected.clone().all(|hypothesis| !hypothesis.opposing.is_empty()));
    let names: Vec<_> = rejected.map(|hypothesis| hypothesis.name).collect();
    for suspicion in [
        "half_open_connections",
        "client_does_not_close",
        "server_does_not_close",
        "bucket_limit",
        "queue_full",
    ] {
        assert!(names.contains(&suspicion), "{names:?}");
    }
    let half_open = report.hypotheses.iter().find(|hypothesis| hypothesis.name == "half_open_connections");
    let against = half_open.map(|hypothesis| hypothesis.opposing.join("\n")).unwrap_or_default();
    assert!(
        against.contains("no SYN met a connection that was still open here; TIME_WAIT refused 712"),
        "{against}"
    );
    let [what, why, _] = &report.summary;
    assert!(what.contains("2 peers were in trouble") && what.contains("712 SYNs met a TIME_WAIT"), "{what}");
    assert!(why.contains("100 % of its 14,336 ports (2048-16383)"), "{why}");
    let worst = &report.touched[0];
    assert_eq!((worst.most_time_wait.0, worst.fewest_seconds_left), (14_336, Some((0, BEGIN + 30))));
    assert_eq!(worst.first_refused, Some(BEGIN + 31));
    let fin_timeout = report.settings.iter().find(|setting| setting.name == "net.ipv4.tcp_fin_timeout");
    assert!(fin_timeout.is_some_and(|setting| !setting.matters && setting.why.contains("60 s")));
}

#[test]
fn the_block_of_ports_that_was_too_small_is_evidence_and_part_of_the_timeline() {
    let who = Who { peer: "192.0.2.1".to_owned(), port: 443, direction: "inbound".to_owned() };
    let text = "all 9 attempts came from ports 1344-1407";
    let outgrown = Event::BlockOutgrown { who, text: text.to_owned() };
    let report = write("b1", &past([exhausted(1), exhausted(2)], vec![outgrown]), None);
    let figures = &report.hypotheses[0].supporting;
    let told: Vec<_> = figures.iter().filter(|figure| figure.contains(text)).collect();
    assert!(told.len() == 1 && told[0].contains("of 192.0.2.1, all 9"), "{figures:?}");
    let timeline = report.timeline.iter().filter(|entry| entry.text.contains(text));
    assert_eq!(timeline.count(), 1);
}

#[test]
fn forgotten_connections_are_told_from_an_exhausted_pool() {
    let samples = seconds(|second, sample| {
        sample[Field::Established] = 80;
        sample[Field::Connections] = if second < 4 { 20 } else { 0 };
        if second > 30 && second % 10 == 0 {
            sample[Field::Challenged] = 4;
            sample[Field::SynRetries] = 3;
            sample[Field::ChallengedGaveUp] = 1;
        }
    });
    let refused = Event::RefusedReuse(RefusedReuseEvent {
        peer: "192.0.2.1".to_owned(),
        peer_port: 10_141,
        address: IpAddr::from([192, 0, 2, 200]),
        port: 443,
        state: "established".to_owned(),
        end: "gave_up".to_owned(),
        retries: 3,
        waited_seconds: 7.0,
        answers: serde_json::from_str(r#"{"ack":2,"reset":0,"none":2}"#).expect("answers"),
    });
    let events = vec![alert("HalfOpenConnections", 1, 443, Direction::Inbound), refused];
    let report = write("b1", &past([(account(1, 443, Direction::Inbound), samples)], events), None);
    assert_eq!(supported(&report), ["half_open_connections", "something_between"], "{:?}", verdicts(&report));
    let figures = report.hypotheses[0].supporting.join("\n");
    for part in [
        "32 SYNs of 192.0.2.1",
        "8 attempts were given up",
        "up to 80 of its connections were open",
        "ESTABLISHED (1)",
    ] {
        assert!(figures.contains(part), "{part}: {figures}");
    }
    let verdict =
        |wanted| verdicts(&report).into_iter().find(|(name, _)| *name == wanted).map(|(_, verdict)| verdict);
    assert_eq!(verdict("pool_too_small"), Some(Verdict::Rejected));
    assert_eq!(
        verdict("client_does_not_close"),
        Some(Verdict::Follows),
        "a client that is gone cannot close"
    );
    let pool = report.hypotheses.iter().find(|hypothesis| hypothesis.name == "pool_too_small");
    let against = pool.map(|hypothesis| hypothesis.opposing.join("\n")).unwrap_or_default();
    assert!(
        against.contains("TIME_WAIT refused no SYN; 32 met connections that were still open"),
        "{against}"
    );
    assert!(report.summary[0].contains("32 SYNs met a connection still open here"), "{}", report.summary[0]);
}

/// One of three servers: 4,096 ports in turn, 150 a second over all, a third of them here.
fn one_of_three(return_rounds: u32, permille: u32, seconds_left: u32) -> (Series, Vec<(u64, Sample)>) {
    let samples = seconds(|second, sample| {
        sample[Field::TimeWait] = 1_354;
        sample[Field::PoolSize] = 4_096;
        sample[Field::PortsTaken] = 1_354;
        sample[Field::Connections] = 50;
        sample[Field::ClosedLocal] = 50;
        sample[Field::LivedMillis] = 500;
        // It is known after a round.
        if second > 30 {
            sample[Field::PortsPerMinute] = 9_000;
            sample[Field::ReturnRounds] = return_rounds;
            sample[Field::ReturnPermille] = 980;
            sample[Field::ExpectedRefusedPermille] = permille;
            sample[Field::SecondsLeft] = seconds_left;
        }
    });
    (account(1, 443, Direction::Inbound), samples)
}

#[test]
fn a_pool_that_is_too_small_for_several_servers_is_told_by_one_of_them() {
    let report = write("s1", &past([one_of_three(1, 980, 14)], vec![pool(1, "2048-6143", 4_096)]), None);
    // So few ports are those of a NAT.
    assert_eq!(supported(&report), ["pool_too_small", "something_between"]);
    let figures = report.hypotheses[0].supporting.join("\n");
    assert_eq!(
        figures,
        "at 11:07:11 UTC, 192.0.2.1 towards port 443 hands its ports out in turn, 150 a second over all servers (50 here): one round takes 27 s, \
         less than the 60 s of a TIME_WAIT; 98 % of the ports used here come back here after one round; in 14 s the first of its SYNs here meets \
         a TIME_WAIT, from then on about 98 % do"
    );
}

#[test]
fn behind_round_robin_no_port_comes_back_in_time_and_the_pool_is_large_enough() {
    let report =
        write("s1", &past([one_of_three(3, 0, Sample::NEVER)], vec![pool(1, "2048-6143", 4_096)]), None);
    assert_eq!(supported(&report), ["something_between"]);
    let pool = report.hypotheses.iter().find(|hypothesis| hypothesis.name == "pool_too_small");
    let against = pool.map(|hypothesis| hypothesis.opposing.join("\n")).unwrap_or_default();
    assert!(
        against.contains(
            "98 % of the ports used here come back here after 3 rounds (82 s), none sooner; so none of its SYNs is expected to meet a TIME_WAIT here"
        ),
        "{against}"
    );
}

/// A Linux host's own 28,232 ports behind a hash over three servers: a third of them comes here.
#[test]
fn ports_that_reach_other_servers_do_not_make_a_pool_narrow() {
    let samples = seconds(|_, sample| {
        sample[Field::PoolSize] = 9_411;
        sample[Field::PortsTaken] = 9_000;
        sample[Field::Connections] = 150;
        sample[Field::ClosedLocal] = 150;
    });
    let series = [(account(1, 443, Direction::Inbound), samples)];
    let report = write("s1", &past(series, vec![pool(1, "32768-60999", 28_232)]), None);
    assert_eq!(supported(&report), ["pool_too_small"]);
    let figures = report.hypotheses[0].supporting.join("\n");
    let used =
        "192.0.2.1 used 96 % of the 9,411 of its 28,232 ports (32768-60999) that can come to this server";
    assert!(figures.starts_with(used), "{figures}");
    assert_eq!(report.touched.first().and_then(|peer| peer.pool_size), Some(28_232));
}

#[test]
fn only_the_peer_that_is_asked_for_is_told_of() {
    let past =
        past([exhausted(1), exhausted(2)], vec![alert("PortReuseRefused", 2, 443, Direction::Inbound)]);
    let report = write("b1", &past, Some("192.0.2.1"));
    let peers: Vec<_> = report.touched.iter().map(|peer| peer.who.peer.as_str()).collect();
    assert_eq!(peers, ["192.0.2.1"]);
    assert!(report.timeline.iter().all(|entry| !entry.text.contains("ALERT")));
}

#[test]
fn a_backend_that_moved_explains_that_it_does_not_answer() {
    let samples = seconds(|second, sample| {
        if second % 10 == 0 {
            sample[Field::FailedTimeout] = 1;
            sample[Field::FailedMillis] = 14_000;
            sample[Field::SynRetries] = 3;
        }
    });
    let events = vec![
        Event::AddressChanged {
            name: "lb.example".to_owned(),
            port: 80,
            address: [192, 0, 2, 7].into(),
            came: false,
        },
        alert("StaleAddress", 7, 80, Direction::Outbound),
    ];
    let report = write("web1", &past([(account(7, 80, Direction::Outbound), samples)], events), None);
    assert_eq!(supported(&report), ["backend_moved"]);
    let follows = (verdicts(&report)).into_iter().filter(|(_, verdict)| *verdict == Verdict::Follows);
    assert_eq!(follows.map(|(name, _)| name).collect::<Vec<_>>(), ["backend_gone", "packet_loss"]);
    let figures = report.hypotheses[0].supporting.join("\n");
    assert!(
        figures.contains("ceased to list 192.0.2.7")
            && figures.contains("12 attempts")
            && figures.contains("after 14.0 s on average"),
        "{figures}"
    );
}

#[test]
fn a_failover_tells_its_parts() {
    let failover = Event::Failover(FailoverEvent {
        name: "db.example".to_owned(),
        port: 3_306,
        old: [192, 0, 2, 7].into(),
        new: [192, 0, 2, 8].into(),
        first_failure: 0.0,
        first_success_new: 0.0,
        unnoticed_seconds: Some(0.25),
        dns_seconds: Some(3.0),
        reconnect_seconds: Some(0.25),
        outage_seconds: Some(3.5),
    });
    let report = write("app1", &past([], vec![failover]), None);
    assert_eq!(supported(&report), ["failover"]);
    assert!(
        report.summary[1].contains("until the name listed the new address 3.0 s"),
        "{}",
        report.summary[1]
    );
}

#[test]
fn a_hanging_dependency_explains_the_full_queue() {
    let waiting = seconds(|second, sample| {
        sample[Field::Established] = second;
        sample[Field::Stalled] = second;
    });
    let mut past = past(
        [(account(7, 25, Direction::Outbound), waiting), healthy()],
        vec![alert("DependencyHanging", 7, 25, Direction::Outbound)],
    );
    let overflows = seconds(|second, sample| {
        sample[Field::ListenOverflows] = u32::from(second > 60);
        sample[Field::QueuePercent] = 100;
    });
    past.series.insert(Series::Host, overflows);
    let report = write("app1", &past, None);
    assert_eq!(supported(&report), ["dependency_hangs"]);
    assert!(verdicts(&report).contains(&("queue_full", Verdict::Follows)));
}

#[test]
fn early_ends_are_told_from_usual_ones() {
    let aborted = seconds(|_, sample| {
        sample[Field::Connections] = 10;
        sample[Field::ClosedPeer] = 10;
        sample[Field::LivedMillis] = 50;
        sample[Field::AbortedEarly] = 6;
    });
    let report =
        write("edge1", &past([(account(3, 443, Direction::Inbound), aborted), healthy()], vec![]), None);
    assert_eq!(supported(&report), ["aborted_early"]);
}

#[test]
fn what_was_an_alert_is_not_rejected_because_the_span_is_long() {
    let few = seconds(|second, sample| {
        sample[Field::Connections] = 20;
        sample[Field::ClosedPeer] = 20;
        sample[Field::AbortedEarly] = if second < 60 { 6 } else { 0 };
    });
    let series = || [(account(3, 443, Direction::Inbound), few.clone())];
    let raised = |host| alert("AbortedEarly", host, 443, Direction::Inbound);
    assert_eq!(supported(&write("edge1", &past(series(), vec![raised(3)]), None)), ["aborted_early"]);
    assert_eq!(supported(&write("edge1", &past(series(), vec![raised(4)]), None)), [] as [&str; 0]);
}

#[test]
fn a_quiet_hour_supports_nothing() {
    let report = write("b1", &past([healthy()], vec![]), None);
    assert_eq!(supported(&report), [] as [&str; 0]);
    assert!(report.summary[1].contains("None of the causes"));
    assert_eq!((report.touched.len(), report.unknown.len()), (0, 0));
}

#[test]
fn what_cannot_be_known_is_open_and_said() {
    let unknown =
        ["time_wait_syns", "challenged_syns", "stalled", "aborted_early"].map(str::to_owned).to_vec();
    let blind = Event::Settings { values: std::collections::BTreeMap::new(), unknown };
    let report = write("b1", &past([healthy()], vec![blind]), None);
    let open: Vec<_> =
        verdicts(&report).into_iter().filter(|(_, verdict)| *verdict == Verdict::Unknown).collect();
    let names: Vec<_> = open.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["half_open_connections", "dependency_hangs", "aborted_early", "something_between"]);
    assert_eq!(report.unknown.len(), 4);
}

#[test]
fn what_an_agent_learned_after_its_start_is_known_and_what_another_run_lacked_is_not() {
    let settings = |unknown: &[&str]| Event::Settings {
        values: std::collections::BTreeMap::new(),
        unknown: unknown.iter().map(|&figure| figure.to_owned()).collect(),
    };
    let start = || Event::AgentStarted { version: "1".to_owned() };
    let verdict_on_hanging = |events| {
        let verdicts = verdicts(&write("b1", &past([healthy()], events), None));
        verdicts.into_iter().find(|(name, _)| *name == "dependency_hangs").map(|(_, verdict)| verdict)
    };
    let learned = vec![start(), settings(&["stalled"]), settings(&[])];
    assert_eq!(verdict_on_hanging(learned), Some(Verdict::Rejected));
    let two_runs = vec![start(), settings(&["stalled"]), start(), settings(&[])];
    assert_eq!(verdict_on_hanging(two_runs), Some(Verdict::Unknown));
}

#[test]
fn hostile_names_are_harmless_in_every_format() {
    let name = "<script>alert(1)</script>|[x](javascript:0)\u{1b}[31m";
    let peer = Peer::Group(name.into());
    let series = Series::Account(AccountId { peer, port: 443, direction: Direction::Inbound });
    let (_, samples) = exhausted(1);
    let past = past([(series, samples)], vec![]);
    let report = write(name, &past, None);
    let (page, text) = (html(&report, &past), markdown(&report));
    assert!(!page.contains('\u{1b}') && !text.contains('\u{1b}'));
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"));
    assert!(text.contains("\\<script\\>") && text.contains("\\[x\\](javascript"));
    assert!(!text.replace("\\<", "").contains('<'), "every one is escaped");
    assert!(
        page.contains("<svg ") && !page.contains("href") && !page.contains("src="),
        "nothing is to be fetched"
    );
}
