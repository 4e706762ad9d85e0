//! What is told of a play: what happened, what the agent made of it, and where the two differ.

use std::{
    fmt::{Debug, Display},
    io::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use crate::{
    agent::Agent,
    inconclusive::{self, Count},
    within,
};

/// What happened is with the agent so soon after.
const PATIENCE: Duration = Duration::from_secs(15);

/// The story of one play.
#[derive(Debug)]
pub struct Story {
    begun: Instant,
    aloud: bool,
    compared: usize,
    complaints: Vec<String>,
}

impl Story {
    /// One that a test listens to: it speaks when something is wrong.
    #[must_use]
    pub fn quiet() -> Self {
        Self { begun: Instant::now(), aloud: false, compared: 0, complaints: Vec::new() }
    }

    /// One that a person listens to: it says what happens as it does.
    #[must_use]
    pub fn aloud() -> Self {
        inconclusive::begin("lab");
        let story = Self { aloud: true, ..Self::quiet() };
        story.say("    s  what happens");
        story
    }

    fn say(&self, line: &str) {
        if self.aloud {
            // Nobody listens any more: the play goes on to its end all the same.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
    }

    /// Something happened.
    pub fn note(&self, what: impl Display) {
        self.say(&format!("{:>5.1}  {what}", self.begun.elapsed().as_secs_f64()));
    }

    /// Complains unless this holds.
    pub fn holds(&mut self, holds: bool, complaint: impl Display) {
        self.compared += 1;
        if !holds {
            self.note(format_args!("WRONG: {complaint}"));
            self.complaints.push(complaint.to_string());
        }
    }

    /// Complains unless what the agent tells comes to be the truth within a while.
    pub fn same<T: PartialEq + Debug>(&mut self, what: &str, truth: &T, mut told: impl FnMut() -> T) {
        let last = within(PATIENCE, || match told() {
            told if told == *truth => Ok(()),
            other => Err(other),
        });
        match last {
            Ok(()) => {
                self.compared += 1;
                self.note(format_args!("{what}: {truth:?}, as the agent tells"));
            }
            Err(told) => self.holds(false, format_args!("{what}: {truth:?}, and the agent tells {told:?}")),
        }
    }

    /// As [`Self::same`] of a number of events, of which the kernel may have left some out and say so ([`inconclusive`]).
    pub fn same_count(&mut self, what: &str, truth: u64, agent: &Agent<'_>, mut told: impl FnMut() -> u64) {
        let last = within(PATIENCE, || match told() {
            told if told == truth => Ok(()),
            other => Err(other),
        });
        let told = last.err().unwrap_or(truth);
        match inconclusive::compare([Count { what: what.to_owned(), told, truth }], &agent.scrape()) {
            Ok(()) => {
                self.compared += 1;
                self.note(format_args!("{what}: {truth}, and the agent tells {told}"));
            }
            Err(complaint) => self.holds(false, complaint),
        }
    }

    /// For a test: panics when something is wrong.
    pub fn end(self) {
        assert!(self.complaints.is_empty(), "{:#?}", self.complaints);
        assert!(self.compared > 0, "nothing was compared");
    }

    /// For a program: the verdict as the last line, and as the exit code.
    #[must_use]
    pub fn verdict(self) -> ExitCode {
        let Self { compared, complaints, .. } = &self;
        let verdict = if complaints.is_empty() { "as it should".to_owned() } else { complaints.join("; ") };
        self.say(&format!("\n{compared} figures and findings held against what happened: {verdict}"));
        let is_conclusive = inconclusive::conclude();
        if complaints.is_empty() && is_conclusive { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
