//! A table as a picture.

use plotters::{
    chart::{ChartBuilder, SeriesLabelPosition},
    drawing::{DrawingAreaErrorKind, IntoDrawingArea as _},
    element::PathElement,
    prelude::{Color as _, IntoFont as _, IntoLogRange as _, SVGBackend},
    series::LineSeries,
    style::TextStyle,
};
use tcpwarden::plot::{COLOURS, INK};

use crate::table::{Cell, Table};

const SIZE: (u32, u32) = (720, 400);

type Failure = DrawingAreaErrorKind<std::io::Error>;

/// Draws the columns of a table that are to be drawn; both axes are logarithmic.
pub fn of(table: &Table) -> Option<String> {
    let mut svg = String::new();
    let points = |column: usize| -> Vec<(f64, f64)> {
        let number = |cell: Option<&Cell>| match cell {
            Some(Cell::Number(Some(number))) if *number > 0.0 => Some(*number),
            _ => None,
        };
        table.rows.iter().filter_map(|row| Some((number(row.first())?, number(row.get(column))?))).collect()
    };
    let lines: Vec<_> = table.drawn.iter().map(|&column| (table.columns[column], points(column))).collect();
    if lines.iter().all(|(_, points)| points.len() < 2) {
        return None;
    }
    // Drawing into a string does not fail.
    draw(&mut svg, table, &lines).ok()?;
    Some(svg)
}

fn draw(svg: &mut String, table: &Table, lines: &[(&str, Vec<(f64, f64)>)]) -> Result<(), Failure> {
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let text = |size: i32| TextStyle::from(("sans-serif", size).into_font()).color(&INK);
    let all = || lines.iter().flat_map(|(_, points)| points);
    let bounds = |value: fn(&(f64, f64)) -> f64| {
        let values = || all().map(value);
        values().fold(f64::MAX, f64::min)..values().fold(f64::MIN, f64::max)
    };
    let (across, up) = (bounds(|point| point.0), bounds(|point| point.1));
    let mut chart = ChartBuilder::on(&area)
        .caption(table.title.lines().next().unwrap_or_default(), text(15))
        .margin(6)
        .x_label_area_size(36)
        .y_label_area_size(60)
        .build_cartesian_2d(across.log_scale(), (up.start / 1.5..up.end * 1.5).log_scale())?;
    chart
        .configure_mesh()
        .axis_style(INK)
        .bold_line_style(INK.mix(0.3))
        .light_line_style(INK.mix(0.1))
        .label_style(text(12))
        .x_desc(table.columns.first().copied().unwrap_or_default())
        .draw()?;
    for ((name, points), colour) in lines.iter().zip(COLOURS.into_iter().cycle()) {
        let sign = move |(x, y)| PathElement::new(vec![(x, y), (x + 14, y)], colour.stroke_width(2));
        let line = LineSeries::new(points.iter().copied(), colour.stroke_width(2)).point_size(3);
        chart.draw_series(line)?.label(*name).legend(sign);
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(INK.mix(0.4))
        .label_font(text(12))
        .draw()?;
    drop(chart);
    area.present()
}
