//! All ports at a glance: 256 rows of 256, so that a range is a block.

use std::fmt::Write as _;

use crate::model::port_map::{PortMap, PortState, Run};

/// Ports in a row, and rows.
const ROW: usize = 256;

/// The states that are drawn, and in which colour.
const DRAWN: [(PortState, &str); 4] = [
    (PortState::Free, "#a9c7e8"),
    (PortState::Live, "#499454"),
    (PortState::TimeWait, "#db701f"),
    (PortState::Refused, "#cd3746"),
];

/// Draws a map; one path for each state.
#[must_use]
pub fn ports(map: &PortMap) -> String {
    let mut svg = format!(
        "<svg viewBox=\"0 0 {ROW} {ROW}\" shape-rendering=\"crispEdges\" role=\"img\" xmlns=\"http://www.w3.org/2000/svg\">\
         <rect width=\"{ROW}\" height=\"{ROW}\" fill=\"#888888\" fill-opacity=\"0.12\"/>"
    );
    for (state, colour) in DRAWN {
        let mut path = String::new();
        for Run { low, high, .. } in map.runs(ROW).filter(|run| run.state == state) {
            let (row, column) = (usize::from(low) / ROW, usize::from(low) % ROW);
            // Writing to a string does not fail.
            let _ = write!(path, "M{column} {row}h{}v1h-{}z", high - low + 1, high - low + 1);
        }
        if !path.is_empty() {
            let _ = write!(svg, "<path class=\"{}\" fill=\"{colour}\" d=\"{path}\"/>", state.name());
        }
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::pool::Ranges;

    #[test]
    fn a_range_is_a_block_and_a_port_a_dot() {
        let mut map = PortMap::new(Some(&Ranges::whole(&[(2_048, 16_383)])));
        map.set(256 * 20 + 7, PortState::TimeWait);
        let svg = ports(&map);
        // Rows 8 to 63 are of the pool.
        assert!(
            svg.contains("M0 8h256v1h-256z") && svg.contains("M0 63h256v1h-256z") && !svg.contains("M0 64h")
        );
        assert!(svg.contains("class=\"time_wait\" fill=\"#db701f\" d=\"M7 20h1v1h-1z\""), "{svg}");
        assert!(!svg.contains("class=\"refused\""));
    }

    #[test]
    fn even_the_most_restless_map_stays_bounded() {
        let mut map = PortMap::default();
        for port in (0..u16::MAX).step_by(2) {
            map.set(port, PortState::TimeWait);
        }
        assert!(ports(&map).len() < 700_000);
    }
}
