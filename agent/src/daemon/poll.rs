//! The poll thread: owns the kernel side and the accounts.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context as _;
use probe_ebpf::{
    account::{Account, AccountKey},
    port::LISTENING,
    tally::Tally,
};
use tokio::sync::watch;

use super::{
    alerting::Alerting,
    ephemeral_ports::{EphemeralPorts, Listener},
    figures::{self, Census as LastCensus},
    habits::KeptHabits,
    names::WatchedNames,
    owners::Owners,
    pools::{AddressPool, AddressPorts, SourcePorts, clocks},
    remembering::Remembering,
    service,
};
use crate::{
    alert::{Change, EphemeralFact, Facts, PoolFact},
    census::{self, Source},
    config::{AlertName, Settings},
    history::History,
    host,
    model::{
        AccountId, Accounts, Callers, Groups, LostFigures, Overhead, Retention, Snapshot,
        drift::LastingDrift, next_interval, past::Event, pool::Ranges,
    },
    probe::{HOOKS, Kept, Probe, Wishes, capability::Capability, give_back_memory, monotonic_ns},
    serve::{Latest, View},
};

/// Time between two readings of the kernel's counters.
const PERIOD: Duration = Duration::from_secs(1);

/// Time between two occasions of giving back what bursts have taken.
const TIDY: Duration = Duration::from_secs(10);

/// Maps, and what else may find no room, whose size is no setting.
const FIXED: [&str; 8] =
    ["alerts", "block_syns", "evidence", "habits", "history", "local_addresses", "log", "remembered_pools"];

/// What the main thread may ask.
pub(super) enum Command {
    Reconfigure(Box<Settings>),
    ReloadFailed,
}

/// Names of the processes that called each account last.
type CallerNames = HashMap<AccountId, Vec<Arc<str>>>;

/// Everything the loop owns.
pub(super) struct Poll {
    probe: Probe,
    source: Source,
    accounts: Accounts,
    habits: KeptHabits,
    owners: Owners,
    source_ports: SourcePorts,
    names: WatchedNames,
    alerting: Alerting,
    remembering: Remembering,
    overheads: [Overhead; HOOKS.len()],
    /// What the kernel had counted of SYNs on open connections before the agent saw any.
    challenges_before: i64,
    census: LastCensus,
    drift: LastingDrift,
    census_due: Instant,
    tidied_at: Instant,
    config_reloaded: bool,
    /// Maps that were full at some time.
    full: Vec<&'static str>,
    cpu_budget: f64,
    interval_range: (Duration, Duration),
    stalled_after: Duration,
    publish: watch::Sender<Latest>,
    started: Instant,
    started_at: SystemTime,
}

