//! The soak, short and small: everything but its times. `cargo xtask soak` is the long one.

use std::time::Duration;

use lab::soak::{Plan, play};

#[test]
fn a_load_with_faults_thrown_in() {
    let report = play(
        Plan {
            time: Duration::from_secs(42),
            rate: 400.0,
            fault_every: Duration::from_millis(1_900),
            checkpoint_every: Duration::from_secs(21),
        },
        |_| {},
    );
    assert_eq!(report.wrong, [""; 0], "{report:#?}");
    assert!(report.growth.iter().all(|growth| growth.growth <= growth.allowed), "{report:#?}");
    assert!(report.faults.iter().all(|&(_, count)| count > 0), "{report:#?}");
    // What was compared is not nothing.
    assert!(
        report.load.0 > 10_000 && report.figures.iter().take(3).all(|figure| figure.truth > 10_000),
        "{report:#?}"
    );
}
