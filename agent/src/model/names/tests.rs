use bytemuck::Zeroable as _;
use probe_ebpf::{caller::CallerKey, sweep::STATES};

use super::*;

const S: u64 = SECOND;

fn is_about(seconds: f64, expected: f64) -> bool {
    (seconds - expected).abs() < 1e-6
}

fn id(name: &str, port: u16) -> WatchId {
    WatchId { name: Arc::from(name), port }
}

fn key(host: u8, port: u16) -> PeerKey {
    PeerKey::new([192, 0, 2, host].into(), port, OUTBOUND)
}

fn watching(names: &[(&str, u16)]) -> Names {
    let mut names_watched = Names::default();
    names_watched.watch(S, names.iter().map(|(name, port)| (id(name, *port), Duration::from_secs(1))));
    names_watched
}

fn learn(names: &mut Names, name: &str, seconds: std::ops::Range<u64>, hosts: &[u8]) {
    for second in seconds {
        let addresses = hosts.iter().map(|host| [192, 0, 2, *host].into()).collect();
        let v4 = Told::Listed { addresses, left_out: 0 };
        let v6 = Told::Nothing { exists: true };
        names.learn(name, &Answer { asked_ns: second * S - 1, answered_ns: second * S, v4, v6 });
    }
}

/// The account of `host` as the kernel has it when it was answered then.
fn read(names: &mut Names, host: u8, port: u16, last_success_ns: u64) {
    let calls = Calls { last_success_ns, first_success_ns: S, ..Calls::zeroed() };
    names.read(&AccountKey { peer: key(host, port), half_open: false }, &calls);
}

fn called_by(host: u8, port: u16, name: &[u8], at: u64) -> Callers {
    let mut callers = Callers::default();
    add(&mut callers, host, port, name, at);
    callers
}

fn add(callers: &mut Callers, host: u8, port: u16, name: &[u8], at: u64) {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name);
    callers.add(&CallerKey { destination: key(host, port), name: bytemuck::cast(bytes) }, at);
}

/// Who last called which host at port 3306, and at which second.
fn calls(calls: &[(u8, &str, u64)]) -> Callers {
    let mut callers = Callers::default();
    for (host, name, second) in calls {
        add(&mut callers, *host, 3306, name.as_bytes(), second * S);
    }
    callers
}

/// A name that moved from the first host to the second one at second 10; it is second 70.
fn moved() -> Names {
    let mut names = watching(&[("db.example", 3306)]);
    learn(&mut names, "db.example", 1..10, &[1]);
    names.conclude(9 * S, &calls(&[(1, "httpd", 9), (1, "monitor", 9), (2, "monitor", 9)]));
    learn(&mut names, "db.example", 10..70, &[2]);
    names
}

/// The account of the first host, to which calls fail.
fn fail(names: &mut Names, since: u64) {
    let calls = Calls { last_success_ns: 9 * S, last_failure_ns: since, ..Calls::zeroed() };
    names.read(&AccountKey { peer: key(1, 3306), half_open: false }, &calls);
}

fn stale(names: &mut Names, now: u64, callers: &Callers) -> Vec<StaleAddress> {
    names.conclude(now, callers);
    let figures = names.figures(now, callers);
    names.stale(now, &figures)
}

#[test]
fn who_calls_an_address_that_is_no_longer_listed_is_named() {
    let mut names = watching(&[("db.example", 3306)]);
    learn(&mut names, "db.example", 1..10, &[1]);
    learn(&mut names, "db.example", 10..70, &[2]);
    let callers = called_by(1, 3306, b"httpd", 60 * S);
    let mut sockets = [0; STATES];
    (sockets[state::SYN_SENT as usize], sockets[state::ESTABLISHED as usize]) = (1, 2);
    sockets[state::TIME_WAIT as usize] = 50;
    names.settle(&[Held { sockets, ..Held::none(key(1, 3306)) }]);
    let found = stale(&mut names, 70 * S, &callers);
    let [found] = &found[..] else { panic!("{found:?}") };
    assert_eq!((found.gone_seconds, found.called_seconds_ago, found.connections), (60.0, 10.0, 3));
    assert_eq!(found.processes, [Arc::from("httpd")]);
    assert_eq!(names.figures(70 * S, &callers)[0].stale_connections(), 3);
    // A minute after the last call it is over; what is open is still shown.
    assert_eq!(stale(&mut names, 121 * S, &callers), []);
    assert_eq!(names.figures(121 * S, &callers)[0].stale_connections(), 3);
}

