//! Figures over time.

use std::time::{Duration, UNIX_EPOCH};

use plotters::{
    backend::SVGBackend,
    chart::{ChartBuilder, SeriesLabelPosition},
    drawing::{DrawingAreaErrorKind, IntoDrawingArea as _},
    element::PathElement,
    series::LineSeries,
    style::{Color as _, IntoFont as _, RGBColor, TextStyle},
};

use crate::model::past::Span;

/// Size of a picture, in the units of its own coordinates.
const SIZE: (u32, u32) = (520, 200);

/// As many points are drawn of a line; of those next to each other the highest stands for all.
const POINTS: u64 = 600;

/// Text and axes.
pub const INK: RGBColor = RGBColor(119, 119, 119);
/// The grid.
const GRID: RGBColor = RGBColor(160, 160, 160);
/// The lines, in order.
pub const COLOURS: [RGBColor; 5] = [
    RGBColor(58, 124, 201),
    RGBColor(219, 112, 31),
    RGBColor(205, 55, 70),
    RGBColor(73, 148, 84),
    RGBColor(143, 105, 193),
];

/// A line and its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Line<'a> {
    /// Its name.
    pub name: &'a str,
    /// Moments, in seconds since the epoch and ascending, and values.
    pub points: Vec<(u64, f64)>,
}

/// Draws lines over a span. There is a gap wherever nothing is known.
#[must_use]
pub fn lines(caption: &str, span: Span, lines: &[Line<'_>]) -> String {
    let mut svg = String::new();
    // Drawing into a string does not fail; what would be drawn outside of the picture is cut off.
    let _ = draw(&mut svg, caption, span, lines);
    svg
}

type Failure = DrawingAreaErrorKind<std::io::Error>;

fn draw(svg: &mut String, caption: &str, span: Span, lines: &[Line<'_>]) -> Result<(), Failure> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let text = |size: i32| TextStyle::from(("sans-serif", size).into_font()).color(&INK);
    let values = lines.iter().flat_map(|line| &line.points).map(|(_, value)| *value);
    let most = values.fold(0.0, f64::max).max(f64::EPSILON);
    let mut chart = ChartBuilder::on(&area)
        .caption(caption, text(14))
        .margin(4)
        .x_label_area_size(22)
        .y_label_area_size(44)
        .build_cartesian_2d(span.from as f64..span.to as f64, 0.0..most * 1.08)?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .bold_line_style(GRID.mix(0.3))
        .axis_style(INK)
        .label_style(text(12))
        .x_labels(5)
        .y_labels(5)
        .x_label_formatter(&|seconds| time_of_day(*seconds))
        .y_label_formatter(&|value| short(*value))
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.into_iter().cycle()) {
        let mut is_first = true;
        for piece in pieces(&thin(&line.points, span)) {
            let drawn = chart.draw_series(LineSeries::new(piece, colour.stroke_width(2)))?;
            if is_first {
                let sign = move |(x, y)| PathElement::new(vec![(x, y), (x + 14, y)], colour.stroke_width(2));
                drawn.label(line.name).legend(sign);
                is_first = false;
            }
        }
    }
    if lines.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .border_style(GRID.mix(0.4))
            .label_font(text(12))
            .draw()?;
    }
    drop(chart);
    area.present()
}

/// At most [`POINTS`] points, each the highest of those it stands for.
fn thin(points: &[(u64, f64)], span: Span) -> Vec<(u64, f64)> {
    let step = span.seconds().div_ceil(POINTS).max(1);
    let mut thinned: Vec<(u64, f64)> = Vec::new();
    for &(time, value) in points {
        match thinned.last_mut() {
            Some((last, most)) if *last / step == time / step => *most = most.max(value),
            _ => thinned.push((time, value)),
        }
    }
    thinned
}

/// The points in pieces without gaps: a gap is longer than twice the usual distance.
fn pieces(points: &[(u64, f64)]) -> Vec<Vec<(f64, f64)>> {
    let distance =
        |pair: &[(u64, f64)]| pair.last().map_or(0, |last| last.0) - pair.first().map_or(0, |first| first.0);
    let usual = points.windows(2).map(distance).min().unwrap_or(1).max(1);
    points
        .chunk_by(|before, after| after.0 - before.0 <= usual * 2)
        .map(|piece| piece.iter().map(|&(time, value)| (time as f64, value)).collect())
        .collect()
}

fn time_of_day(seconds: f64) -> String {
    let time = Duration::try_from_secs_f64(seconds).ok().and_then(|time| UNIX_EPOCH.checked_add(time));
    let stamp = humantime::format_rfc3339_seconds(time.unwrap_or(UNIX_EPOCH)).to_string();
    stamp.get(11..19).unwrap_or_default().to_owned()
}

/// A number in as few letters as an axis has room for.
fn short(value: f64) -> String {
    if value >= 1e6 {
        format!("{:.1} M", value / 1e6)
    } else if value >= 10_000.0 {
        format!("{:.0} k", value / 1e3)
    } else if value >= 10.0 || value == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Span = Span { from: 1_795_000_000, to: 1_795_000_600 };

    #[test]
    fn a_picture_has_its_caption_its_names_and_nothing_that_is_not_allowed_in_a_page() {
        let points: Vec<(u64, f64)> = (0..600).map(|second| (SPAN.from + second, second as f64)).collect();
        let line = |name| Line { name, points: points.clone() };
        let svg = lines("ports <taken> & free", SPAN, &[line("a<b"), line("c")]);
        assert!(
            svg.starts_with("<svg ")
                && svg.contains("ports &lt;taken&gt; &amp; free")
                && svg.contains("a&lt;b"),
            "{svg}"
        );
        for word in ["<script", "style=", "href", "url("] {
            assert!(!svg.contains(word), "{word} in {svg}");
        }
    }

    #[test]
    fn a_gap_is_no_line() {
        let points = [(1, 1.0), (2, 1.0), (3, 2.0), (30, 5.0), (31, 5.0)];
        assert_eq!(pieces(&points).iter().map(Vec::len).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(pieces(&[]), Vec::<Vec<(f64, f64)>>::new());
    }

    #[test]
    fn the_highest_stands_for_its_neighbours() {
        let day = Span { from: 0, to: 86_400 };
        let points: Vec<(u64, f64)> =
            (0..86_400).map(|second| (second, f64::from(u8::from(second == 4_321)))).collect();
        let thinned = thin(&points, day);
        assert!(thinned.len() <= 600);
        assert_eq!(thinned.iter().filter(|(_, value)| *value > 0.5).count(), 1);
    }

    #[test]
    fn nothing_at_all_is_a_picture_too() {
        assert!(lines("nothing", SPAN, &[]).contains("</svg>"));
    }
}
