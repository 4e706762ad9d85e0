//! `tcpwarden check`: is the configuration right, what can this kernel do, what will be degraded.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Context as _;
use probe_ebpf::port::LISTENING;
use tcpwarden::{
    census::{self, Source},
    config::{Overlap, Settings},
    daemon::Overrides,
    host, notify,
    probe::{HookReport, Kept, Probe, Wishes, capability::Capability},
};

/// Loads and attaches everything as `run` would, says what became of it, and lets go of it again. Exit code 1 when
/// something is degraded or cannot work.
pub(super) fn execute(overrides: &Overrides) -> anyhow::Result<ExitCode> {
    let settings = overrides.settings()?;
    let protection = overrides.protection()?;
    let mut out = io::stdout().lock();
    match &overrides.config_file {
        Some(path) => writeln!(out, "config    {}: right", path.display())?,
        None => writeln!(out, "config    none given: built-in defaults")?,
    }
    for Overlap { inner, outer } in settings.overlaps() {
        let ((inner, winner), (outer, loser)) = (inner, outer);
        writeln!(
            out,
            "          {inner} of \"{winner}\" lies in {outer} of \"{loser}\": the most specific one wins"
        )?;
    }
    let reached = receivers(&mut out, &settings)?;
    if let Some(path) = &overrides.web_config_file {
        writeln!(out, "web       {}: right ({protection})", path.display())?;
    }
    let capability = Capability::detect().context("cannot tell what this kernel can do (/proc)")?;
    describe(&mut out, &capability)?;
    let Available { whole, challenged } = probes(&mut out, &capability, &settings)?;
    let whole = whole && reached;
    let verdict = match (whole, challenged) {
        (true, true) => "all figures are available",
        (true, false) => "all figures are available that this kernel has; see above",
        (false, _) => "degraded: see above",
    };
    writeln!(out, "{verdict}")?;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the attached hooks tell.
struct Available {
    /// Nothing is missing that this kernel could tell.
    whole: bool,
    /// It tells whose SYNs meet open connections, which no setting brings about.
    challenged: bool,
}

/// Connects to every receiver, sending nothing; returns whether all were reached.
fn receivers(out: &mut impl io::Write, settings: &Settings) -> io::Result<bool> {
    let mut all = true;
    for receiver in &settings.receivers {
        let name = &receiver.name;
        match notify::reach(receiver) {
            Ok(()) => writeln!(out, "receiver  {name}: can be reached")?,
            Err(error) => {
                all = false;
                writeln!(out, "receiver  {name}: cannot be reached now, alerts will wait: {error}")?;
            }
        }
    }
    Ok(all)
}

fn describe(out: &mut impl io::Write, capability: &Capability) -> io::Result<()> {
    let btf = if capability.btf { "BTF" } else { "no BTF" };
    let lockdown = capability.lockdown.as_deref().unwrap_or("unknown");
    let tracefs =
        capability.tracefs.as_ref().map_or("not mounted".to_owned(), |path| path.display().to_string());
    writeln!(out, "kernel    {}, {btf}, lockdown {lockdown}, tracefs {tracefs}", capability.release)?;
    if capability.missing_rights.is_empty() {
        writeln!(out, "rights    enough for eBPF")
    } else {
        writeln!(out, "rights    missing {}", capability.missing_rights.join(" and "))
    }
}

fn probes(
    out: &mut impl io::Write,
    capability: &Capability,
    settings: &Settings,
) -> anyhow::Result<Available> {
    let Settings { limits, syn_watch, aborted, .. } = settings;
    let wishes = Wishes { limits, syn_watch: *syn_watch, aborted: *aborted };
    let mut probe = Probe::load(capability, wishes)?;
    let (source, why) = Source::choose(settings.census, &mut probe)?;
    let owners = probe.load_owners();
    probe.mark_ports(census::listening_ports()?, LISTENING)?;
    let attached = probe.attach(settings.hooks);
    writeln!(out, "\n{:<22} {:<12} TELLS", "HOOK", "MODE")?;
    for report in probe.hooks() {
        hook(out, report)?;
    }
    attached?;
    let kept = probe.drop_rights().context("cannot give up our rights")?;
    let census =
        source.take(&mut probe, host::ephemeral_ports(), settings.stalled_after, settings.limits.peers)?;
    writeln!(
        out,
        "{:<22} {:<12} sockets by peer and state ({} now)",
        "census",
        source.name(),
        census.sockets()
    )?;
    if let Some(why) = &why {
        writeln!(out, "{:<22} iter: {why}", "")?;
    }
    let mode = if owners.is_ok() { Source::Iter.name() } else { "unavailable" };
    writeln!(out, "{:<22} {mode:<12} which process keeps sockets in CLOSE_WAIT", "owners")?;
    if let Err(why) = &owners {
        writeln!(out, "{:<22} iter: {why}", "")?;
    }
    let challenged = probe.knows_challenged();
    let mode = if challenged { "btf" } else { "unavailable" };
    writeln!(out, "{:<22} {mode:<12} SYNs that meet a connection still open here", "challenged")?;
    if !challenged {
        writeln!(
            out,
            "{:<22} kfree_skb must be attached and name the socket of a dropped segment (6.11 on); \
             tcpwarden_syn_challenges_total has the host's count",
            ""
        )?;
    }
    writeln!(out)?;
    let rights = match kept {
        Kept::Nothing => "no right",
        Kept::ReadingMaps => "CAP_BPF: this kernel wants it for reading maps",
    };
    writeln!(out, "once attached, it keeps {rights}")?;
    let whole = why.is_none() && probe.hooks().iter().all(HookReport::is_whole);
    Ok(Available { whole, challenged })
}

fn hook(out: &mut impl io::Write, report: &HookReport) -> io::Result<()> {
    writeln!(out, "{:<22} {:<12} {}", report.hook.name, report.mode(), report.hook.tells)?;
    for (mode, reason) in &report.refused {
        writeln!(out, "{:<22} {}: {reason}", "", mode.name())?;
    }
    Ok(())
}
