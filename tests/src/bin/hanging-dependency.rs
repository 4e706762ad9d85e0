//! Incident I4: a mail server stalls; first each link of the chain that follows alone, then the whole chain.
//!
//! The last line is the verdict; the exit code is 1 when what the agent told differs from what happened.

use std::process::ExitCode;

use lab::{
    hanging_dependency::{self, Link},
    story::Story,
};

fn main() -> ExitCode {
    let mut story = Story::aloud();
    for link in [Link::Calls, Link::Queue, Link::Leavers, Link::Chain] {
        hanging_dependency::play(&mut story, link);
    }
    story.verdict()
}
