//! Drawing what is known. Nothing but ASCII is drawn beside names, so that it looks the same on every terminal.

mod help;
mod peer;
mod peers;
mod ports;
mod style;
pub(super) mod words;

use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    text::{Line, Span},
};

use self::style::Styles;
use super::{
    figures::Figures,
    row::severity,
    state::{Mode, State},
};
use crate::{api::Alert, visible::visible};

/// What is wrong has so many lines at most.
const LONGEST_COMPLAINT: usize = 3;

impl State {
    /// Draws all of it.
    pub fn draw(&self, frame: &mut Frame<'_>) {
        let is_troubled = self.is_old() || self.trouble.is_some();
        let complaint = if is_troubled { self.complaint() } else { String::new() };
        let width = usize::from(frame.area().width);
        let mut complaint = words::lines(complaint.split_whitespace(), " ", width);
        complaint.truncate(LONGEST_COMPLAINT);
        let [title, trouble, body, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Length(u16::try_from(complaint.len()).unwrap_or_default()),
            Constraint::Fill(1),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(self.title(), title);
        for (line, area) in complaint.into_iter().zip(trouble.rows()) {
            frame.render_widget(Line::styled(line, Styles::warning()), area);
        }
        let foot_text = if self.mode == Mode::Helping {
            help::draw(frame, body);
            fitting(&["any key: back"], foot)
        } else if let Some(who) = &self.opened {
            peer::draw(self, who, frame, body);
            fitting(&["Esc back  ? help  q quit"], foot)
        } else {
            peers::draw(self, frame, body);
            peers::foot(self, foot)
        };
        frame.render_widget(foot_text, foot);
    }

    fn styles(&self) -> Styles {
        Styles { colours: self.colours }
    }

    fn title(&self) -> Line<'_> {
        let source = match &self.figures {
            Some(Figures::Census(census)) => format!("census of this host (by {})", census.source),
            _ => self.address.clone(),
        };
        Line::from(vec![Span::styled("tcpwarden top", Styles::title()), Span::raw("  "), Span::raw(source)])
    }

    /// Why the figures are not of now.
    fn complaint(&self) -> String {
        let why =
            self.trouble.as_deref().map_or_else(|| "the daemon has no newer figures".to_owned(), visible);
        match &self.figures {
            Some(_) => format!("OLD, {} s: {why}", self.age),
            None => format!("No figures: {why}"),
        }
    }
}

/// What an alert says.
fn alert_lines(alert: &Alert, styles: Styles, columns: usize) -> Vec<Line<'static>> {
    let text = visible(&format!("{}: {}: {}", alert.severity, alert.alert, alert.text));
    let style = styles.severity(severity(alert));
    words::lines(text.split(' '), " ", columns).into_iter().map(|line| Line::styled(line, style)).collect()
}

/// The first text that fits, or else the last one.
fn fitting<'a>(texts: &[&'a str], area: Rect) -> Line<'a> {
    let fits = texts.iter().find(|text| text.len() <= usize::from(area.width));
    Line::raw(fits.or(texts.last()).copied().unwrap_or_default())
}
