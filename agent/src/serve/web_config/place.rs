//! Messages that say where in the file something is wrong.

use std::path::{Path, PathBuf};

use super::sources::Sources;
use crate::config::ConfigError;

/// The file that is being read.
#[derive(Clone, Copy)]
pub(super) struct Place<'a>(pub &'a Path);

impl Place<'_> {
    pub fn invalid(self, key: &str, value: &str, remedy: impl Into<String>) -> ConfigError {
        ConfigError::one(self.0, format!("{key} = {value}: {}", remedy.into()))
    }

    /// Refuses a key of the format that is not supported here, if it is given.
    pub fn unsupported<T>(self, key: &str, given: Option<&T>, remedy: &str) -> Result<(), ConfigError> {
        match given {
            None => Ok(()),
            Some(_) => Err(self.invalid(key, "...", format!("is not supported; {remedy}"))),
        }
    }

    /// The one of the named choices that is meant.
    pub fn choose<T: Copy>(self, key: &str, name: &str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let found = choices.iter().find(|(choice, _)| *choice == name);
        found.map(|(_, item)| *item).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
            self.invalid(key, name, format!("is not supported; choose from {}", names.join(", ")))
        })
    }

    /// Reads a file that the configuration names, relative to where the configuration is.
    pub fn read(self, key: &str, name: &str, sources: &mut Sources) -> Result<Vec<u8>, ConfigError> {
        let directory = self.0.parent().map_or_else(PathBuf::new, Path::to_owned);
        sources.read(&directory.join(name)).map_err(|error| {
            let remedy = format!("cannot be read: {error}; name a readable PEM file, relative to the directory of this configuration or absolute");
            self.invalid(key, name, remedy)
        })
    }
}
