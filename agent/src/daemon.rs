//! The loop that joins the rooms: reads the kernel every second, takes a census when it is due, and publishes what the
//! model makes of it.

mod alerting;
mod ephemeral_ports;
mod figures;
mod habits;
mod lock;
mod lookup;
mod names;
mod owners;
mod poll;
mod pools;
mod remembering;
mod service;
mod state;

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
};

pub use self::state::{HabitState, PoolState, State};
use self::{
    lookup::Answers,
    poll::{Command, Poll},
};
use crate::{
    config::Settings,
    host,
    serve::{self, Limits, Protection},
};

/// How long running requests may take after SIGTERM.
const GRACE: Duration = Duration::from_millis(500);

/// As many files the agent needs for itself: maps, programs, links, receivers, and what it reads every second.
const OWN_FILES: usize = 64;

/// What the command line decides beside the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The file, read again on SIGHUP.
    pub config_file: Option<PathBuf>,
    /// `--web.listen-address`
    pub listen_address: Option<SocketAddr>,
    /// `--web.config.file`, read again when it changes.
    pub web_config_file: Option<PathBuf>,
    /// `--web.telemetry-path`
    pub telemetry_path: Option<String>,
    /// `--web.max-requests`; 0 is no limit.
    pub max_requests: Option<usize>,
    /// `--state.directory`
    pub state_directory: Option<PathBuf>,
    /// `--hooks`
    pub hooks: Option<crate::config::HookMode>,
    /// `--census`
    pub census: Option<crate::config::CensusMode>,
}

impl Overrides {
    /// The settings of the file, with the command line's on top.
    pub fn settings(&self) -> Result<Settings, crate::config::ConfigError> {
        let mut settings = Settings::load(self.config_file.as_deref())?;
        if let Some(listen_address) = self.listen_address {
            settings.listen_address = listen_address;
        }
        if let Some(telemetry_path) = &self.telemetry_path {
            settings.telemetry_path.clone_from(telemetry_path);
        }
        if let Some(max_requests) = self.max_requests {
            settings.max_requests = (max_requests > 0).then_some(max_requests);
        }
        if let Some(state_directory) = &self.state_directory {
            settings.state_directory.clone_from(state_directory);
        }
        settings.hooks = self.hooks.unwrap_or(settings.hooks);
        settings.census = self.census.unwrap_or(settings.census);
        Ok(settings)
    }