impl Poll {
    /// Loads and attaches everything and publishes the first figures; the listeners are marked before the first event,
    /// and the first census adopts the connections that are older than the agent.
    pub fn start(settings: &Settings, publish: watch::Sender<Latest>) -> anyhow::Result<Self> {
        let capability = Capability::detect().context("cannot tell what this kernel can do (/proc)")?;
        let Settings { limits, syn_watch, aborted, .. } = settings;
        let wishes = Wishes { limits, syn_watch: *syn_watch, aborted: *aborted };
        let mut probe = Probe::load(&capability, wishes)?;
        let (source, why) = Source::choose(settings.census, &mut probe)?;
        if let Some(why) = why {
            log::warn!("counting sockets over netlink: {why}");
        }
        let owners = Owners::new(&mut probe);
        probe.mark_ports(census::listening_ports()?, LISTENING)?;
        probe.attach(settings.hooks)?;
        probe.finish_loading();
        for report in probe.hooks() {
            match report.way {
                None if report.off => {}
                None => log::warn!("{} is not available: {}", report.hook.name, report.reasons()),
                Some(_) if report.is_whole() => {
                    log::debug!("{} is attached as {} {}", report.hook.name, report.mode(), report.reasons());
                }
                Some(_) => {
                    log::warn!("{} is attached as {}: {}", report.hook.name, report.mode(), report.reasons());
                }
            }
        }
        owners.tell();
        // No thread has been started yet: rights are a thread's own.
        match probe.drop_rights().context("cannot give up our rights")? {
            Kept::Nothing => log::debug!("all rights are given up"),
            Kept::ReadingMaps => log::info!("CAP_BPF is kept: this kernel wants it for reading maps"),
        }
        // Those between attaching and reading are in both counts.
        let seen = probe.tallies()?[Tally::ChallengedSyns as usize];
        let challenges_before =
            figures::signed(host::Counters::read()?.syn_challenges) - figures::signed(seen);
        let now = Instant::now();
        let mut accounts = Accounts::new(groups(settings), retention(settings));
        let habits = KeptHabits::start(settings, Duration::ZERO, &mut accounts);
        let mut poll = Self {
            probe,
            source,
            accounts,
            habits,
            owners,
            source_ports: SourcePorts::new(settings),
            names: WatchedNames::default(),
            alerting: Alerting::start(settings, Duration::ZERO)?,
            remembering: Remembering::start(settings)?,
            overheads: Default::default(),
            challenges_before,
            census: LastCensus::default(),
            drift: LastingDrift::default(),
            census_due: now,
            tidied_at: now,
            config_reloaded: true,
            full: Vec::new(),
            cpu_budget: settings.cpu_budget,
            interval_range: settings.census_interval,
            stalled_after: settings.stalled_after,
            publish,
            started: now,
            started_at: SystemTime::now(),
        };
        poll.names.watch(settings)?;
        poll.poll()?;
        Ok(poll)
    }

