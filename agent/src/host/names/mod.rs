//! Watched names: a thread of its own asks the host's name servers again and again, and nobody waits for it.
//!
//! Many names are asked for at once over one socket ([`round`]): what a lookup costs is waking up for it.

mod conf;
mod round;
mod schedule;
pub mod wire;

use std::{
    collections::BTreeSet,
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use tokio::{runtime, sync::watch};

use self::conf::Files;

/// So many lookups may wait to be taken: those of some seconds.
const ROOM: usize = 8_192;

/// What one name server said of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The name.
    pub name: Arc<str>,
    /// When the first question was sent.
    pub asked: Instant,
    /// When the last answer came, or was no longer waited for.
    pub answered: Instant,
    /// Its IPv4 addresses.
    pub v4: Listing,
    /// Its IPv6 addresses.
    pub v6: Listing,
}

/// The addresses of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listing {
    /// These, ascending, and so many more that are not kept.
    Listed(Vec<IpAddr>, usize),
    /// None: the name has no such addresses, or (`false`) does not exist.
    Nothing {
        /// Whether the name exists.
        exists: bool,
    },
    /// Why nobody knows.
    Failed(String),
    /// Nobody answered in time.
    TimedOut,
}

/// How often a name is asked for. The shorter the times, the more eager it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pace {
    /// As a rule.
    pub every: Duration,
    /// While its next change is waited for.
    pub hurried_every: Duration,
}

/// What is to be asked for.
#[derive(Clone, Debug, Default, PartialEq)]
struct Plan {
    /// Names, and how often.
    names: Vec<(Arc<str>, Pace)>,
    /// Those whose next change is waited for.
    hurried: BTreeSet<Arc<str>>,
}

/// The thread that asks. It ends when this is dropped.
pub struct Resolver {
    plan: watch::Sender<Plan>,
    lookups: Receiver<Lookup>,
    lost: Arc<AtomicU64>,
}

impl Resolver {
    /// Starts the thread, which has nothing to ask for yet.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start() -> io::Result<Self> {
        let (plan, wanted) = watch::channel(Plan::default());
        let (sender, lookups) = sync_channel(ROOM);
        let lost = Arc::<AtomicU64>::default();
        let out = Out { sender, lost: Arc::clone(&lost) };
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("names".to_owned()).spawn(move || {
            // Asking needs no right.
            let none = CapabilitySet::empty();
            let _ = set_capabilities(
                None,
                CapabilitySets { effective: none, permitted: none, inheritable: none },
            );
            runtime.block_on(schedule::run(wanted, Files::of_host(), &out));
        })?;
        Ok(Self { plan, lookups, lost })
    }

    /// Asks for these names from now on, each as often as said; a name that is given twice as often as the more eager of both says.
    pub fn watch(&self, names: impl IntoIterator<Item = (Arc<str>, Pace)>) {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup_by(|(later, pace), (first, eager)| {
            let is_same = later == first;
            if is_same {
                eager.hurried_every = eager.hurried_every.min(pace.hurried_every);
            }
            is_same
        });
        self.plan.send_modify(|plan| plan.names = names);
    }

    /// Asks for these as often as was said for a hurry, and for all others as often as was said.
    pub fn hurry(&self, names: BTreeSet<Arc<str>>) {
        self.plan.send_if_modified(|plan| {
            let differs = plan.hurried != names;
            plan.hurried = names;
            differs
        });
    }

    /// What was said since it was last asked, in the order it came.
    pub fn take(&self) -> impl Iterator<Item = Lookup> {
        self.lookups.try_iter()
    }

    /// Lookups that found no room because nobody took them.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Where lookups go; it never waits.
struct Out {
    sender: SyncSender<Lookup>,
    lost: Arc<AtomicU64>,
}

impl Out {
    fn put(&self, lookup: Lookup) {
        if self.sender.try_send(lookup).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
