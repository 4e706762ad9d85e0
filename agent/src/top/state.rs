//! What is on the screen: a plain value that hears figures and keys. It knows no terminal, no clock and nobody to ask.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    figures::{Detail, Figures, News, Who},
    row::{Column, Row},
};

/// So many rows further with one key.
const PAGE: isize = 10;

/// Figures that have not moved on for so many seconds are old.
const OLD: u64 = 5;

/// What a key asks for beyond the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Nothing.
    Nothing,
    /// This account is looked at from now on, or none.
    Look(Option<Who>),
    /// It is over.
    Quit,
}

/// What keys are taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Moving about.
    Browsing,
    /// Letters of the filter.
    Typing,
    /// The keys are explained, until the next one.
    Helping,
}

/// What is on the screen.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// Where the daemon should be.
    pub address: String,
    /// Whether there may be colours.
    pub colours: bool,
    /// How everything was last.
    pub figures: Option<Figures>,
    /// Why there is nothing newer.
    pub trouble: Option<String>,
    /// For so many seconds the figures have not moved on.
    pub age: u64,
    /// The rows that pass the filter, sorted.
    pub rows: Vec<Row>,
    /// The columns that there are.
    pub columns: Vec<Column>,
    /// The row that is selected, by its place.
    pub selected: usize,
    /// Only these are shown.
    pub filter: String,
    /// What keys are taken for.
    pub mode: Mode,
    /// The account that is looked at, instead of the table.
    pub opened: Option<Who>,
    /// What is known of it beyond its row.
    pub detail: Option<Detail>,
    /// Whether the order is turned round.
    pub is_reversed: bool,
    sort: Option<Column>,
    /// Whom the user selected: stays selected wherever the order moves it.
    followed: Option<Who>,
}

impl State {
    /// Nothing is known yet.
    pub fn new(address: &str, colours: bool) -> Self {
        Self {
            address: address.to_owned(),
            colours,
            figures: None,
            trouble: None,
            age: 0,
            rows: Vec::new(),
            columns: Vec::new(),
            selected: 0,
            filter: String::new(),
            mode: Mode::Browsing,
            opened: None,
            detail: None,
            is_reversed: false,
            sort: None,
            followed: None,
        }
    }

    /// Whether the figures are not of now.
    pub fn is_old(&self) -> bool {
        self.age >= OLD || (self.trouble.is_some() && self.figures.is_some())
    }

    /// What the rows are sorted by.
    pub fn sorted_by(&self) -> Option<Column> {
        let usual = self.figures.as_ref().map(Column::usual);
        self.sort.filter(|column| self.columns.contains(column)).or(usual)
    }

    /// Takes what was heard; returns whether the figures are newer than those before.
    pub fn hear(&mut self, news: News) -> bool {
        if let Some(detail) = news.detail {
            self.detail = Some(detail).filter(|detail| Some(&detail.who) == self.opened.as_ref());
        }
        match news.figures {
            Ok(figures) => {
                let moved_on = figures.moved_on(self.figures.as_ref());
                self.trouble = None;
                self.figures = Some(figures);
                self.arrange();
                moved_on
            }
            Err(why) => {
                self.trouble = Some(why);
                false
            }
        }
    }

    /// Sets for how many seconds the figures have not moved on; returns whether that shows.
    pub fn grow_old(&mut self, age: u64) -> bool {
        let shows = age != self.age && (age >= OLD || self.is_old());
        self.age = age;
        shows
    }

    /// Takes a key.
    pub fn key(&mut self, key: KeyEvent) -> Action {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return if key.code == KeyCode::Char('c') { Action::Quit } else { Action::Nothing };
        }
        match self.mode {
            Mode::Browsing => self.browse(key.code),
            Mode::Typing => {
                self.type_filter(key.code);
                Action::Nothing
            }
            Mode::Helping => {
                self.mode = Mode::Browsing;
                if key.code == KeyCode::Char('q') { Action::Quit } else { Action::Nothing }
            }
        }
    }

    fn browse(&mut self, code: KeyCode) -> Action {
        match code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('?') => self.mode = Mode::Helping,
            KeyCode::Esc if self.opened.is_some() => {
                self.opened = None;
                self.detail = None;
                return Action::Look(None);
            }
            _ if self.opened.is_some() => {}
            KeyCode::Esc => {
                self.filter.clear();
                self.arrange();
            }
            KeyCode::Enter => {
                if let Some(row) = self.rows.get(self.selected) {
                    self.followed = Some(row.who.clone());
                    self.opened.clone_from(&self.followed);
                    return Action::Look(self.opened.clone());
                }
            }
            KeyCode::Char('/') => self.mode = Mode::Typing,
            KeyCode::Char('s' | '>') => self.sort_by_next(1),
            KeyCode::Char('<') => self.sort_by_next(-1),
            KeyCode::Char('r') => {
                self.is_reversed = !self.is_reversed;
                self.arrange();
            }
            KeyCode::Down | KeyCode::Char('j') => self.select(1),
            KeyCode::Up | KeyCode::Char('k') => self.select(-1),
            KeyCode::PageDown => self.select(PAGE),
            KeyCode::PageUp => self.select(-PAGE),
            KeyCode::Home => self.select(isize::MIN),
            KeyCode::End => self.select(isize::MAX),
            _ => {}
        }
        Action::Nothing
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.mode = Mode::Browsing,
            KeyCode::Esc => {
                self.mode = Mode::Browsing;
                self.filter.clear();
            }
            KeyCode::Backspace => {
                self.filter.pop();
            }
            KeyCode::Char(letter) => self.filter.push(letter),
            _ => return,
        }
        self.arrange();
    }

    /// Sorts by the column so many places to the right.
    fn sort_by_next(&mut self, step: isize) {
        let Some(now) = self.sorted_by() else { return };
        let place = self.columns.iter().position(|&column| column == now).unwrap_or_default();
        let next = place.checked_add_signed(step).unwrap_or(self.columns.len() - 1);
        self.sort = self.columns.get(next).or(self.columns.first()).copied();
        self.arrange();
    }

    /// Selects the row so many places further down.
    fn select(&mut self, step: isize) {
        self.selected = self.selected.saturating_add_signed(step).min(self.rows.len().saturating_sub(1));
        self.followed = self.rows.get(self.selected).map(|row| row.who.clone());
    }

    /// Puts the rows in order, and finds the selected one again.
    fn arrange(&mut self) {
        let Some(figures) = &self.figures else { return };
        let mut rows = Row::all(figures);
        self.columns = Column::all(figures, &rows);
        rows.retain(|row| row.matches(&self.filter));
        if let Some(column) = self.sorted_by() {
            rows.sort_by(|one, other| {
                let order = column.order(one, other);
                if self.is_reversed { order.reverse() } else { order }
            });
        }
        let place = |who: &Who| rows.iter().position(|row| row.who == *who);
        let found = self.followed.as_ref().and_then(place).unwrap_or(self.selected);
        self.selected = found.min(rows.len().saturating_sub(1));
        self.rows = rows;
    }
}
