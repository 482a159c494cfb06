//! Charts as SVG: lines, and spectra with reference values; the frame and legend of every chart.
//!
//! Charts are drawn by plotters at four times their size, because its coordinates are integers.
//! Black becomes `currentColor`, so that a chart inside a page takes the colours of that page.
//! Every chart is valid for any data: values that are not finite (or not positive, on a logarithmic
//! axis) are left out, and the range of a constant is widened.

use super::scatter::{Shape, shape};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Plot<'a, 'b, X, Y> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<X, Y>>;
pub(super) type Failure = Box<dyn std::error::Error>;
/// Result of a drawing. It fails only if the back end fails, and this one writes to memory.
pub(super) type Drawn = Result<(), Failure>;

pub(super) const SCALE: i32 = 4;
/// Half of the width that side-by-side points take about their integer x.
const HALF_SLOT: f64 = 0.42;
const FONT: &str = "system-ui, sans-serif";

/// Ten colours in the order of Petroff (2021), distinguishable with any kind of colour vision.
const COLOURS: [u32; 10] = [
    0x3f90da, 0xffa90e, 0xbd1f01, 0x94a4a2, 0x832db6, 0xa96b59, 0xe76300, 0xb9ac70, 0x717581,
    0x92dadd,
];

pub(super) fn colour(index: usize) -> RGBColor {
    let [_, red, green, blue] = COLOURS[index % COLOURS.len()].to_be_bytes();
    RGBColor(red, green, blue)
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Line,
    Dashed,
    /// A short horizontal line at each integer x: a reference for the side-by-side points there.
    Level,
    DashedLevel,
    /// Points side by side about each integer x, one position for each series, so that they do not
    /// cover each other.
    Beside,
    /// Points whose shape depends on the class.
    Class,
}

struct Series {
    name: String,
    points: Vec<(f64, f64)>,
    mark: Mark,
    colour: usize,
}

/// A chart of several series over two axes.
pub struct Chart {
    title: String,
    labels: (String, String),
    log: (bool, bool),
    series: Vec<Series>,
}

impl Chart {
    pub fn new(title: &str, x: &str, y: &str) -> Self {
        Self {
            title: title.into(),
            labels: (x.into(), y.into()),
            log: (false, false),
            series: Vec::new(),
        }
    }

    pub fn log_x(mut self) -> Self {
        self.log.0 = true;
        self
    }

    pub fn log_y(mut self) -> Self {
        self.log.1 = true;
        self
    }

    /// Adds a series of points with the next colour; a series with an empty name is not in the
    /// legend.
    pub fn series(
        self,
        name: &str,
        mark: Mark,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) -> Self {
        let next = self.series.len();
        self.coloured(name, mark, next, points)
    }

    /// Adds a series of points with a given colour.
    pub fn coloured(
        mut self,
        name: &str,
        mark: Mark,
        colour: usize,
        points: impl IntoIterator<Item = (f64, f64)>,
    ) -> Self {
        let shown = |value: f64, log: bool| value.abs() < 1e100 && (!log || value > 1e-100);
        let points = points
            .into_iter()
            .filter(|&(x, y)| shown(x, self.log.0) && shown(y, self.log.1))
            .collect();
        self.series.push(Series { name: name.into(), points, mark, colour });
        self
    }

    /// Adds a series of values at x = 1, 2, 3, …, such as a spectrum or a trace.
    pub fn values(self, name: &str, mark: Mark, values: &[f64]) -> Self {
        self.series(
            name,
            mark,
            values.iter().enumerate().map(|(index, &value)| (index as f64 + 1.0, value)),
        )
    }

