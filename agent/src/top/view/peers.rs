//! The table of peers, below what is to say of the whole host.

use std::cmp::Reverse;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Style, Stylize as _},
    text::Line,
    widgets::{Cell, Row as TableRow, Table},
};

use super::{Styles, alert_lines, fitting, words::shortened};
use crate::{
    api::{Alert, Overview},
    top::{
        figures::Figures,
        row::{Column, Row, severity},
        state::{Mode, State},
    },
    visible::visible,
};

/// Draws it.
pub(super) fn draw(state: &State, frame: &mut Frame<'_>, area: Rect) {
    let Some(figures) = &state.figures else { return };
    let mut head = about_host(figures, state, usize::from(area.width));
    // The table has the larger part, also where there are many alerts.
    head.truncate(usize::from(area.height / 3).max(1));
    let height = u16::try_from(head.len()).unwrap_or(area.height);
    let [top, table] = Layout::vertical([Constraint::Length(height), Constraint::Fill(1)]).areas(area);
    for (line, area) in head.into_iter().zip(top.rows()) {
        frame.render_widget(line, area);
    }
    draw_table(state, frame, table);
}

fn about_host(figures: &Figures, state: &State, columns: usize) -> Vec<Line<'static>> {
    match figures {
        Figures::Daemon { overview, alerts, .. } => {
            let host = Line::raw(host(overview, alerts.len()));
            [host].into_iter().chain(told(alerts, state.styles(), columns)).collect()
        }
        Figures::Census(census) => vec![
            Line::raw(format!(
                "{} sockets: {} listening, the rest with {} peers",
                census.sockets,
                census.listen,
                census.peers.len()
            )),
            Line::raw("No daemon: rates, pools and alerts need one (tcpwarden run)"),
        ],
    }
}

fn host(overview: &Overview, alerts: usize) -> String {
    let host = &overview.host;
    let in_state = |state: &str| host.sockets.get(state).copied().unwrap_or_default();
    let limit = host.time_wait_buckets_limit.map(|limit| format!(" of {limit}")).unwrap_or_default();
    format!(
        "alerts {alerts}  TIME_WAIT {}{limit}  ESTAB {}  accept queues full {} times",
        host.time_wait_buckets,
        in_state("established"),
        host.listen_overflows
    )
}

/// The worst alert first, those of the host among them.
fn told(alerts: &[Alert], styles: Styles, columns: usize) -> impl Iterator<Item = Line<'static>> {
    let mut alerts: Vec<&Alert> = alerts.iter().collect();
    alerts.sort_by_key(|alert| (Reverse(severity(alert)), alert.since));
    alerts.into_iter().flat_map(move |alert| alert_lines(alert, styles, columns))
}

fn draw_table(state: &State, frame: &mut Frame<'_>, area: Rect) {
    // Whole pages, so that rows stand still while the selection moves.
    let page = usize::from(area.height.saturating_sub(1)).max(1);
    let begin = state.selected / page * page;
    let rows: Vec<&Row> = state.rows.iter().skip(begin).take(page).collect();
    let (columns, widths) = fit(state, &rows, usize::from(area.width));
    let aligned = |column: Column, text: String, width: u16| {
        let line = Line::raw(shortened(&text, usize::from(width)));
        Cell::new(if column.is_text() { line } else { line.right_aligned() })
    };
    let shown = || columns.iter().zip(&widths);
    let header = shown().map(|(&column, &width)| {
        let cell = aligned(column, column.title(), width);
        if Some(column) == state.sorted_by() { cell.underlined() } else { cell }
    });
    let marked = |place: usize, row: &Row| {
        let is_selected = begin + place == state.selected;
        let cells = shown().map(|(&column, &width)| aligned(column, column.cell(row), width));
        let mark = if is_selected { ">" } else { "" };
        let style = state.styles().severity(row.severity);
        TableRow::new([Cell::new(mark)].into_iter().chain(cells)).style(if is_selected {
            style.reversed()
        } else {
            style
        })
    };
    let body: Vec<TableRow<'_>> = rows.iter().enumerate().map(|(place, row)| marked(place, row)).collect();
    let constraints = [1].into_iter().chain(widths.iter().copied()).map(Constraint::Length);
    let table = Table::new(body, constraints)
        .column_spacing(1)
        .header(TableRow::new([Cell::new("")].into_iter().chain(header)).style(Style::new().bold()));
    frame.render_widget(table, area);
}

/// The columns that there is room for, and how wide each is. What the rows are sorted by is always there.
fn fit(state: &State, rows: &[&Row], width: usize) -> (Vec<Column>, Vec<u16>) {
    let needed = |column: Column| {
        let cells = rows.iter().map(|row| Line::raw(column.cell(row)).width());
        cells.chain([column.title().len()]).max().unwrap_or_default()
    };
    let mut by_rank = state.columns.clone();
    by_rank.sort_by_key(|&column| (column != Column::Peer, Some(column) != state.sorted_by(), column.rank()));
    // The mark of the selected row and the space behind it.
    let mut left = width.saturating_sub(2);
    let mut chosen = Vec::new();
    for column in by_rank {
        let wanted = needed(column);
        // A name may be as long as it likes, but not take more than half.
        let wanted = if column == Column::Peer { wanted.min((width / 2).max(15)) } else { wanted };
        if wanted > left {
            break;
        }
        left = left.saturating_sub(wanted + 1);
        chosen.push((column, u16::try_from(wanted).unwrap_or(u16::MAX)));
    }
    let in_order =
        state.columns.iter().filter_map(|&column| chosen.iter().find(|(other, _)| *other == column));
    in_order.copied().unzip()
}

/// What the keys do now.
pub(super) fn foot(state: &State, area: Rect) -> Line<'static> {
    let count = format!("({} of them)", state.rows.len());
    if state.mode == Mode::Typing {
        return Line::raw(format!("filter: {}_ {count}", visible(&state.filter)));
    }
    let sorted = state.sorted_by().map(Column::title).unwrap_or_default();
    let turned = if state.is_reversed { ", reversed" } else { "" };
    let filter = if state.filter.is_empty() {
        String::new()
    } else {
        format!("filter: {} {count}  ", visible(&state.filter))
    };
    let long =
        format!("{filter}Enter open  / filter  s sort (by {sorted}{turned})  r reverse  ? help  q quit");
    let short = format!("{filter}by {sorted}{turned}  ? help  q quit");
    Line::raw(fitting(&[&long, &short], area).to_string())
}
