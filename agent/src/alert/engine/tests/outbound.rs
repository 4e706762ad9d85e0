//! Alerts about calls of ours, about connections that come to nothing, and about names.

use super::*;

fn destination(number: u8) -> AccountId {
    AccountId { direction: Direction::Outbound, port: 3_306, ..account(number) }
}

fn failures(reason: ConnectFailure, count: u64) -> [u64; CONNECT_FAILURES.len()] {
    let mut failures = [0; CONNECT_FAILURES.len()];
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
        "198.51.100.1 port 3306 does not answer: 15 SYNs of ours in the last minute; 2 attempts failed, after 14.0 s on average \
         (called by httpd); it last answered 1m 15s ago"
    );
    assert_eq!(play.only().figure.measure, "unanswered_per_minute");
}

#[test]
fn what_our_program_gives_up_after_a_second_is_a_sign_and_at_once_is_none() {
    let silent = Destination { is_failing: true, ..Destination::default() };
    let abandoned = |soon, seconds: u64| Events {
        syns: 40,
        failures: failures(ConnectFailure::Abandoned, 40),
        lost_ns: seconds * 1_000_000_000,
        abandoned_soon: soon,
        abandoned_ns: seconds * 1_000_000_000,
        ..Events::default()
    };
    // Forty after a second each; two of forty had any patience, and three had.
    for (events, raised) in [
        (abandoned(0, 40), vec![(AlertName::BackendNotAnswering, CRITICAL)]),
        (abandoned(38, 2), vec![]),
        (abandoned(37, 3), vec![(AlertName::BackendNotAnswering, WARNING)]),
    ] {
        let mut play = Play::new("");
        play.troubled = HashMap::from([(destination(1), events)]);
        play.destinations = HashMap::from([(destination(1), silent.clone())]);
        assert_eq!(play.seconds(60), raised, "{events:?}");
        if events.abandoned_soon == 0 {
            let says = "; 40 attempts failed, after 1.0 s on average; our program gave up 40 of them, after 1.0 s on average";
            assert!(play.only().text.contains(says), "{}", play.only().text);
        }
    }
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

fn close_waits(sockets: u64, entered: u64) -> BTreeMap<u16, CloseWaits> {
    BTreeMap::from([(8_080, CloseWaits { sockets, entered, owners: vec![(Arc::from("java"), 9)] })])
}

#[test]
fn close_waits_that_stay_are_told_of_their_port() {
    let growing = AlertName::CloseWaitGrowing;
    let mut play = Play::new("");
    play.close_waits = close_waits(400, 0);
    assert_eq!(play.seconds(60), [], "so many were there before");
    // They come and go.
    for round in 1..=10 {
        play.close_waits = close_waits(400, round * 400);
        assert_eq!(play.seconds(10), []);
        play.close_waits = close_waits(0, round * 400);
        assert_eq!(play.seconds(1), []);
    }
    play.close_waits.clear();
    play.seconds(120);
    play.close_waits = close_waits(60, 4_060);
    assert_eq!(play.seconds(27), [(growing, WARNING)], "25 s, and one more");
    assert_eq!(play.only().subject, Subject::Port(8_080));
    assert_eq!(
        play.only().text,
        "60 connections on port 8080 were closed by their peers and not by our program (CLOSE_WAIT); 0 left that state in the last 25 s; \
         java keeps 9"
    );
    play.close_waits.clear();
    assert_eq!(play.seconds(61), [(growing, None)]);
}

#[test]
fn half_closed_connections_that_are_answered_are_no_leak() {
    // A client sends its request, shuts its side, and is answered 40 s later: 2 a second, so 80 wait.
    let mut play = Play::new("");
    for second in 1..=900 {
        play.close_waits = close_waits(2 * second.min(40), 2 * second);
        assert_eq!(play.seconds(1), [], "after {second} s");
    }
    // From now on none is answered.
    for second in 1..=60 {
        play.close_waits = close_waits(80 + 2 * second, 1_800 + 2 * second);
        play.seconds(1);
    }
    assert_eq!(play.raised(), [(AlertName::CloseWaitGrowing, Severity::Warning)]);
    let says = "200 connections on port 8080 were closed by their peers and not by our program (CLOSE_WAIT); 0 left that state in the last 25 s; ";
    assert!(play.only().text.starts_with(says), "{}", play.only().text);
}

#[test]
fn a_server_that_closes_most_and_leaks_some_is_told_as_growing() {
    let mut play = Play::new("");
    // 100 a second, of which one stays.
    for second in 1..=180 {
        play.close_waits = close_waits(10 + second, 100 * second);
        play.seconds(1);
    }
    assert_eq!(play.raised(), [(AlertName::CloseWaitGrowing, Severity::Warning)]);
    let says = "; 2475 left that state in the last 25 s, and the number grew by 60 in two minutes; java";
    assert!(play.only().text.contains(says), "{}", play.only().text);
}

#[test]
fn our_own_ports_run_out_like_a_peers() {
    let mut play = Play::new("");
    let figures = |reuses, exhaustion_seconds| EphemeralFigures {
        size: 28_232,
        local: Some([192, 0, 2, 1].into()),
        local_addresses: 1,
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
    play.ephemeral = vec![(destination(1), EphemeralFigures { local_addresses: 2, ..figures(false, 10.3) })];
    play.seconds(1);
    let text = &play.only().text;
    assert!(
        text.starts_with(
            "from our address 192.0.2.1 (the fullest of 2), towards 198.51.100.1 port 3306, 24100 of our"
        ),
        "{text}"
    );
}

#[test]
fn a_connect_that_finds_no_port_is_told_whatever_else_is_known() {
    let mut play = Play::new("");
    let events = Events { failures: failures(ConnectFailure::NoPort, 200), ..Events::default() };
    play.troubled = HashMap::from([(destination(1), events)]);
    assert_eq!(
        play.seconds(60),
        [(AlertName::EphemeralPortsNearLimit, WARNING)],
        "and nobody else is at fault"
    );
    let failed =
        "200 connect() calls failed in the last minute because no local port was free (EADDRNOTAVAIL)";
    assert_eq!(play.only().text, format!("towards 198.51.100.1 port 3306, {failed}"));
    let full = EphemeralFigures {
        size: 60,
        local: None,
        local_addresses: 1,
        load: Load { time_wait: 60.0, live: 0.0, rate: 3.0, ends: [0.0; 60] },
        reuses: false,
        exhaustion_seconds: 0.0,
    };
    play.ephemeral = vec![(destination(1), full)];
    assert_eq!(play.seconds(2), [(AlertName::EphemeralPortsNearLimit, CRITICAL)]);
    assert!(
        play.only().text.ends_with(&format!("none is free, at 3 connections/s; {failed}")),
        "{}",
        play.only().text
    );
}

fn stale(gone_seconds: f64) -> Vec<(AccountId, StaleAddress)> {
    let stale = StaleAddress {
        is_failing: false,
        id: WatchId { name: Arc::from("lb.example"), port: 443 },
        address: ADDRESS,
        gone_seconds,
        used_seconds: gone_seconds,
        calls_successor: false,
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
fn a_stale_address_whose_callers_know_the_new_one_is_never_critical() {
    let mut play = Play::new("");
    play.stale = stale(601.0);
    play.stale[0].1.is_failing = true;
    play.stale[0].1.calls_successor = true;
    assert_eq!(play.seconds(5), [(AlertName::StaleAddress, WARNING)]);
    assert!(
        play.only().text.ends_with("; these processes connect to the address that took its place, too"),
        "{}",
        play.only().text
    );
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
