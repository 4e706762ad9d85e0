//! The web configuration in force, which follows its files.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{WebConfig, sources::Sources};
use crate::config::ConfigError;

/// How often the files are looked at, at most.
const PERIOD: Duration = Duration::from_secs(1);

/// What protects the server. It reads its files again when one of them has changed, all or nothing.
pub struct Protection {
    path: Option<PathBuf>,
    state: Mutex<State>,
}

struct State {
    in_force: Arc<WebConfig>,
    /// What was read last, right or wrong.
    sources: Sources,
    looked: Instant,
    /// What was wrong with it, said once.
    complaint: Option<String>,
}

impl Protection {
    /// Reads the file; without one, everybody is served over plain HTTP.
    ///
    /// # Errors
    /// When it, or a file that it names, cannot be used.
    pub fn load(path: Option<&Path>) -> Result<Self, ConfigError> {
        let mut sources = Sources::default();
        let in_force = match path {
            None => WebConfig::open(),
            Some(path) => WebConfig::read(path, &mut sources)?,
        };
        let state = State { in_force: Arc::new(in_force), sources, looked: Instant::now(), complaint: None };
        Ok(Self { path: path.map(Path::to_owned), state: Mutex::new(state) })
    }

    /// The scheme that clients have to use.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.now().tls.is_some() { "https" } else { "http" }
    }

    /// What is in force now.
    pub(in crate::serve) fn now(&self) -> Arc<WebConfig> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.path
            && state.looked.elapsed() >= PERIOD
        {
            state.looked = Instant::now();
            if state.sources.have_changed() {
                state.read_again(path);
            }
        }
        Arc::clone(&state.in_force)
    }
}

/// What it asks of clients, in a few words.
impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.now().fmt(f)
    }
}

impl State {
    fn read_again(&mut self, path: &Path) {
        self.sources = Sources::default();
        match WebConfig::read(path, &mut self.sources) {
            Ok(config) => {
                log::info!("web config {}: read again ({config})", path.display());
                self.in_force = Arc::new(config);
                self.complaint = None;
            }
            Err(error) => {
                let complaint = error.to_string();
                if self.complaint.as_ref() != Some(&complaint) {
                    log::error!("the old web configuration stays in force: {complaint}");
                }
                self.complaint = Some(complaint);
            }
        }
    }
}
