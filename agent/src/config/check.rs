//! Holding values against what they may be, collecting what is wrong.

use std::fmt::Display;

use super::{
    document::Document,
    mistakes::{Mistake, Mistakes},
};

/// Collects what is wrong with the values of a file.
pub(super) struct Check<'a> {
    document: &'a Document<'a>,
    mistakes: Mistakes,
}

impl<'a> Check<'a> {
    pub fn new(document: &'a Document<'a>, mistakes: Mistakes) -> Self {
        Self { document, mistakes }
    }

    /// Notes a mistake unless `holds`; returns it. `key` is the place, such as `peer[1].cidrs[0]`; `remedy` says what the value
    /// must be.
    pub fn that(&mut self, holds: bool, key: &str, value: impl Display, remedy: impl Display) -> bool {
        if !holds {
            let what = format!("{} = {value}: {remedy}", self.document.shown(key));
            self.mistakes.add(Mistake { line: self.document.line_of(key), what });
        }
        holds
    }

    /// `value`, unless something was wrong.
    pub fn finish<T>(self, value: T) -> Result<T, super::ConfigError> {
        self.mistakes.unless_any(value)
    }
}
