use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    alert::{Figure, Reach, Subject},
    config::AlertName,
};

fn alert(port: u16, severity: Severity, since: u64) -> Arc<Alert> {
    Arc::new(Alert {
        name: AlertName::ListenQueueOverflow,
        subject: Subject::Port(port),
        severity,
        since,
        text: "full".to_owned(),
        figure: Figure { measure: "queue_ratio", value: 1.0, limit: 0.8 },
        exhausted_at: None,
        reach: Reach::default(),
        announced: true,
    })
}

fn warning(port: u16) -> Arc<Alert> {
    alert(port, Severity::Warning, 100)
}

fn outbox(repeat: Option<Duration>) -> Outbox {
    Outbox::new(&Arc::from("ops"), Severity::Warning, repeat, &SavedOutbox::default())
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Delivers all that is due, and says what: port, severity, whether it ended.
fn deliver(outbox: &mut Outbox, now: Duration) -> Vec<(u16, Severity, bool)> {
    let due = outbox.due(now);
    outbox.settle(now, &due, Outcome::Delivered, 0.0);
    due.iter().map(said).collect()
}

fn said(notice: &Notice) -> (u16, Severity, bool) {
    let Subject::Port(port) = notice.alert.subject else { panic!("{notice:?}") };
    (port, notice.alert.severity, notice.ended.is_some())
}

const WARNING: Severity = Severity::Warning;
const CRITICAL: Severity = Severity::Critical;

#[test]
fn each_change_is_told_once() {
    let mut outbox = outbox(None);
    assert!(outbox.update(100, &[warning(1)]));
    assert_eq!(deliver(&mut outbox, s(1)), [(1, WARNING, false)]);
    assert!(!outbox.update(101, &[warning(1)]), "nothing new");
    assert_eq!(deliver(&mut outbox, s(1000)), []);
    assert!(outbox.update(102, &[alert(1, CRITICAL, 100)]));
    let due = outbox.due(s(1001));
    assert_eq!(due[0].severity_before, Some(WARNING));
    outbox.settle(s(1001), &due, Outcome::Delivered, 0.0);
    assert!(outbox.update(103, &[]));
    let due = outbox.due(s(1002));
    assert_eq!((said(&due[0]), due[0].ended), ((1, CRITICAL, true), Some(103)));
    outbox.settle(s(1002), &due, Outcome::Delivered, 0.0);
    assert!(!outbox.update(104, &[]));
    assert_eq!(outbox.due_at(), None);
    assert_eq!(outbox.figures().delivered, 3);
}

#[test]
fn what_is_raised_is_repeated_where_that_is_wanted() {
    let mut outbox = outbox(Some(s(60)));
    outbox.update(100, &[warning(1)]);
    assert_eq!(deliver(&mut outbox, s(5)), [(1, WARNING, false)]);
    assert_eq!(outbox.due_at(), Some(s(65)));
    assert_eq!(deliver(&mut outbox, s(64)), []);
    assert_eq!(deliver(&mut outbox, s(65)), [(1, WARNING, false)]);
}

#[test]
fn a_receiver_that_was_away_hears_the_state_of_now() {
    let mut outbox = outbox(None);
    outbox.update(100, &[warning(1), warning(2)]);
    deliver(&mut outbox, s(1));
    outbox.update(101, &[warning(1), warning(2), warning(3)]);
    let mut attempts = 0;
    let mut now = s(2);
    while now < s(3600) {
        let due = outbox.due(now);
        if !due.is_empty() {
            attempts += 1;
            outbox.settle(now, &due, Outcome::Failed, 1.0);
        }
        // Alerts come and go by the thousand meanwhile; the second one ends, the first stays.
        let passing = u16::try_from(now.as_secs() % 1000).expect("small") + 10;
        outbox.update(101 + now.as_secs(), &[warning(1), warning(3), warning(passing)]);
        now += s(1);
    }
    assert!((100..=150).contains(&attempts), "it is asked twice a minute: {attempts}");
    assert!(outbox.is_unreached(now));
    assert!(outbox.entries.len() <= 4, "no growth: {}", outbox.entries.len());
    outbox.update(9000, &[warning(1), warning(3)]);
    now += s(60);
    assert_eq!(deliver(&mut outbox, now), [(2, WARNING, true), (3, WARNING, false)]);
    assert!(!outbox.is_unreached(now));
    assert!(outbox.figures().superseded > 3000, "what came and went is counted: {:?}", outbox.figures());
}

#[test]
fn a_notice_that_was_never_answered_is_told_again_and_so_is_its_end() {
    let mut outbox = outbox(None);
    outbox.update(100, &[warning(1), warning(2)]);
    let due = outbox.due(s(1));
    outbox.settle(s(1), &due, Outcome::Unanswered, 0.0);
    outbox.update(101, &[warning(1)]);
    assert_eq!(deliver(&mut outbox, s(60)), [(1, WARNING, false), (2, WARNING, true)]);
    assert!(!outbox.update(102, &[warning(1)]));
}

#[test]
fn what_is_owed_to_one_that_never_answers_is_bounded() {
    let mut outbox = outbox(None);
    for round in 0..100 {
        // What is new comes first in each batch.
        let passing: Vec<_> = (0..100).map(|number| warning(60_000 - round * 100 - number)).collect();
        outbox.update(100, &passing);
        let now = s(u64::from(round) * 60);
        let due = outbox.due(now);
        outbox.settle(now, &due, Outcome::Unanswered, 0.0);
        assert!(outbox.entries.len() <= MOST);
    }
    assert!(outbox.figures().dropped > 1_000, "{:?}", outbox.figures());
}

#[test]
fn attempts_are_made_less_and_less_often() {
    let mut outbox = outbox(None);
    outbox.update(100, &[warning(1)]);
    let mut now = s(0);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        let due = outbox.due(now);
        assert_eq!(due.len(), 1);
        outbox.settle(now, &due, Outcome::Failed, 1.0);
        let next = outbox.due_at().expect("it is owed");
        assert_eq!(outbox.due(next.saturating_sub(Duration::from_millis(1))).len(), 0, "not before");
        pauses.push(next.saturating_sub(now).as_secs());
        now = next;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
    let due = outbox.due(now);
    outbox.settle(now, &due, Outcome::Failed, 0.0);
    assert_eq!(outbox.due_at(), Some(now + s(15)), "jitter halves a pause at most");
}

#[test]
fn a_restart_tells_nothing_twice_and_ends_what_is_over() {
    let mut before = outbox(None);
    before.update(100, &[warning(1), warning(2)]);
    deliver(&mut before, s(1));
    before.update(101, &[warning(1), warning(2), warning(3)]);
    let text = serde_json::to_string(&before.save()).expect("it is JSON");
    let saved: SavedOutbox = serde_json::from_str(&text).expect("it reads what it wrote");
    let mut after = Outbox::new(&Arc::from("ops"), WARNING, None, &saved);
    after.update(200, &[warning(1), warning(3)]);
    assert_eq!(deliver(&mut after, s(0)), [(2, WARNING, true), (3, WARNING, false)]);
}

#[test]
fn what_is_less_severe_than_asked_for_is_not_told() {
    let mut outbox = Outbox::new(&Arc::from("pager"), CRITICAL, None, &SavedOutbox::default());
    assert!(!outbox.update(100, &[warning(1)]));
    outbox.update(101, &[alert(1, CRITICAL, 100)]);
    assert_eq!(deliver(&mut outbox, s(1)), [(1, CRITICAL, false)]);
    outbox.update(102, &[warning(1)]);
    assert_eq!(deliver(&mut outbox, s(2)), [(1, CRITICAL, true)], "it is over as far as that receiver goes");
}

#[test]
fn many_notices_go_out_in_several_deliveries() {
    let mut outbox = outbox(None);
    let all: Vec<_> = (0..250).map(warning).collect();
    outbox.update(100, &all);
    let sizes: Vec<usize> = std::iter::repeat_with(|| deliver(&mut outbox, s(1)).len()).take(4).collect();
    assert_eq!(sizes, [100, 100, 50, 0]);
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Yes,
    No,
    /// It arrives, and we never learn.
    Lost,
}

#[derive(Clone, Debug)]
enum Step {
    /// What is raised from now on, and how badly.
    Raise(BTreeMap<u16, bool>),
    /// A delivery ends so, after something else was raised meanwhile.
    Deliver(Answer, BTreeMap<u16, bool>),
    Restart,
}

fn raised() -> impl Strategy<Value = BTreeMap<u16, bool>> {
    prop::collection::btree_map(0_u16..6, any::<bool>(), 0..5)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => raised().prop_map(Step::Raise),
        3 => (prop_oneof![Just(Answer::Yes), Just(Answer::No), Just(Answer::Lost)], raised())
            .prop_map(|(answer, raised)| Step::Deliver(answer, raised)),
        1 => Just(Step::Restart),
    ]
}

