//! `opsroom forecast`: the hours after each series of a CSV file, with a small plot, and no server; and
//! `opsroom train-forecaster` on such a file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use opsroom_capabilities::planning::file::{self, Forecasted, Line, Options};
use opsroom_core::{Error, Result};

use super::out::{Out, Style};
use super::{ended, forecast_svg};

/// Characters of a plot, from empty to full.
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The most bytes of a model's file.
const MAX_MODEL: u64 = 64 << 20;

/// `opsroom forecast`
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  opsroom forecast metrics.csv                  one column a metric, or the columns series,t,y
  opsroom forecast metrics.csv.gz --origins 14 --step 24 --json
  opsroom forecast metrics.csv --model theta --json | jq .mean
  opsroom forecast metrics.csv --svg forecast.svg")]
pub struct ForecastArgs {
    /// A CSV file (plain or gzip), or `-` for standard input: columns `series,t,y`, or a column of time and
    /// one for each metric. `t` is an hour's index or a time
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Hours ahead
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=168))]
    horizon: u64,
    /// Forecast from so many rolling origins at the end of each series, each from what is before it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=2000))]
    origins: Option<u64>,
    /// Hours between two origins
    #[arg(long, value_name = "HOURS", default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=168))]
    step: u64,
    /// Only this engine, by its name; or the file of a learnt model, which then takes part
    #[arg(long, value_name = "ENGINE|FILE")]
    model: Option<String>,
    /// Draw the forecasts as an SVG picture, one panel a series (at most 200), into this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print one JSON object a line: {series, origin, engine, mean, lower80, upper80, lower95, upper95, limit}
    #[arg(long)]
    json: bool,
}

/// `opsroom train-forecaster FILE`
#[derive(clap::Args, Debug)]
#[command(after_help = "\
Examples:
  opsroom train-forecaster metrics.csv --output forecaster.safetensors
  opsroom forecast metrics.csv --model forecaster.safetensors
  opsroom train-forecaster                      without --output: on the metrics that the server has stored")]
