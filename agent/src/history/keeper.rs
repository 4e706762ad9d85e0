//! What the thread does: gathers a few seconds, writes them, and finds a way when it cannot.

use std::{
    collections::{HashMap, hash_map::Entry},
    fs, io,
    mem::take,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    Status,
    store::{HistoryError, LOG_BYTES, MINUTE, Row, SECOND, Store},
};
use crate::{
    config::HistorySettings,
    model::{
        Snapshot,
        past::{Block, Event, Happened, Recorded, Recorder, SLOTS, Sample, Series, second_of},
    },
};

/// What is gathered is written this often: that much is lost when the agent is killed.
const FLUSH: Duration = Duration::from_secs(5);

/// The file is tried again, and what is too old forgotten, this often.
const TIDY: Duration = Duration::from_mins(1);

/// What may be kept in memory while there is no file.
const MEMORY_BYTES: u64 = 8 * 1024 * 1024;

/// As many events wait to be written.
const MOST_EVENTS: usize = 10_000;

/// Keeps the past.
pub(super) struct Keeper {
    path: PathBuf,
    settings: HistorySettings,
    store: Store,
    /// Why the past is kept in memory and not in the file.
    trouble: Option<String>,
    recorder: Recorder,
    /// The minute that is being filled, by its first second.
    minute: u64,
    /// Its seconds that are not yet written, and all of it as one.
    fresh: HashMap<Series, (Block, Sample)>,
    /// Samples of minutes before that are not yet written.
    full: Vec<Row>,
    events: Vec<Happened>,
    now: u64,
    flushed_at: Instant,
    tidied_at: Instant,
}

impl Keeper {
    /// Opens the file, or says why it cannot be used and makes do without.
    ///
    /// # Errors
    /// When it cannot be kept in memory either.
    pub fn open(path: PathBuf, settings: HistorySettings) -> Result<Self, HistoryError> {
        let (store, trouble) = match open(&path, settings) {
            Ok(file) => (file, None),
            Err(error) => {
                let why = error.to_string();
                tell_trouble(&path, &why);
                (Store::in_memory()?, Some(why))
            }
        };
        let now = Instant::now();
        Ok(Self {
            path,
            settings,
            store,
            trouble,
            recorder: Recorder::default(),
            minute: 0,
            fresh: HashMap::new(),
            full: Vec::new(),
            events: Vec::new(),
            now: 0,
            flushed_at: now,
            tidied_at: now,
        })
    }

    /// Takes the figures of a second, and what happened beside them.
    pub fn take(&mut self, snapshot: &Snapshot, events: Vec<Happened>) {
        self.now = second_of(snapshot.taken.unix_seconds);
        let Recorded { samples, events: recorded } = self.recorder.record(snapshot);
        let (minute, second) = place(self.now, SECOND);
        if minute != self.minute {
            self.end_minute();
            self.minute = minute;
        }
        for (series, sample) in samples {
            match self.fresh.entry(series) {
                Entry::Occupied(mut known) => {
                    let (seconds, whole) = known.get_mut();
                    seconds.set(second, sample);
                    whole.take_in(&sample);
                }
                Entry::Vacant(new) => {
                    let mut seconds = Block::default();
                    seconds.set(second, sample);
                    new.insert((seconds, sample));
                }
            }
        }
        // What the snapshot says comes first: that the agent started, before what goes on since.
        self.events.extend(recorded.into_iter().chain(events));
        if self.flushed_at.elapsed() >= FLUSH {
            self.flush();
        }
        if self.tidied_at.elapsed() >= TIDY {
            self.tidy();
        }
    }

    /// Makes one sample of each series' minute.
    fn end_minute(&mut self) {
        let (hour, slot) = place(self.minute, MINUTE);
        for (series, (seconds, whole)) in take(&mut self.fresh) {
            let mut minutes = Block::default();
            minutes.set(slot, whole);
            self.full.push(Row { step: SECOND, start: self.minute, series: series.clone(), block: seconds });
            self.full.push(Row { step: MINUTE, start: hour, series, block: minutes });
        }
    }

    /// Writes what was gathered; where the file does not take it, memory does.
    fn flush(&mut self) {
        self.flushed_at = Instant::now();
        for (series, (seconds, _)) in &mut self.fresh {
            let block = take(seconds);
            if block.samples().next().is_some() {
                self.full.push(Row { step: SECOND, start: self.minute, series: series.clone(), block });
            }
        }
        self.events.truncate(MOST_EVENTS);
        if let Err(error) = self.write() {
            self.fall_back(&error);
            if let Err(error) = self.write() {
                log::error!("history: the last seconds are lost: {error}");
            }
        }
        self.full.clear();
        self.events.clear();
    }

