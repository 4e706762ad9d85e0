//! From the first sign to the last notice, with the real Prometheus and the real Alertmanager.

use lab::alerting::{Ends, MOMENTS, play};

lab::scenarios! {
    Staged 120 s:
        everyone_hears_of_the_incident_and_of_its_end;
}

fn everyone_hears_of_the_incident_and_of_its_end() {
    let story = play(Ends::Soon, |_, _| {});
    let missing: Vec<&str> =
        MOMENTS.into_iter().filter(|moment| !story.moments.contains_key(moment)).collect();
    assert!(missing.is_empty(), "it never came that {missing:?}: {story:?}");
    assert!(story.strangers.is_empty(), "{:?}", story.strangers);
    assert!(story.empty_panels.is_empty(), "{:#?}", story.empty_panels);
}
