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

fn verdicts(report: &Report) -> Vec<(&'static str, Verdict)> {
    report.hypotheses.iter().map(|hypothesis| (hypothesis.name, hypothesis.verdict)).collect()
}

fn supported(report: &Report) -> Vec<&'static str> {
    let supported = verdicts(report).into_iter().filter(|(_, verdict)| *verdict == Verdict::Supported);
    supported.map(|(name, _)| name).collect()
}

#[test]
fn an_exhausted_pool_is_named_and_the_other_suspicions_are_rejected_with_figures() {
    let pool = |host: u8| Event::PoolKnown {
        who: Who { peer: format!("192.0.2.{host}"), port: 443, direction: "inbound".to_owned() },
        ports: "2048-16383".to_owned(),
        size: 14_336,
        configured: false,
    };
    let refused = Event::RefusedReuse(RefusedReuseEvent {
        peer: "192.0.2.1".to_owned(),
        peer_port: 10_141,
        address: IpAddr::from([192, 0, 2, 200]),
        port: 443,
        end: "gave_up".to_owned(),
        attempts: 1,
        retries: 3,
        waited_seconds: 7.0,
        answers: serde_json::from_str(r#"{"ack":4,"reset":0,"none":0}"#).expect("answers"),
    });
    let events = vec![
        pool(1),
        pool(2),
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
    for suspicion in ["client_does_not_close", "server_does_not_close", "bucket_limit", "queue_full"] {
        assert!(names.contains(&suspicion), "{names:?}");
    }
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
            && figures.contains("14.0 s each"),
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
fn a_quiet_hour_supports_nothing() {
    let report = write("b1", &past([healthy()], vec![]), None);
    assert_eq!(supported(&report), [] as [&str; 0]);
    assert!(report.summary[1].contains("None of the causes"));
    assert_eq!((report.touched.len(), report.unknown.len()), (0, 0));
}

#[test]
fn what_cannot_be_known_is_open_and_said() {
    let unknown = ["time_wait_syns", "stalled", "aborted_early"].map(str::to_owned).to_vec();
    let blind = Event::Settings { values: std::collections::BTreeMap::new(), unknown };
    let report = write("b1", &past([healthy()], vec![blind]), None);
    let open: Vec<_> =
        verdicts(&report).into_iter().filter(|(_, verdict)| *verdict == Verdict::Unknown).collect();
    let names: Vec<_> = open.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["dependency_hangs", "aborted_early", "something_between"]);
    assert_eq!(report.unknown.len(), 3);
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
