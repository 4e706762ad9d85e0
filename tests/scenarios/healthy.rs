//! Nothing is raised while everything is well: programs as Debian ships them, their protocols, and the ways in which clients use them.

use lab::{
    healthy::{SHORTEST, play},
    story::Story,
};

lab::scenarios! {
    Builds 170 s:
        everyday_workloads_raise_no_alert;
}

fn everyday_workloads_raise_no_alert() {
    let mut story = Story::quiet();
    play(&mut story, SHORTEST);
    story.end();
}