    /// The chart as SVG.
    pub fn svg(&self) -> String {
        let slots = self
            .series
            .iter()
            .any(|series| matches!(series.mark, Mark::Level | Mark::DashedLevel | Mark::Beside));
        let xs = || self.series.iter().flat_map(|series| series.points.iter().map(|point| point.0));
        let ys = || self.series.iter().flat_map(|series| series.points.iter().map(|point| point.1));
        let x = if slots { Range::of_slots(xs()) } else { Range::of(xs(), self.log.0) };
        let y = Range::of(ys(), self.log.1);
        let legend: Vec<(&str, Mark, usize)> = self
            .series
            .iter()
            .filter(|series| !series.name.is_empty())
            .map(|series| (series.name.as_str(), series.mark, series.colour))
            .collect();
        picture(if slots { 940 } else { 660 }, 400, |area| {
            let plot = legend_beside(area, &legend, 27)?;
            match (self.log.0 && !slots, self.log.1) {
                (false, false) => self.draw(&plot, x.linear(), y.linear(), (x, y)),
                (false, true) => self.draw(&plot, x.linear(), y.linear().log_scale(), (x, y)),
                (true, false) => self.draw(&plot, x.linear().log_scale(), y.linear(), (x, y)),
                (true, true) => {
                    self.draw(&plot, x.linear().log_scale(), y.linear().log_scale(), (x, y))
                }
            }
        })
    }

    fn draw<X, Y>(&self, area: &Area<'_>, x: X, y: Y, ranges: (Range, Range)) -> Drawn
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let mut chart = axes(area, &self.title, (&self.labels.0, &self.labels.1), (x, y), ranges)?;
        let lanes = self.series.iter().filter(|series| series.mark == Mark::Beside).count() as f64;
        let lane = 2.0 * HALF_SLOT / lanes;
        let across = f64::from(chart.plotting_area().dim_in_pixel().0) * lane
            / (ranges.0.high - ranges.0.low);
        let radius = (0.6 * across).clamp(f64::from(SCALE), f64::from(SCALE) * 4.0) as i32;
        let mut lane_centre = -HALF_SLOT - lane / 2.0;
        for series in &self.series {
            let (colour, points) = (colour(series.colour), series.points.iter().copied());
            let wide = colour.stroke_width((SCALE * 9 / 5) as u32);
            match series.mark {
                Mark::Line if series.points.len() > 1 => {
                    chart.draw_series(LineSeries::new(points, wide))?;
                }
                Mark::Dashed if series.points.len() > 1 => {
                    chart.draw_series(DashedLineSeries::new(points, 6 * SCALE, 4 * SCALE, wide))?;
                }
                Mark::Level | Mark::DashedLevel => {
                    for (x, y) in points {
                        let ends = [(x - HALF_SLOT, y), (x + HALF_SLOT, y)];
                        let ink = BLACK.mix(0.5).stroke_width((SCALE * 3 / 2) as u32);
                        match series.mark {
                            Mark::Level => chart.draw_series(LineSeries::new(ends, ink))?,
                            _ => chart.draw_series(DashedLineSeries::new(
                                ends,
                                4 * SCALE,
                                3 * SCALE,
                                ink,
                            ))?,
                        };
                    }
                }
                Mark::Beside => {
                    lane_centre += lane;
                    chart.draw_series(points.map(|(x, y)| {
                        Circle::new((x + lane_centre, y), radius, colour.filled())
                    }))?;
                }
                _ => {
                    chart.draw_series(
                        points.map(|point| Circle::new(point, SCALE * 5 / 2, colour.filled())),
                    )?;
                }
            }
        }
        Ok(())
    }
}

