//! What is kept over a restart: which alerts are raised and who was told of them, which pools of source ports are known, and
//! what is usual for each peer.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::{
    alert::SavedAlert,
    config::read_file,
    model::{
        habits::{SavedDestination, SavedHabit},
        pool::SavedPool,
    },
    notify::SavedOutbox,
};

/// What a file of the state directory holds.
pub(super) trait Document: Clone + PartialEq + Serialize {
    /// Its name in the state directory.
    const FILE: &str;
    /// So large may it be, in bytes.
    const LIMIT: u64;
    /// What a restart does without it.
    const WITHOUT: &str;
    /// What there is without a file.
    fn empty() -> Self;
    /// Reads the content of the file.
    fn read(text: &[u8]) -> anyhow::Result<Self>;
}

/// The version of all files; another one is not read.
const VERSION: u32 = 1;

fn check_version(version: u32) -> anyhow::Result<()> {
    anyhow::ensure!(version == VERSION, "has version {version}, not {VERSION}");
    Ok(())
}

/// The pools that are known, as `pools.json` has them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolState {
    version: u32,
    /// The pools, by address and port.
    pub pools: Vec<SavedPool>,
}

impl PoolState {
    pub(super) fn new(pools: Vec<SavedPool>) -> Self {
        Self { version: VERSION, pools }
    }

    /// Reads the content of the file.
    ///
    /// # Errors
    /// When it is something else, or of another version.
    pub fn parse(text: &[u8]) -> anyhow::Result<Self> {
        let state: Self = serde_json::from_slice(text).context("is not what was saved")?;
        check_version(state.version)?;
        state.pools.iter().try_for_each(SavedPool::check)?;
        Ok(state)
    }
}

impl Document for PoolState {
    const FILE: &str = "pools.json";
    // 4,096 pools of 64 ranges each are half of it.
    const LIMIT: u64 = 16 * 1024 * 1024;
    const WITHOUT: &str = "pools of source ports are to be learned again";

    fn empty() -> Self {
        Self::new(Vec::new())
    }

    fn read(text: &[u8]) -> anyhow::Result<Self> {
        Self::parse(text)
    }
}

/// What is usual for each peer, as `habits.json` has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HabitState {
    version: u32,
    /// By peer and port.
    pub habits: Vec<SavedHabit>,
    /// By destination and port.
    #[serde(default)]
    pub destinations: Vec<SavedDestination>,
}

impl HabitState {
    pub(super) fn new(habits: Vec<SavedHabit>, destinations: Vec<SavedDestination>) -> Self {
        Self { version: VERSION, habits, destinations }
    }

    /// Reads the content of the file.
    ///
    /// # Errors
    /// When it is something else, or of another version.
    pub fn parse(text: &[u8]) -> anyhow::Result<Self> {
        let state: Self = serde_json::from_slice(text).context("is not what was saved")?;
        check_version(state.version)?;
        state.habits.iter().try_for_each(SavedHabit::check)?;
        state.destinations.iter().try_for_each(SavedDestination::check)?;
        Ok(state)
    }
}

impl Document for HabitState {
    const FILE: &str = "habits.json";
    // 4,096 habits are a tenth of it.
    const LIMIT: u64 = 16 * 1024 * 1024;
    const WITHOUT: &str = "what is usual for peers is to be learned again";

    fn empty() -> Self {
        Self::new(Vec::new(), Vec::new())
    }

    fn read(text: &[u8]) -> anyhow::Result<Self> {
        Self::parse(text)
    }
}

/// The alerts, as `alerts.json` has them.
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
        check_version(state.version)?;
        Ok(state)
    }
}

impl Document for State {
    const FILE: &str = "alerts.json";
    // A thousand alerts, told to a dozen receivers, are a tenth of it.
    const LIMIT: u64 = 64 * 1024 * 1024;
    const WITHOUT: &str = "alerts may be announced again";

    fn empty() -> Self {
        Self::new(Vec::new(), BTreeMap::new())
    }

    fn read(text: &[u8]) -> anyhow::Result<Self> {
        Self::parse(text)
    }
}

/// The file. Without it the agent works as well; only a restart is forgetful then.
pub(super) struct Store<T> {
    directory: PathBuf,
    saved: Option<T>,
    works: bool,
}

