//! All ports at a glance: 256 rows of 256, so that a range is a block.

use std::fmt::Write as _;

use crate::model::port_map::{PortMap, PortState, Run};

/// Ports in a row, and rows.
const ROW: usize = 256;

/// Ports between two of those that are written beside the map.
const STEP: u16 = 8_192;

/// What is written beside it keeps as many rows apart.
const APART: u16 = 12;

/// The states that are drawn, and in which colour.
const DRAWN: [(PortState, &str); 5] = [
    (PortState::Elsewhere, "#6f7396"),
    (PortState::Free, "#9dc3ec"),
    (PortState::Live, "#2f8f4e"),
    (PortState::TimeWait, "#e07b1a"),
    (PortState::Refused, "#9c0f3c"),
];

/// Draws a map, one path for each state. The ports of `marks` are written beside it in bold, and others where there is room.
#[must_use]
pub fn ports(map: &PortMap, marks: &[u16]) -> String {
    let mut svg = format!(
        "<svg viewBox=\"-40 -6 300 268\" shape-rendering=\"crispEdges\" role=\"img\" font-family=\"sans-serif\" font-size=\"9.5\" \
         text-anchor=\"end\" fill=\"#777777\" xmlns=\"http://www.w3.org/2000/svg\">\
         <title>All ports by state</title>\
         <rect width=\"{ROW}\" height=\"{ROW}\" fill=\"#888888\" fill-opacity=\"0.15\"/>"
    );
    let mut labels: Vec<(u16, &str)> = Vec::new();
    let others = (0..=u16::MAX / STEP).map(|number| number * STEP).chain([u16::MAX]);
    for (port, weight) in marks.iter().map(|&port| (port, "bold")).chain(others.map(|port| (port, "normal")))
    {
        let row = |port: u16| port / 256;
        if labels.iter().all(|&(other, _)| row(other).abs_diff(row(port)) >= APART) {
            labels.push((port, weight));
        }
    }
    for (port, weight) in labels {
        let middle = f64::from(port / 256) + 4.0;
        // Writing to a string does not fail.
        let _ = write!(svg, "<text x=\"-4\" y=\"{middle}\" font-weight=\"{weight}\">{port}</text>");
    }
    for (state, colour) in DRAWN {
        let mut path = String::new();
        for Run { low, high, .. } in map.runs(ROW).filter(|run| run.state == state) {
            let (row, column) = (usize::from(low) / ROW, usize::from(low) % ROW);
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
        let mut map = PortMap::new(Some(&Ranges::whole(&[(2_048, 16_383)])), None);
        map.set(256 * 20 + 7, PortState::TimeWait);
        let svg = ports(&map, &[2_048, 16_383]);
        // Rows 8 to 63 are of the pool.
        assert!(
            svg.contains("M0 8h256v1h-256z") && svg.contains("M0 63h256v1h-256z") && !svg.contains("M0 64h")
        );
        assert!(svg.contains("class=\"time_wait\" fill=\"#e07b1a\" d=\"M7 20h1v1h-1z\""), "{svg}");
        assert!(!svg.contains("class=\"refused\""));
        let beside: Vec<&str> =
            svg.split("\">").filter_map(|text| text.split_once("</text>")).map(|(port, _)| port).collect();
        assert_eq!(beside, ["2048", "16383", "8192", "24576", "32768", "40960", "49152", "57344", "65535"]);
    }

    #[test]
    fn even_the_most_restless_map_stays_bounded() {
        let mut map = PortMap::default();
        for port in (0..u16::MAX).step_by(2) {
            map.set(port, PortState::TimeWait);
        }
        assert!(ports(&map, &[2_048, 16_383]).len() < 700_000);
    }
}
