//! Incident I2: nginx resolved the name of its backend once, and the backend moves; first with the name watched, then without.
//!
//! The last line is the verdict; the exit code is 1 when what the agent told differs from what happened.

use std::process::ExitCode;

use lab::{
    stale_address::{self, Watched},
    story::Story,
};

fn main() -> ExitCode {
    let mut story = Story::aloud();
    stale_address::play(&mut story, Watched::Yes);
    story.note("the same without [[watch]]");
    stale_address::play(&mut story, Watched::No);
    story.verdict()
}
