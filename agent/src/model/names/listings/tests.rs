use proptest::prelude::*;

use super::*;

const S: u64 = SECOND;

fn address(host: u8) -> IpAddr {
    [192, 0, 2, host].into()
}

fn listed(hosts: &[u8]) -> Told {
    Told::Listed { addresses: hosts.iter().map(|host| address(*host)).collect(), left_out: 0 }
}

fn answer(at: u64, v4: Told) -> Answer {
    // Asked for 10 ms before it came.
    let asked_ns = at - S / 100;
    Answer { asked_ns, answered_ns: at, v4, v6: Told::Nothing { exists: true } }
}

/// Listings that have been told `hosts` every second of `seconds`.
fn told(listings: &mut Listings, seconds: std::ops::Range<u64>, hosts: &[u8]) {
    for second in seconds {
        listings.learn(&answer(second * S, listed(hosts)));
        listings.tick(second * S);
    }
}

fn is_gone(listings: &Listings, at: u64, host: u8) -> bool {
    listings.get(address(host)).is_some_and(|known| listings.is_gone(at, known))
}

#[test]
fn an_address_is_gone_when_answers_have_been_without_it_for_ten_seconds() {
    let mut listings = Listings::default();
    told(&mut listings, 1..11, &[1]);
    told(&mut listings, 11..20, &[2]);
    assert!(!is_gone(&listings, 20 * S - 1, 1));
    assert!(is_gone(&listings, 20 * S, 1));
    let left = listings.get(address(1)).and_then(Known::left).expect("it left");
    assert_eq!(left, Between { earliest_ns: Some(10 * S - S / 100), latest_ns: 11 * S });
    let came = listings.get(address(2)).expect("known").came;
    assert_eq!(came, Between { earliest_ns: Some(10 * S - S / 100), latest_ns: 11 * S });
    told(&mut listings, 20..22, &[2]);
    let changes: Vec<(IpAddr, bool)> =
        listings.changes().map(|change| (change.address, change.came)).collect();
    assert_eq!(changes, [(address(2), true), (address(1), false)]);
}

#[test]
fn a_failed_lookup_takes_nobody_away_and_neither_does_one_without_addresses() {
    let mut listings = Listings::default();
    told(&mut listings, 1..3, &[1]);
    for at in 3..100 {
        let nothing = [
            Told::Failed("SERVFAIL".to_owned()),
            Told::TimedOut,
            Told::Nothing { exists: false },
            Told::Nothing { exists: true },
        ];
        listings.learn(&answer(at * S, nothing[(at % 4) as usize].clone()));
        listings.tick(at * S);
    }
    assert!(listings.get(address(1)).is_some_and(Known::is_listed));
    assert_eq!(listings.count(), 0, "an empty answer is shown as such");
    assert_eq!(listings.changes().count(), 0);
}

#[test]
fn one_family_that_fails_says_nothing_of_its_addresses() {
    let six: IpAddr = "2001:db8::1".parse().expect("an address");
    let both = |at: u64, v4: Told, v6: Told| Answer { asked_ns: at - 1, answered_ns: at, v4, v6 };
    let v6 = || Told::Listed { addresses: vec![six], left_out: 0 };
    let mut listings = Listings::default();
    listings.learn(&both(S, listed(&[1]), v6()));
    for at in 2..60 {
        listings.learn(&both(at * S, listed(&[1]), Told::TimedOut));
    }
    assert!(listings.get(six).is_some_and(Known::is_listed));
    // A move to IPv6 only is a move.
    for at in 60..80 {
        listings.learn(&both(at * S, Told::Nothing { exists: true }, v6()));
    }
    assert!(is_gone(&listings, 80 * S, 1));
    assert_eq!(listings.count(), 1);
}

#[test]
fn what_was_left_out_of_an_answer_is_not_gone() {
    let mut listings = Listings::default();
    told(&mut listings, 1..3, &[1]);
    for at in 3..100 {
        let addresses = (100..164).map(address).collect();
        listings.learn(&answer(at * S, Told::Listed { addresses, left_out: 936 }));
    }
    assert!(!is_gone(&listings, 100 * S, 1));
    assert_eq!(listings.count(), 1_000);
}

