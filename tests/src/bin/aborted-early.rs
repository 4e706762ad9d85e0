//! Incident I5: phones that do not speak the TLS version of the server; first too old ones, then too new ones.
//!
//! The last line is the verdict; the exit code is 1 when what the agent told differs from what happened.

use std::process::ExitCode;

use lab::{
    aborted_early::{self, Tls},
    story::Story,
};

fn main() -> ExitCode {
    let mut story = Story::aloud();
    for version in [Tls::V13, Tls::V12] {
        aborted_early::play(&mut story, version);
    }
    story.verdict()
}
