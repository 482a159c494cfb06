//! Scatter plots, with points coloured by class.

use super::chart::{
    Drawn, Mark, Plot, Range, SCALE, axes, colour, escape, legend_beside, picture, shorten,
};
use plotters::coord::ranged1d::Ranged;
use plotters::prelude::*;

/// The class of every point, and the names of the classes.
#[derive(Clone, Copy)]
pub struct Classes<'a> {
    pub of: &'a [usize],
    pub names: &'a [String],
}

/// Largest number of points that are drawn, which limits the size of the page.
const MOST_POINTS: usize = 3000;
/// Largest number of classes that are drawn in different colours and shapes.
const MOST_CLASSES: usize = 20;

/// Draws points in the plane, coloured by class, with the name of each class at its median.
pub fn scatter(
    title: &str,
    x_label: &str,
    y_label: &str,
    points: &[(f64, f64)],
    classes: Option<Classes<'_>>,
) -> String {
    let classes = classes
        .filter(|classes| classes.names.len() <= MOST_CLASSES && classes.of.len() == points.len());
    let class = |index: usize| classes.map_or(0, |classes| classes.of[index]);
    let step = points.len().div_ceil(MOST_POINTS).max(1);
    // Points are drawn in the order of the data and not class by class, so that no class covers
    // another one.
    let shown: Vec<(f64, f64, usize)> = (0..points.len())
        .step_by(step)
        .map(|index| (points[index].0, points[index].1, class(index)))
        .filter(|(x, y, _)| x.abs() < 1e100 && y.abs() < 1e100)
        .collect();
    let (x, y) = (
        Range::of(shown.iter().map(|point| point.0), false),
        Range::of(shown.iter().map(|point| point.1), false),
    );
    let names: Vec<&str> =
        classes.map_or(Vec::new(), |classes| classes.names.iter().map(String::as_str).collect());
    let legend: Vec<(&str, Mark, usize)> =
        names.iter().enumerate().map(|(class, &name)| (name, Mark::Class, class)).collect();
    let mut tags = Vec::new();
    let svg = picture(540, 440, |area| {
        let plot = legend_beside(area, &legend, 16)?;
        let mut chart = axes(&plot, title, (x_label, y_label), (x.linear(), y.linear()), (x, y))?;
        let size = if shown.len() > 600 { SCALE * 2 } else { SCALE * 3 };
        for &(x, y, class) in &shown {
            let fill = colour(class).mix(0.8).filled();
            match shape(class) {
                Shape::Disc => plot_one(&mut chart, Circle::new((x, y), size, fill))?,
                Shape::Triangle => {
                    plot_one(&mut chart, TriangleMarker::new((x, y), size + SCALE, fill))?
                }
                Shape::Cross => {
                    plot_one(&mut chart, Cross::new((x, y), size, fill.stroke_width(SCALE as u32)))?
                }
                Shape::Ring => plot_one(
                    &mut chart,
                    Circle::new((x, y), size, colour(class).stroke_width(SCALE as u32)),
                )?,
            }
        }
        for (class, name) in names.iter().enumerate() {
            let median = |coordinate: fn(&(f64, f64, usize)) -> f64| {
                let mut values: Vec<f64> =
                    shown.iter().filter(|point| point.2 == class).map(coordinate).collect();
                values.sort_by(f64::total_cmp);
                values.get(values.len() / 2).copied()
            };
            if let (Some(x), Some(y)) = (median(|point| point.0), median(|point| point.1)) {
                let (x, y) = chart.backend_coord(&(x, y));
                tags.push((x, y, shorten(name, 12)));
            }
        }
        Ok(())
    });
    svg.replace("</svg>", &format!("{}</svg>", apart(tags)))
}

/// The labels of the classes as SVG text, moved up or down until they do not overlap. Empty if they
/// would cover the points.
fn apart(mut tags: Vec<(i32, i32, String)>) -> String {
    let width = |text: &str| 10 * SCALE * text.chars().count() as i32;
    if tags.iter().map(|tag| width(&tag.2)).sum::<i32>() > 600 * SCALE {
        return String::new();
    }
    tags.sort_by_key(|tag| (tag.1, tag.0));
    let mut placed: Vec<(i32, i32, String)> = Vec::new();
    for (x, y, text) in tags {
        let free = |y: i32| {
            placed.iter().all(|tag| {
                (tag.1 - y).abs() >= 16 * SCALE
                    || 2 * (tag.0 - x).abs() >= width(&tag.2) + width(&text)
            })
        };
        let y = (0..60)
            .map(|step| y + SCALE * 2 * if step % 2 == 0 { step } else { -step })
            .find(|&y| free(y))
            .unwrap_or(y);
        placed.push((x, y, text));
    }
    placed
        .iter()
        .map(|(x, y, text)| {
            format!("<text class=\"tag\" x=\"{x}\" y=\"{}\">{}</text>", y + 5 * SCALE, escape(text))
        })
        .collect()
}

/// Marker of a class: classes of similar colours differ in shape.
pub(super) enum Shape {
    Disc,
    Triangle,
    Cross,
    Ring,
}

pub(super) fn shape(class: usize) -> Shape {
    match class / 5 % 4 {
        0 => Shape::Disc,
        1 => Shape::Triangle,
        2 => Shape::Cross,
        _ => Shape::Ring,
    }
}

/// Draws the first two latent coordinates of codes given as a k×n matrix, column by column. For
/// k = 1 the second axis is arbitrary, so that the points do not cover each other.
pub fn latent(title: &str, z: &[f64], k: usize, classes: Option<Classes<'_>>) -> String {
    // Fractional parts of multiples of the golden ratio fill the interval evenly.
    let spread = |index: usize| (0.618_033_988_749_895 * index as f64).fract() - 0.5;
    let points = z.chunks_exact(k.max(1)).enumerate();
    let points: Vec<(f64, f64)> =
        points.map(|(index, z)| (z[0], z.get(1).copied().unwrap_or(spread(index)))).collect();
    scatter(title, "z₁", if k > 1 { "z₂" } else { "(spread out)" }, &points, classes)
}

fn plot_one<'a, 'b, E, X: Ranged<ValueType = f64>, Y: Ranged<ValueType = f64>>(
    chart: &mut Plot<'a, 'b, X, Y>,
    element: E,
) -> Drawn
where
    'b: 'a,
    for<'c> &'c E: plotters::element::PointCollection<'c, (f64, f64)>,
    E: plotters::element::Drawable<SVGBackend<'b>>,
{
    chart.draw_series(std::iter::once(element))?;
    Ok(())
}
