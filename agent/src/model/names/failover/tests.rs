use super::*;
use crate::model::names::answer::{Answer, Told};

const S: u64 = SECOND;
const MS: u64 = S / 1_000;
const OLD: u8 = 1;
const NEW: u8 = 2;

fn address(host: u8) -> IpAddr {
    [192, 0, 2, host].into()
}

/// A name, its servers, and clients that call them; looked at once a second, as the agent does.
#[derive(Default)]
struct Play {
    now: u64,
    listings: Listings,
    traffic: BTreeMap<IpAddr, Traffic>,
    watcher: Watcher,
    over: Vec<Failover>,
}

impl Play {
    /// What the kernel books for a call (`accounts.rs` of the kernel side).
    fn call(&mut self, host: u8, begun: u64, ended: u64, succeeds: bool) {
        let calls = &mut self.traffic.entry(address(host)).or_default().calls;
        if succeeds {
            if calls.last_success_ns <= calls.last_failure_ns {
                calls.first_success_ns = ended;
            }
            calls.last_success_ns = ended;
        } else {
            if calls.last_failure_ns <= calls.last_success_ns {
                calls.first_failure_ns = begun;
            }
            calls.last_failure_ns = ended;
        }
    }

    fn answer(&mut self, at: u64, hosts: &[u8]) {
        let addresses = hosts.iter().map(|host| address(*host)).collect();
        let v4 = Told::Listed { addresses, left_out: 0 };
        let v6 = Told::Nothing { exists: true };
        self.listings.learn(&Answer { asked_ns: at - MS, answered_ns: at, v4, v6 });
    }

    fn look(&mut self, at: u64) {
        self.now = at;
        self.listings.tick(at);
        let traffic = |address| self.traffic.get(&address).copied().unwrap_or_default();
        let name: Arc<str> = Arc::from("db.example");
        self.over.extend(self.watcher.look(at, (&name, 3306), &self.listings, traffic));
        for each in self.traffic.values_mut() {
            each.success_before_ns = each.calls.last_success_ns;
        }
    }

    /// A second: the name lists `hosts`, each of `calls` is called four times, and answers or not.
    fn second(&mut self, hosts: &[u8], calls: &[(u8, bool)]) {
        let begin = self.now;
        self.answer(begin + 100 * MS, hosts);
        for quarter in 0..4 {
            for &(host, succeeds) in calls {
                let at = begin + (quarter * 250 + 10) * MS;
                self.call(host, at, at + MS, succeeds);
            }
        }
        self.look(begin + S);
    }

    fn seconds(&mut self, count: u32, hosts: &[u8], calls: &[(u8, bool)]) {
        for _ in 0..count {
            self.second(hosts, calls);
        }
    }

    fn of_hosts(&self) -> Vec<(IpAddr, IpAddr)> {
        self.over.iter().map(|failover| (failover.old, failover.new)).collect()
    }

    fn hurries(&self) -> bool {
        self.watcher.hurries(self.now, &self.listings)
    }
}

fn begun() -> Play {
    Play { now: 1_000 * S, ..Play::default() }
}

/// How far a figure may be from what happened, by the time between two answers.
fn about(got: Option<u64>, happened: u64, tolerance: u64) -> bool {
    got.is_some_and(|got| got.abs_diff(happened) <= tolerance)
}