pub struct TrainForecasterArgs {
    /// A CSV file (plain or gzip) of series, or `-` for standard input, as `opsroom forecast` reads it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Write the model to this file
    #[arg(long, value_name = "MODEL")]
    output: PathBuf,
    /// The name that the model carries
    #[arg(long, value_name = "NAME", default_value = "all series")]
    name: String,
    /// Decides what is random in training: the same file and seed give the same bytes
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// Runs `opsroom train-forecaster` on a file.
pub fn train_forecaster(args: TrainForecasterArgs) -> ExitCode {
    ended(run_training(&args))
}

fn run_training(args: &TrainForecasterArgs) -> Result<()> {
    let text = read(&args.file)?;
    writable(&args.output)?;
    let (model, notes) = super::bar::watched(|_| file::train(&text, &args.name, args.seed))?;
    std::fs::write(&args.output, &model.bytes).map_err(|error| unopened(&args.output, error))?;
    super::bar::warn(&notes);
    let mut out = Out::new()?;
    out.line(format_args!(
        "{}: learnt from {} days of {} series, sha256 {}",
        args.output.display(),
        model.windows,
        model.series,
        model.sha256
    ))?;
    out.flush()
}

fn read(path: &Path) -> Result<String> {
    if path == Path::new("-") {
        return file::text(std::io::stdin());
    }
    file::text(File::open(path).map_err(|error| unopened(path, error))?)
}

/// Runs `opsroom forecast`.
pub fn forecast(args: ForecastArgs) -> ExitCode {
    ended(run(&args))
}

fn run(args: &ForecastArgs) -> Result<()> {
    let text = read(&args.file)?;
    let options = options(args)?;
    args.svg.as_deref().map_or(Ok(()), writable)?;
    let mut out = Out::new()?;
    let (mut drawn, mut remarks) = (Vec::new(), Vec::new());
    let notes = file::forecast(&text, &options, |made| {
        if args.svg.is_some() && drawn.len() < forecast_svg::MOST_SERIES {
            drawn.push(made.clone());
        }
        if args.json {
            let name = made.lines.first().map_or("a series", |line| line.series.as_str());
            remarks.extend(made.remarks.iter().map(|remark| format!("{name}: {remark}")));
            for line in &made.lines {
                let line = serde_json::to_string(line).map_err(Error::internal)?;
                out.line(format_args!("{line}"))?;
            }
            return Ok(());
        }
        plot(&made, &mut out)
    })?;
    out.flush()?;
    if let Some(path) = &args.svg {
        std::fs::write(path, forecast_svg::picture(&drawn)).map_err(|error| unopened(path, error))?;
    }
    super::bar::warn(&[notes, remarks].concat());
    Ok(())
}

/// Fails for a file that cannot be written, before the work whose result goes there. What is in it stays.
fn writable(path: &Path) -> Result<()> {
    let opened = File::options().write(true).create(true).truncate(false).open(path);
    opened.map(drop).map_err(|error| unopened(path, error))
}

fn options(args: &ForecastArgs) -> Result<Options> {
    let is_file = |name: &String| Path::new(name).is_file();
    let model = args.model.as_ref().filter(|name| is_file(name));
    let model = model.map(|path| opsroom_core::files::read_named(Path::new(path), MAX_MODEL)).transpose()?;
    Ok(Options {
        horizon: args.horizon as usize,
        origins: args.origins.map(|origins| origins as usize),
        step: args.step as usize,
        engine: args.model.clone().filter(|name| !is_file(name)),
        model,
    })
}

fn unopened(path: &Path, error: std::io::Error) -> Error {
    let message = format!("`{}` cannot be opened: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::NotFound => Error::not_found(message),
        std::io::ErrorKind::PermissionDenied => Error::forbidden(message),
        _ => Error::invalid(message),
    }
}

/// Two days of the past, the hours ahead, and what to reserve for them.
fn plot(made: &Forecasted, out: &mut Out) -> Result<()> {
    for line in &made.lines {
        let before: &[f64] = if line.origin == made.lines[0].origin { &made.before } else { &[] };
        let all: Vec<f64> = before.iter().chain(&line.mean).copied().collect();
        let drawn = bars(&all);
        let past: String = drawn.chars().take(before.len()).collect();
        let ahead: String = drawn.chars().skip(before.len()).collect();
        out.line(format_args!(
            "{}  {}",
            out.style(Style::Bold, &line.series),
            out.style(Style::Dim, &told(line))
        ))?;
        out.line(format_args!("  {}{}", out.style(Style::Dim, &past), out.style(Style::Cyan, &ahead)))?;
        out.line(format_args!("  {}", numbers(line)))?;
    }
    for note in made.remarks.iter().chain(&made.notes) {
        out.line(format_args!("  {}", out.style(Style::Dim, note)))?;
    }
    out.line(format_args!(""))
}

fn told(line: &Line) -> String {
    let hours = line.mean.len();
    match (line.time(0), line.time(hours.saturating_sub(1))) {
        (Some(first), Some(last)) => format!("{hours} hours, {first} to {last}, by {}", line.engine),
        _ => format!("{hours} hours from {} by {}", line.origin, line.engine),
    }
}

fn numbers(line: &Line) -> String {
    let most = |values: &[f64]| values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mean = line.mean.iter().sum::<f64>() / line.mean.len().max(1) as f64;
    let highest = (0..line.mean.len()).max_by(|a, b| line.mean[*a].total_cmp(&line.mean[*b]));
    let mut text = format!("mean {mean:.3}, highest {:.3}", most(&line.mean));
    if let Some(time) = highest.and_then(|hour| line.time(hour)) {
        text.push_str(&format!(" at {time}"));
    }
    if let Some(upper) = &line.upper95 {
        text.push_str(&format!(" (95 %: up to {:.3})", most(upper)));
    }
    match line.limit {
        Some(limit) => text.push_str(&format!(", reserve {limit:.3}")),
        None => text.push_str(", too short to say what to reserve"),
    }
    text
}

/// A line of blocks between the lowest and the highest value; a gap is a space.
fn bars(values: &[f64]) -> String {
    let known = || values.iter().copied().filter(|value| !value.is_nan());
    let (low, high) = (known().fold(f64::INFINITY, f64::min), known().fold(f64::NEG_INFINITY, f64::max));
    let width = high - low;
    let bar = |value: &f64| match value {
        value if value.is_nan() => ' ',
        value if width > 0.0 => BARS[((value - low) / width * 7.0).round().clamp(0.0, 7.0) as usize],
        _ => BARS[3],
    };
    values.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_written_is_told_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        assert!(writable(&folder.path().join("none/forecast.svg")).is_err());
        let there = folder.path().join("there");
        std::fs::write(&there, "kept").unwrap();
        writable(&there).unwrap();
        assert_eq!(std::fs::read_to_string(&there).unwrap(), "kept");
    }

    #[test]
    fn a_plot_shows_lows_highs_and_gaps() {
        assert_eq!(bars(&[0.0, f64::NAN, 7.0, 3.0]), "▁ █▄");
        assert_eq!(bars(&[5.0, 5.0]), "▄▄");
        assert_eq!(bars(&[]), "");
    }
}
