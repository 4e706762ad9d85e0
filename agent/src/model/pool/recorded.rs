//! A peer whose ports are recorded: what is observed of it, and the figures of its pool that follow.

use std::time::Duration;

use probe_ebpf::{
    source_ports::{FILLED_IN, PortSet},
    sweep::HeldAt,
};

use super::{
    blocks::Blocks,
    chance::Chance,
    figures::PoolFigures,
    inference::{Inference, KNOWN},
    kept::Kept,
    memory::SavedPool,
    port_set::Ports,
    ranges::Ranges,
    reach::{Arrivals, Gaps, Reach},
    rounds::{Rounds, SAME},
    survival::Survival,
    traffic::{TIME_WAIT_SECONDS, Totals},
    trust::Trust,
    usage::Usage,
};

/// With so many SYNs accepted into TIME_WAIT in the last minute, or so many connections whose timestamps go on from those of the connection
/// before on their 4-tuple, and nothing that says otherwise, TIME_WAIT does not stand in this peer's way.
const ACCEPTED_ENOUGH: f64 = 8.0;

/// So long after the agent began, what was known of a peer before stands in for the last minute: by then its ports have come back, if they come
/// back so soon that a TIME_WAIT could be met.
const STANDS: Duration = Duration::from_mins(2);

/// A peer whose ports are recorded.
#[derive(Debug)]
pub(super) struct Recorded {
    totals: Totals,
    inference: Inference,
    /// The pool as it was known before, and how surely: it stands until the ports seen now contradict it, or tell enough by themselves.
    remembered: Option<(Ranges, f64)>,
    /// Whether TIME_WAIT accepted whatever the peer sent before the agent began.
    accepted_before: bool,
    usage: Usage,
    /// Connections and refused SYNs when the ports were last looked at.
    observed: (u64, u64),
    /// Whether a census has filled in the ports of the sockets there were.
    filled_in: bool,
    /// What was recorded just before the last look may lie in the set that is taken at the next.
    is_rest_due: bool,
    arrivals: Arrivals,
    blocks: Blocks,
    rounds: Option<Rounds>,
    /// While SYNs take the place of its TIME_WAITs.
    survival: Option<Survival>,
    trust: Trust,
}

/// What a pool's forecast depends on beside the pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'a> {
    pub kept: &'a Kept,
    /// The share that the SYNs of all peers lose of their meetings with a TIME_WAIT, if that is known.
    pub lost: Option<f64>,
}

impl Recorded {
    pub fn new(now: Duration, usage: Usage, totals: Totals, remembered: Option<&SavedPool>) -> Self {
        Self {
            totals,
            inference: Inference::new(now),
            accepted_before: now < STANDS && remembered.is_some_and(|pool| pool.accepts_reuse),
            remembered: remembered.map(|pool| (pool.ranges(), pool.confidence)),
            usage,
            observed: (totals.opened, totals.refused),
            filled_in: false,
            is_rest_due: false,
            arrivals: Arrivals::new(),
            blocks: Blocks::default(),
            rounds: None,
            survival: None,
            trust: Trust::new(),
        }
    }

    /// Takes its counters.
    pub fn read(&mut self, now: Duration, totals: Totals) {
        self.totals = totals;
        self.usage.traffic.sample(now, totals);
    }

    /// A census begins to be booked.
    pub fn begin_census(&mut self, now: Duration) {
        self.usage.begin_census(now);
    }

    /// Books what a census found at one local address.
    pub fn add(&mut self, held: &HeldAt) {
        self.usage.add(held);
    }

    /// A SYN was refused by a TIME_WAIT since the ports were last looked at; `is_repeated`: as one of the same attempt was before.
    pub fn refuse(&mut self, port: u16, is_repeated: bool) {
        self.blocks.refuse(port, is_repeated);
    }

    /// SYNs that were not searched for blocks because too many came at once, since the last call.
    pub fn take_unsearched(&mut self) -> u64 {
        self.blocks.take_unsearched()
    }

    /// The pool by the ports seen, and how surely the next connection comes from it; `None` while that is not known, and while what was known
    /// before stands.
    pub fn confirmed_pool(&self) -> Option<(&Ranges, f64)> {
        let confidence = self.inference.confidence();
        (self.remembered.is_none() && confidence >= KNOWN).then(|| (self.inference.ranges(), confidence))
    }

    /// New connections or refused SYNs, or a census that is to fill in the ports there were before.
    pub fn is_due(&self) -> bool {
        self.is_news() || self.is_rest_due || !self.filled_in
    }

    fn is_news(&self) -> bool {
        self.observed != (self.totals.opened, self.totals.refused)
    }

    fn is_in_turn(&self) -> bool {
        self.rounds.as_ref().is_some_and(Rounds::is_in_turn)
    }

