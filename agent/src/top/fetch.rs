//! A thread that asks for figures once a second, so that keys are answered at once however long an answer takes.

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::{
    client::{Client, Refusal},
    figures::{Detail, Figures, News, Who},
};
use crate::{
    api::{Census, Ports},
    config::Endpoint,
};

/// Takes a census.
pub type TakeCensus = Box<dyn FnMut() -> anyhow::Result<Census>>;

/// Makes ready to take a census, on the thread that will.
pub type Fallback = Box<dyn FnOnce() -> TakeCensus + Send>;

/// Between two rounds.
const PAUSE: Duration = Duration::from_secs(1);

/// Looking at every port takes the daemon a walk over all sockets.
const PORTS_PAUSE: Duration = Duration::from_secs(5);

/// As much of the past is asked for, in seconds: a column of the screen is one.
const PAST: u16 = 240;

/// The thread, seen from outside.
pub(super) struct Fetch {
    looks: Sender<Option<Who>>,
    /// What it learns.
    pub news: Receiver<News>,
}

impl Fetch {
    /// Starts it.
    pub fn start(endpoint: &Endpoint, fallback: Option<Fallback>) -> anyhow::Result<Self> {
        let (looks, wanted) = channel();
        let (sender, news) = channel();
        let client = Client::new(endpoint);
        let asking = move || {
            let mut asker = Asker {
                client,
                has_answered: false,
                fallback: fallback.map(|make_ready| make_ready()),
                ports: None,
            };
            asker.run(&wanted, &sender);
        };
        thread::Builder::new().name("fetch".to_owned()).spawn(asking).context("cannot start a thread")?;
        Ok(Self { looks, news })
    }

    /// From now on looks at this account, too.
    pub fn look(&self, who: Option<Who>) {
        // Whether the thread lives shows in its news.
        let _ = self.looks.send(who);
    }
}

struct Asker {
    client: Client,
    /// Once a daemon was there, its last figures say more than a census.
    has_answered: bool,
    fallback: Option<TakeCensus>,
    ports: Option<(Instant, Who, Result<Ports, String>)>,
}

impl Asker {
    fn run(&mut self, wanted: &Receiver<Option<Who>>, news: &Sender<News>) {
        let mut looked_at = None;
        loop {
            let begun = Instant::now();
            let figures = self.figures();
            let is_daemon = matches!(figures, Ok(Figures::Daemon { .. }));
            let detail = looked_at.clone().filter(|_| is_daemon).map(|who| self.detail(who));
            if news.send(News { figures, detail }).is_err() {
                return;
            }
            match wanted.recv_timeout(PAUSE.saturating_sub(begun.elapsed())) {
                Ok(who) => looked_at = wanted.try_iter().last().unwrap_or(who),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn figures(&mut self) -> Result<Figures, String> {
        let why = match self.client.figures() {
            Ok(figures) => {
                self.has_answered = true;
                return Ok(figures);
            }
            Err(Refusal::Because(why)) => return Err(why),
            Err(Refusal::Nobody) => "nobody answers".to_owned(),
        };
        match &mut self.fallback {
            Some(take) if !self.has_answered => {
                take().map(Figures::Census).map_err(|error| format!("{error:#}"))
            }
            _ => Err(why),
        }
    }

    fn detail(&mut self, who: Who) -> Detail {
        let seconds = self.client.seconds(&who, PAST);
        let known =
            self.ports.take().filter(|(asked, whose, _)| *whose == who && asked.elapsed() < PORTS_PAUSE);
        let (asked, _, ports) =
            known.unwrap_or_else(|| (Instant::now(), who.clone(), self.client.ports(&who)));
        self.ports = Some((asked, who.clone(), ports.clone()));
        Detail { who, ports, seconds }
    }
}
