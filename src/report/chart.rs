/*!
Curves as SVG, for the page. No fonts are needed to draw them: text is left to the reader's browser.

A curve is told from another by its dashes and its markers, besides its colour (of the Okabe-Ito set,
which colour-blind people tell apart). Colours are fixed names of roles, not of looks: the page's style
sheet repaints [`INK`] and [`GRID`] for dark screens.
*/

use super::ReportError;
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// Repainted by the page: text and axes.
const INK: RGBColor = RGBColor(1, 1, 1);
/// Repainted by the page: grid lines.
const GRID: RGBColor = RGBColor(221, 221, 222);

/// Colour, marker and dashes of the curves, in order.
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(128, 128, 128),
];
const SIZE: (u32, u32) = (480, 320);
/// Height of a row of the legend.
const LEGEND: i32 = 18;

/// One curve of a chart.
pub struct Curve {
    /// What the legend says.
    pub name: String,
    /// Points in ascending x.
    pub points: Vec<(f64, f64)>,
    /// Drawn without markers: a baseline.
    pub level: bool,
}

/// A chart of curves over one axis.
pub struct Chart<'a> {
    /// Text above the chart.
    pub title: &'a str,
    /// Under the x axis.
    pub x: &'a str,
    /// Its curves, five at most.
    pub curves: Vec<Curve>,
    /// How a value of the y axis reads.
    pub y: &'a dyn Fn(f64) -> String,
    /// Whether the y axis starts at 0.
    pub from_zero: bool,
}

impl Chart<'_> {
    /// As an `<svg>` element; `None` where there is no curve with a point.
    ///
    /// # Errors
    /// Where it can't be drawn.
    pub fn svg(&self) -> Result<Option<String>, ReportError> {
        let mut points = self.curves.iter().flat_map(|c| &c.points);
        if points.all(|p| !p.0.is_finite() || !p.1.is_finite()) {
            return Ok(None);
        }
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            self.draw(&root).map_err(|e| ReportError::Chart {
                chart: self.title.to_string(),
                what: e.to_string(),
            })?;
        }
        // Named for those who hear the page, and as wide as its place.
        let label = format!("<svg role=\"img\" aria-label=\"{}\" ", escape(self.title));
        let fixed = format!("width=\"{}\" height=\"{}\" ", SIZE.0, SIZE.1);
        let svg = svg.replacen("<svg ", &label, 1);
        Ok(Some(svg.replacen(&fixed, "", 1)))
    }

    fn draw(&self, root: &Area) -> Drawn {
        let text = |size: i32| ("sans-serif", size).into_font().color(&INK);
        let title = text(19).pos(Pos::new(HPos::Left, VPos::Top));
        root.draw(&Text::new(self.title, (8, 4), title))?;
        let rows = self.curves.len().div_ceil(2) as i32;
        let (legend, plot) = root.split_vertically(28 + rows * LEGEND);
        for (i, curve) in self.curves.iter().enumerate() {
            let at = (8 + (i as i32 % 2) * 232, 36 + (i as i32 / 2) * LEGEND);
            let line = vec![at, (at.0 + 36, at.1)];
            stroke(&legend, i, line, curve.level)?;
            if !curve.level {
                mark(&legend, i, (at.0 + 18, at.1))?;
            }
            let style = text(16).pos(Pos::new(HPos::Left, VPos::Center));
            let label = Text::new(curve.name.as_str(), (at.0 + 42, at.1), style);
            legend.draw(&label)?;
        }
        let ((left, right), (low, high)) = self.ranges();
        let mut chart = ChartBuilder::on(&plot)
            .margin(6)
            .margin_right(14)
            .x_label_area_size(40)
            .y_label_area_size(66)
            .build_cartesian_2d(left..right, low..high)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(text(16))
            .x_desc(self.x)
            .y_labels(5)
            .y_label_formatter(&|y| (self.y)(*y))
            .x_label_formatter(&|x| format!("{x:.1}"))
            .draw()?;
        let area = chart.plotting_area();
        for (i, curve) in self.curves.iter().enumerate() {
            let finite = curve.points.iter().filter(|p| p.1.is_finite());
            let pixels: Vec<(i32, i32)> = finite.map(|p| area.map_coordinate(p)).collect();
            stroke(root, i, pixels.clone(), curve.level)?;
            if !curve.level {
                for at in pixels {
                    mark(root, i, at)?;
                }
            }
        }
        root.present()?;
        Ok(())
    }

    fn ranges(&self) -> ((f64, f64), (f64, f64)) {
        let range = |values: &mut dyn Iterator<Item = f64>| {
            let finite = values.filter(|v| v.is_finite());
            finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
                (v.min(low), v.max(high))
            })
        };
        let points = || self.curves.iter().flat_map(|c| &c.points);
        let widen = |(low, high): (f64, f64)| {
            if high > low {
                (low, high)
            } else {
                let by = if high == 0.0 { 1.0 } else { 0.1 * high.abs() };
                (low - by, high + by)
            }
        };
        let x = widen(range(&mut points().map(|p| p.0)));
        let (mut low, mut high) = range(&mut points().map(|p| p.1));
        if self.from_zero {
            low = low.min(0.0);
        }
        (low, high) = widen((low, high));
        let room = 0.06 * (high - low);
        let bottom = if self.from_zero {
            low.max(0.0)
        } else {
            low - room
        };
        (x, (bottom, high + room))
    }
}