#[test]
fn a_monitor_that_calls_the_new_address_too_has_not_missed_the_move() {
    let mut names = moved();
    let monitor = [(1, "monitor", 65), (2, "monitor", 66)];
    assert_eq!(stale(&mut names, 70 * S, &calls(&monitor)), []);
    // Nor one that called it before the move and is slow to call it again.
    assert_eq!(stale(&mut names, 70 * S, &calls(&[(1, "monitor", 65), (2, "monitor", 9)])), []);
    assert!(is_about(names.figures(70 * S, &calls(&monitor))[0].stale_seconds(70 * S), 0.0));
    // What fails is told, and that it is called by those who know better.
    fail(&mut names, 66 * S);
    let found = stale(&mut names, 70 * S, &calls(&monitor));
    let [found] = &found[..] else { panic!("{found:?}") };
    assert!(found.calls_successor && found.is_failing, "{found:?}");
    let figures = &names.figures(70 * S, &calls(&monitor))[0];
    assert!(is_about(figures.stale_seconds(70 * S), 0.0) && figures.stale_fails());
}

#[test]
fn a_program_that_kept_the_old_address_is_told_beside_a_monitor_that_calls_both() {
    let mut names = moved();
    let all = calls(&[(1, "monitor", 65), (2, "monitor", 66), (1, "httpd", 60), (2, "java", 65)]);
    let found = stale(&mut names, 70 * S, &all);
    let [found] = &found[..] else { panic!("{found:?}") };
    assert_eq!(found.processes, [Arc::from("httpd")]);
    assert_eq!((found.used_seconds, found.called_seconds_ago, found.calls_successor), (60.0, 10.0, false));
    assert!(is_about(names.figures(70 * S, &all)[0].stale_seconds(70 * S), 60.0));
}

#[test]
fn a_monitor_that_calls_the_old_address_only_looks_like_a_program_that_kept_it() {
    let found = stale(&mut moved(), 70 * S, &calls(&[(1, "monitor", 65)]));
    assert_eq!(found.len(), 1);
}

#[test]
fn who_calls_the_old_address_for_the_first_time_later_counts_from_then() {
    let mut names = moved();
    let found = stale(&mut names, 70 * S, &calls(&[(1, "mysql", 70)]));
    assert!(is_about(found[0].used_seconds, 0.0) && is_about(found[0].gone_seconds, 60.0), "{found:?}");
    let found = stale(&mut names, 100 * S, &calls(&[(1, "mysql", 95)]));
    assert!(is_about(found[0].used_seconds, 30.0), "{found:?}");
}

