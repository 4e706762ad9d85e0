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
fn a_census_leaves_the_last_of_the_room_to_events() {
    let mut accounts = Accounts::new(Groups::default(), Retention { capacity: 10, ..RETENTION });
    assert_eq!(accounts.free(), 9);
    for host in 1..=8 {
        accounts.read(at(1), key(host), &connections(1));
    }
    accounts.read(at(1), AccountKey { half_open: true, ..key(100) }, &connections(0));
    assert_eq!(accounts.free(), 1, "half-open peers have a room of their own");
    for host in 9..=10 {
        accounts.read(at(1), key(host), &connections(1));
    }
    assert_eq!(accounts.free(), 0);
}

/// `(port, connections, sockets in TIME_WAIT)` of each inbound series of a peer.
fn ports(accounts: &Accounts) -> Vec<(String, u64, u32)> {
    let all = accounts.export();
    let inbound = all.iter().filter(|account| account.direction == Direction::Inbound);
    let port = |account: &ExportedAccount| {
        let time_wait = account.sockets[state::TIME_WAIT as usize];
        Some((account.id()?.port_name().to_string(), account.counters.connections, time_wait))
    };
    inbound.filter_map(port).collect()
}

#[test]
fn accounts_of_short_lived_listeners_become_one() {
    let mut accounts = Accounts::new(Groups::default(), Retention { capacity: 3, ..RETENTION });
    accounts.read(at(1), key(1), &connections(5));
    let transfer = |port| PeerKey { port, ..key(1).peer };
    for second in 2..=41 {
        let port = 40_000 + u16::try_from(second).expect("a small number");
        assert!(!accounts.knows(&AccountKey { peer: transfer(port), half_open: false }));
        accounts.fold(at(second), &transfer(port), &connections(1));
    }
    accounts.settle(at(41), &[Held { sockets: time_wait(40), ..Held::none(transfer(0)) }]);
    accounts.rank(at(41), &HashSet::new());
    assert_eq!(ports(&accounts), [("ephemeral".to_owned(), 40, 40), ("443".to_owned(), 5, 0)]);
    assert_eq!(accounts.len(), 2);
    // It is forgotten like any other, ten minutes after the last of them.
    accounts.settle(at(100), &[]);
    let gone = |seconds| accounts.idle(at(seconds)).into_iter().map(|(key, _)| key.peer).collect::<Vec<_>>();
    assert_eq!(gone(640), [key(1).peer]);
    assert_eq!(gone(641), [key(1).peer, transfer(0)]);
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

#[test]
fn closes_by_peers_are_counted_with_the_sockets_of_a_census() {
    let mut accounts = Accounts::new(Groups::default(), RETENTION);
    let closed = |by_peer, by_us| {
        let mut counted = Counted::zeroed();
        counted.counters.closes[ClosedBy::Peer as usize] = by_peer;
        counted.counters.closes[ClosedBy::Local as usize] = by_us;
        counted
    };
    let mut sockets = [0; STATES];
    sockets[CLOSE_WAIT as usize] = 2;
    accounts.read(at(1), key(1), &closed(5, 100));
    accounts.read(at(1), key(2), &closed(7, 0));
    let outbound = AccountKey {
        peer: PeerKey::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 3)), 443, probe_ebpf::account::OUTBOUND),
        half_open: false,
    };
    accounts.read(at(1), outbound, &closed(1_000, 0));
    accounts.settle(at(2), &[held(1, sockets)]);
    let told =
        |accounts: &mut Accounts| accounts.close_waits().get(&443).map(|told| (told.sockets, told.entered));
    assert_eq!(told(&mut accounts), Some((2, 12)));
    // What comes after a census is not among the sockets that it found.
    accounts.read(at(3), key(1), &closed(9, 100));
    assert_eq!(told(&mut accounts), Some((2, 12)));
    accounts.settle(at(4), &[held(1, sockets)]);
    assert_eq!(told(&mut accounts), Some((2, 16)));
}
