use std::net::Ipv4Addr;

use bytemuck::Zeroable as _;
use probe_ebpf::account::{OUTBOUND, PeerKey};

use super::*;

const S: Duration = Duration::from_secs(1);

/// Of the buckets, these: from 10 s and from 20 s on.
const TENS: usize = 0;
const TWENTIES: usize = 1;

/// A destination's sockets.
fn held(waiting: Waiting, heard: Heard) -> Held {
    let peer = PeerKey::new(Ipv4Addr::LOCALHOST.into(), 25, OUTBOUND);
    Held { waiting, heard, ..Held::none(peer) }
}

fn waits(bucket: usize, count: u32) -> [u32; WAITS] {
    let mut waits = [0; WAITS];
    waits[bucket] = count;
    waits
}

/// So many that were never answered on their connection.
fn first(bucket: usize, heard: Heard) -> Held {
    held(Waiting { first: waits(bucket, 15), ..Waiting::NONE }, heard)
}

/// So many that were.
fn later(bucket: usize, heard: Heard) -> Held {
    held(Waiting { later: waits(bucket, 15), ..Waiting::NONE }, heard)
}

fn answered(bucket: usize) -> Counters {
    let mut new = Counters::zeroed();
    new.answered_waits[bucket] = 11;
    new
}

/// One that has been heard for long enough, and was always quick.
fn settled() -> Answers {
    let mut answers = Answers::new(S);
    answers.see(S, &held(Waiting::NONE, Heard::Lately));
    answers.see(S * 601, &held(Waiting::NONE, Heard::Lately));
    answers
}

#[test]
fn whoever_is_known_to_be_quick_hangs_from_the_first_bucket_on() {
    let answers = settled();
    for heard in [Heard::Lately, Heard::LongAgo, Heard::Never] {
        assert_eq!(answers.stalled(&first(TENS, heard)), 15);
        assert_eq!(answers.stalled(&later(TENS, heard)), 15);
    }
}

#[test]
fn one_that_answered_others_and_now_answers_nobody_hangs_at_once() {
    let mut answers = Answers::new(S);
    answers.see(S, &held(Waiting::NONE, Heard::Lately));
    answers.learn(S, &Counters { answered: 14, ..Counters::zeroed() });
    answers.see(S * 12, &first(TENS, Heard::LongAgo));
    assert_eq!(answers.stalled(&first(TENS, Heard::LongAgo)), 0, "more wait than were ever answered");
    answers.learn(S * 12, &Counters { answered: 1, ..Counters::zeroed() });
    assert_eq!(answers.stalled(&first(TENS, Heard::LongAgo)), 15);
    // While others are answered, these may be long requests; so may those that follow a login.
    assert_eq!(answers.stalled(&first(2, Heard::Lately)), 0);
    assert_eq!(answers.stalled(&first(3, Heard::Lately)), 15);
    assert_eq!(answers.stalled(&later(2, Heard::LongAgo)), 0);
    assert_eq!(answers.stalled(&later(3, Heard::LongAgo)), 15);
}

#[test]
fn waits_that_are_answered_are_usual_and_longer_ones_are_not() {
    let mut answers = Answers::new(S);
    answers.see(S, &held(Waiting::NONE, Heard::Lately));
    answers.learn(S * 30, &Counters { answered: 15, ..answered(TWENTIES) });
    assert_eq!(answers.stalled(&first(TWENTIES, Heard::LongAgo)), 0);
    assert_eq!(answers.stalled(&first(2, Heard::LongAgo)), 15);
    // Known well, they stay usual for a day, and for the next.
    answers.see(S * 700, &held(Waiting::NONE, Heard::Lately));
    assert_eq!(answers.stalled(&later(TWENTIES, Heard::LongAgo)), 0);
    assert_eq!(answers.stalled(&later(2, Heard::LongAgo)), 15);
    answers.see(DAY + S * 10, &held(Waiting::NONE, Heard::Lately));
    assert_eq!(answers.stalled(&later(TWENTIES, Heard::LongAgo)), 0);
    answers.see(DAY * 2 + S * 20, &held(Waiting::NONE, Heard::Lately));
    assert_eq!(answers.stalled(&later(TENS, Heard::LongAgo)), 15);
}

#[test]
fn a_hang_that_ends_is_no_habit() {
    let mut answers = settled();
    answers.learn(S * 900, &answered(4));
    answers.learn(S * 905, &answered(4));
    assert_eq!(answers.stalled(&later(TENS, Heard::LongAgo)), 15);
    // A minute later it would be one.
    answers.learn(S * 965, &answered(TENS));
    assert_eq!(answers.stalled(&later(TENS, Heard::LongAgo)), 15, "the first of that length");
    answers.learn(S * 1_026, &answered(TENS));
    assert_eq!(answers.stalled(&later(TENS, Heard::LongAgo)), 0);
}

#[test]
fn what_never_answers_is_one_way_once_it_is_sent_more() {
    let mut answers = Answers::new(S);
    answers.see(S, &first(2, Heard::Never));
    assert_eq!(answers.stalled(&first(2, Heard::Never)), 0, "less than 80 s");
    assert_eq!(answers.stalled(&first(3, Heard::Never)), 15);
    let talking = held(Waiting { talking: 11, first: waits(4, 11), ..Waiting::NONE }, Heard::Never);
    answers.see(S * 2, &talking);
    assert_eq!(answers.stalled(&first(5, Heard::Never)), 0);
    let mut later = Answers::restored(S, answers.known());
    assert_eq!(later.stalled(&first(5, Heard::Never)), 0, "nor after a restart");
    later.see(S * 3, &first(5, Heard::LongAgo));
    assert_eq!(later.stalled(&first(5, Heard::LongAgo)), 15, "it has answered after all");
}

#[test]
fn unused_connections_wait_for_a_destination_that_speaks_first() {
    let unused = held(Waiting { unused: 20, ..Waiting::NONE }, Heard::Never);
    let mut answers = settled();
    assert_eq!(answers.stalled(&unused), 0);
    answers.learn(S * 700, &Counters { spoke_first: 1, ..Counters::zeroed() });
    assert_eq!(answers.stalled(&unused), 20);
    assert_eq!(Answers::restored(S, answers.known()).stalled(&unused), 20, "after a restart, too");
}

#[test]
fn what_is_not_acknowledged_always_waits() {
    let silent = held(Waiting { unacknowledged: 7, ..Waiting::NONE }, Heard::Never);
    assert_eq!(Answers::new(S).stalled(&silent), 7);
}
