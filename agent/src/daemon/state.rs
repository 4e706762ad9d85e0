//! What is kept over a restart: which alerts are raised, and who was told of them.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{alert::SavedAlert, config::read_file, notify::SavedOutbox};

/// The file in the state directory.
const FILE: &str = "alerts.json";

/// What the file holds; another version is not read.
const VERSION: u32 = 1;

/// So large may it be, in bytes; a thousand alerts, told to a dozen receivers, are a tenth of it.
const LIMIT: u64 = 64 * 1024 * 1024;

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    version: u32,
    /// The alerts that were raised.
    pub alerts: Vec<SavedAlert>,
    /// What each receiver was told, by its name.
    pub receivers: BTreeMap<String, SavedOutbox>,
}

impl State {
    pub(super) fn new(alerts: Vec<SavedAlert>, receivers: BTreeMap<String, SavedOutbox>) -> Self {
        Self { version: VERSION, alerts, receivers }
    }

    /// Reads the content of the file.
    ///
    /// # Errors
    /// When it is something else, or of another version.
    pub fn parse(text: &[u8]) -> anyhow::Result<Self> {
        let state: Self = serde_json::from_slice(text).context("is not what was saved")?;
        anyhow::ensure!(state.version == VERSION, "has version {}, not {VERSION}", state.version);
        Ok(state)
    }
}

/// The file. Without it the agent works as well; only a restart is forgetful then.
pub(super) struct Store {
    directory: PathBuf,
    saved: Option<State>,
    works: bool,
}

impl Store {
    /// Opens the file and reads what was saved; what cannot be understood is set aside. A file that cannot be read stays where it is:
    /// it may be right, and read next time.
    pub fn open(directory: &Path) -> (Self, State) {
        let path = directory.join(FILE);
        let state = read(&path).unwrap_or_else(|error| {
            log::warn!("state {}: cannot be read: {error}", path.display());
            None
        });
        let state = state.and_then(|text| match State::parse(&text) {
            Ok(state) => Some(state),
            Err(error) => {
                let aside = path.with_extension("json.broken");
                log::warn!("state {}: {error:#}; kept as {}", path.display(), aside.display());
                if let Err(error) = fs::rename(&path, &aside) {
                    log::warn!("state {}: cannot be set aside: {error}", path.display());
                }
                None
            }
        });
        let store = Self { directory: directory.to_owned(), saved: state.clone(), works: true };
        (store, state.unwrap_or_else(|| State::new(Vec::new(), BTreeMap::new())))
    }

    /// Saves the state if it has changed. A failure is said once, until it works again.
    pub fn save(&mut self, state: State) {
        if self.saved.as_ref() == Some(&state) {
            return;
        }
        match write(&self.directory, &state) {
            Ok(()) => {
                if !self.works {
                    log::info!("state {}: saved again", self.directory.display());
                }
                self.works = true;
                self.saved = Some(state);
            }
            Err(error) => {
                if self.works {
                    log::warn!(
                        "state {}: {error:#}; after a restart, alerts may be announced again: make it writable, or name another by [state] directory",
                        self.directory.display()
                    );
                }
                self.works = false;
            }
        }
    }

    /// Whether what was last to be saved is saved.
    pub fn works(&self) -> bool {
        self.works
    }
}

/// `None` where there is no file.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match read_file(path, LIMIT) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces the file at once: a reader sees the old state or the new one.
fn write(directory: &Path, state: &State) -> anyhow::Result<()> {
    fs::create_dir_all(directory).context("cannot be made")?;
    let new = directory.join(format!("{FILE}.new"));
    fs::write(&new, serde_json::to_vec(state)?).context("cannot be written")?;
    fs::rename(&new, directory.join(FILE)).context("cannot be replaced")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(alerts: &str) -> State {
        serde_json::from_str(&format!("{{\"version\":1,\"alerts\":[{alerts}],\"receivers\":{{}}}}"))
            .expect("a state")
    }

    const ALERT: &str = r#"{"alert":"AgentDegraded","group":null,"address":null,"port":null,"outbound":false,
        "critical":false,"since":7,"announced":true,"text":"a"}"#;

    #[test]
    fn what_is_saved_is_read_again() {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let inner = directory.path().join("made/on/demand");
        let (mut store, first) = Store::open(&inner);
        assert_eq!(first, state(""));
        store.save(state(ALERT));
        assert!(store.works());
        assert_eq!(Store::open(&inner).1, state(ALERT));
    }

    #[test]
    fn what_is_no_state_is_set_aside() {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        for broken in ["", "{", "{\"version\":2,\"alerts\":[],\"receivers\":{}}"] {
            fs::write(directory.path().join(FILE), broken).expect("a file");
            assert_eq!(Store::open(directory.path()).1, state(""));
            let aside = fs::read_to_string(directory.path().join("alerts.json.broken")).expect("set aside");
            assert_eq!(aside, broken);
        }
    }

    #[test]
    fn what_cannot_be_read_stays() {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        // Reading a directory fails.
        fs::create_dir(directory.path().join(FILE)).expect("made");
        assert_eq!(Store::open(directory.path()).1, state(""));
        assert!(directory.path().join(FILE).is_dir());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_said_and_harms_nothing() {
        let (mut store, _) = Store::open(Path::new("/proc/no/such/place"));
        store.save(state(ALERT));
        assert!(!store.works());
    }
}