/// Draws the frame of a chart: title, grid, axis labels.
pub(super) fn axes<'a, 'b, X, Y>(
    area: &'a Area<'b>,
    title: &str,
    labels: (&str, &str),
    (x, y): (X, Y),
    (x_range, y_range): (Range, Range),
) -> Result<Plot<'a, 'b, X::CoordDescType, Y::CoordDescType>, Failure>
where
    'b: 'a,
    X: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let font = |size: i32| (FONT, size * SCALE);
    let mut chart = ChartBuilder::on(area)
        .caption(title, (FONT, 18 * SCALE, FontStyle::Bold))
        .margin(8 * SCALE)
        .margin_right(14 * SCALE)
        .x_label_area_size(42 * SCALE)
        .y_label_area_size(66 * SCALE)
        .build_cartesian_2d(x, y)?;
    let mut mesh = chart.configure_mesh();
    if x_range.whole {
        mesh.disable_x_mesh();
    }
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.1).stroke_width(SCALE as u32))
        .axis_style(BLACK.mix(0.35).stroke_width(SCALE as u32))
        .set_all_tick_mark_size(4 * SCALE)
        .x_labels(8)
        .y_labels(7)
        .x_desc(labels.0)
        .y_desc(labels.1)
        .label_style(font(14))
        .axis_desc_style(font(15))
        .x_label_formatter(&|value| x_range.text(*value))
        .y_label_formatter(&|value| y_range.text(*value))
        .draw()?;
    Ok(chart)
}

/// Draws the legend at the right, and returns the remaining area.
pub(super) fn legend_beside<'a>(
    area: &Area<'a>,
    entries: &[(&str, Mark, usize)],
    most: usize,
) -> Result<Area<'a>, Failure> {
    let longest =
        entries.iter().map(|entry| shorten(entry.0, most).chars().count()).max().unwrap_or(0)
            as i32;
    if entries.is_empty() {
        return Ok(area.clone());
    }
    let (width, height) = area.dim_in_pixel();
    let (plot, side) = area.split_horizontally(width as i32 - (30 + 7 * longest) * SCALE);
    let pitch = (20 * SCALE).min((height as i32 - 50 * SCALE) / entries.len() as i32);
    for (index, &(name, mark, entry)) in entries.iter().enumerate() {
        let (x, y) = (8 * SCALE, 44 * SCALE + pitch * index as i32);
        let (fill, wide) =
            (colour(entry).filled(), colour(entry).stroke_width((SCALE * 9 / 5) as u32));
        match mark {
            Mark::Line => {
                side.draw(&PathElement::new([(x - 6 * SCALE, y), (x + 6 * SCALE, y)], wide))?
            }
            Mark::Level => side.draw(&PathElement::new(
                [(x - 6 * SCALE, y), (x + 6 * SCALE, y)],
                BLACK.stroke_width((SCALE * 3 / 2) as u32),
            ))?,
            Mark::Dashed | Mark::DashedLevel => {
                let ink = if mark == Mark::Dashed {
                    wide
                } else {
                    BLACK.stroke_width((SCALE * 3 / 2) as u32)
                };
                for start in [-6, 1] {
                    side.draw(&PathElement::new(
                        [(x + start * SCALE, y), (x + (start + 5) * SCALE, y)],
                        ink,
                    ))?;
                }
            }
            Mark::Beside => side.draw(&Circle::new((x, y), 4 * SCALE, fill))?,
            Mark::Class => match shape(entry) {
                Shape::Disc => side.draw(&Circle::new((x, y), 4 * SCALE, fill))?,
                Shape::Triangle => side.draw(&TriangleMarker::new((x, y), 5 * SCALE, fill))?,
                Shape::Cross => side.draw(&Cross::new((x, y), 4 * SCALE, wide))?,
                Shape::Ring => side.draw(&Circle::new((x, y), 4 * SCALE, wide))?,
            },
        }
        side.draw(&Text::new(
            shorten(name, most),
            (x + 11 * SCALE, y - 5 * SCALE),
            (FONT, 14 * SCALE),
        ))?;
    }
    Ok(plot)
}

/// Runs a drawing and returns it as an SVG of this size.
pub(super) fn picture(width: i32, height: i32, draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut text = String::new();
    {
        let area =
            SVGBackend::with_string(&mut text, ((width * SCALE) as u32, (height * SCALE) as u32))
                .into_drawing_area();
        if draw(&area).and_then(|()| Ok(area.present()?)).is_err() {
            return sized("", f64::from(width), f64::from(height), 1.0);
        }
    }
    let body = text.split_once('>').map_or("", |(_, body)| body).trim().trim_end_matches("</svg>");
    let body = body
        .replace("#000000", "currentColor")
        .replace(" stroke=\"none\" stroke-width=\"1\"", "")
        .replace(" opacity=\"1\"", "")
        .replace(">\n", ">")
        .replace("\n<", "<");
    sized(&body, f64::from(width), f64::from(height), f64::from(SCALE))
}

