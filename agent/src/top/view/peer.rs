//! One peer: its figures, all its ports, and its last seconds.

use std::collections::BTreeMap;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    symbols::bar::Set,
    text::{Line, Text},
    widgets::Sparkline,
};

use super::{
    Styles, alert_lines, ports,
    words::{self, roughly},
};
use crate::{
    api::{Account, ChallengedSyns, Pool, Ports, Second},
    config::AlertName,
    top::{
        figures::{Figures, Who},
        state::State,
    },
    visible::visible,
};

/// The name of a chart and its numbers take so many columns.
const LABEL: u16 = 24;

/// A chart has so many rows at least, and at most.
const CHART: (u16, u16) = (2, 5);

/// From so many rows on, there are charts below the map.
const ROOMY: u16 = 14;

/// A bar of part of a row.
const BARS: Set<'_> = Set {
    full: "#",
    seven_eighths: "#",
    three_quarters: "|",
    five_eighths: "|",
    half: ":",
    three_eighths: ":",
    one_quarter: ".",
    one_eighth: ".",
    empty: " ",
};

/// A name, and which figure of a second.
type Chart = (&'static str, fn(&Second) -> u32);

/// The charts, the first ones where there is no room for all.
const CHARTS: [Chart; 4] = [
    ("TIME_WAIT", |second| second.time_wait),
    ("connections", |second| second.connections),
    ("refused or failed", |second| second.refused + second.failed),
    ("SYNs repeated", |second| second.syn_retries),
];

/// Draws it.
pub(super) fn draw(state: &State, who: &Who, frame: &mut Frame<'_>, area: Rect) {
    let styles = state.styles();
    let mut text = about(state, who, usize::from(area.width));
    text.truncate(usize::from(area.height * 2 / 5).max(3));
    let [top, rest] = Layout::vertical([Constraint::Length(height(&text)), Constraint::Fill(1)]).areas(area);
    frame.render_widget(Text::from(text), top);
    let Some(detail) = &state.detail else { return };
    let below = match &detail.ports {
        Ok(ports) => draw_ports(ports, styles, frame, rest),
        Err(why) => draw_complaint(&format!("no ports: {why}"), frame, rest),
    };
    match &detail.seconds {
        Ok(seconds) => draw_charts(seconds, frame, below),
        Err(why) => {
            draw_complaint(&format!("no past: {why}"), frame, below);
        }
    }
}

fn height(lines: &[Line<'_>]) -> u16 {
    u16::try_from(lines.len()).unwrap_or(u16::MAX)
}

/// Its name, alerts and figures.
fn about<'a>(state: &State, who: &Who, columns: usize) -> Vec<Line<'a>> {
    let port = who.port_name().map(|port| format!("port {port}"));
    let name = [Some(visible(&who.peer)), Some(visible(&who.direction)), port];
    let mut lines =
        vec![Line::styled(name.into_iter().flatten().collect::<Vec<_>>().join(" "), Styles::title())];
    let (account, phrases, alerts) = match &state.figures {
        Some(Figures::Daemon { accounts, alerts, .. }) => {
            let account = accounts.iter().find(|account| Who::of(account) == *who);
            let alerts: Vec<_> = alerts.iter().filter(|alert| who.is_meant(alert)).collect();
            (account, account.map(phrases), alerts)
        }
        Some(Figures::Census(_)) => (None, of_census(state, who), Vec::new()),
        None => (None, None, Vec::new()),
    };
    // The alerts say the same.
    let is_raised = |name: AlertName| alerts.iter().any(|alert| alert.alert == name.name());
    let is_turn_told = is_raised(AlertName::TimeWaitNearPoolLimit);
    let is_outgrown_told = is_raised(AlertName::PortReuseRefused);
    for alert in alerts {
        lines.extend(alert_lines(alert, state.styles(), columns));
    }
    let pool = account.and_then(|account| account.pool.as_ref());
    let turn = pool.and_then(|pool| pool.turn.as_ref()).filter(|_| !is_turn_told);
    let outgrown = pool.and_then(|pool| pool.outgrown.as_ref()).filter(|_| !is_outgrown_told);
    let sentences =
        [turn.map(|turn| format!("It {}", turn.text)), outgrown.map(|outgrown| outgrown.text.clone())];
    for sentence in sentences.into_iter().flatten() {
        let text = visible(&sentence);
        lines.extend(words::lines(text.split(' '), " ", columns).into_iter().map(Line::raw));
    }
    let phrases = phrases.unwrap_or_else(|| vec!["it has no figures of its own any more".to_owned()]);
    let phrases = phrases.iter().map(|phrase| visible(phrase));
    lines.extend(words::lines(phrases, "  ", columns).into_iter().map(Line::raw));
    lines
}

/// All that an account tells, the most important first.
fn phrases(account: &Account) -> Vec<String> {
    let mut phrases = account.pool.as_ref().map(of_pool).unwrap_or_default();
    phrases.push(format!("{:.1} connections/s", account.connections_per_second));
    phrases.extend(in_states(account.sockets.iter()));
    phrases.push(match account.time_wait_syns {
        Some(syns) => format!("SYNs into TIME_WAIT: {} accepted, {} refused", syns.accepted, syns.refused),
        None => "SYNs into TIME_WAIT: cannot be seen".to_owned(),
    });
    if let Some(refused) =
        account.challenged_syns.as_ref().map(ChallengedSyns::refused).filter(|&refused| refused > 0)
    {
        phrases.push(format!("SYNs on open connections: {refused} refused"));
    }
    phrases.push(format!("SYNs repeated {}", account.syn_retries));
    phrases.push(format!("connections {}", account.connections));
    let listed = |counts: &BTreeMap<String, u64>| {
        counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    };
    phrases.push(format!("ended by {}", listed(&account.closes)));
    if account.connect_failures.values().any(|&failures| failures > 0) {
        phrases.push(format!("failed: {}", listed(&account.connect_failures)));
    }
    if let Some(stalled) = account.stalled.filter(|stalled| *stalled > 0) {
        phrases.push(format!("{stalled} wait for an answer"));
    }
    if !account.processes.is_empty() {
        phrases.push(format!("called by {}", account.processes.join(", ")));
    }
    phrases
}

fn of_pool(pool: &Pool) -> Vec<String> {
    let Some((size, source)) = pool.size.zip(pool.source.as_deref()) else {
        return vec!["its pool of ports is not known yet".to_owned()];
    };
    let ranges = pool.ranges.iter().take(2).map(|range| format!("{}-{}", range.low, range.high));
    let mut ranges: Vec<String> = ranges.collect();
    if pool.ranges.len() > ranges.len() {
        ranges.push("more".to_owned());
    }
    let ranges = if ranges.is_empty() { String::new() } else { format!("{}, ", ranges.join(" ")) };
    let mut phrases = vec![format!("pool {ranges}{size} ports, {source}")];
    phrases.extend(
        pool.local_address
            .filter(|_| pool.local_addresses > 1)
            .map(|local| format!("towards {local}, the fullest of {} of ours", pool.local_addresses)),
    );
    phrases.extend(pool.used_ratio.map(|used| format!("{:.1}% used", used * 100.0)));
    phrases.push(match (pool.seconds_left, pool.follows_returns()) {
        (Some(left), true) => format!("the first SYN meets a TIME_WAIT in {}", roughly(left)),
        (None, true) if pool.is_withdrawn() => "when a SYN meets a TIME_WAIT is not known".to_owned(),
        (None, true) => "no SYN meets a TIME_WAIT at this rate".to_owned(),
        (Some(left), false) => format!("runs out in {}", roughly(left)),
        (None, false) => "does not run out at this rate".to_owned(),
    });
    phrases
}

fn in_states<'a>(sockets: impl Iterator<Item = (&'a String, &'a u32)>) -> Vec<String> {
    sockets.filter(|(_, count)| **count > 0).map(|(state, count)| format!("{state} {count}")).collect()
}

fn of_census(state: &State, who: &Who) -> Option<Vec<String>> {
    let row = state.rows.iter().find(|row| row.who == *who)?;
    let mut phrases = in_states(row.sockets.iter());
    phrases.push("The daemon knows more: its ports, rates and past.".to_owned());
    Some(phrases)
}

/// Returns what is left below.
fn draw_ports(map: &Ports, styles: Styles, frame: &mut Frame<'_>, area: Rect) -> Rect {
    // The charts need room, too, where they have any.
    let room = if area.height < ROOMY { area.height } else { area.height * 2 / 3 };
    let Some(shape) = ports::Shape::within(area.width, room) else { return area };
    let [top, below] =
        Layout::vertical([Constraint::Length(shape.height()), Constraint::Fill(1)]).areas(area);
    ports::draw(map, shape, styles, frame, top);
    below
}

/// Returns what is left below.
fn draw_complaint(text: &str, frame: &mut Frame<'_>, area: Rect) -> Rect {
    let lines = words::lines(text.split(' '), " ", usize::from(area.width));
    let lines: Vec<Line<'_>> = lines.into_iter().map(Line::raw).collect();
    let [top, below] =
        Layout::vertical([Constraint::Length(height(&lines)), Constraint::Fill(1)]).areas(area);
    frame.render_widget(Text::from(lines), top);
    below
}

/// A column is a second; the last one is on the right.
fn draw_charts(seconds: &[Second], frame: &mut Frame<'_>, area: Rect) {
    let Some(now) = seconds.last().map(|second| second.time) else { return };
    let (fewest, most) = CHART;
    let count = (area.height / fewest).min(4);
    if count == 0 || area.width < LABEL * 2 {
        return;
    }
    let rows = (area.height / count).min(most);
    let columns = area.width - LABEL;
    let shown: Vec<Option<&Second>> = (0..u64::from(columns))
        .rev()
        .map(|ago| now.checked_sub(ago).and_then(|time| seconds.iter().find(|second| second.time == time)))
        .collect();
    let areas = Layout::vertical(vec![Constraint::Length(rows); usize::from(count)]).split(area);
    for ((name, figure), area) in CHARTS.into_iter().zip(areas.iter()) {
        let values: Vec<Option<u64>> =
            shown.iter().map(|second| second.map(|second| u64::from(figure(second)))).collect();
        let most = values.iter().flatten().max().copied().unwrap_or_default();
        let value = values.last().copied().flatten().unwrap_or_default();
        let [label, chart] =
            Layout::horizontal([Constraint::Length(LABEL), Constraint::Fill(1)]).areas(*area);
        frame.render_widget(Text::raw(format!("{name}\nnow {value}, most {most}")), label);
        frame.render_widget(Sparkline::default().data(values).bar_set(BARS), chart);
    }
}