    /// Polls until the sender of `inbox` is dropped.
    pub fn run(mut self, inbox: &Receiver<Command>) -> anyhow::Result<()> {
        let mut next = Instant::now() + PERIOD;
        loop {
            match inbox.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Command::Reconfigure(settings)) => {
                    self.reconfigure(&settings);
                    service::ready();
                }
                Ok(Command::ReloadFailed) => {
                    self.config_reloaded = false;
                    self.remembering.note(Event::ConfigReloaded { successful: false });
                    service::ready();
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.remembering.stop();
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.poll()?;
                    next = (next + PERIOD).max(Instant::now());
                }
            }
        }
    }

    /// The way to the past, if it is kept.
    pub fn history(&self) -> Option<History> {
        self.remembering.history()
    }

    fn reconfigure(&mut self, settings: &Settings) {
        let capacity = self.accounts.retention().capacity;
        self.accounts.reconfigure(groups(settings), Retention { capacity, ..retention(settings) });
        self.config_reloaded = self.alerting.reconfigure(settings);
        if let Err(error) = self.names.watch(settings) {
            log::error!("{error:#}");
            self.config_reloaded = false;
        }
        self.remembering.reconfigure(settings);
        self.remembering.note(Event::ConfigReloaded { successful: self.config_reloaded });
        self.cpu_budget = settings.cpu_budget;
        self.interval_range = settings.census_interval;
        self.stalled_after = settings.stalled_after;
    }

    fn poll(&mut self) -> anyhow::Result<()> {
        let now = self.started.elapsed();
        let mut ephemeral_ports = EphemeralPorts::now();
        if Instant::now() >= self.census_due {
            self.take_census(now, &mut ephemeral_ports)?;
        }
        self.read_accounts(now, &mut ephemeral_ports)?;
        let Self { probe, accounts, source_ports, names, alerting, .. } = self;
        source_ports.poll(now, probe, accounts)?;
        let mut callers = Callers::default();
        probe.for_each_caller(|key, last_ns| callers.add(key, last_ns))?;
        names.poll(&callers);
        let callers = callers.by_account(accounts.groups());
        accounts.rank(now, &alerting.accounts());
        for (key, seen) in accounts.idle(now) {
            if probe.remove_idle_account(&key, &seen)? {
                accounts.forget(&key);
                source_ports.forget(&key, probe)?;
            }
        }
        self.habits.save(now, &self.accounts);
        let snapshot = Arc::new(self.snapshot(&callers)?);
        self.tell_losses(&snapshot.itself.lost);
        let changes = self.alert(now, &snapshot, &callers);
        self.remembering.take(Arc::clone(&snapshot), &self.alerting, &changes);
        let view = View { snapshot, alerts: self.alerting.view() };
        service::alive(&status(&view));
        self.publish.send_replace(Some((tokio::time::Instant::now(), Arc::new(view))));
        Ok(())
    }

    /// Takes the counters of all accounts. A new one on a port that a short-lived listener may have had waits until that is decided.
    fn read_accounts(&mut self, now: Duration, ephemeral_ports: &mut EphemeralPorts) -> anyhow::Result<()> {
        let Self { probe, accounts, source_ports, names, .. } = self;
        let mut read = |accounts: &mut Accounts, key: AccountKey, account: &Account| {
            let is_news = accounts.read(now, key, account);
            source_ports.read(now, &key, &account.counters, is_news);
            names.read(&key, &account.calls);
        };
        // By key: one may come twice.
        let mut undecided = HashMap::new();
        probe.for_each_account(|key, account| {
            if ephemeral_ports.contain(&key) && !accounts.knows(&key) {
                undecided.insert(key, *account);
            } else {
                read(accounts, key, account);
            }
        })?;
        for (key, account) in undecided {
            match ephemeral_ports.listener(probe, key.peer.port)? {
                Listener::Young => {}
                Listener::ShortLived => {
                    if probe.remove_idle_account(&key, &account.counters)? {
                        accounts.fold(now, &key.peer, &account);
                    }
                }
                Listener::Lasting => read(accounts, key, &account),
            }
        }
        Ok(())
    }

    /// Says once of each map that it has no room left; how much it lost since is a figure.
    fn tell_losses(&mut self, lost: &[LostFigures]) {
        for LostFigures { map, .. } in lost.iter().filter(|lost| lost.events > 0) {
            if !self.full.contains(map) {
                self.full.push(map);
                let remedy = if FIXED.contains(map) { "" } else { "; [limits] has the sizes" };
                log::warn!(
                    "no room is left for {map}: what finds none is counted in tcpwarden_lost_total{remedy}"
                );
            }
        }
    }

    /// Puts what was measured before those who judge it.
    fn alert(&mut self, now: Duration, snapshot: &Snapshot, callers: &CallerNames) -> Vec<Change> {
        let pools = self.source_ports.figures().iter().map(|AddressPool { account, address, figures }| {
            PoolFact { account, address: *address, figures }
        });
        let ephemeral = self.source_ports.ephemeral().iter();
        let ephemeral = ephemeral.map(|AddressPorts { account, address, figures }| EphemeralFact {
            account,
            address: *address,
            figures,
        });
        let troubled = self.accounts.troubled(now);
        let mut destinations = self.accounts.destinations(monotonic_ns());
        for (id, destination) in &mut destinations {
            destination.callers = callers.get(id).cloned().unwrap_or_default();
        }
        let mut close_waits = self.accounts.close_waits();
        let wanted = self.alerting.is_active(AlertName::CloseWaitGrowing);
        self.owners.complete(&mut self.probe, wanted, &mut close_waits);
        let left_behind = self.names.left_behind(self.accounts.groups());
        let facts = Facts {
            left_behind: &left_behind,
            pools: &pools.collect::<Vec<_>>(),
            troubled: &troubled,
            ephemeral: &ephemeral.collect::<Vec<_>>(),
            destinations: &destinations,
            close_waits: &close_waits,
            habits: self.accounts.habits(),
            tells: snapshot.tells,
            host: &snapshot.host,
            lost: &snapshot.itself.lost,
            drift: snapshot.itself.census.lasting_drift,
            stale: &self.names.stale(snapshot.taken, self.accounts.groups()),
            names: &self.names.troubles(snapshot.taken),
            config_reloaded: self.config_reloaded,
            history_trouble: snapshot.itself.history.as_ref().and_then(|history| history.trouble.as_deref()),
            unreached: &self.alerting.unreached(),
        };
        self.alerting.evaluate(now, &facts)
    }

    fn take_census(&mut self, now: Duration, ephemeral_ports: &mut EphemeralPorts) -> anyhow::Result<()> {
        let before = host::SocketStats::read()?.time_wait_buckets;
        let free_accounts = u32::try_from(self.accounts.free()).unwrap_or(u32::MAX);
        let range = ephemeral_ports.range;
        let mut census = self.source.take(&mut self.probe, range, self.stalled_after, free_accounts)?;
        let kernel = host::SocketStats::read()?.time_wait_buckets;
        let lasting_drift = self.drift.update(u64::from(census.mini_sockets), [before, kernel]);
        let interval = next_interval(census.cost, self.cpu_budget, self.interval_range);
        self.census_due = Instant::now() + interval;
        let rows = census.rows.iter_mut().map(|row| &mut row.peer);
        for peer in rows.chain(census.at.iter_mut().map(|row| &mut row.peer)) {
            let key = AccountKey { peer: *peer, half_open: false };
            if ephemeral_ports.contain(&key)
                && !self.accounts.knows(&key)
                && ephemeral_ports.listener(&self.probe, peer.port)? != Listener::Lasting
            {
                *peer = peer.ephemeral();
            }
        }
        self.accounts.settle(now, &census.rows);
        self.source_ports.settle(now, &census.at);
        self.names.settle(&census.rows);
        self.census = LastCensus::new(&census, kernel, lasting_drift, interval);
        if self.tidied_at.elapsed() >= TIDY {
            give_back_memory();
            self.tidied_at = Instant::now();
        }
        Ok(())
    }

    fn snapshot(&mut self, callers: &CallerNames) -> anyhow::Result<Snapshot> {
        let tallies = self.probe.tallies()?;
        for stats in self.probe.program_stats() {
            let runs = tallies[HOOKS[stats.hook].runs as usize];
            self.overheads[stats.hook].update(runs, (stats.runs, stats.run_time_ns));
        }
        let mut accounts = self.accounts.export();
        self.source_ports.complete(&mut accounts);
        for account in &mut accounts {
            if let Some(id) = account.id() {
                account.callers = callers.get(&id).cloned().unwrap_or_default();
            }
        }
        let host = figures::host(&self.census)?;
        let challenges = figures::signed(host.syn_challenges) - self.challenges_before;
        Ok(Snapshot {
            taken: clocks(),
            accounts,
            groups: Arc::clone(self.accounts.groups()),
            refused_reuses: self.source_ports.refused_reuses(),
            refused_reuses_before: self.source_ports.dropped(),
            names: self.names.figures(),
            failovers: self.names.failovers(),
            tells: figures::tells(&self.probe, self.source),
            host,
            itself: figures::itself(figures::Agent {
                probe: &self.probe,
                source: self.source,
                census: &self.census,
                accounts: &self.accounts,
                source_ports: &self.source_ports,
                names: &self.names,
                alerting: &self.alerting,
                remembering: &self.remembering,
                tallies: &tallies,
                overheads: &self.overheads,
                challenges,
                config_reloaded: self.config_reloaded,
                started_at: self.started_at,
            })?,
        })
    }
}

/// A line for whoever asks how the service is.
fn status(view: &View) -> String {
    let itself = &view.snapshot.itself;
    format!(
        "{} sockets, {} peers, {} alerts raised",
        itself.census.sockets,
        itself.peers,
        view.alerts.raised.len()
    )
}

fn groups(settings: &Settings) -> Groups {
    let networks = settings
        .groups
        .iter()
        .flat_map(|group| group.networks.iter().map(|&network| (network, Arc::clone(&group.name))));
    let pools = settings.groups.iter().filter_map(|group| {
        let ranges = Ranges::whole(group.port_pool.as_ref()?);
        Some((Arc::clone(&group.name), ranges))
    });
    Groups::new(networks, pools)
}

fn retention(settings: &Settings) -> Retention {
    let limits = &settings.limits;
    Retention {
        exported: limits.exported_peers,
        capacity: limits.peers as usize,
        forget_after: limits.forget_after,
    }
}
