//! Whoever comes and goes, every event is in one series, and none goes back.

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use probe_ebpf::{account::INBOUND, sweep::state};
use proptest::prelude::*;

const RETENTION: Retention = Retention { exported: 2, capacity: 100, forget_after: Duration::from_mins(10) };

fn key(host: u8) -> AccountKey {
    AccountKey {
        peer: PeerKey::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, host)), 443, INBOUND),
        half_open: false,
    }
}

fn connections(count: u64) -> Counted {
    Counted { counters: Counters { connections: count, ..Counters::zeroed() }, ..Counted::zeroed() }
}

fn held(host: u8, sockets: [u32; STATES]) -> Held {
    Held { sockets, ..Held::none(key(host).peer) }
}

fn time_wait(count: u32) -> [u32; STATES] {
    let mut sockets = [0; STATES];
    sockets[state::TIME_WAIT as usize] = count;
    sockets
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// `(peer, connections)` of each inbound series.
fn shown(accounts: &Accounts) -> Vec<(String, u64)> {
    let name = |account: &ExportedAccount| {
        account.who.as_ref().map_or("other".to_owned(), |(peer, _)| peer.to_string())
    };
    let all = accounts.export();
    let inbound = all.iter().filter(|account| account.direction == Direction::Inbound);
    inbound.map(|account| (name(account), account.counters.connections)).collect()
}

#[test]
fn repeated_readings_of_the_same_figures_book_nothing() {
    let mut accounts = Accounts::new(Groups::default(), RETENTION);
    for second in 1..4 {
        assert_eq!(accounts.read(at(second), key(1), &connections(7)), second == 1, "only the first is news");
        accounts.rank(at(second), &HashSet::new());
    }
    assert_eq!(shown(&accounts), [("192.0.2.1".to_owned(), 7), ("other".to_owned(), 0)]);
}

#[test]
fn who_is_wanted_is_shown_however_light() {
    let mut accounts = Accounts::new(Groups::default(), RETENTION);
    for (host, count) in [(1, 100), (2, 90), (3, 5)] {
        accounts.read(at(1), key(host), &connections(count));
    }
    let wanted = HashSet::from([Groups::default().account_of(&key(3).peer)]);
    accounts.rank(at(1), &wanted);
    accounts.read(at(2), key(3), &connections(6));
    let names: Vec<String> = shown(&accounts).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["192.0.2.1", "192.0.2.2", "192.0.2.3", "other"], "beyond the places there are");
    accounts.rank(at(3), &HashSet::new());
    assert_eq!(shown(&accounts).len(), 3, "until it is no longer wanted");
}

#[test]
fn who_has_no_place_counts_in_other_from_then_on_only() {
    let mut accounts = Accounts::new(Groups::default(), RETENTION);
    for (host, count) in [(1, 100), (2, 90), (3, 5)] {
        accounts.read(at(1), key(host), &connections(count));
    }
    accounts.rank(at(1), &HashSet::new());
    assert_eq!(shown(&accounts).last(), Some(&("other".to_owned(), 5)));
    // The third grows heaviest; its past stays where it was booked, so no series jumps.
    accounts.read(at(2), key(3), &connections(1_005));
    accounts.rank(at(2), &HashSet::new());
    assert_eq!(shown(&accounts).last(), Some(&("other".to_owned(), 1_005)));
    accounts.read(at(3), key(3), &connections(1_010));
    accounts.rank(at(3), &HashSet::new());
    assert!(shown(&accounts).contains(&("192.0.2.3".to_owned(), 5)));
    assert_eq!(shown(&accounts).last(), Some(&("other".to_owned(), 1_005)));
}

#[test]
fn a_census_replaces_the_sockets_and_the_hidden_ones_sum_in_other() {
    let mut accounts = Accounts::new(Groups::default(), RETENTION);
    let rows = |counts: [u32; 3]| {
        (1..).zip(counts).map(|(host, count)| held(host, time_wait(count))).collect::<Vec<_>>()
    };
    accounts.settle(at(1), &rows([10, 20, 30]));
    accounts.rank(at(1), &HashSet::new());
    let time_waits = |accounts: &Accounts| {
        let all = accounts.export();
        let inbound = all.iter().filter(|account| account.direction == Direction::Inbound);
        inbound.map(|account| account.sockets[state::TIME_WAIT as usize]).collect::<Vec<_>>()
    };
    assert_eq!(time_waits(&accounts), [20, 30, 10]);
    accounts.settle(at(2), &rows([1, 2, 3]));
    assert_eq!(time_waits(&accounts), [2, 3, 1]);
}

