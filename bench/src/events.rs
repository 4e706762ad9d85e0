//! Nanoseconds of each program, as the kernel times them, beside programs that do nothing.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::Context as _;
use aya::programs::loaded_programs;
use lab::{
    agent::{Agent, Config},
    host::Host,
};

use crate::{
    load::{self, Made, Plan},
    table::{Cell, Table},
    yardsticks::{PIECES, Yardsticks},
};

/// What is measured.
const PLAN: Plan = Plan { peers: 100, time: Duration::from_secs(5), most: u64::MAX };

/// A program that ran less often tells nothing.
const FEWEST_RUNS: u64 = 1_000;

/// The kernel times programs while this is 1.
const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// A program: runs, and the nanoseconds they took, the kernel's own for timing included.
#[derive(Clone, Debug)]
pub struct Runs {
    name: String,
    /// `bpf_prog_type`
    kind: u64,
    pub count: u64,
    pub ns: u64,
}

impl Runs {
    fn ns_per_run(&self) -> f64 {
        self.ns as f64 / self.count as f64
    }

    /// Whether it runs by itself, and not because somebody walks the sockets.
    fn is_hooked(&self) -> bool {
        !self.name.starts_with("census") && !self.name.starts_with("owners")
    }
}

/// The programs that a process holds, by number.
pub type Programs = BTreeMap<u32, Runs>;

/// The programs of a process, as the kernel tells of them.
pub fn programs(pid: u32) -> anyhow::Result<Programs> {
    let names: BTreeMap<u32, String> = loaded_programs()
        .filter_map(Result::ok)
        .filter_map(|program| Some((program.id(), program.name_as_str()?.to_owned())))
        .collect();
    let mut programs = Programs::new();
    for file in fs::read_dir(format!("/proc/{pid}/fdinfo")).context("the process has ended")? {
        // A file may have been closed meanwhile.
        let Ok(text) = fs::read_to_string(file?.path()) else { continue };
        let value = |name: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        // A link names its program, too, but not how it ran.
        let found = (value("prog_id:"), value("prog_type:"), value("run_cnt:"), value("run_time_ns:"));
        if let (Some(id), Some(kind), Some(count), Some(ns)) = found {
            let id = u32::try_from(id)?;
            let name = names.get(&id).cloned().unwrap_or_default();
            programs.insert(id, Runs { name, kind, count, ns });
        }
    }
    Ok(programs)
}

/// The kernel times programs for as long as this lives.
pub struct Timing(String);

impl Timing {
    pub fn start() -> anyhow::Result<Self> {
        let before = fs::read_to_string(SWITCH).with_context(|| format!("cannot read {SWITCH}"))?;
        fs::write(SWITCH, "1").with_context(|| format!("cannot write {SWITCH}"))?;
        Ok(Self(before))
    }
}

impl Drop for Timing {
    fn drop(&mut self) {
        let _ = fs::write(SWITCH, self.0.trim());
    }
}

/// What the programs that are hooked ran between two looks.
pub fn between(before: &Programs, after: &Programs) -> Vec<Runs> {
    let ran = after.iter().filter_map(|(id, now)| {
        let before = before.get(id)?;
        Some(Runs { count: now.count - before.count, ns: now.ns - before.ns, ..now.clone() })
    });
    ran.filter(Runs::is_hooked).collect()
}

/// One table for each way of attaching.
pub fn measure() -> anyhow::Result<Vec<Table>> {
    let ways = [
        ("events", "typed tracepoints and the SYN watch", "[probe]\nhooks = \"btf\"\nsyn_watch = true\n"),
        ("events_classic", "classic tracepoints", "[probe]\nhooks = \"tracepoint\"\n"),
    ];
    let tables = ways.into_iter().map(|(name, way, config)| one(name, way, config));
    tables.chain([pieces()]).collect()
}

fn one(name: &'static str, way: &str, config: &str) -> anyhow::Result<Table> {
    let host = Host::new("bench");
    load::prepare(&host);
    let config = Config::new(config);
    let agent = Agent::start(&host, &config.args());
    let mut yardsticks = Yardsticks::load()?;
    yardsticks.attach_empty()?;
    let _timing = Timing::start()?;
    let pid = u32::try_from(agent.pid().as_raw_nonzero().get())?;
    let look = || anyhow::Ok((programs(pid)?, programs(std::process::id())?));
    let (ours, empty) = look()?;
    let made = load::saturate(&host, PLAN);
    let (ours_after, empty_after) = look()?;
    let (ours, empty) = (between(&ours, &ours_after), between(&empty, &empty_after));
    Ok(table(name, way, made, &ours, &empty))
}

fn table(name: &'static str, way: &str, made: Made, ours: &[Runs], empty: &[Runs]) -> Table {
    let connections = made.connections as f64;
    let mut rows: Vec<Vec<Cell>> = Vec::new();
    let mut total = 0.0;
    for program in ours.iter().filter(|program| program.count >= FEWEST_RUNS) {
        let nothing = empty.iter().find(|nothing| nothing.kind == program.kind);
        let above = nothing.map(|nothing| program.ns_per_run() - nothing.ns_per_run());
        total += above.unwrap_or_default() * program.count as f64 / connections;
        rows.push(row(program, connections, above));
    }
    for nothing in empty {
        let name = format!("nothing ({})", nothing.name);
        rows.push(row(&Runs { name, ..nothing.clone() }, connections, None));
    }
    rows.push(vec![
        Cell::text("all of ours, above nothing"),
        None.into(),
        None.into(),
        None.into(),
        total.into(),
    ]);
    Table {
        name,
        title: format!(
            "Time of each program, {way}, {} connections of {} peers\n(by the kernel's statistics, whose own cost is in each run; both ends of each connection are on this host)",
            made.connections, PLAN.peers
        ),
        columns: vec!["PROGRAM", "RUNS/CONN", "NS/RUN", "ABOVE NOTHING", "NS/CONN"],
        rows,
        drawn: Vec::new(),
    }
}

fn row(program: &Runs, connections: f64, above: Option<f64>) -> Vec<Cell> {
    let per_connection = program.count as f64 / connections;
    vec![
        Cell::text(&program.name),
        per_connection.into(),
        program.ns_per_run().into(),
        above.into(),
        (per_connection * program.ns_per_run()).into(),
    ]
}

/// What a program is made of, each piece alone.
fn pieces() -> anyhow::Result<Table> {
    let host = Host::new("bench");
    load::prepare(&host);
    let mut yardsticks = Yardsticks::load()?;
    yardsticks.attach_pieces()?;
    let _timing = Timing::start()?;
    let before = programs(std::process::id())?;
    let made = load::saturate(&host, PLAN);
    let ran = between(&before, &programs(std::process::id())?);
    let ns = |name: &str| ran.iter().find(|program| program.name == name).map(Runs::ns_per_run);
    let row = |&(name, what, without): &(&str, &str, &str)| {
        let above = ns(name).zip(ns(without)).map(|(with, without)| with - without);
        vec![Cell::text(what), ns(name).into(), above.into()]
    };
    Ok(Table {
        name: "pieces",
        title: format!(
            "What programs are made of, each alone on the typed hook, {} connections\n(above a program that does the rest of it)",
            made.connections
        ),
        columns: vec!["PIECE", "NS/RUN", "ITS OWN"],
        rows: PIECES.iter().map(row).collect(),
        drawn: Vec::new(),
    })
}