#[test]
fn a_name_that_goes_round_has_nobody_gone() {
    // Six addresses, two at a time, in turn.
    let mut listings = Listings::default();
    for at in 1..300_u64 {
        let first = u8::try_from(at % 3).expect("small") * 2;
        listings.learn(&answer(at * S, listed(&[first, first + 1])));
        listings.tick(at * S);
        assert!((0..6).all(|host| !is_gone(&listings, at * S, host)), "at {at}");
    }
    assert!(listings.changes().all(|change| change.came), "nobody left");
    // One that is really taken out is gone, only later.
    for at in 300..400_u64 {
        let first = u8::try_from(at % 2).expect("small") * 2;
        listings.learn(&answer(at * S, listed(&[first, first + 1])));
    }
    assert!(is_gone(&listings, 400 * S, 4) && !is_gone(&listings, 400 * S, 0));
}

#[test]
fn a_name_that_flaps_every_second_has_nobody_gone() {
    let mut listings = Listings::default();
    for at in 1..1_000_u64 {
        told(&mut listings, at..at + 1, &[u8::try_from(at % 2).expect("small")]);
        assert!(!is_gone(&listings, at * S, 0) && !is_gone(&listings, at * S, 1));
    }
    assert!(listings.changes().count() <= MOST_CHANGES);
    assert!(listings.returns.len() <= MOST_KNOWN);
}

#[test]
fn going_back_after_minutes_is_no_rotation() {
    let mut listings = Listings::default();
    told(&mut listings, 1..60, &[1]);
    told(&mut listings, 60..360, &[2]);
    told(&mut listings, 360..420, &[1]);
    let came = listings.get(address(1)).expect("known").came;
    assert_eq!(came, Between { earliest_ns: Some(359 * S - S / 100), latest_ns: 360 * S });
    // And so the next move is seen as soon as the first was.
    told(&mut listings, 420..430, &[2]);
    assert!(is_gone(&listings, 430 * S, 1));
}

#[test]
fn those_that_are_gone_are_forgotten_when_nobody_needs_them() {
    let mut listings = Listings::default();
    told(&mut listings, 1..5, &[1, 2]);
    told(&mut listings, 5..30, &[3]);
    listings.forget(30 * S, |known, _| known == address(2));
    let known: Vec<IpAddr> = listings.known().map(|(address, _)| address).collect();
    assert_eq!(known, [address(2), address(3)]);
}

#[test]
fn a_name_with_ever_new_addresses_is_bounded() {
    let mut listings = Listings::default();
    for at in 1..10_000_u64 {
        let addresses =
            (0..8).map(|n| IpAddr::V4((u32::try_from(at).expect("small") * 8 + n).into())).collect();
        listings.learn(&answer(at * S, Told::Listed { addresses, left_out: 0 }));
        listings.tick(at * S);
    }
    assert_eq!(listings.known().count(), MOST_KNOWN);
    assert!(listings.changes().count() <= MOST_CHANGES);
}

proptest! {
    /// Whatever the answers: who is listed by the last one is not gone, who is gone left after it came, and was in none of the answers of the
    /// last ten seconds.
    #[test]
    fn only_answers_without_it_make_an_address_gone(
        answers in prop::collection::vec((0..5_u64, prop::collection::vec(0..6_u8, 0..4), 0..10_u8), 1..100),
    ) {
        let mut listings = Listings::default();
        let mut now = S;
        let mut seen: Vec<(u64, Vec<u8>)> = Vec::new();
        for (wait, hosts, kind) in answers {
            now += wait * S + 1;
            let told = match kind {
                0 => Told::TimedOut,
                1 => Told::Failed(String::new()),
                _ if hosts.is_empty() => Told::Nothing { exists: true },
                _ => listed(&hosts),
            };
            if matches!(told, Told::Listed { .. }) {
                seen.push((now, hosts.clone()));
            }
            listings.learn(&answer(now, told));
            listings.tick(now);
            for host in 0..6 {
                let Some(known) = listings.get(address(host)) else { continue };
                if listings.is_gone(now, known) {
                    let late = seen.iter().filter(|(at, _)| now - at < 10 * S);
                    prop_assert!(late.clone().all(|(_, hosts)| !hosts.contains(&host)));
                    let left = known.left().expect("it left");
                    prop_assert!(left.latest_ns >= known.came.latest_ns);
                    let without = seen.iter().rev().take_while(|(_, hosts)| !hosts.contains(&host)).count();
                    prop_assert!(without >= 3);
                }
            }
        }
    }
}
