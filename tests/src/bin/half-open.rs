//! A balancer forgets connections that are still open at the server, and uses their ports again.
//!
//! The last line is the verdict; the exit code is 1 when what the agent told differs from what happened.

use std::process::ExitCode;

use lab::{half_open, story::Story};

fn main() -> ExitCode {
    let mut story = Story::aloud();
    half_open::play(&mut story);
    story.verdict()
}