#[test]
fn a_failover_has_its_parts() {
    let mut play = begun();
    play.seconds(60, &[OLD], &[(OLD, true)]);
    let last = play.traffic[&address(OLD)].calls.last_success_ns;
    // The old one refuses from now on; DNS changes 3 s later, and is asked all the time.
    let failed = play.now + 40 * MS;
    play.call(OLD, failed, failed + MS, false);
    play.answer(play.now + 100 * MS, &[OLD]);
    play.look(play.now + S);
    assert!(play.hurries());
    let changed = failed + 3 * S;
    let mut at = play.now;
    while at < changed + 500 * MS {
        at += 25 * MS;
        play.answer(at, if at < changed { &[OLD] } else { &[NEW] });
        play.call(OLD, at, at + MS, false);
        if at.is_multiple_of(S) {
            play.look(at);
        }
    }
    let connected = changed + 700 * MS;
    play.call(NEW, connected - 5 * MS, connected, true);
    play.look(at + S);
    assert!(!play.hurries());
    let [failover] = &play.over[..] else { panic!("{:?}", play.over) };
    assert_eq!((failover.old, failover.new), (address(OLD), address(NEW)));
    assert_eq!(failover.part_ns(Part::Unnoticed), Some(failed - last));
    assert_eq!(failover.part_ns(Part::Outage), Some(connected - last));
    assert!(about(failover.part_ns(Part::Dns), 3 * S, 25 * MS), "{failover:?}");
    assert!(about(failover.part_ns(Part::Reconnect), 700 * MS, 25 * MS), "{failover:?}");
    let parts = [Part::Unnoticed, Part::Dns, Part::Reconnect];
    let sum: u64 = parts.iter().filter_map(|part| failover.part_ns(*part)).sum();
    assert_eq!(Some(sum), failover.part_ns(Part::Outage), "the parts are the whole");
    let changed_at = failover.dns_changed.expect("it changed");
    assert!((changed_at.earliest_ns.expect("known")..=changed_at.latest_ns).contains(&changed));
    // What is over stays over, while somebody still calls the old one.
    play.seconds(300, &[NEW], &[(NEW, true), (OLD, false)]);
    assert_eq!(play.over.len(), 1);
}

#[test]
fn a_planned_move_waits_for_no_dns() {
    let mut play = begun();
    play.seconds(30, &[OLD], &[(OLD, true)]);
    play.seconds(20, &[NEW], &[(OLD, true)]);
    play.seconds(2, &[NEW], &[(OLD, false)]);
    play.seconds(2, &[NEW], &[(OLD, false), (NEW, true)]);
    let [failover] = &play.over[..] else { panic!("{:?}", play.over) };
    assert_eq!(failover.part_ns(Part::Dns), Some(0));
    assert_eq!(failover.part_ns(Part::Reconnect), failover.part_ns(Part::Outage).map(|all| all - 249 * MS));
    // Where clients go over before the old one ends, nothing failed.
    let mut play = begun();
    play.seconds(30, &[OLD], &[(OLD, true)]);
    play.seconds(5, &[NEW], &[(OLD, true), (NEW, true)]);
    play.seconds(5, &[NEW], &[(NEW, true)]);
    assert!(play.over.is_empty());
}

#[test]
fn there_and_back_are_two() {
    let mut play = begun();
    play.seconds(10, &[OLD], &[(OLD, true)]);
    play.seconds(3, &[OLD], &[(OLD, false)]);
    play.seconds(3, &[NEW], &[(NEW, true)]);
    play.seconds(3, &[NEW], &[(NEW, false)]);
    play.seconds(3, &[OLD], &[(OLD, true)]);
    assert_eq!(play.of_hosts(), [(address(OLD), address(NEW)), (address(NEW), address(OLD))]);
    for failover in &play.over {
        assert!(about(failover.part_ns(Part::Dns), 2_900 * MS, 700 * MS), "{failover:?}");
    }
}

#[test]
fn two_in_a_row_are_told_apart() {
    let mut play = begun();
    play.seconds(10, &[OLD], &[(OLD, true)]);
    play.seconds(2, &[OLD], &[(OLD, false)]);
    play.seconds(2, &[NEW], &[(NEW, true), (OLD, false)]);
    play.seconds(2, &[NEW], &[(NEW, false), (OLD, false)]);
    play.seconds(2, &[3], &[(3, true), (OLD, false)]);
    play.seconds(60, &[3], &[(3, true), (OLD, false)]);
    assert_eq!(play.of_hosts(), [(address(OLD), address(NEW)), (address(NEW), address(3))]);
}

#[test]
fn what_recovers_by_itself_is_no_failover() {
    let mut play = begun();
    play.seconds(10, &[OLD], &[(OLD, true)]);
    play.seconds(5, &[OLD], &[(OLD, false)]);
    assert!(play.hurries());
    play.seconds(2, &[OLD], &[(OLD, true)]);
    assert!(!play.hurries());
    // Also where DNS has changed meanwhile, and the old one works: that is stale, not failed.
    play.seconds(5, &[OLD], &[(OLD, false)]);
    play.seconds(20, &[NEW], &[(OLD, true)]);
    play.seconds(5, &[NEW], &[(OLD, true), (NEW, true)]);
    assert!(play.over.is_empty(), "{:?}", play.over);
}