    fn write(&mut self) -> Result<(), HistoryError> {
        let bytes = self.bytes();
        if self.store.is_crowded(bytes)? {
            self.trim()?;
        }
        self.store.add(&self.full, &self.events)
    }

    /// The file fails: goes on in memory.
    fn fall_back(&mut self, error: &HistoryError) {
        let memory = match Store::in_memory() {
            Ok(memory) => memory,
            Err(error) => return log::error!("history: cannot be kept in memory either: {error}"),
        };
        let why = error.to_string();
        tell_trouble(&self.path, &why);
        // Closing the file removes its log by name: before another may get that name.
        self.store = memory;
        self.trouble = Some(why);
        if error.is_broken() {
            set_aside(&self.path, error);
        }
    }

    /// Forgets what is too old, and tries a file again that failed.
    fn tidy(&mut self) {
        self.tidied_at = Instant::now();
        // A file without a name goes on taking what nobody will ever read.
        let is_there = self.trouble.is_some() || self.path.exists();
        let trimmed = if is_there { self.trim() } else { Err(HistoryError::Gone) };
        if let Err(error) = trimmed {
            self.fall_back(&error);
        }
        if self.trouble.is_none() {
            return;
        }
        let moved = open(&self.path, self.settings).and_then(|mut file| {
            self.store.pour_into(&mut file)?;
            Ok(file)
        });
        match moved {
            Ok(file) => {
                log::info!("history {}: written again", self.path.display());
                self.store = file;
                self.trouble = None;
            }
            Err(error) => self.trouble = Some(error.to_string()),
        }
    }

    fn trim(&mut self) -> Result<(), HistoryError> {
        let HistorySettings { detail, keep, .. } = self.settings;
        let since = |age: Duration| self.now.saturating_sub(age.as_secs());
        let (detail, keep, bytes) = (since(detail), since(keep), self.bytes());
        self.store.trim(detail, keep, bytes)
    }

    /// How large it may become.
    fn bytes(&self) -> u64 {
        if self.trouble.is_some() { MEMORY_BYTES } else { file_bytes(self.settings) }
    }

    /// What can be asked: all up to the last second.
    pub fn current(&mut self) -> &Store {
        self.flush();
        &self.store
    }

    /// Puts other limits in force.
    pub fn resize(&mut self, settings: HistorySettings) {
        self.settings = settings;
        let bounded = self.trim().and_then(|()| self.store.bound(self.bytes()));
        if let Err(error) = bounded {
            self.fall_back(&error);
        }
    }

    pub fn status(&self) -> Status {
        Status { trouble: self.trouble.clone(), bytes: self.store.bytes().unwrap_or_default() }
    }

    /// Writes what is left.
    pub fn stop(mut self) {
        self.events.push(Happened { time: self.now as f64, event: Event::AgentStopped });
        self.end_minute();
        self.flush();
    }
}

/// Where a moment lies: the first second of its block of such steps, and its place in it.
fn place(seconds: u64, step: u64) -> (u64, usize) {
    let whole = step * SLOTS as u64;
    let start = seconds - seconds % whole;
    (start, usize::try_from((seconds - start) / step).unwrap_or_default())
}

/// What the file itself may take, beside its log.
fn file_bytes(settings: HistorySettings) -> u64 {
    settings.bytes - LOG_BYTES
}

/// Opens the file; one that is broken or another's is set aside.
fn open(path: &Path, settings: HistorySettings) -> Result<Store, HistoryError> {
    if let Some(directory) = path.parent() {
        // If that fails, so does opening, and says why.
        let _ = fs::create_dir_all(directory);
    }
    let file = Store::open(path).or_else(|error| {
        if !error.is_broken() {
            return Err(error);
        }
        set_aside(path, &error);
        Store::open(path)
    })?;
    file.bound(file_bytes(settings))?;
    Ok(file)
}

fn tell_trouble(path: &Path, why: &str) {
    log::warn!(
        "history {}: {why}; the last hours are kept in memory until it can be written: make room or make it writable, or name another \
         directory by [state] directory",
        path.display()
    );
}

/// Gives a file that is of no use another name, with its log; nothing is deleted or replaced.
fn set_aside(path: &Path, why: &HistoryError) {
    let named = |ending: &str| PathBuf::from(format!("{}{ending}", path.display()));
    let free = (0_u32..)
        .map(|number| format!(".broken{}", if number == 0 { String::new() } else { number.to_string() }));
    let Some(ending) = free.into_iter().find(|ending| !named(ending).exists()) else { return };
    for part in ["", "-wal", "-shm"] {
        match fs::rename(named(part), named(&format!("{ending}{part}"))) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => log::warn!("history {}{part}: cannot be set aside: {error}", path.display()),
        }
    }
    log::warn!("history {}: {why}; it is kept as {}", path.display(), named(&ending).display());
}

#[cfg(test)]
mod tests;
