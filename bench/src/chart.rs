//! The speeds as a picture: one panel a path, one bar a test, how ambit compares with no mesh.

use std::fmt::Write;

use crate::Results;
use crate::series::Summary;
use crate::speed::PATHS;

const WIDTH: f64 = 1080.0;
const HEIGHT: f64 = 470.0;
/// Where the panels begin and end.
const LEFT: f64 = 56.0;
const RIGHT: f64 = WIDTH - 20.0;
/// Where a bar of the highest ratio ends, and where all begin.
const TOP: f64 = 104.0;
const GROUND: f64 = 360.0;
/// Between two panels.
const GAP: f64 = 22.0;

const STYLE: &str = "\
text { font-family: 'DejaVu Sans', Verdana, sans-serif; font-size: 12px; fill: #1f2933 }
.title { font-size: 18px; font-weight: bold }
.small { font-size: 11px; fill: #52606d }
.path { font-size: 14px; font-weight: bold }
.grid { stroke: #e4e7eb }
.even { stroke: #9aa5b1; stroke-width: 1.5; stroke-dasharray: 5 4 }
.bar { fill: #3d7ea6 }
.noisy { fill: #c9d6df; stroke: #3d7ea6; stroke-dasharray: 3 2 }
.whisker { stroke: #1f2933; stroke-width: 1.2 }
.figure { font-size: 11px; stroke: #ffffff; stroke-width: 3px; paint-order: stroke }
";

/// What each path is, in words.
const WORDS: [&str; 3] = ["within a node", "across nodes, mutual TLS", "from an enrolled to a plain pod"];

/// Returns the chart as an SVG document.
pub(crate) fn svg(results: &Results) -> String {
    let speeds = &results.results;
    let axis = Axis::reaching(speeds.iter().map(|speed| speed.max).fold(1.0, f64::max));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\">\n<style>\n{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    let machine = &results.machine;
    text(&mut svg, "title", "start", LEFT, 32.0, "Speed with ambit, as a share of the speed without a mesh");
    let of_what = format!(
        "ambit {}, {}; Linux {}, {} cores of {}",
        results.commit, results.date, machine.kernel, machine.cores, machine.cpu
    );
    text(&mut svg, "small", "start", LEFT, 52.0, &of_what);
    let paths: Vec<(&str, &str)> = PATHS
        .into_iter()
        .zip(WORDS)
        .filter(|(path, _)| speeds.iter().any(|speed| speed.path == *path))
        .collect();
    let width = (RIGHT - LEFT - GAP * paths.len().saturating_sub(1) as f64) / paths.len().max(1) as f64;
    for (number, (path, words)) in paths.iter().enumerate() {
        let left = LEFT + number as f64 * (width + GAP);
        let bars: Vec<&Summary> = speeds.iter().filter(|speed| speed.path == *path).collect();
        text(&mut svg, "path", "start", left, TOP - 20.0, path);
        let after = left + 10.0 * path.len() as f64 + 6.0;
        text(&mut svg, "small", "start", after, TOP - 20.0, words);
        axis.draw(&mut svg, left, left + width, number == 0);
        for (at, speed) in bars.iter().enumerate() {
            let slot = width / bars.len() as f64;
            bar(&mut svg, &axis, speed, left + slot * (at as f64 + 0.5), (slot * 0.56).min(60.0));
        }
    }
    let noisy =
        if speeds.iter().any(|speed| speed.noisy) { "; pale bars: the machine was not quiet" } else { "" };
    let legend =
        format!("bars: median of the rounds; whiskers: lowest and highest round; 1 = no mesh{noisy}");
    text(&mut svg, "small", "start", LEFT, HEIGHT - 14.0, &legend);
    svg.push_str("</svg>\n");
    svg
}

/// The scale of ratios, from 0 up.
struct Axis {
    step: f64,
    steps: u32,
}

impl Axis {
    /// Returns a scale of whole steps that reaches `highest`, with some room for a label.
    fn reaching(highest: f64) -> Self {
        let wanted = highest * 1.02;
        let step =
            [0.2, 0.5, 1.0, 2.0, 5.0].into_iter().find(|step| wanted / step <= 8.0).unwrap_or(wanted / 5.0);
        // At most eight, or five of whatever size.
        Self { step, steps: (wanted / step).ceil() as u32 }
    }

    /// Returns the height of a ratio in the picture.
    fn y(&self, ratio: f64) -> f64 {
        GROUND - (GROUND - TOP) * ratio / (self.step * f64::from(self.steps))
    }

    fn draw(&self, svg: &mut String, left: f64, right: f64, labelled: bool) {
        for number in 0..=self.steps {
            let ratio = self.step * f64::from(number);
            line(svg, "grid", (left, self.y(ratio)), (right, self.y(ratio)));
            if labelled {
                text(svg, "small", "end", left - 8.0, self.y(ratio) + 4.0, &format!("{ratio:.1}"));
            }
        }
        line(svg, "even", (left, self.y(1.0)), (right, self.y(1.0)));
    }
}

/// Draws a test's bar around `middle`, with whiskers, its ratio above and its name below.
fn bar(svg: &mut String, axis: &Axis, speed: &Summary, middle: f64, width: f64) {
    let (top, class) = (axis.y(speed.ratio), if speed.noisy { "noisy" } else { "bar" });
    let (left, height) = (middle - width / 2.0, GROUND - top);
    // Writing to a string does not fail.
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>"
    );
    let (low, high) = (axis.y(speed.min), axis.y(speed.max));
    line(svg, "whisker", (middle, low), (middle, high));
    for end in [low, high] {
        line(svg, "whisker", (middle - 4.0, end), (middle + 4.0, end));
    }
    text(svg, "figure", "middle", middle, high - 6.0, &format!("{:.2}", speed.ratio));
    let (x, y) = (middle + 4.0, GROUND + 16.0);
    let _ = writeln!(
        svg,
        "<text text-anchor=\"end\" transform=\"rotate(-40 {x:.1} {y:.1})\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
        escaped(speed.test)
    );
}

fn line(svg: &mut String, class: &str, (x1, y1): (f64, f64), (x2, y2): (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

fn text(svg: &mut String, class: &str, anchor: &str, x: f64, y: f64, words: &str) {
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" text-anchor=\"{anchor}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
        escaped(words)
    );
}

/// A processor's name may hold what XML does not let stand.
fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Machine;

    fn results(speeds: Vec<Summary>) -> Results {
        Results {
            results: speeds,
            first: None,
            policies: None,
            changes: None,
            memory: None,
            machine: Machine { kernel: "6.1".into(), cpu: "A <fast> & new one".into(), cores: 2 },
            commit: "0123abc".into(),
            date: "2026-11-25T00:00:00Z".into(),
        }
    }

    fn speed(path: &'static str, test: &'static str, ratio: f64) -> Summary {
        Summary {
            path,
            test,
            unit: "requests/s",
            direct: 100.0,
            mesh: 100.0 * ratio,
            ratio,
            min: ratio * 0.9,
            max: ratio * 1.1,
            cpu: 1.0,
            cpu_unit: "us/request",
            rounds: 5,
            noisy: test == "http2",
            direct_p50_us: None,
            direct_p99_us: None,
            mesh_p50_us: None,
            mesh_p99_us: None,
        }
    }

    #[test]
    fn every_series_is_a_bar_and_every_path_that_was_measured_a_panel() {
        let series = vec![
            speed("across", "bulk1", 0.5),
            speed("across", "http2", 0.4),
            speed("to-plain", "bulk1", 1.0),
        ];
        let svg = svg(&results(series));
        assert_eq!(svg.matches("class=\"bar\"").count(), 2);
        assert_eq!(svg.matches("class=\"noisy\"").count(), 1);
        assert_eq!(svg.matches("class=\"path\"").count(), 2, "same-node was not measured");
        assert!(svg.contains(">0.50<") && svg.contains("pale bars"), "{svg}");
    }

    #[test]
    fn names_of_machines_cannot_break_the_picture() {
        let svg = svg(&results(vec![speed("across", "bulk1", 0.5)]));
        assert!(svg.contains("A &lt;fast&gt; &amp; new one") && !svg.contains("<fast>"), "{svg}");
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }

    #[test]
    fn the_scale_reaches_the_highest_ratio_in_few_steps() {
        for highest in [1.0, 1.19, 1.6, 2.4, 7.0, 70.0] {
            let axis = Axis::reaching(highest);
            assert!(axis.y(highest) >= TOP, "{highest}");
            assert!((2..=8).contains(&axis.steps), "{highest}: {} steps", axis.steps);
        }
    }
}
