//! What is said on stderr: for a person with the time, for the journal with the priority.

use std::{
    fmt::Display,
    io::{self, Write as _},
};

use log::Level;

/// Logs what RUST_LOG asks for, else what an operator should know.
pub(super) fn init() {
    let filter = env_logger::Env::default().default_filter_or("info");
    let to_journal = libsystemd::logging::connected_to_journal();
    env_logger::Builder::from_env(filter)
        .format(move |out, record| {
            if to_journal {
                return out.write_all(prioritized(record.level(), record.args()).as_bytes());
            }
            let level = record.level().as_str().to_lowercase();
            writeln!(out, "{} {level}: {}", out.timestamp_seconds(), record.args())
        })
        .init();
}

/// Says why the program ends.
pub(crate) fn last_words(error: &anyhow::Error) {
    let words = format!("tcpwarden: {error:#}");
    let text = if libsystemd::logging::connected_to_journal() {
        prioritized(Level::Error, words)
    } else {
        format!("{words}\n")
    };
    // Whom could we tell that nobody listens?
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Each line is an entry of the journal, and needs the prefix that tells its priority (sd-daemon(3)).
fn prioritized(level: Level, text: impl Display) -> String {
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let (prefix, text) = (format!("<{priority}>"), text.to_string());
    text.lines().flat_map(|line| [&prefix, line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_priority() {
        assert_eq!(
            prioritized(Level::Error, "2 mistakes:\nline 1\nline 7"),
            "<3>2 mistakes:\n<3>line 1\n<3>line 7\n"
        );
        assert_eq!(prioritized(Level::Info, "serving"), "<6>serving\n");
    }
}
