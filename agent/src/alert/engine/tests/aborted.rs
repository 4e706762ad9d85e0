//! Alerts about connections that are cut short.

use bytemuck::Zeroable as _;
use probe_ebpf::account::Counters;

use super::*;

const ABORTED: AlertName = AlertName::AbortedEarly;

/// The last minute of an account.
fn last_minute(aborted: u64, connections: u64) -> Events {
    Events { connections, aborted, ..Events::default() }
}

impl Play {
    /// So much of an account's traffic ends like that, for some minutes.
    fn minutes(&mut self, account: &AccountId, minutes: u32, aborted: u64, connections: u64) {
        let answered = connections - aborted;
        let new = Counters { connections, aborted_early: aborted, answered, ..Counters::zeroed() };
        for _ in 0..minutes {
            self.now.monotonic += Duration::from_mins(1);
            self.habits.read(self.now.monotonic, account, &new);
        }
    }
}

#[test]
fn a_peer_that_was_answered_and_is_cut_off_is_told_as_a_share() {
    let mut play = Play::new("");
    play.minutes(&account(1), 3, 0, 100);
    play.troubled = HashMap::from([(account(1), last_minute(9, 9))]);
    assert_eq!(play.seconds(60), [], "nine are few");
    play.troubled = HashMap::from([(account(1), last_minute(19, 100))]);
    assert_eq!(play.seconds(60), []);
    play.troubled = HashMap::from([(account(1), last_minute(20, 100))]);
    assert_eq!(play.seconds(11), [(ABORTED, WARNING)]);
    play.troubled = HashMap::from([(account(1), last_minute(50, 100))]);
    assert_eq!(play.seconds(11), [(ABORTED, CRITICAL)]);
    let text = &play.only().text;
    assert!(text.contains("50 of 100") && text.contains("usual for this peer: 0 %"), "{text}");
}

#[test]
fn a_share_that_is_usual_is_not_told_and_more_of_it_is() {
    let mut play = Play::new("");
    play.minutes(&account(1), 130, 30, 100);
    play.troubled = HashMap::from([(account(1), last_minute(49, 100))]);
    assert_eq!(play.seconds(60), []);
    play.troubled = HashMap::from([(account(1), last_minute(50, 100))]);
    assert_eq!(play.seconds(11), [(ABORTED, WARNING)]);
    // The excess is few connections, however large the share.
    let mut play = Play::new("");
    play.minutes(&account(1), 130, 6, 12);
    play.troubled = HashMap::from([(account(1), last_minute(12, 12))]);
    assert_eq!(play.seconds(60), []);
}

#[test]
fn a_service_that_only_ever_gives_short_answers_is_never_told() {
    let mut play = Play::new("");
    play.troubled = HashMap::from([(account(1), last_minute(60, 60)), (account(2), last_minute(60, 60))]);
    for _ in 0..180 {
        play.minutes(&account(1), 1, 60, 60);
        play.minutes(&account(2), 1, 60, 60);
        assert_eq!(play.seconds(30), []);
    }
}

#[test]
fn a_peer_that_is_new_is_a_warning_where_others_are_answered_until_it_is_usual() {
    let mut play = Play::new("");
    play.minutes(&account(2), 1, 0, 9);
    play.troubled = HashMap::from([(account(1), last_minute(100, 100))]);
    assert_eq!(play.seconds(30), [], "nine answers are few");
    play.minutes(&account(2), 1, 0, 9);
    assert_eq!(play.seconds(11), [(ABORTED, WARNING)]);
    let text = &play.only().text;
    assert!(text.contains("not known yet whether that is usual"), "{text}");
    play.minutes(&account(1), 50, 100, 100);
    assert_eq!(play.seconds(61), [], "it is no habit yet");
    play.minutes(&account(1), 20, 100, 100);
    assert_eq!(play.seconds(61), [(ABORTED, None)]);
    assert_eq!(play.seconds(61), []);
    // And after a restart.
    let saved = play.habits.save();
    let mut later = Play::new("");
    later.habits.restore(later.now.monotonic, &saved);
    later.troubled = play.troubled;
    assert_eq!(later.seconds(61), []);
}

#[test]
fn a_change_right_after_a_restart_is_as_bad_as_any() {
    let mut play = Play::new("");
    play.minutes(&account(1), 3, 0, 100);
    let saved = play.habits.save();
    let mut later = Play::new("");
    later.habits.restore(later.now.monotonic, &saved);
    later.troubled = HashMap::from([(account(1), last_minute(100, 100))]);
    assert_eq!(later.seconds(11), [(ABORTED, CRITICAL)]);
}

#[test]
fn five_new_peers_are_no_more_than_a_warning() {
    let mut play = Play::new("");
    play.minutes(&account(9), 3, 0, 100);
    play.troubled = (1..=6).map(|number| (account(number), last_minute(50, 50))).collect();
    assert_eq!(play.seconds(30), [(ABORTED, WARNING); 6]);
    // Six that were answered before are critical, however small the share.
    let mut play = Play::new("");
    for number in 1..=6 {
        play.minutes(&account(number), 3, 0, 100);
    }
    play.troubled = (1..=6).map(|number| (account(number), last_minute(30, 100))).collect();
    assert_eq!(play.seconds(30), [(ABORTED, CRITICAL); 6]);
}
