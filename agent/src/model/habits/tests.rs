use std::net::IpAddr;

use bytemuck::Zeroable as _;
use probe_ebpf::{
    account::{OUTBOUND, PeerKey, Waiting},
    sweep::Heard,
};

use super::{super::peer::Peer, *};

const MINUTE: Duration = Duration::from_mins(1);

fn account(number: u32) -> AccountId {
    let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
    AccountId { peer: Peer::Address(address), port: 443, direction: Direction::Inbound }
}

/// A minute's connections.
fn minute(connections: u64, aborted_early: u64) -> Counters {
    Counters { connections, aborted_early, answered: connections - aborted_early, ..Counters::zeroed() }
}

/// Goes on for some minutes.
fn live(habits: &mut Habits, minutes: std::ops::Range<u32>, new: &Counters) {
    for number in minutes {
        habits.read(MINUTE * number, &account(1), new);
    }
}

fn usual(habits: &Habits) -> Option<f64> {
    habits.endings(&account(1)).and_then(Endings::usual)
}

#[test]
fn the_lowest_share_is_usual_until_it_is_higher_for_an_hour() {
    let mut habits = Habits::default();
    live(&mut habits, 0..1, &minute(20, 2));
    assert_eq!(usual(&habits), None, "the first minute has not passed");
    live(&mut habits, 1..2, &minute(20, 2));
    assert_eq!(usual(&habits), Some(0.1));
    live(&mut habits, 2..60, &minute(20, 20));
    assert_eq!(usual(&habits), Some(0.1), "a fault of almost an hour is no habit");
    live(&mut habits, 60..130, &minute(20, 20));
    assert_eq!(usual(&habits), Some(1.0), "what has not been otherwise for two hours is");
    live(&mut habits, 130..145, &minute(20, 0));
    assert_eq!(usual(&habits), Some(0.0), "and it is unlearned within minutes");
}

#[test]
fn few_connections_say_nothing_and_idle_time_ages_nothing() {
    let mut habits = Habits::default();
    live(&mut habits, 0..9, &minute(1, 1));
    assert_eq!(usual(&habits), None, "nine connections");
    live(&mut habits, 9..11, &minute(1, 1));
    assert_eq!(usual(&habits), Some(1.0), "ten");
    live(&mut habits, 10_000..10_001, &minute(1, 1));
    assert_eq!(usual(&habits), Some(1.0), "a week later");
    assert!(!habits.endings(&account(1)).expect("known").is_settled());
}

#[test]
fn a_port_answers_once_ten_were_answered_whoever_it_was() {
    let mut habits = Habits::default();
    for number in 0..10 {
        assert!(!habits.is_answering(443));
        habits.read(MINUTE, &account(number), &minute(1, 0));
    }
    assert!(habits.is_answering(443) && !habits.is_answering(80));
}

#[test]
fn a_restart_forgets_nothing() {
    let mut habits = Habits::default();
    live(&mut habits, 0..100, &minute(20, 10));
    let saved = habits.save();
    assert!(saved.iter().all(|habit| habit.check().is_ok()));
    let mut restored = Habits::default();
    restored.restore(Duration::ZERO, &saved);
    assert_eq!(usual(&restored), Some(0.5));
    let endings = restored.endings(&account(1)).expect("known");
    assert!(endings.is_settled() && restored.is_answering(443));
    assert_eq!(restored.save(), saved);
}

#[test]
fn what_is_learned_is_bounded_and_peers_of_whom_nothing_is_known_go_first() {
    let mut habits = Habits::default();
    live(&mut habits, 0..2, &minute(20, 0));
    let beyond = u32::try_from(CAPACITY + EXCESS).expect("few");
    for number in 2..beyond + 2 {
        habits.read(MINUTE * 3, &account(number), &minute(1, 0));
    }
    assert_eq!((habits.endings.len(), habits.forgotten()), (CAPACITY, 0));
    assert_eq!(usual(&habits), Some(0.0), "the oldest, and known");
    let is_outbound = AccountId { direction: Direction::Outbound, ..account(1) };
    habits.read(MINUTE * 3, &is_outbound, &minute(20, 0));
    assert!(habits.endings(&is_outbound).is_none());
}

#[test]
fn what_cannot_have_been_saved_is_no_habit() {
    let habit = |peer: &str, lowest: &str, spans: u32, answered: u32| {
        let text = format!(
            r#"{{{peer}"port":443,"hours":{{"last":{{"spans":{spans},"lowest":{lowest},"answered":{answered}}}}}}}"#
        );
        serde_json::from_str::<SavedHabit>(&text).expect("a habit").check()
    };
    let peer = r#""address":"10.0.0.1","#;
    assert!(habit(peer, "1.0", 12, 10).is_ok());
    assert!(habit(r#""group":"nat","#, "1.0", 12, 10).is_ok());
    assert!(habit("", "1.0", 12, 10).is_err());
    assert!(habit(peer, "1.1", 12, 10).is_err());
    assert!(habit(peer, "1.0", 13, 10).is_err());
    assert!(habit(peer, "1.0", 12, 11).is_err());
}

/// A destination whose connections have waited for a while, after it answered others.
fn waiting(number: u32) -> Held {
    let mut first = Waiting::NONE.first;
    first[3] = 15;
    let peer = PeerKey::new(IpAddr::from((0x0a00_0000 + number).to_be_bytes()), 25, OUTBOUND);
    Held { waiting: Waiting { first, ..Waiting::NONE }, heard: Heard::LongAgo, ..Held::none(peer) }
}

fn destination(number: u32) -> AccountId {
    AccountId { direction: Direction::Outbound, port: 25, ..account(number) }
}

#[test]
fn what_is_usual_for_a_destination_outlives_a_restart() {
    let mut habits = Habits::default();
    assert_eq!(habits.settle(MINUTE, &destination(1), &waiting(1)), 15);
    let mut new = Counters::zeroed();
    new.answered_waits[3] = 1;
    habits.read(MINUTE, &destination(1), &new);
    assert_eq!(habits.settle(MINUTE, &destination(1), &waiting(1)), 0);
    let saved = habits.save_destinations();
    assert!(saved.iter().all(|known| known.check().is_ok()));
    let mut restored = Habits::default();
    restored.restore_destinations(Duration::ZERO, &saved);
    assert_eq!(restored.settle(MINUTE, &destination(1), &waiting(1)), 0);
    assert_eq!(restored.settle(MINUTE, &destination(2), &waiting(2)), 15);
    assert!(habits.save().is_empty() && habits.answers.len() == 1);
}

#[test]
fn destinations_are_bounded() {
    let mut habits = Habits::default();
    let beyond = u32::try_from(CAPACITY + EXCESS).expect("few");
    for number in 0..=beyond {
        habits.settle(MINUTE, &destination(number), &waiting(number));
    }
    assert_eq!((habits.answers.len(), habits.forgotten()), (CAPACITY, EXCESS as u64 + 1));
    assert_eq!(habits.save_destinations().len(), CAPACITY);
}

#[test]
fn a_destination_that_cannot_have_been_saved_is_none() {
    let known = |peer: &str, usual: u32| {
        let text = format!(
            r#"{{{peer}"port":25,"known":{{"heard":true,"settled":true,"speaks_first":false,"one_way":false,"usual":{usual},"usual_before":0}}}}"#
        );
        serde_json::from_str::<SavedDestination>(&text).expect("a destination").check()
    };
    assert!(known(r#""address":"10.0.0.1","#, 6).is_ok());
    assert!(known(r#""address":"10.0.0.1","#, 7).is_err());
    assert!(known("", 0).is_err());
}