    /// Takes the ports recorded since the last time; `configured` is the pool, if that is known. Returns whether recording should begin anew.
    pub fn observe(&mut self, now: Duration, ports: &PortSet, configured: Option<&Ranges>) -> bool {
        self.is_rest_due = self.is_news();
        let draws = self.totals.opened.saturating_sub(self.observed.0);
        let syns = draws + self.totals.refused.saturating_sub(self.observed.1);
        self.observed = (self.totals.opened, self.totals.refused);
        // What a census filled in did not come just now. It does so once in each of both sets.
        let came_now = matches!(ports.filled_in, 0 | FILLED_IN);
        let are_new = self.filled_in && came_now;
        self.filled_in |= ports.filled_in != 0;
        let ports = &Ports::from(ports);
        if are_new {
            let is_in_turn = self.is_in_turn();
            let before = configured.or(self.remembered.as_ref().map(|(ranges, _)| ranges));
            let pool =
                before.filter(|_| !self.inference.is_known()).unwrap_or_else(|| self.inference.ranges());
            self.arrivals.observe(ports, pool, is_in_turn);
        }
        if came_now {
            self.follow_survival(now, ports, syns);
        }
        let over = self.inference.observe(ports, draws, now);
        if over {
            self.filled_in = false;
        }
        let remembered = self.remembered.as_ref().map(|(ranges, _)| ranges);
        let known = || Some(self.inference.ranges()).filter(|_| self.inference.is_known());
        match configured.or(remembered).or_else(known) {
            Some(pool) => {
                let rounds = self.rounds.get_or_insert_with(|| Rounds::new(pool));
                rounds.follow(pool);
                if are_new {
                    rounds.observe(now, ports.iter());
                }
            }
            None => self.rounds = None,
        }
        if are_new {
            // For some seconds, one machine that goes round in its block may look like a peer that goes round its pool.
            let may_circle = !self.is_in_turn() && !self.arrivals.is_by_chance();
            self.blocks.observe(now, ports, may_circle);
        }
        over
    }

    /// Whether TIME_WAIT accepts whatever this peer sends. `now` is the time since the agent began.
    pub fn accepts_reuse(&self, now: Duration) -> bool {
        let growth = |field| self.usage.traffic.growth(TIME_WAIT_SECONDS as f64, 0.0, field);
        let accepted = growth(|totals| totals.accepted).max(growth(|totals| totals.same_clock));
        let refused = growth(|totals| totals.refused).max(growth(|totals| totals.other_clock));
        (accepted >= ACCEPTED_ENOUGH || self.accepted_before && now < STANDS) && refused < 1.0
    }

    /// Which ports come again matters while SYNs take the place of TIME_WAITs, at one address of ours.
    fn follow_survival(&mut self, now: Duration, ports: &Ports, syns: u64) {
        let accepted = self.usage.traffic.growth(self.usage.traffic.age(), 0.0, |totals| totals.accepted);
        if accepted > 0.0 && self.usage.addresses() <= 1 {
            self.survival.get_or_insert_with(Survival::new).observe(now, ports.iter(), syns);
        } else {
            self.survival = None;
        }
    }

    /// Gives up what was known before where the ports seen contradict it, and where they tell the pool by themselves: once nearly all of its ports
    /// came, or a window is over. Returns whether they contradict it.
    pub fn judge_remembered(&mut self, is_over: bool) -> bool {
        let Some((ranges, _)) = &self.remembered else { return false };
        let is_contradicted = self.inference.outside(ranges) > 0;
        // Sooner, the part of the pool that nothing has come from yet may look like a gap.
        let is_all = f64::from(self.inference.seen()) >= (1.0 - SAME) * f64::from(ranges.len());
        if is_contradicted || self.inference.is_known() && (is_all || is_over) {
            self.remembered = None;
        }
        is_contradicted
    }

    /// The pool as it is now, for which `configured` is what the configuration says.
    pub fn figures(&mut self, now: Duration, configured: Option<Ranges>, around: Around<'_>) -> PoolFigures {
        let mut figures = self.judge(now, configured, around);
        self.judge_forecast(now, &mut figures);
        figures
    }

