//! How things are set apart. No colour says anything that a word does not say, too.

use ratatui::style::{Color, Style};

use crate::{config::Severity, model::port_map::PortState};

/// Which styles there are on this terminal.
#[derive(Clone, Copy)]
pub(super) struct Styles {
    /// Whether there may be colours.
    pub colours: bool,
}

impl Styles {
    fn coloured(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    /// A title.
    pub fn title() -> Style {
        Style::new().bold()
    }

    /// What must not be overlooked.
    pub fn warning() -> Style {
        Style::new().reversed()
    }

    /// By the worst alert.
    pub fn severity(self, severity: Option<Severity>) -> Style {
        match severity {
            Some(Severity::Critical) => self.coloured(Color::Red).bold(),
            Some(Severity::Warning) => self.coloured(Color::Yellow),
            None => Style::new(),
        }
    }

    /// A cell of the map.
    pub fn port(self, state: PortState) -> Style {
        match state {
            PortState::Outside | PortState::Elsewhere => Style::new(),
            PortState::Free => self.coloured(Color::Blue),
            PortState::Live => self.coloured(Color::Green),
            PortState::TimeWait => self.coloured(Color::Yellow),
            PortState::Refused => self.coloured(Color::Red).reversed(),
        }
    }
}
