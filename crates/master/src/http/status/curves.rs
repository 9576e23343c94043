//! The curves of the last hour as paths of SVG.

use std::fmt::Write;

use relais_web::page::{Html, format};

use super::history::{Sample, Samples};
use crate::http::limits::SAMPLES;

/// Height of a curve in its own units. Its width is one unit for each sample.
const HEIGHT: u64 = 100;

/// A curve of the page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Curve {
    /// Its name in live updates.
    pub name: &'static str,
    pub title: &'static str,
    /// Formats a value.
    pub format: fn(u64) -> String,
}

/// All curves, in the order of the values of a sample.
pub(super) const CURVES: [Curve; 4] = [
    Curve { name: "lag", title: "Lag in changes", format: |value| value.to_string() },
    Curve { name: "sessions", title: "Sessions", format: |value| value.to_string() },
    Curve { name: "sent", title: "Sent to clients", format: rate },
    Curve { name: "received", title: "Received from clients", format: rate },
];

/// Returns a rate in bytes per second as people read it.
pub(super) fn rate(bytes: u64) -> String {
    format!("{}/s", format::size(bytes))
}

/// A curve with its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DrawnCurve {
    pub name: &'static str,
    pub title: &'static str,
    /// The path, for the attribute `d`.
    pub path: String,
    /// The last and the highest value.
    pub caption: String,
}

/// Draws all curves; the newest sample is at the right.
pub(super) fn draw(samples: &Samples) -> [DrawnCurve; CURVES.len()] {
    std::array::from_fn(|index| {
        let curve = CURVES[index];
        let value = |sample: &Sample| sample[index];
        let most = samples.iter().map(value).max().unwrap_or_default();
        let now = samples.back().map(value).unwrap_or_default();
        DrawnCurve {
            name: curve.name,
            title: curve.title,
            path: path(samples.iter().map(value), SAMPLES - samples.len().min(SAMPLES), most),
            caption: format!("now {}, highest {}", (curve.format)(now), (curve.format)(most)),
        }
    })
}

/// Returns the path of values that begin at a column; the highest value is at the top.
fn path(values: impl Iterator<Item = u64>, first: usize, most: u64) -> String {
    let mut path = String::new();
    for (index, value) in values.enumerate() {
        let drop = u128::from(value) * u128::from(HEIGHT) / u128::from(most.max(1));
        let y = u128::from(HEIGHT).saturating_sub(drop);
        let command = if index == 0 { 'M' } else { 'L' };
        // Writing to a String does not fail.
        let _ = write!(path, "{command}{} {y}", first + index);
    }
    path
}

/// Writes a curve as a figure.
pub(super) fn figure(html: &mut Html, curve: &DrawnCurve) {
    html.markup("<figure><figcaption>").text(curve.title).markup(": <span");
    html.attribute("data-live", &format!("curve.{}", curve.name)).markup(">");
    html.text(&curve.caption).markup("</span></figcaption>\n<svg role=\"img\"");
    html.attribute("viewBox", &format!("0 -3 {SAMPLES} {}", HEIGHT + 6));
    html.attribute("aria-label", &format!("{} in the last hour", curve.title));
    html.markup(" preserveAspectRatio=\"none\"><path fill=\"none\" ")
        .markup("vector-effect=\"non-scaling-stroke\"")
        .attribute("data-curve", curve.name)
        .attribute("d", &curve.path)
        .markup("/></svg></figure>\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_value_is_at_the_right_and_the_highest_at_the_top() {
        let samples: Samples = [[0, 1, 0, 0], [5, 1, 2048, 0], [10, 1, 1024, 0]].into();
        let curves = draw(&samples);
        assert_eq!(curves[0].path, "M357 100L358 50L359 0");
        assert_eq!(curves[0].caption, "now 10, highest 10");
        assert_eq!(curves[1].path, "M357 0L358 0L359 0");
        assert_eq!(curves[2].caption, "now 1.0 KiB/s, highest 2.0 KiB/s");
        assert_eq!(curves[3].path, "M357 100L358 100L359 100");
    }

    #[test]
    fn extreme_values_and_none_are_drawn() {
        assert_eq!(draw(&Samples::new())[0].path, "");
        let samples: Samples = [[u64::MAX; 4], [u64::MAX - 1; 4]].into();
        assert_eq!(draw(&samples)[0].path, "M358 0L359 1");
    }
}
