//! Forecasts as one SVG picture: for each series two days of the past, the hours ahead with their intervals,
//! and what to reserve. It has no script and no outside reference, and names are escaped.

use std::fmt::Write;

use opsroom_capabilities::planning::file::{Forecasted, Line};

/// The most series of one picture.
pub const MOST_SERIES: usize = 200;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 80.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 46.0;
const BOTTOM: f64 = 28.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#24292f}.t{font-weight:600;font-size:15px}\
.n{font-size:11px;fill:#57606a}.a{stroke:#d0d7de}.p{fill:none;stroke:#57606a;stroke-width:1.5}\
.f{fill:none;stroke:#0969da;stroke-width:2}.w{fill:#0969da;opacity:.12}.m{fill:#0969da;opacity:.2}\
.l{stroke:#cf222e;stroke-width:1.5;stroke-dasharray:6 4}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#8b949e}.a{stroke:#30363d}.b{fill:#0d1117}}";

/// The picture, one panel a series; of rolling origins the last.
pub fn picture(all: &[Forecasted]) -> String {
    let shown: Vec<&Forecasted> =
        all.iter().filter(|made| !made.lines.is_empty()).take(MOST_SERIES).collect();
    let height = HEIGHT * shown.len().max(1) as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\
         <title>Forecasts</title><style>{STYLE}</style><rect class=\"b\" width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
    );
    for (at, made) in shown.iter().enumerate() {
        panel(made, at as f64 * HEIGHT, &mut out);
    }
    out.push_str("</svg>\n");
    out
}

/// Where values and hours lie in a panel.
struct Scale {
    low: f64,
    high: f64,
    hours: f64,
    top: f64,
}

impl Scale {
    fn x(&self, hour: usize) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * hour as f64 / self.hours.max(1.0)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value - self.low) / (self.high - self.low);
        self.top + TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - share)
    }
}

fn panel(made: &Forecasted, top: f64, out: &mut String) {
    let Some(line) = made.lines.last() else { return };
    // What is before the first of several origins is not before the last.
    let before: &[f64] = if made.lines.len() == 1 { &made.before } else { &[] };
    let scale = scale(before, line, top);
    let from = before.len();
    let _infallible = writeln!(
        out,
        "<text class=\"t\" x=\"{LEFT}\" y=\"{:.0}\">{}</text><text class=\"n\" x=\"{LEFT}\" y=\"{:.0}\">{} hours from {} by {}</text>",
        top + 20.0,
        escaped(&line.series),
        top + 36.0,
        line.mean.len(),
        line.time(0).unwrap_or_else(|| line.origin.to_string()),
        escaped(&line.engine),
    );
    for value in [scale.low, (scale.low + scale.high) / 2.0, scale.high] {
        let y = scale.y(value);
        let _infallible = writeln!(
            out,
            "<path class=\"a\" d=\"M{LEFT} {y:.1}H{:.1}\"/><text class=\"n\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            short(value)
        );
    }
    for (class, lower, upper) in [("w", &line.lower95, &line.upper95), ("m", &line.lower80, &line.upper80)] {
        if let (Some(lower), Some(upper)) = (lower, upper) {
            band(&scale, from, lower, upper, class, out);
        }
    }
    path(&scale, 0, before, "p", out);
    path(&scale, from, &line.mean, "f", out);
    if let Some(limit) = line.limit {
        let y = scale.y(limit);
        let _infallible = writeln!(
            out,
            "<path class=\"l\" d=\"M{:.1} {y:.1}H{:.1}\"/><text class=\"n\" text-anchor=\"end\" x=\"{:.1}\" y=\"{:.1}\">reserve {}</text>",
            scale.x(from),
            WIDTH - RIGHT,
            WIDTH - RIGHT,
            y - 4.0,
            short(limit)
        );
    }
}

