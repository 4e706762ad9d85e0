//! All 65,536 ports in the room there is: each cell stands for as many as it must, and shows the worst state among them.

use ratatui::{
    Frame,
    layout::Rect,
    text::{Line, Span},
};

use super::{Styles, words};
use crate::{
    api::Ports,
    model::port_map::PortState::{self, Elsewhere, Free, Live, Outside, Refused, TimeWait},
    visible::visible,
};

/// Number of ports.
const PORTS: usize = 65_536;

/// The first port of a row stands before it.
const LABEL: usize = 6;

/// Fewer cells in a row tell nothing.
const LEAST: usize = 16;

/// How the map is laid out; both are powers of two, so that each cell stands for the same number of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// Cells in a row.
    columns: usize,
    /// Rows.
    rows: usize,
}

impl Shape {
    /// The largest that has room, with a line above and one or more below it.
    pub fn within(width: u16, height: u16) -> Option<Self> {
        let columns = power_of_two(usize::from(width).checked_sub(LABEL)?)?.min(256);
        let rows = power_of_two(usize::from(height).checked_sub(2)?)?.min(PORTS / columns);
        (columns >= LEAST).then_some(Self { columns, rows })
    }

    /// With the lines above and below.
    pub fn height(self) -> u16 {
        u16::try_from(self.rows + 2).unwrap_or(u16::MAX)
    }

    fn ports_per_cell(self) -> usize {
        PORTS / self.columns / self.rows
    }
}

/// The largest that is not above.
fn power_of_two(limit: usize) -> Option<usize> {
    limit.checked_ilog2().map(|exponent| 1 << exponent)
}

/// How a state is written: the worse, the darker.
fn letter(state: PortState) -> &'static str {
    match state {
        Outside => " ",
        Elsewhere => "-",
        Free => ".",
        Live => "o",
        TimeWait => "#",
        Refused => "R",
    }
}

/// The worst state of each cell.
fn cells(ports: &Ports, shape: Shape) -> Vec<PortState> {
    let mut cells = vec![Outside; shape.columns * shape.rows];
    for run in &ports.runs {
        let Some(state) = PortState::ALL.into_iter().find(|state| state.name() == run.state) else {
            continue;
        };
        let [first, last] = [run.low, run.high].map(|port| usize::from(port) / shape.ports_per_cell());
        for cell in cells.iter_mut().take(last + 1).skip(first) {
            *cell = state.max(*cell);
        }
    }
    cells
}

/// Draws it.
pub(super) fn draw(ports: &Ports, shape: Shape, styles: Styles, frame: &mut Frame<'_>, area: Rect) {
    let per_cell = match shape.ports_per_cell() {
        1 => "one port".to_owned(),
        ports => format!("{ports} ports, its worst shown"),
    };
    let caption = format!("All ports of {}; a cell is {per_cell}", visible(&ports.address));
    let cells = cells(ports, shape);
    let rows = cells.chunks(shape.columns).enumerate().map(|(place, row)| {
        let label = format!("{:>5} ", place * shape.columns * shape.ports_per_cell());
        let spans = row.iter().map(|&state| Span::styled(letter(state), styles.port(state)));
        [Span::raw(label)].into_iter().chain(spans).collect::<Line<'_>>()
    });
    let lines = [Line::raw(caption)].into_iter().chain(rows).chain([legend(ports, area.width)]);
    for (line, area) in lines.zip(area.rows()) {
        frame.render_widget(line, area);
    }
}

/// What the letters mean, and how many ports are in each state; in a narrow terminal, the worst.
fn legend(ports: &Ports, width: u16) -> Line<'static> {
    let count = |state: PortState| ports.counts.get(state.name()).copied().unwrap_or_default();
    let named = |state: PortState| format!("{} {} {}", letter(state), state.name(), count(state));
    let states = [Refused, TimeWait, Live, Free, Elsewhere];
    let shown = states.into_iter().filter(|&state| state != Elsewhere || count(state) > 0);
    let lines = words::lines(shown.map(named), "  ", usize::from(width));
    Line::raw(lines.into_iter().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PortRun;

    #[test]
    fn a_map_fills_the_room_there_is() {
        let shape = |width, height| {
            Shape::within(width, height).map(|shape| (shape.columns, shape.rows, shape.ports_per_cell()))
        };
        assert_eq!(shape(80, 10), Some((64, 8, 128)));
        assert_eq!(shape(40, 6), Some((32, 4, 512)));
        assert_eq!(shape(200, 34), Some((128, 32, 16)));
        assert_eq!(shape(300, 400), Some((256, 256, 1)));
        assert_eq!((shape(21, 10), shape(80, 2)), (None, None));
    }

    #[test]
    fn a_cell_shows_the_worst_of_its_ports() {
        let run = |low, high, state: &str| PortRun { low, high, state: state.to_owned() };
        let ports = Ports {
            address: String::new(),
            counts: [].into(),
            runs: vec![
                run(2_048, 2_200, "free"),
                run(2_201, 2_201, "refused"),
                run(2_202, 16_383, "free"),
                run(65_535, 65_535, "live"),
            ],
        };
        let cells = cells(&ports, Shape { columns: 64, rows: 8 });
        let expected = |cell| match cell {
            17 => Refused,
            16..=127 => Free,
            511 => Live,
            _ => Outside,
        };
        assert_eq!(cells, (0..512).map(expected).collect::<Vec<_>>());
    }
}
