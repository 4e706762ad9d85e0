//! What was measured, as it is printed and kept.

use std::fmt;

use comfy_table::{CellAlignment, presets::NOTHING};
use serde::Serialize;

/// A measurement.
#[derive(Debug, Serialize)]
pub struct Table {
    /// Of its files.
    pub name: &'static str,
    /// What it is about, and how it was measured.
    pub title: String,
    /// What stands in each column; the first names the row.
    pub columns: Vec<&'static str>,
    /// Line by line.
    pub rows: Vec<Vec<Cell>>,
    /// Columns to be drawn over the first one, which holds numbers then.
    #[serde(skip)]
    pub drawn: Vec<usize>,
}

/// One place in a table.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// A name.
    Text(String),
    /// A number; null where nothing was measured.
    Number(Option<f64>),
}

impl Cell {
    /// A name.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<Option<f64>> for Cell {
    fn from(number: Option<f64>) -> Self {
        Self::Number(number)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Number(None) => f.write_str("–"),
            // Three places that say something.
            Self::Number(Some(number)) => match number.abs() {
                0.0 => f.write_str("0"),
                size if size >= 100.0 => write!(f, "{number:.0}"),
                size if size >= 10.0 => write!(f, "{number:.1}"),
                size if size >= 1.0 => write!(f, "{number:.2}"),
                _ => write!(f, "{number:.3}"),
            },
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = comfy_table::Table::new();
        table.load_style(NOTHING).set_header(&self.columns);
        for row in &self.rows {
            table.add_row(row.iter().map(|cell| {
                let alignment =
                    if matches!(cell, Cell::Text(_)) { CellAlignment::Left } else { CellAlignment::Right };
                comfy_table::Cell::new(cell.to_string()).set_alignment(alignment)
            }));
        }
        write!(f, "{}\n{}\n", self.title, table.trim_fmt())
    }
}

/// The middle of some values; they are reordered.
pub fn median(values: &mut [f64]) -> f64 {
    quantile(values, 0.5)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in a list")]
/// The value below which this share of all lies.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    let place = share * last as f64;
    let below = values.get(place.floor() as usize).copied().unwrap_or(f64::NAN);
    let above = values.get(place.ceil() as usize).copied().unwrap_or(f64::NAN);
    below + (above - below) * place.fract()
}