fn scale(before: &[f64], line: &Line, top: f64) -> Scale {
    let sides = [&line.lower95, &line.upper95].into_iter().flatten().flatten();
    let all = || before.iter().chain(&line.mean).chain(sides.clone()).chain(&line.limit).copied();
    let known = || all().filter(|value| value.is_finite());
    let low = known().fold(f64::INFINITY, f64::min);
    let high = known().fold(f64::NEG_INFINITY, f64::max);
    let hours = (before.len() + line.mean.len()).saturating_sub(1) as f64;
    // A constant has room around it, and nothing known is drawn between 0 and 1.
    match high - low {
        width if width > 0.0 => Scale { low, high, hours, top },
        0.0 => {
            let room = low.abs().max(1.0) / 2.0;
            Scale { low: low - room, high: high + room, hours, top }
        }
        _ => Scale { low: 0.0, high: 1.0, hours, top },
    }
}

/// A line through the values; a gap interrupts it.
fn path(scale: &Scale, from: usize, values: &[f64], class: &str, out: &mut String) {
    let mut drawn = String::new();
    let mut pen = 'M';
    for (at, value) in values.iter().enumerate() {
        if value.is_finite() {
            let _infallible = write!(drawn, "{pen}{:.1} {:.1}", scale.x(from + at), scale.y(*value));
            pen = 'L';
        } else {
            pen = 'M';
        }
    }
    let _infallible = writeln!(out, "<path class=\"{class}\" d=\"{drawn}\"/>");
}

fn band(scale: &Scale, from: usize, lower: &[f64], upper: &[f64], class: &str, out: &mut String) {
    let there = upper.iter().enumerate();
    let back = lower.iter().enumerate().rev();
    let corners: Vec<String> = there
        .chain(back)
        .map(|(at, value)| format!("{:.1},{:.1}", scale.x(from + at), scale.y(*value)))
        .collect();
    let _infallible = writeln!(out, "<polygon class=\"{class}\" points=\"{}\"/>", corners.join(" "));
}

fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (0.01..100_000.0).contains(&size) => {
            let text = format!("{value:.3}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => format!("{value:.2e}"),
    }
}

fn escaped(text: &str) -> String {
    let printable = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    printable.collect::<String>().replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str, limit: Option<f64>, values: &[f64]) -> Forecasted {
        let bounds = |by: f64| Some(values.iter().map(|v| v + by).collect());
        let line = Line {
            series: name.to_owned(),
            origin: 48,
            engine: "theta".to_owned(),
            mean: values.to_vec(),
            lower80: bounds(-1.0),
            upper80: bounds(1.0),
            lower95: bounds(-2.0),
            upper95: bounds(2.0),
            limit,
            start: None,
        };
        Forecasted {
            lines: vec![line],
            before: vec![1.0, f64::NAN, 3.0],
            notes: Vec::new(),
            remarks: Vec::new(),
        }
    }

    #[test]
    fn a_picture_has_the_past_the_forecast_its_intervals_and_the_limit() {
        let text = picture(&[made("a", Some(9.0), &[4.0, 5.0]), made("b", None, &[4.0, 5.0])]);
        assert_eq!(text.matches("<polygon").count(), 4);
        assert_eq!(text.matches("class=\"l\"").count(), 1);
        assert_eq!(text.matches("class=\"p\"").count(), 2);
        assert!(!text.contains("NaN") && !text.contains("inf"));
    }

    #[test]
    fn a_name_cannot_bring_markup_into_the_picture() {
        let text = picture(&[made("<script>&\u{1b}", None, &[4.0])]);
        assert!(text.contains("&lt;script&gt;&amp;\u{fffd}") && !text.contains("<script"));
    }

    #[test]
    fn a_constant_and_nothing_at_all_are_drawn() {
        let mut flat = made("flat", Some(5.0), &[5.0; 24]);
        flat.before = vec![5.0; 48];
        flat.lines[0].lower95 = None;
        flat.lines[0].upper95 = None;
        assert!(!picture(&[flat]).contains("NaN"));
        assert!(picture(&[]).ends_with("</svg>\n"));
    }
}