impl<T: Document> Store<T> {
    /// Opens the file and reads what was saved; what cannot be understood is set aside. A file that cannot be read stays where it is:
    /// it may be right, and read next time.
    pub fn open(directory: &Path) -> (Self, T) {
        let path = directory.join(T::FILE);
        let state = read(&path, T::LIMIT).unwrap_or_else(|error| {
            log::warn!("state {}: cannot be read: {error}", path.display());
            None
        });
        let state = state.and_then(|text| match T::read(&text) {
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
        (store, state.unwrap_or_else(T::empty))
    }

    /// Saves the state if it has changed. A failure is said once, until it works again.
    pub fn save(&mut self, state: T) {
        if self.saved.as_ref() == Some(&state) {
            return;
        }
        match write(&self.directory, &state) {
            Ok(()) => {
                if !self.works {
                    log::info!("state {}: saved again", self.directory.join(T::FILE).display());
                }
                self.works = true;
                self.saved = Some(state);
            }
            Err(error) => {
                if self.works {
                    log::warn!(
                        "state {}: {error:#}; after a restart, {}: make it writable, or name another by [state] directory",
                        self.directory.join(T::FILE).display(),
                        T::WITHOUT
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
fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    match read_file(path, limit) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces the file at once: a reader sees the old state or the new one.
fn write<T: Document>(directory: &Path, state: &T) -> anyhow::Result<()> {
    fs::create_dir_all(directory).context("cannot be made")?;
    let new = directory.join(format!("{}.new", T::FILE));
    fs::write(&new, serde_json::to_vec(state)?).context("cannot be written")?;
    fs::rename(&new, directory.join(T::FILE)).context("cannot be replaced")
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
        let (mut store, first) = Store::<State>::open(&inner);
        assert_eq!(first, state(""));
        store.save(state(ALERT));
        assert!(store.works());
        assert_eq!(Store::<State>::open(&inner).1, state(ALERT));
    }

    #[test]
    fn what_is_no_state_is_set_aside() {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        for broken in ["", "{", "{\"version\":2,\"alerts\":[],\"receivers\":{}}"] {
            fs::write(directory.path().join(State::FILE), broken).expect("a file");
            assert_eq!(Store::<State>::open(directory.path()).1, state(""));
            let aside = fs::read_to_string(directory.path().join("alerts.json.broken")).expect("set aside");
            assert_eq!(aside, broken);
        }
    }

    #[test]
    fn pools_have_a_file_of_their_own() {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let pools = br#"{"version":1,"pools":[{"peer":"10.0.0.1","port":443,"ranges":[[2048,16383,1]],"confidence":1.0,"confirmed":3600}]}"#;
        let state = PoolState::parse(pools).expect("pools");
        let (mut store, first) = Store::<PoolState>::open(directory.path());
        assert_eq!(first, PoolState::empty());
        store.save(state.clone());
        assert_eq!(Store::<PoolState>::open(directory.path()).1, state);
        for broken in ["", "{\"version\":2,\"pools\":[]}"] {
            fs::write(directory.path().join(PoolState::FILE), broken).expect("a file");
            assert_eq!(Store::<PoolState>::open(directory.path()).1, PoolState::empty());
            assert!(directory.path().join("pools.json.broken").is_file());
        }
    }

    #[test]
    fn habits_have_a_file_of_their_own() {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        let habits = br#"{"version":1,"habits":[{"address":"10.0.0.1","port":443,"hours":{"last":{"spans":3,"lowest":0.5,"answered":10}}}],"destinations":[{"address":"10.0.0.2","port":25,"known":{"heard":true,"settled":true,"speaks_first":true,"one_way":false,"usual":2,"usual_before":0}}]}"#;
        let state = HabitState::parse(habits).expect("habits");
        let (mut store, first) = Store::<HabitState>::open(directory.path());
        assert_eq!(first, HabitState::empty());
        store.save(state.clone());
        assert_eq!(Store::<HabitState>::open(directory.path()).1, state);
    }

    #[test]
    fn what_cannot_be_read_stays() {
        let directory = tempfile::TempDir::new().expect("a temporary directory");
        // Reading a directory fails.
        fs::create_dir(directory.path().join(State::FILE)).expect("made");
        assert_eq!(Store::<State>::open(directory.path()).1, state(""));
        assert!(directory.path().join(State::FILE).is_dir());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_said_and_harms_nothing() {
        let (mut store, _) = Store::<State>::open(Path::new("/proc/no/such/place"));
        store.save(state(ALERT));
        assert!(!store.works());
    }
}
