//! Alerts about the pools of peers that call us, and about their SYNs.

use super::*;

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
    play.pools = vec![(account(1), PoolFigures { local_addresses: 2, ..pool(0.3, 45.0) })];
    play.seconds(1);
    let text = &play.only().text;
    let named = "198.51.100.1 towards our address 192.0.2.1 (the fullest of 2), port 443 draws";
    assert!(text.starts_with(named), "{text}");
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
fn several_clocks_behind_an_address_are_told() {
    let mut play = Play::new("");
    let one = PoolFigures { same_clock: 40.0, ..pool(0.97, f64::INFINITY) };
    play.pools = vec![(account(1), one.clone())];
    assert_eq!(play.seconds(2), [(NEAR, CRITICAL)]);
    assert!(!play.only().text.contains("clock"), "{}", play.only().text);
    play.pools = vec![(account(1), PoolFigures { other_clock: 18.0, ..one })];
    play.seconds(1);
    assert!(
        play.only().text.ends_with(
            "; of 58 connections on ports used before in the last minute, 18 had timestamps of another clock, as behind a NAT with several \
             clients: a TIME_WAIT refuses about half of such SYNs"
        ),
        "{}",
        play.only().text
    );
}

#[test]
fn a_pool_drawn_from_at_random_is_judged_by_the_share_that_will_be_refused() {
    let mut play = Play::new("");
    let mut expect = |share: f64| {
        let chance = Some(Chance { refused_ratio: 0.002, expected_refused_ratio: Some(share) });
        play.pools = vec![(account(1), PoolFigures { chance, exhaustion_seconds: None, ..pool(0.3, 0.0) })];
        (play.seconds(2), play.engine.raised().map(|alert| alert.text.clone()).collect::<String>())
    };
    assert_eq!(expect(0.009).0, [], "30 % of its ports are taken, and 0.9 % will be refused");
    assert_eq!(expect(0.01).0, [(NEAR, WARNING)]);
    let (changes, text) = expect(0.05);
    assert_eq!(changes, [(NEAR, CRITICAL)]);
    assert!(text.contains("0.2 % of its SYNs were refused in the last minute, and 5.0 % will be"), "{text}");
}

#[test]
fn it_is_said_that_a_part_of_the_ports_comes_here_or_that_it_is_not_known_which() {
    let mut play = Play::new("");
    let part = PoolFigures { reachable: Some(4_700), gaps: Some(Gaps::ByChance), ..pool(0.3, 10.0) };
    play.pools = vec![(account(1), part.clone())];
    play.seconds(2);
    let text = &play.only().text;
    assert!(text.contains(", of which 4700 come to this server; 92 % of them are taken here"), "{text}");
    play.pools = vec![(account(1), PoolFigures { reachable: None, is_learning: true, ..part })];
    play.seconds(1);
    let text = &play.only().text;
    assert!(
        text.contains("; it is being learned which of them come to this server, 4301 in TIME_WAIT"),
        "{text}"
    );
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
fn the_block_that_refused_syns_come_from_is_named_and_no_other_peers() {
    let mut play = Play::new("");
    let events = Events { refused: 30, connections: 50, ..Events::default() };
    play.troubled = HashMap::from([(account(1), events)]);
    let blocks = vec![Range { low: 1_344, high: 1_407, step: 1 }];
    let outgrown = Some(Outgrown { blocks, refused: 14, all_refused: 14, seconds: 60 });
    let of =
        |number| (account(number), PoolFigures { outgrown: outgrown.clone(), ..pool(0.3, f64::INFINITY) });
    play.pools = vec![of(2)];
    play.seconds(60);
    assert!(play.only().text.ends_with("0 waited for 0.9 s or more"), "{}", play.only().text);
    play.pools = vec![of(1), of(2)];
    play.seconds(1);
    let text = &play.only().text;
    assert!(
        text.ends_with(
            "; all 14 attempts that TIME_WAIT refused in the last minute came from ports 1344-1407: one machine or subscriber behind this \
             address has outgrown its block of 64 ports; the other ports of the address are fine"
        ),
        "{text}"
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
fn syns_on_open_connections_explain_that_they_are_repeated() {
    let mut play = Play::new("");
    let events = |challenged| Events { challenged, syn_retries: 20, connections: 100, ..Events::default() };
    play.troubled = HashMap::from([(account(1), events(2))]);
    assert_eq!(play.seconds(30), [(RETRIES, WARNING)], "two explain nothing");
    play.troubled = HashMap::from([(account(1), events(3))]);
    let half_open = AlertName::HalfOpenConnections;
    assert_eq!(play.seconds(5), [(half_open, WARNING)]);
    let text = play.engine.raised().find(|alert| alert.name == half_open).map(|alert| alert.text.clone());
    let text = text.expect("it is raised");
    assert!(text.contains("3 SYNs in the last minute met a connection that is still open here"), "{text}");
    play.seconds(60);
    assert_eq!(play.raised(), [(half_open, Severity::Warning)], "the other is explained");
    play.troubled = HashMap::from([(account(1), events(60))]);
    assert_eq!(play.seconds(5), [(half_open, CRITICAL)]);
    let outbound = AccountId { direction: Direction::Outbound, ..account(1) };
    play.troubled = HashMap::from([(outbound, Events { challenged: 99, ..Events::default() })]);
    play.seconds(120);
    assert_eq!(play.raised(), [], "SYN-ACKs that come late are nobody's trouble");
}

#[test]
fn many_peers_at_once_are_critical() {
    let mut play = Play::new("[alerts.PortReuseRefused]\ncritical_peers = 3\n");
    let events = Events { refused: 2, refused_failed: 1, ..Events::default() };
    play.troubled = (1..=2).map(|number| (account(number), events)).collect();
    assert_eq!(play.seconds(10), [(REFUSED, WARNING); 2]);
    play.troubled = (1..=3).map(|number| (account(number), events)).collect();
    assert_eq!(play.seconds(10), [(REFUSED, CRITICAL); 3]);
    let reach = &play.engine.raised().next().expect("raised").reach;
    assert_eq!((reach.peers, reach.ports.as_slice()), (3, &[443][..]));
}

#[test]
fn refused_syns_whose_attempts_connect_at_once_are_a_warning() {
    let mut play = Play::new("[alerts.PortReuseRefused]\ncritical_peers = 3\n");
    let briefly = Events { refused: 500, ..Events::default() };
    play.troubled = (1..=5).map(|number| (account(number), briefly)).collect();
    assert_eq!(play.seconds(10), [(REFUSED, WARNING); 5], "however many SYNs and peers");
    for harm in [Events { refused_failed: 1, ..briefly }, Events { refused_late: 1, ..briefly }] {
        play.troubled.insert(account(2), harm);
        assert_eq!(play.seconds(5), [(REFUSED, CRITICAL)], "the page is for the one that is hurt");
        play.troubled.insert(account(2), briefly);
        assert_eq!(play.seconds(61), [(REFUSED, WARNING)]);
    }
    let says = "500 SYNs met a TIME_WAIT and were refused in the last minute, 0 were accepted; 0 attempts failed, 0 waited for 0.9 s or more";
    assert!(play.engine.raised().all(|alert| alert.text.contains(says)));
    let few = Events { refused: 59, refused_failed: 9, ..Events::default() };
    play.troubled = (1..=2).map(|number| (account(number), few)).collect();
    play.seconds(200);
    assert_eq!(play.raised(), [(REFUSED, Severity::Warning); 2], "two peers below the limit");
}
