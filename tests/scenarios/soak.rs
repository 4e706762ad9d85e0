//! The soak, short and small: everything but its times. `cargo xtask soak` is the long one.

use std::time::Duration;

use lab::soak::{Growth, Plan, play};

lab::scenarios! {
    Staged 190 s:
        a_load_with_faults_thrown_in;
}

fn a_load_with_faults_thrown_in() {
    let report = play(
        Plan {
            time: Duration::from_mins(3),
            rate: 400.0,
            fault_every: Duration::from_millis(1_900),
            checkpoint_every: Duration::from_secs(90),
        },
        |_| {},
    );
    assert_eq!(report.wrong, [""; 0], "{report:#?}");
    // Several rounds, so that a rise is one.
    let grew = |growth: &Growth| growth.medians.len() < 3 || growth.growth > growth.allowed;
    assert!(!report.growth.iter().any(grew), "{report:#?}");
    assert!(report.faults.iter().all(|&(_, count)| count > 0), "{report:#?}");
    // What was compared is not nothing.
    assert!(
        report.load.0 > 10_000 && report.figures.iter().take(3).all(|figure| figure.truth > 10_000),
        "{report:#?}"
    );
}
