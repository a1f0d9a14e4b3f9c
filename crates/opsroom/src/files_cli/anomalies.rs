//! What is abnormal, for a person.

use opsroom_capabilities::detection::model::{Anomaly, Detected};
use opsroom_core::Result;

use super::out::{Out, Style};

/// Characters of a line of the log that are shown.
const LINE_CHARS: usize = 240;

pub(super) fn print(found: &Detected, out: &mut Out) -> Result<()> {
    let summary = &found.summary;
    out.line(format_args!(
        "{} lines, {} templates, {} {}{}{}",
        number(summary.lines),
        number(summary.templates),
        number(summary.sessions),
        summary.grouping,
        summary.session_pattern.as_ref().map(|pattern| format!(" ({pattern})")).unwrap_or_default(),
        summary
            .time_range
            .as_ref()
            .map(|range| format!(", {} to {}", range.from, range.to))
            .unwrap_or_default(),
    ))?;
    if summary.learnt_from != "the log itself" {
        out.line(format_args!("what is normal was learnt from {}", summary.learnt_from))?;
    }
    if summary.anomalous == 0 {
        let nothing = if summary.sessions == 0 { "there is nothing to judge" } else { "nothing is abnormal" };
        out.line(format_args!("{}", out.style(Style::Bold, nothing)))?;
        return out.flush();
    }
    let causes = found.anomalies.len() as u64 + found.more;
    let unit = if summary.grouping.starts_with("windows") { "windows" } else { &summary.grouping };
    let told = format!(
        "{} of {} {unit} {} abnormal, of {}; most telling first",
        number(summary.anomalous),
        number(summary.sessions),
        if summary.anomalous == 1 { "is" } else { "are" },
        if causes == 1 { "one cause".to_owned() } else { format!("{} causes", number(causes)) }
    );
    out.line(format_args!("{}\n", out.style(Style::Bold, &told)))?;
    for (at, anomaly) in found.anomalies.iter().enumerate() {
        cause(at + 1, anomaly, out)?;
    }
    if found.more > 0 {
        let causes = if found.more == 1 { "cause" } else { "causes" };
        out.line(format_args!("and {} more {causes}: --all lists them", number(found.more)))?;
    }
    out.flush()
}

fn cause(rank: usize, anomaly: &Anomaly, out: &mut Out) -> Result<()> {
    let place = anomaly.file.as_ref().map(|file| format!("{file}:")).unwrap_or_else(|| "line ".to_owned());
    let lines =
        if anomaly.lines == 1 { "1 line".to_owned() } else { format!("{} lines", number(anomaly.lines)) };
    let time = anomaly.time.as_ref().filter(|time| **time != anomaly.key);
    let mut head = format!(
        "{rank:>3}. {}  {}  {}  {}",
        out.style(Style::Bold, &anomaly.key),
        out.style(Style::Red, &format!("score {:.2}", anomaly.score)),
        out.style(Style::Cyan, &format!("{place}{}", anomaly.first_line)),
        out.style(Style::Dim, &lines),
    );
    if let Some(time) = time {
        head.push_str(&format!("  {}", out.style(Style::Dim, time)));
    }
    if anomaly.similar > 0 {
        let range = anomaly.similar_range.as_ref();
        let range = range.map(|range| format!(", {} to {}", range.from, range.to)).unwrap_or_default();
        head.push_str(&format!("  and {} more like it{range}", number(anomaly.similar)));
    }
    out.line(format_args!("{head}"))?;
    for reason in &anomaly.reasons {
        out.line(format_args!("     - {}", cut(reason)))?;
    }
    let widest = anomaly.examples.iter().map(|example| example.line.to_string().len()).max().unwrap_or(0);
    let mut file = anomaly.file.as_deref();
    for example in &anomaly.examples {
        if example.file.as_deref() != file {
            file = example.file.as_deref();
            out.line(format_args!("     {}", out.style(Style::Cyan, file.unwrap_or_default())))?;
        }
        let line = out.style(Style::Dim, &format!("{:>widest$}", example.line));
        out.line(format_args!("     {line}  {}", cut(&example.text)))?;
    }
    out.line(format_args!(""))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LINE_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A number with commas: `12,345`.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas_and_long_lines_an_end() {
        let numbers = [0, 999, 1_000, 1_234_567].map(number);
        assert_eq!(numbers, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(cut(&"ä".repeat(300)).chars().count(), LINE_CHARS + 1);
        assert_eq!(cut("short"), "short");
    }
}
