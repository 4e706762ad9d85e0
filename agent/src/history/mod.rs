//! The past on disk: an SQLite file in the state directory, written and read by one thread.
//!
//! The poll loop hands over a snapshot a second and waits for nobody; what finds no room in the queue is counted. Where the file cannot
//! be written, the last hours are kept in memory, and the file is tried again every minute.

mod codec;
mod keeper;
mod schema;
mod store;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use self::keeper::Keeper;
pub use self::store::{HistoryError, Store};
use crate::{
    config::HistorySettings,
    model::{Snapshot, past::Happened},
};

/// The name of the file in the state directory.
pub const FILE: &str = "history.db";

/// So many snapshots and questions may wait: half a minute of a disk that hangs.
const QUEUE: usize = 32;

/// As long may a question take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the past of an agent with this state directory lies.
#[must_use]
pub fn file(state_directory: &Path) -> PathBuf {
    state_directory.join(FILE)
}

/// How it is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Why it is not kept on disk at present.
    pub trouble: Option<String>,
    /// How large it is.
    pub bytes: u64,
}

type Question = Box<dyn FnOnce(&Store) + Send>;

enum Job {
    Take(Arc<Snapshot>, Vec<Happened>),
    Answer(Question),
    Resize(HistorySettings),
    Stop,
}

/// The way to the thread.
#[derive(Clone, Debug)]
pub struct History {
    jobs: SyncSender<Job>,
    status: Arc<Mutex<Status>>,
    lost: Arc<AtomicU64>,
}

impl History {
    /// Starts the thread. Opening the file is its first job, so that a large one does not hold up the start.
    pub fn start(path: PathBuf, settings: HistorySettings) -> io::Result<(Self, JoinHandle<()>)> {
        let (jobs, inbox) = mpsc::sync_channel(QUEUE);
        let status = Arc::<Mutex<Status>>::default();
        let shared = Arc::clone(&status);
        let thread = thread::Builder::new().name("history".to_owned()).spawn(move || {
            match Keeper::open(path, settings) {
                Ok(keeper) => run(keeper, &inbox, &shared),
                Err(error) => log::error!("history: cannot be kept, not even in memory: {error}"),
            }
        })?;
        Ok((Self { jobs, status, lost: Arc::default() }, thread))
    }

    /// Hands over a snapshot, and what happened beside it.
    pub fn take(&self, snapshot: Arc<Snapshot>, events: Vec<Happened>) {
        if self.jobs.try_send(Job::Take(snapshot, events)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts other limits in force.
    pub fn resize(&self, settings: HistorySettings) {
        // A thread that hangs is told by what is lost; a change that comes with the next reload is no loss.
        let _ = self.jobs.try_send(Job::Resize(settings));
    }

    /// Ends the thread once it has written what it was given.
    pub fn stop(&self) {
        // If it has no room for this, it would not be done in time either.
        let _ = self.jobs.try_send(Job::Stop);
    }

    /// Puts a question to the past, and waits for the answer.
    ///
    /// # Errors
    /// When the thread is too busy, or what the question meets.
    pub fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Store) -> Result<T, HistoryError> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let question: Question = Box::new(move |store| {
            // Nobody waits any more when it has taken too long.
            let _ = answer.send(question(store));
        });
        match self.jobs.try_send(Job::Answer(question)) {
            Ok(()) => answered.recv_timeout(PATIENCE).unwrap_or(Err(HistoryError::Busy)),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(HistoryError::Busy),
        }
    }

    /// How it is kept.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Snapshots that found no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

fn run(mut keeper: Keeper, inbox: &Receiver<Job>, status: &Mutex<Status>) {
    while let Ok(job) = inbox.recv() {
        match job {
            Job::Take(snapshot, events) => keeper.take(&snapshot, events),
            Job::Answer(question) => question(keeper.current()),
            Job::Resize(settings) => keeper.resize(settings),
            Job::Stop => break,
        }
        *status.lock().unwrap_or_else(PoisonError::into_inner) = keeper.status();
    }
    keeper.stop();
}