/// A line through points in pixels, with the dashes of curve `i`; a level is dotted.
fn stroke(area: &Area, i: usize, points: Vec<(i32, i32)>, level: bool) -> Drawn {
    let style = COLOURS[i % COLOURS.len()].stroke_width(2);
    if points.len() < 2 {
        return Ok(());
    }
    let (dash, gap) = match (level, i % COLOURS.len()) {
        (true, i) => (2, 3 + i as i32),
        (false, 0) => {
            area.draw(&PathElement::new(points, style))?;
            return Ok(());
        }
        (false, i) => (12 - 2 * i as i32, 4),
    };
    area.draw(&DashedPathElement::new(points, dash, gap, style))?;
    Ok(())
}

/// The marker of curve `i`.
fn mark(area: &Area, i: usize, at: (i32, i32)) -> Drawn {
    let colour = COLOURS[i % COLOURS.len()];
    match i % 3 {
        0 => area.draw(&Circle::new(at, 4, colour.filled()))?,
        1 => area.draw(&TriangleMarker::new(at, 5, colour.filled()))?,
        _ => area.draw(&Cross::new(at, 4, colour.stroke_width(2)))?,
    }
    Ok(())
}

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(curves: Vec<Curve>) -> Option<String> {
        let chart = Chart {
            title: "Mean & more",
            x: "threshold",
            curves,
            y: &|y| format!("{y:.1}"),
            from_zero: true,
        };
        chart.svg().unwrap()
    }

    fn curve(name: &str, points: &[(f64, f64)]) -> Curve {
        Curve {
            name: name.into(),
            points: points.to_vec(),
            level: false,
        }
    }

    #[test]
    fn curves_have_lines_markers_and_names() {
        let svg = chart(vec![
            curve("a<b", &[(0.3, 1.0), (0.9, 2.0)]),
            curve("second", &[(0.3, 2.0), (0.9, f64::NAN)]),
        ]);
        let svg = svg.unwrap();
        assert!(svg.contains("aria-label=\"Mean &amp; more\""));
        assert!(svg.contains("a&lt;b") && svg.contains("second"));
        // Two points and one in the legend.
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.trim_end().ends_with("</svg>"));
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn nothing_and_one_point() {
        assert_eq!(chart(vec![]), None);
        assert_eq!(chart(vec![curve("a", &[])]), None);
        let one = chart(vec![curve("a", &[(0.5, 0.0)])]).unwrap();
        assert!(one.contains("<circle"));
    }
}
