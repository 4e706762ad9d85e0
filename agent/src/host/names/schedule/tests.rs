use std::{
    fs,
    sync::mpsc::{channel, sync_channel},
    thread,
};

use tempfile::TempDir;
use tokio::runtime;

use super::*;

fn name() -> Arc<str> {
    Arc::from("db.example")
}

fn plan(every: Duration, hurried: &[Arc<str>]) -> Plan {
    let pace = |every| Pace { every, hurried_every: Duration::from_millis(25) };
    let names = vec![(name(), pace(every)), (Arc::from("slow.example"), pace(Duration::from_mins(1)))];
    Plan { names, hurried: hurried.iter().cloned().collect() }
}

/// How often the name is asked for during a second, each answer coming at once.
fn asked(schedule: &mut Schedule, begin: Instant) -> usize {
    let mut times = 0;
    while let Some(now) = schedule.next().filter(|due| *due < begin + Duration::from_secs(1)) {
        for asked in schedule.due(now) {
            schedule.answered(&asked);
            times += usize::from(asked == name());
        }
    }
    times
}

#[test]
fn a_name_is_asked_for_as_often_as_said_and_more_often_in_a_hurry() {
    let second = |number| Duration::from_secs(number);
    let every = Duration::from_millis(200);
    let (begin, mut schedule) = (Instant::now(), Schedule::default());
    assert!(schedule.follow(&plan(every, &[]), begin), "there are names now");
    assert_eq!(asked(&mut schedule, begin), 5);
    assert!(!schedule.follow(&plan(every, &[name()]), begin + second(1)), "they are the same");
    let hurried = asked(&mut schedule, begin + second(1));
    assert!((32..=54).contains(&hurried), "{hurried}: 25 ms, and a quarter more or less");
    schedule.follow(&plan(every, &[]), begin + second(2));
    assert_eq!(asked(&mut schedule, begin + second(2)), 5);
}

#[test]
fn no_fleet_hurries_in_step_and_all_names_together_have_a_limit() {
    let names: Vec<Arc<str>> = (0..100).map(|number| Arc::from(format!("db-{number}.example"))).collect();
    let pace = Pace { every: Duration::from_secs(1), hurried_every: Duration::from_millis(25) };
    let plan = Plan {
        names: names.iter().map(|name| (Arc::clone(name), pace)).collect(),
        hurried: names.iter().cloned().collect(),
    };
    let (begin, mut schedule) = (Instant::now(), Schedule::default());
    schedule.follow(&plan, begin);
    let (mut times, mut moments) = (0, Vec::new());
    while let Some(now) = schedule.next().filter(|due| *due < begin + Duration::from_secs(10)) {
        for asked in schedule.due(now) {
            schedule.answered(&asked);
            times += 1;
            if asked == names[0] {
                moments.push(now);
            }
        }
    }
    assert!((1_900..2_200).contains(&times), "{times} in 10 s");
    let apart: std::collections::BTreeSet<Duration> =
        moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(apart.len() > moments.len() / 2, "{apart:?}");
}

#[test]
fn nobody_is_asked_for_twice_at_a_time() {
    let (begin, mut schedule) = (Instant::now(), Schedule::default());
    schedule.follow(&plan(Duration::from_millis(200), &[]), begin);
    let later = |seconds| begin + Duration::from_secs(seconds);
    assert!(schedule.due(begin).contains(&name()));
    assert!(!schedule.due(later(10)).contains(&name()), "the answer is missing");
    schedule.answered(&name());
    assert!(schedule.due(later(20)).contains(&name()));
    schedule.answered(&name());
    assert!(schedule.next() > Some(later(20)), "what was missed is not made up for");
}

#[test]
fn it_ends_with_its_owner() {
    // What the hosts file knows is answered at once.
    let directory = TempDir::new().expect("a temporary directory");
    let path = |name| directory.path().join(name);
    fs::write(path("hosts"), "192.0.2.1 db.example slow.example\n").expect("written");
    let files = Files::new(path("resolv.conf"), path("hosts"));
    let (owner, wanted) = watch::channel(Plan::default());
    let (sender, lookups) = sync_channel(1_000);
    let (finished, is_finished) = channel();
    thread::spawn(move || {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(run(wanted, files, &Out { sender, lost: Arc::default() }));
        let _ = finished.send(());
    });
    let patience = Duration::from_secs(20);
    owner.send_modify(|wanted| *wanted = plan(Duration::from_millis(50), &[]));
    // Both at once, then the one whose turn it is.
    let told: Vec<Arc<str>> = (0..4).map(|_| lookups.recv_timeout(patience).expect("it asks").name).collect();
    assert_eq!(told.iter().filter(|told| **told == name()).count(), 3, "{told:?}");
    drop(owner);
    is_finished.recv_timeout(patience).expect("it ends");
}