    /// Who may connect and how.
    pub fn protection(&self) -> Result<Protection, crate::config::ConfigError> {
        Protection::load(self.web_config_file.as_deref())
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start, or a part fails that it cannot do without.
pub fn run(overrides: &Overrides) -> anyhow::Result<()> {
    let mut settings = overrides.settings()?;
    let protection = overrides.protection()?;
    let scheme = protection.scheme();
    name_url(&mut settings, scheme);
    // Before anything is loaded: the cheap things that can be wrong.
    let _lock = lock::acquire()?;
    let listener = TcpListener::bind(settings.listen_address).with_context(|| {
        let address = settings.listen_address;
        format!(
            "cannot listen on {address}; choose another with --web.listen-address or [web] listen_address"
        )
    })?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    // Before loading, so that a signal during it is not lost.
    let _guard = runtime.enter();
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut hangup = signal(SignalKind::hangup()).context("cannot handle SIGHUP")?;

    let (publish, snapshots) = watch::channel(None);
    let poll = Poll::start(&settings, publish)?;
    let answers = Answers::new(poll.history(), snapshots.clone());
    let (commands, inbox) = mpsc::channel();
    let (finished, mut poll_finished) = oneshot::channel();
    let poller = thread::Builder::new()
        .name("poll".to_owned())
        .spawn(move || {
            let _ = finished.send(poll.run(&inbox));
        })
        .context("cannot start the poll thread")?;

    log::info!("serving {scheme}://{}{}", settings.listen_address, settings.telemetry_path);
    let options = serve::Options {
        host: host::name(),
        telemetry_path: settings.telemetry_path.clone(),
        max_requests: settings.max_requests,
        protection,
        limits: Limits { connections: connections()?, ..Limits::default() },
        lookup: Arc::new(answers),
    };
    let outcome = runtime.block_on(async {
        let (stop, stopped) = oneshot::channel::<()>();
        let mut server = tokio::spawn(serve::serve(listener, options, snapshots, async {
            let _ = stopped.await;
        }));
        service::ready();
        let outcome = loop {
            tokio::select! {
                _ = terminate.recv() => break Ok(()),
                _ = interrupt.recv() => break Ok(()),
                _ = hangup.recv() => {
                    service::reloading();
                    reload(overrides, scheme, &settings, &commands);
                }
                result = &mut poll_finished => {
                    break Err(match result {
                        Ok(Err(error)) => error,
                        _ => anyhow!("the poll thread ended"),
                    });
                }
                result = &mut server => {
                    break Err(match result {
                        Ok(Err(error)) => anyhow!(error).context("the HTTP server failed"),
                        _ => anyhow!("the HTTP server ended"),
                    });
                }
            }
        };
        service::stopping();
        let _ = stop.send(());
        let _ = tokio::time::timeout(GRACE, server).await;
        outcome
    });
    // Dropping the sender ends the poll thread, and with it the probe: every program is detached when it returns. In the
    // middle of a long walk it would keep us; then the kernel detaches them as the process ends.
    drop(commands);
    if outcome.is_ok() {
        log::info!("stopping");
        wait_for(&poller, GRACE * 2);
    }
    runtime.shutdown_background();
    outcome
}

/// Waits until a thread has ended, or so long.
fn wait_for(thread: &JoinHandle<()>, most: Duration) {
    let deadline = Instant::now() + most;
    while !thread.is_finished() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
}

/// Connections that may be served at the same time: as many as usual, if there are files enough for them and for the agent.
fn connections() -> anyhow::Result<usize> {
    let usual = Limits::default().connections;
    let files = host::most_open_files().context("cannot tell how many files may be open (/proc)")?;
    let possible = files.saturating_sub(OWN_FILES).max(1);
    if possible < usual {
        log::warn!(
            "{possible} connections are served at the same time, not {usual}: {files} files may be open (LimitNOFILE=, ulimit -n)"
        );
    }
    Ok(usual.min(possible))
}

/// Under which URL people reach the agent, unless the configuration says.
fn name_url(settings: &mut Settings, scheme: &str) {
    let listen = settings.listen_address;
    settings.external_url.get_or_insert_with(|| {
        if listen.ip().is_unspecified() {
            format!("{scheme}://{}:{}", host::name(), listen.port())
        } else {
            format!("{scheme}://{listen}")
        }
    });
}

/// Reads the configuration again: all or nothing.
fn reload(overrides: &Overrides, scheme: &str, running: &Settings, commands: &mpsc::Sender<Command>) {
    let command = match overrides.settings() {
        Ok(mut settings) => {
            name_url(&mut settings, scheme);
            let fixed = |s: &Settings| {
                let mut limits = s.limits;
                limits.exported_peers = 0;
                limits.forget_after = Duration::ZERO;
                (
                    s.listen_address,
                    s.telemetry_path.clone(),
                    s.max_requests,
                    s.hooks,
                    s.syn_watch,
                    s.aborted,
                    s.census,
                    s.state_directory.clone(),
                    s.history.is_some(),
                    limits,
                )
            };
            if fixed(&settings) == fixed(running) {
                log::info!("configuration reloaded");
            } else {
                log::warn!(
                    "configuration reloaded; changes of [web], [probe], [state], census.source and sizes need a restart, and so does keeping a history or not"
                );
            }
            Command::Reconfigure(Box::new(settings))
        }
        Err(error) => {
            log::error!("the old configuration stays in force: {error}");
            Command::ReloadFailed
        }
    };
    // The receiver is gone only when the poll thread has ended, which the main loop notices by itself.
    let _ = commands.send(command);
}