#[test]
fn a_severity_that_was_told_without_an_answer_and_taken_back_is_told_again() {
    let mut outbox = outbox(None);
    for (at, severity, outcome) in [(0, WARNING, Outcome::Delivered), (40, CRITICAL, Outcome::Unanswered)] {
        outbox.update(at, &[alert(4, severity, 0)]);
        let due = outbox.due(s(at));
        outbox.settle(s(at), &due, outcome, 1.0);
    }
    outbox.update(80, &[alert(4, WARNING, 0)]);
    let due = outbox.due(s(80));
    assert_eq!(due.iter().map(said).collect::<Vec<_>>(), [(4, WARNING, false)]);
    outbox.settle(s(80), &due, Outcome::Delivered, 1.0);
    assert_eq!(outbox.due(s(120)).len(), 0);
}

proptest! {
    /// Whatever happens in between, a receiver that can be reached in the end knows exactly what is raised.
    #[test]
    fn in_the_end_the_receiver_knows_what_is_true(steps in prop::collection::vec(step(), 1..40), repeats in any::<bool>()) {
        let repeat = repeats.then_some(s(60));
        let mut outbox = outbox(repeat);
        let mut knows: BTreeMap<u16, Severity> = BTreeMap::new();
        let mut true_now: BTreeMap<u16, (bool, u64)> = BTreeMap::new();
        let mut now = s(0);
        let mut unix = 100;
        let raise = |outbox: &mut Outbox, true_now: &mut BTreeMap<u16, (bool, u64)>, raised: &BTreeMap<u16, bool>, unix: u64| {
            true_now.retain(|port, _| raised.contains_key(port));
            for (port, critical) in raised {
                true_now.entry(*port).or_insert((*critical, unix)).0 = *critical;
            }
            let alerts: Vec<_> = true_now
                .iter()
                .map(|(port, (critical, since))| alert(*port, if *critical { CRITICAL } else { WARNING }, *since))
                .collect();
            outbox.update(unix, &alerts);
        };
        let learn = |knows: &mut BTreeMap<u16, Severity>, due: &[Notice]| {
            for notice in due {
                let (port, severity, ended) = said(notice);
                if ended { knows.remove(&port); } else { knows.insert(port, severity); }
            }
        };
        for step in steps {
            now += s(40);
            unix += 40;
            match step {
                Step::Raise(raised) => raise(&mut outbox, &mut true_now, &raised, unix),
                Step::Deliver(answer, meanwhile) => {
                    let due = outbox.due(now);
                    raise(&mut outbox, &mut true_now, &meanwhile, unix);
                    if answer != Answer::No {
                        learn(&mut knows, &due);
                    }
                    let outcome = match answer {
                        Answer::Yes => Outcome::Delivered,
                        Answer::No => Outcome::Failed,
                        Answer::Lost => Outcome::Unanswered,
                    };
                    outbox.settle(now, &due, outcome, 1.0);
                }
                // What is under way or unanswered at a restart is all that a receiver may hear of the end of too late.
                Step::Restart if outbox.entries.values().any(|entry| entry.unanswered) => {}
                Step::Restart => {
                    let saved = outbox.save();
                    outbox = Outbox::new(&Arc::from("ops"), WARNING, repeat, &saved);
                    let same: BTreeMap<u16, bool> = true_now.iter().map(|(port, (critical, _))| (*port, *critical)).collect();
                    raise(&mut outbox, &mut true_now, &same, unix);
                }
            }
            prop_assert!(outbox.entries.len() <= 12);
        }
        now += s(3600);
        for _ in 0..3 {
            let due = outbox.due(now);
            learn(&mut knows, &due);
            outbox.settle(now, &due, Outcome::Delivered, 1.0);
        }
        let expected: BTreeMap<u16, Severity> =
            true_now.iter().map(|(port, (critical, _))| (*port, if *critical { CRITICAL } else { WARNING })).collect();
        prop_assert_eq!(knows.keys().collect::<BTreeSet<_>>(), expected.keys().collect::<BTreeSet<_>>());
        prop_assert_eq!(knows, expected);
    }
}