    fn judge(&self, now: Duration, configured: Option<Ranges>, around: Around<'_>) -> PoolFigures {
        let Self { inference, remembered, usage, .. } = self;
        let traffic = &usage.traffic;
        let minute = TIME_WAIT_SECONDS as f64;
        let load = usage.load(now, self.survival.as_ref(), self.is_in_turn());
        // No port is taken twice at one address. Of an address that a census has not told apart yet, more seem to be.
        let load = if self.filled_in { load.at_most(f64::from(inference.seen())) } else { load };
        let outside = configured.as_ref().map_or(0, |pool| inference.outside(pool));
        let accepted = traffic.growth(minute, 0.0, |totals| totals.accepted);
        let refused = traffic.growth(minute, 0.0, |totals| totals.refused);
        let same_clock = traffic.growth(minute, 0.0, |totals| totals.same_clock);
        let other_clock = traffic.growth(minute, 0.0, |totals| totals.other_clock);
        let (observed, confidence, is_known) = match remembered {
            Some((ranges, confidence)) => (ranges, *confidence, true),
            None => (inference.ranges(), inference.confidence(), inference.is_known()),
        };
        let mut figures = PoolFigures {
            source_ports: inference.seen(),
            bounds: inference.bounds(),
            observed: observed.clone(),
            confidence,
            is_known,
            remembered: remembered.is_some(),
            configured,
            outside,
            reachable: None,
            gaps: None,
            elsewhere: None,
            is_learning: false,
            local: usage.local(),
            local_addresses: usage.addresses(),
            load,
            accepted,
            refused,
            same_clock,
            other_clock,
            accepts_reuse: self.accepts_reuse(now),
            turn: None,
            chance: None,
            // A peer that goes round the whole pool has no blocks.
            outgrown: self.blocks.outgrown(now).filter(|_| !self.is_in_turn()),
            circling: None,
            exhaustion_seconds: None,
            forecast_confidence: self.trust.confidence(),
        };
        self.judge_reach(&mut figures);
        let ports = figures.reachable.map(f64::from);
        let Around { kept, lost } = around;
        // Beyond the limit a connection leaves no TIME_WAIT, and no pool is filled.
        let is_kept_until = |seconds: &f64| load.growth(*seconds) <= kept.left();
        figures.exhaustion_seconds = ports
            .map(|ports| figures.blocking().seconds_until(ports))
            .filter(|seconds| seconds.is_infinite() || is_kept_until(seconds));
        let meets_time_waits = !figures.accepts_reuse && traffic.left_share() > 0.5;
        // A port that comes back towards another address of ours meets nothing.
        let is_at_one = usage.addresses() <= 1;
        if let Some(rounds) = self.rounds.as_ref().filter(|_| meets_time_waits && is_at_one) {
            figures.turn = rounds.turn(now, minute, kept, load.rate);
        }
        if let Some((turn, ports)) = figures.turn.as_mut().zip(ports) {
            // No more of the ports are in TIME_WAIT than the kernel keeps.
            turn.refused_share = turn.refused_share.min((load.time_wait + kept.left()) / ports);
        }
        let is_by_chance = self.arrivals.is_by_chance() && figures.turn.is_none();
        if let Some(ports) = ports.filter(|_| meets_time_waits && is_by_chance) {
            figures.chance = Some(Chance::new(traffic, &load, ports, lost));
            figures.exhaustion_seconds = None;
        }
        // Which of the ports come back to this server is known from the second round on; what is said of a lone server holds until then.
        if let Some(turn) = figures.turn.as_mut().filter(|turn| turn.returning.is_some()) {
            // Which of the ports to come will leave a TIME_WAIT is not known at the limit.
            turn.is_withdrawn =
                turn.is_at_limit && turn.refusal_seconds.is_infinite() && turn.refused_share > 0.0;
            figures.exhaustion_seconds = Some(turn.refusal_seconds).filter(|_| !turn.is_withdrawn);
        }
        // Where machines go round in blocks, the pool as a whole may be nearly empty when the first block runs out.
        figures.circling = self.blocks.soonest(now, kept).filter(|_| meets_time_waits && is_at_one);
        if let Some(circling) = &figures.circling {
            let whole = figures.exhaustion_seconds.unwrap_or(f64::INFINITY);
            figures.exhaustion_seconds = Some(whole.min(circling.refusal_seconds));
        }
        figures
    }

    /// Withdraws a forecast like one that did not come true.
    fn judge_forecast(&mut self, now: Duration, figures: &mut PoolFigures) {
        let (Some(seconds), Some(used)) = (figures.exhaustion_seconds, figures.used_ratio()) else { return };
        if !self.trust.stands(now, seconds, used, self.totals) {
            figures.withdraw();
        }
        figures.forecast_confidence = self.trust.confidence();
    }

    /// Which ports of the pool can come here.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "ports are fewer than 65,537"
    )]
    fn judge_reach(&self, figures: &mut PoolFigures) {
        let Some(pool) = figures.pool() else { return };
        let size = pool.len();
        let ranges = self.inference.ranges();
        let reach = self.arrivals.reach(ranges);
        let gaps = (!matches!(reach, Reach::All { .. })).then(|| self.arrivals.gaps(ranges));
        // That a peer uses a regular part of its configured pool is for `contradicts` to say.
        let is_part = figures.configured.is_none() || gaps == Some(Gaps::ByChance);
        let (reachable, is_learning) = match reach {
            // It is an estimate; what is taken here can come here.
            Reach::Part(ports) if is_part => (Some(ports.max(figures.load.used().ceil() as u32)), false),
            Reach::Learning if is_part => (None, true),
            Reach::All { seen } => (Some(size), !seen),
            Reach::Part(_) | Reach::Learning => (Some(size), false),
        };
        // Of a configured pool that is not the real one, no server need get the ports that do not come here.
        let is_told =
            matches!(reach, Reach::Part(_)) && is_part && self.is_in_turn() && !figures.contradicts();
        figures.elsewhere = is_told.then(|| self.arrivals.elsewhere(pool));
        (figures.reachable, figures.gaps, figures.is_learning) = (reachable, gaps, is_learning);
    }
}
