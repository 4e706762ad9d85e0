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
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name);
    let mut callers = Callers::default();
    callers.add(&CallerKey { destination: key(host, port), name: bytemuck::cast(bytes) }, at);
    callers
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
