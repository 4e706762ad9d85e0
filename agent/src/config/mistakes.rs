//! What is wrong with a configuration: everything at once, each with its line, the value and the remedy.

use std::{
    fmt::{self, Write as _},
    path::{Path, PathBuf},
};

use thiserror::Error;

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("config {}: {reason}; {remedy}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// The file is larger than a configuration can be.
    #[error("config {}: is larger than {limit} bytes, so it is no configuration; give the right file to --config.file", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What it may have.
        limit: u64,
    },
    /// It can be read, and is wrong.
    #[error("{0}")]
    Wrong(Mistakes),
}

impl ConfigError {
    /// A single mistake: the place, the value and the remedy.
    #[must_use]
    pub fn one(path: &Path, what: String) -> Self {
        let mut mistakes = Mistakes::new(path);
        mistakes.add(Mistake { line: None, what });
        Self::Wrong(mistakes)
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Line in the file, from 1; `None` where no line is to blame.
    pub line: Option<usize>,
    /// The place, the value and the remedy.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// Everything that is wrong with a file. One mistake is printed in one line, several in a line each.
#[derive(Clone, Debug)]
pub struct Mistakes {
    path: PathBuf,
    all: Vec<Mistake>,
}

impl Mistakes {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), all: Vec::new() }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.all.iter()
    }

    /// What a mistake quotes of the file may hold anything; it stays in its line, and leaves a terminal alone.
    pub(super) fn add(&mut self, Mistake { line, what }: Mistake) {
        let mut shown = String::with_capacity(what.len());
        for c in what.chars() {
            if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
        }
        self.all.push(Mistake { line, what: shown });
    }

    /// `value` unless something is wrong.
    pub(super) fn unless_any<T>(mut self, value: T) -> Result<T, ConfigError> {
        if self.all.is_empty() {
            return Ok(value);
        }
        self.all.sort();
        Err(ConfigError::Wrong(self))
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.all.as_slice() {
            [Mistake { line: Some(line), what }] => write!(f, "config {path} line {line}: {what}"),
            [Mistake { line: None, what }] => write!(f, "config {path}: {what}"),
            all => {
                let mut lines = String::new();
                for mistake in all {
                    write!(lines, "\n  {mistake}")?;
                }
                write!(f, "config {path}: {} mistakes:{lines}", all.len())
            }
        }
    }
}