#[test]
fn a_group_is_one_account_and_always_shown() {
    let groups = Groups::new([("192.0.2.0/28".parse().expect("a network"), "gateways".into())], []);
    let mut accounts = Accounts::new(groups, Retention { exported: 0, ..RETENTION });
    for host in [1, 2, 200] {
        accounts.read(at(1), key(host), &connections(10));
    }
    accounts.rank(at(1), &HashSet::new());
    assert_eq!(shown(&accounts), [("gateways".to_owned(), 20), ("other".to_owned(), 10)]);
}

#[test]
fn idle_accounts_are_offered_for_removal_and_then_forgotten() {
    let mut accounts = Accounts::new(Groups::default(), RETENTION);
    accounts.read(at(1), key(1), &connections(1));
    accounts.read(at(1), key(2), &connections(1));
    accounts.settle(at(500), &[held(2, time_wait(1))]);
    assert_eq!(accounts.idle(at(600)), []);
    assert_eq!(accounts.idle(at(601)), [(key(1), connections(1).counters)]);
    accounts.forget(&key(1));
    assert_eq!((accounts.len(), accounts.evicted()), (1, 1));
    // It comes back with counters that begin at zero.
    accounts.read(at(700), key(1), &connections(2));
    accounts.rank(at(700), &HashSet::new());
    assert!(shown(&accounts).contains(&("192.0.2.1".to_owned(), 2)));
}

#[test]
fn when_the_room_gets_scarce_the_longest_idle_go_first() {
    let mut accounts = Accounts::new(Groups::default(), Retention { capacity: 10, ..RETENTION });
    for host in 1..=10 {
        accounts.read(at(u64::from(host)), key(host), &connections(1));
    }
    assert_eq!(accounts.idle(at(11)), [(key(1), connections(1).counters)]);
    // Whoever holds sockets stays, however long ago the last event was.
    accounts.settle(at(11), &[held(1, time_wait(1))]);
    assert_eq!(accounts.idle(at(12)), [(key(2), connections(1).counters)]);
}

#[test]
fn half_open_peers_drive_nobody_out() {
    let mut accounts = Accounts::new(Groups::default(), Retention { capacity: 10, ..RETENTION });
    for host in 1..=9 {
        accounts.read(at(1), key(host), &connections(1));
    }
    for host in 100..200 {
        accounts.read(at(2), AccountKey { half_open: true, ..key(host) }, &Counted::zeroed());
        // And what the census knows of them.
        accounts.settle(at(2), &[held(host, [1; STATES])]);
    }
    accounts.settle(at(3), &[]);
    // Without sockets, the census knows nothing of them any more.
    let gone: Vec<AccountKey> = accounts.idle(at(3)).into_iter().map(|(key, _)| key).collect();
    assert_eq!(gone, (100..200).map(key).collect::<Vec<_>>());
    for key in gone {
        accounts.forget(&key);
    }
    assert_eq!(accounts.idle(at(602)).len(), 9 + 100);
}

#[test]
fn regrouping_moves_rows_without_counting_anything_twice() {
    let mut accounts = Accounts::new(Groups::default(), RETENTION);
    accounts.read(at(1), key(1), &connections(10));
    let groups = Groups::new([("192.0.2.1/32".parse().expect("a network"), "gateway".into())], []);
    accounts.reconfigure(groups, RETENTION);
    accounts.read(at(2), key(1), &connections(13));
    assert_eq!(shown(&accounts), [("gateway".to_owned(), 3), ("other".to_owned(), 0)]);
}

#[test]
fn what_the_kernel_had_no_room_for_is_in_other() {
    let mut accounts = Accounts::new(Groups::default(), RETENTION);
    let overflow = AccountKey { peer: PeerKey::overflow(INBOUND), half_open: false };
    accounts.read(at(1), overflow, &connections(4));
    assert_eq!(shown(&accounts), [("other".to_owned(), 4)]);
    assert_eq!((accounts.len(), accounts.idle(at(9_999)).len()), (0, 0));
}

proptest! {
    /// Whoever comes, goes or changes places: every event is in exactly one series, and none goes back.
    #[test]
    fn events_are_conserved(steps in prop::collection::vec((1_u8..12, 0_u64..50), 1..80)) {
        let mut accounts = Accounts::new(Groups::default(), Retention { exported: 3, ..RETENTION });
        let mut kernel: HashMap<u8, u64> = HashMap::new();
        let mut ever: HashMap<String, u64> = HashMap::new();
        for (second, &(host, new)) in (1..).zip(&steps) {
            let total = kernel.entry(host).or_default();
            *total += new;
            accounts.read(at(second), key(host), &connections(*total));
            accounts.rank(at(second), &HashSet::new());
            for (peer, count) in shown(&accounts) {
                let before = ever.insert(peer, count).unwrap_or_default();
                prop_assert!(count >= before);
            }
        }
        prop_assert_eq!(ever.values().sum::<u64>(), kernel.values().sum::<u64>());
    }
}