#[test]
fn who_kept_several_addresses_is_told_though_one_of_them_is_still_listed() {
    let mut names = watching(&[("lb.example", 3306)]);
    learn(&mut names, "lb.example", 1..10, &[1, 2]);
    learn(&mut names, "lb.example", 10..200, &[1, 2, 3]);
    learn(&mut names, "lb.example", 200..300, &[2, 3]);
    // The third came long before the first one left, and took nothing's place.
    let found =
        stale(&mut names, 300 * S, &calls(&[(1, "nginx", 299), (2, "nginx", 299), (3, "nginx", 299)]));
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn an_address_that_overlaps_with_the_one_before_takes_its_place() {
    let mut names = watching(&[("db.example", 3306)]);
    learn(&mut names, "db.example", 1..10, &[1]);
    learn(&mut names, "db.example", 10..40, &[1, 2]);
    learn(&mut names, "db.example", 40..100, &[2]);
    let both = calls(&[(1, "monitor", 95), (2, "monitor", 96)]);
    assert_eq!(stale(&mut names, 100 * S, &both), []);
}

#[test]
fn who_missed_that_a_name_went_back_is_told_though_it_called_that_address_before() {
    let mut names = moved();
    learn(&mut names, "db.example", 70..100, &[2]);
    learn(&mut names, "db.example", 100..200, &[1]);
    let httpd = [(1, "httpd", 9), (2, "httpd", 199)];
    let found = stale(&mut names, 200 * S, &calls(&httpd));
    assert_eq!(found.len(), 1, "it called the first host through the name: {found:?}");
    // A monitor called it while the name did not list it.
    assert_eq!(stale(&mut names, 200 * S, &calls(&[(1, "monitor", 60), (2, "monitor", 199)])), []);
}

#[test]
fn calls_from_before_it_left_do_not_count() {
    let mut names = watching(&[("db.example", 3306)]);
    learn(&mut names, "db.example", 1..10, &[1]);
    learn(&mut names, "db.example", 10..30, &[2]);
    read(&mut names, 1, 3306, 9 * S);
    assert_eq!(stale(&mut names, 30 * S, &Callers::default()), []);
    read(&mut names, 1, 3306, 29 * S);
    assert_eq!(stale(&mut names, 30 * S, &Callers::default()).len(), 1, "an answer is a call, too");
}

#[test]
fn an_address_that_another_name_lists_at_that_port_is_not_stale() {
    let mut names = watching(&[("a.example", 80), ("b.example", 80), ("c.example", 81)]);
    learn(&mut names, "a.example", 1..10, &[1]);
    learn(&mut names, "b.example", 1..10, &[1]);
    learn(&mut names, "c.example", 1..60, &[1]);
    learn(&mut names, "a.example", 10..60, &[2]);
    read(&mut names, 1, 80, 59 * S);
    assert_eq!(stale(&mut names, 60 * S, &Callers::default()), [], "b lists it");
    learn(&mut names, "b.example", 10..60, &[2]);
    let found = stale(&mut names, 60 * S, &Callers::default());
    let of: Vec<&str> = found.iter().map(|stale| &*stale.id.name).collect();
    assert_eq!(of, ["a.example", "b.example"], "c lists it at another port");
}

#[test]
fn a_name_at_two_ports_is_two() {
    let mut names = watching(&[("db.example", 3306), ("db.example", 3307)]);
    learn(&mut names, "db.example", 1..10, &[1]);
    learn(&mut names, "db.example", 10..60, &[2]);
    read(&mut names, 1, 3307, 59 * S);
    let found = stale(&mut names, 60 * S, &Callers::default());
    assert_eq!(found.iter().map(|stale| stale.id.port).collect::<Vec<_>>(), [3307]);
    assert_eq!(names.troubles(60 * S).len(), 1, "it resolves or not, whatever the port");
}

#[test]
fn accounts_of_others_are_left_alone() {
    let mut names = watching(&[("db.example", 3306)]);
    learn(&mut names, "db.example", 1..10, &[1]);
    for host in 0..=255 {
        read(&mut names, host, 3306, 9 * S);
        read(&mut names, host, 443, 9 * S);
    }
    names.conclude(10 * S, &Callers::default());
    assert_eq!(names.connections.len(), 1);
}

#[test]
fn reading_the_configuration_again_keeps_what_is_known() {
    let mut names = watching(&[("db.example", 3306), ("old.example", 80)]);
    learn(&mut names, "db.example", 1..10, &[1]);
    learn(&mut names, "old.example", 1..10, &[9]);
    let again =
        [(id("db.example", 3306), Duration::from_secs(5)), (id("new.example", 80), Duration::from_secs(1))];
    names.watch(10 * S, again);
    let figures = names.figures(10 * S, &Callers::default());
    let known: Vec<(&str, u64, usize)> =
        figures.iter().map(|name| (&*name.id.name, name.every.as_secs(), name.addresses.len())).collect();
    assert_eq!(known, [("db.example", 5, 1), ("new.example", 1, 0)]);
    assert!(names.connections.keys().all(|key| key.port == 3306));
}

#[test]
fn a_name_that_does_not_resolve_says_why_and_since_when() {
    let mut names = watching(&[("db.example", 3306)]);
    learn(&mut names, "db.example", 1..10, &[1]);
    let failed = |at: u64, v4: Told| Answer { asked_ns: at, answered_ns: at + S, v4, v6: Told::TimedOut };
    names.learn("db.example", &failed(20 * S, Told::TimedOut));
    names.learn("db.example", &failed(22 * S, Told::Failed("192.0.2.53 answers SERVFAIL".to_owned())));
    let [trouble] = &names.troubles(30 * S)[..] else { panic!("one name") };
    assert_eq!((trouble.unresolved_seconds, &*trouble.why), (10.0, "192.0.2.53 answers SERVFAIL"));
    let [figures] = &names.figures(30 * S, &Callers::default())[..] else { panic!("one name") };
    assert_eq!(figures.outcomes, [9, 0, 1, 1]);
    learn(&mut names, "db.example", 30..31, &[1]);
    assert!(is_about(names.troubles(31 * S)[0].unresolved_seconds, 0.0));
    // Of which nothing at all is heard does not resolve either.
    assert!(is_about(names.troubles(62 * S)[0].unresolved_seconds, 32.0));
}

#[test]
fn one_slow_lookup_makes_no_slow_resolver() {
    let mut names = watching(&[("db.example", 3306)]);
    let took = |names: &mut Names, seconds: u64| {
        let v4 = Told::Listed { addresses: vec![[192, 0, 2, 1].into()], left_out: 0 };
        let v6 = Told::Nothing { exists: true };
        names.learn("db.example", &Answer { asked_ns: 100 * S, answered_ns: (100 + seconds) * S, v4, v6 });
    };
    for seconds in [2, 0, 2, 2, 2, 2] {
        took(&mut names, seconds);
        assert!(is_about(names.troubles(102 * S)[0].slow_seconds, 0.0));
    }
    took(&mut names, 3);
    assert!(is_about(names.troubles(102 * S)[0].slow_seconds, 2.0));
}