/// An SVG of this size around a body that is drawn `scale` times as large.
pub fn sized(body: &str, width: f64, height: f64, scale: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {:.0} {:.0}\" font-family=\"{FONT}\" fill=\"currentColor\">\
         <style>.tag{{font-weight:700;font-size:{}px;text-anchor:middle;stroke:var(--card,#fff);stroke-opacity:.85;stroke-width:{}px;stroke-linejoin:round;paint-order:stroke}}</style>\
         {body}</svg>",
        width * scale,
        height * scale,
        15.0 * scale,
        4.0 * scale
    )
}

/// Escapes text for SVG or HTML.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

pub(super) fn shorten(text: &str, length: usize) -> String {
    match text.chars().count() > length {
        true => text.chars().take(length - 1).chain(['…']).collect(),
        false => text.into(),
    }
}

/// The range of an axis, never empty, and the format of its numbers.
#[derive(Clone, Copy)]
pub(super) struct Range {
    low: f64,
    high: f64,
    log: bool,
    /// Whether only integers are labelled.
    whole: bool,
}

impl Range {
    pub(super) fn of(values: impl Iterator<Item = f64>, log: bool) -> Self {
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        if log {
            let (low, high) = if low > high { (0.1, 10.0) } else { (low, high) };
            let (first, last) = (low.log10(), high.log10());
            // At least one whole decade, so that the axis has a tick.
            return match last.floor() > first.ceil() {
                true => Self { low: low / 1.2, high: high * 1.2, log, whole: false },
                false => Self {
                    low: 10f64.powf(first.floor()),
                    high: 10f64.powf(last.ceil().max(first.floor() + 1.0)),
                    log,
                    whole: false,
                },
            };
        }
        let (low, high) = if low > high { (0.0, 1.0) } else { (low, high) };
        // Differences at the level of rounding count as a constant.
        let least = (1e-9 * low.abs().max(high.abs())).max(1e-90);
        let margin = match high - low > least {
            true => 0.04 * (high - low),
            false => {
                (0.1 * low.abs().max(high.abs())).max(if low == 0.0 { 1.0 } else { 0.0 }).max(least)
            }
        };
        Self { low: low - margin, high: high + margin, log, whole: false }
    }

    /// A range with room for side-by-side points about each of these integers.
    fn of_slots(values: impl Iterator<Item = f64>) -> Self {
        Self { whole: true, ..Self::of(values.flat_map(|x| [x - 0.6, x + 0.6]), false) }
    }

    pub(super) fn linear(&self) -> std::ops::Range<f64> {
        self.low..self.high
    }

    /// A number with as many digits as are needed to distinguish the ticks.
    fn text(&self, value: f64) -> String {
        if self.whole {
            return if (value - value.round()).abs() < 1e-9 {
                format!("{value:.0}")
            } else {
                String::new()
            };
        }
        let span = self.high - self.low;
        let largest = self.low.abs().max(self.high.abs());
        let trim = |text: String| match text.contains('.') {
            true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
            false => text,
        };
        let text = if self.log && (1e-3..1e5).contains(&value) {
            trim(format!("{value:.4}"))
        } else if self.log || (largest >= 1e6 && span > 1e-3 * largest) || largest < 1e-3 {
            let scientific = format!("{value:.2e}");
            let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
            format!("{}e{exponent}", trim(mantissa.to_owned()))
                .replace("-0e0", "0e0")
                .replace("0e0", "0")
        } else {
            let value = if value.abs() < 1e-9 * span { 0.0 } else { value };
            trim(format!("{value:.*}", (2.0 - span.log10().floor()).clamp(0.0, 12.0) as usize))
        };
        text.replace('-', "−")
    }
}
