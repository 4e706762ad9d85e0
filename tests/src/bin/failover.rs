//! Incident I3: a database fails over, and its name follows three seconds later; first a primary that refuses, then one that is silent.
//!
//! The last line is the verdict; the exit code is 1 when what the agent told differs from what happened.

use std::process::ExitCode;

use lab::{
    failover::{self, Death},
    story::Story,
};

fn main() -> ExitCode {
    let mut story = Story::aloud();
    for death in [Death::Refuses, Death::Silent] {
        failover::play(&mut story, death);
    }
    story.verdict()
}