#[test]
fn who_carried_on_beside_it_took_nothing_over() {
    let mut play = begun();
    play.seconds(30, &[OLD, NEW], &[(OLD, true), (NEW, true)]);
    play.seconds(30, &[OLD, NEW], &[(OLD, false), (NEW, true)]);
    assert!(play.over.is_empty(), "{:?}", play.over);
    // A third that comes for the one that failed does.
    play.seconds(3, &[3, NEW], &[(OLD, false), (NEW, true), (3, true)]);
    assert_eq!(play.of_hosts(), [(address(OLD), address(3))]);
}

#[test]
fn a_stand_by_that_was_listed_all_along_has_no_dns_part() {
    let mut play = begun();
    play.seconds(100, &[OLD, NEW], &[(OLD, true)]);
    play.seconds(2, &[OLD, NEW], &[(OLD, false)]);
    play.seconds(2, &[OLD, NEW], &[(NEW, true)]);
    let [failover] = &play.over[..] else { panic!("{:?}", play.over) };
    assert_eq!((failover.part_ns(Part::Dns), failover.part_ns(Part::Reconnect)), (None, None));
    assert!(about(failover.part_ns(Part::Outage), 2_250 * MS, S));
}

#[test]
fn an_address_that_was_used_long_ago_and_never_failed_is_found_within_a_second() {
    let mut play = begun();
    play.seconds(5, &[NEW], &[(NEW, true)]);
    play.seconds(200, &[OLD], &[(OLD, true)]);
    play.seconds(2, &[OLD], &[(OLD, false)]);
    play.seconds(1, &[NEW], &[(NEW, true)]);
    let [failover] = &play.over[..] else { panic!("{:?}", play.over) };
    assert!(failover.first_success_ns.abs_diff(play.now) <= S);
}

#[test]
fn where_nobody_called_for_long_the_outage_begins_with_the_first_failure() {
    let mut play = begun();
    play.seconds(5, &[OLD], &[(OLD, true)]);
    play.seconds(600, &[OLD], &[]);
    play.seconds(2, &[OLD], &[(OLD, false)]);
    play.seconds(2, &[NEW], &[(NEW, true)]);
    let [failover] = &play.over[..] else { panic!("{:?}", play.over) };
    assert_eq!(failover.part_ns(Part::Unnoticed), None);
    assert_eq!(failover.part_ns(Part::Outage), Some(failover.first_success_ns - failover.first_failure_ns));
}

#[test]
fn without_calls_there_is_nothing_to_tell() {
    let mut play = begun();
    play.seconds(10, &[OLD], &[]);
    play.seconds(100, &[NEW], &[]);
    assert!(play.over.is_empty() && !play.hurries());
}

#[test]
fn an_address_that_left_long_ago_hides_no_failover() {
    let mut play = begun();
    play.seconds(30, &[OLD], &[(OLD, true)]);
    // Some worker keeps the old address, which is shut down after two minutes.
    play.seconds(120, &[NEW], &[(OLD, true), (NEW, true)]);
    play.seconds(120, &[NEW], &[(OLD, false), (NEW, true)]);
    assert!(play.over.is_empty() && !play.hurries(), "{:?}", play.over);
    play.seconds(3, &[NEW], &[(OLD, false), (NEW, false)]);
    play.seconds(3, &[3], &[(OLD, false), (3, true)]);
    assert_eq!(play.of_hosts(), [(address(NEW), address(3))]);
}

#[test]
fn the_hurry_ends_after_half_a_minute() {
    let mut play = begun();
    play.seconds(10, &[OLD], &[(OLD, true)]);
    play.seconds(29, &[OLD], &[(OLD, false)]);
    assert!(play.hurries());
    play.seconds(5, &[OLD], &[(OLD, false)]);
    assert!(!play.hurries());
    // It is still a failover, however long it takes.
    play.seconds(100, &[OLD], &[(OLD, false)]);
    play.seconds(2, &[NEW], &[(NEW, true)]);
    assert_eq!(play.over.len(), 1);
}
