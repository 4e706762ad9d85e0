//! `tcpwarden top`: the peers of this host, live in a terminal.
//!
//! A thread of its own asks for figures ([`fetch`]). What is on the screen is a plain value ([`state`]), which hears figures and keys and
//! draws itself ([`view`]); only this file knows the terminal.

mod client;
mod fetch;
mod figures;
mod row;
mod state;
#[cfg(test)]
mod tests;
mod view;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::TryRecvError,
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyEventKind},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    flag,
};

pub use self::fetch::{Fallback, TakeCensus};
use self::{
    fetch::Fetch,
    state::{Action, State},
};
use crate::config::Endpoint;

/// So long is a key waited for; then it is time to see whether there are new figures.
const TICK: Duration = Duration::from_millis(100);

/// Shows what the daemon at `endpoint` knows until the user has seen enough. `fallback` takes a census where no daemon answers.
///
/// # Errors
/// When the terminal cannot be used.
pub fn run(endpoint: &Endpoint, fallback: Option<Fallback>, colours: bool) -> anyhow::Result<()> {
    let ended = Arc::new(AtomicBool::new(false));
    // The terminal is to be left as it was found, also when someone else ends it.
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        flag::register(signal, Arc::clone(&ended)).context("cannot handle signals")?;
    }
    let fetch = Fetch::start(endpoint, fallback)?;
    let state = State::new(endpoint.url.to_string().trim_end_matches('/'), colours);
    let terminal = ratatui::try_init().context("cannot take over the terminal");
    let shown = terminal.and_then(|mut terminal| show(&mut terminal, state, &fetch, &ended));
    ratatui::restore();
    shown
}

fn show(
    terminal: &mut DefaultTerminal,
    mut state: State,
    fetch: &Fetch,
    ended: &AtomicBool,
) -> anyhow::Result<()> {
    // Where there is no second screen to draw on, the first one is not empty.
    terminal.clear()?;
    let mut moved_on = Instant::now();
    loop {
        terminal.draw(|frame| state.draw(frame))?;
        let mut changed = false;
        while !changed {
            if ended.load(Ordering::Relaxed) {
                return Ok(());
            }
            if is_gone(TICK).context("cannot wait for a key")? {
                return Ok(());
            }
            if event::poll(Duration::ZERO)? {
                match event::read()? {
                    Event::Key(key) if key.kind == KeyEventKind::Press => match state.key(key) {
                        Action::Nothing => {}
                        Action::Look(who) => fetch.look(who),
                        Action::Quit => return Ok(()),
                    },
                    _ => {}
                }
                changed = true;
            }
            loop {
                match fetch.news.try_recv() {
                    Ok(news) => {
                        if state.hear(news) {
                            moved_on = Instant::now();
                        }
                        changed = true;
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => bail!("the thread that asks for figures has ended"),
                }
            }
            changed |= state.grow_old(moved_on.elapsed().as_secs());
        }
    }
}

/// Waits for a key, so long at most. Returns whether the terminal is gone: the reader of keys would ask such a one without end.
fn is_gone(patience: Duration) -> io::Result<bool> {
    let stdin = io::stdin();
    let mut terminal = [PollFd::new(&stdin, PollFlags::IN)];
    let patience = Timespec::try_from(patience).map_err(io::Error::other)?;
    match poll(&mut terminal, Some(&patience)) {
        Ok(_) => Ok(terminal[0].revents().intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL)),
        // A signal, which is looked at elsewhere.
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
