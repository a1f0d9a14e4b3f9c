//! Forecasts of a file of series, without a server: what `opsroom forecast` prints, and the model that
//! `opsroom train-forecaster` writes.
//!
//! Series are independent of each other, so that they are forecast side by side, a few at a time, and given
//! out in the order of the file.

use std::io::Read;

use opsroom_analytics::forecast::backtest::Plan;
use opsroom_analytics::forecast::choice::{Choice, Forecast, Policy};
use opsroom_analytics::forecast::clean::{CleaningReport, Kind, Reading, clean};
use opsroom_analytics::forecast::engine::Engine;
use opsroom_analytics::forecast::model::{Model, Training};
use opsroom_analytics::forecast::rolling::roll;
use opsroom_analytics::forecast::series::Series;
use opsroom_core::{Error, Result};
use rayon::prelude::*;
use serde::Serialize;

use super::sources::table::{self, Bounds, Position, Table};
use super::{forecaster, moment};

/// The most bytes of a text, unpacked.
const MAX_TEXT: u64 = 4 << 30;
/// Series that are forecast before the first of them is given out.
const TOGETHER: usize = 64;

/// What is asked.
#[derive(Clone, Debug)]
pub struct Options {
    /// Hours ahead, from 1 to 168.
    pub horizon: usize,
    /// Rolling origins at the end of each series; `None` forecasts what comes after it.
    pub origins: Option<usize>,
    /// Hours between two origins.
    pub step: usize,
    /// Only this engine, by its name.
    pub engine: Option<String>,
    /// A learnt model, as its file's bytes.
    pub model: Option<Vec<u8>>,
}

/// The forecast from one origin of one series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// The series' name in the file.
    pub series: String,
    /// Position in the series of the first hour forecast.
    pub origin: usize,
    /// The engines really used, the largest share first.
    pub engine: String,
    /// The hours.
    pub mean: Vec<f64>,
    /// Lower ends of the 80 % interval; null without a backtest.
    pub lower80: Option<Vec<f64>>,
    /// Its upper ends.
    pub upper80: Option<Vec<f64>>,
    /// Lower ends of the 95 % interval.
    pub lower95: Option<Vec<f64>>,
    /// Its upper ends.
    pub upper95: Option<Vec<f64>>,
    /// The constant capacity recommended for these hours; null with less than a day of history.
    pub limit: Option<f64>,
    /// When the first hour forecast begins, in seconds since 1970; `None` where the file counts hours.
    #[serde(skip)]
    pub start: Option<i64>,
}

impl Line {
    /// When an hour of the forecast begins, as answers show times.
    #[must_use]
    pub fn time(&self, hour: usize) -> Option<String> {
        Some(moment::show(self.start? + 3600 * hour as i64))
    }
}

/// One series' forecasts, and the hours before the first of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecasted {
    /// The forecasts, by origin.
    pub lines: Vec<Line>,
    /// The last hours before the first origin; a `NaN` is a gap.
    pub before: Vec<f64>,
    /// Why one engine was taken.
    pub notes: Vec<String>,
    /// What was unusual in the series: gaps, repeated times, a counter, origins that it is too short for.
    pub remarks: Vec<String>,
}

/// The text of a file, unpacked when it is packed with gzip.
///
/// # Errors
/// `Invalid` for a text that is too large or not UTF-8.
pub fn text(mut from: impl Read) -> Result<String> {
    let mut head = [0; 2];
    let read = from.read(&mut head).map_err(unreadable)?;
    let whole = (&head[..read]).chain(from);
    let mut bytes = Vec::new();
    let taken = if head == [0x1f, 0x8b] {
        flate2::read::MultiGzDecoder::new(whole).take(MAX_TEXT).read_to_end(&mut bytes)
    } else {
        whole.take(MAX_TEXT).read_to_end(&mut bytes)
    };
    if taken.map_err(unreadable)? as u64 == MAX_TEXT {
        return Err(Error::invalid("the CSV is larger than 4 GiB"));
    }
    String::from_utf8(bytes).map_err(|error| Error::invalid("the CSV is not UTF-8").because(error))
}

fn unreadable(error: std::io::Error) -> Error {
    Error::invalid(format!("the CSV cannot be read: {error}"))
}

/// Forecasts every series of a text. Answers what a reader should know of the text.
///
/// # Errors
/// `Invalid` for a text or options that cannot be used, and what `give` fails with.
pub fn forecast(
    text: &str,
    options: &Options,
    mut give: impl FnMut(Forecasted) -> Result<()>,
) -> Result<Vec<String>> {
    let engines = engines(options)?;
    let table = filled(text)?;
    let readings = readings(&table);
    for (names, several) in table.series.chunks(TOGETHER).zip(readings.chunks(TOGETHER)) {
        let made: Vec<Result<Forecasted>> = names
            .par_iter()
            .zip(several)
            .map(|(series, readings)| {
                let mut made = one(series, readings, &engines, options)?;
                if table.last_hour.is_some() {
                    made.lines.iter_mut().for_each(|line| line.start = None);
                }
                Ok(made)
            })
            .collect();
        for forecasted in made {
            give(forecasted?)?;
        }
    }
    Ok(table.notes)
}

/// A model learnt from a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Learnt {
    /// The artifact.
    pub bytes: Vec<u8>,
    /// Series that it learnt from.
    pub series: usize,
    /// Days that it learnt from.
    pub windows: usize,
    /// The artifact's SHA-256.
    pub sha256: String,
}

/// Learns one model from all series of a text, and answers it with what a reader should know of the text.
///
/// # Errors
/// `Invalid` for a text that cannot be used, or that has too little to learn from.
pub fn train(text: &str, name: &str, seed: u64) -> Result<(Learnt, Vec<String>)> {
    let table = filled(text)?;
    let mut notes = table.notes.clone();
    let mut histories = Vec::new();
    let mut longest: (usize, String) = (0, String::new());
    for (named, readings) in table.series.iter().zip(readings(&table)) {
        match hours(named, &readings) {
            Ok((series, _, _)) => {
                if series.len() > longest.0 {
                    longest = (series.len(), table::name(named));
                }
                histories.push(series);
            }
            Err(error) => notes.push(format!("left out: {}", error.message)),
        }
    }
    let mut how = Training::default();
    how.lstm.seed = seed;
    let model = Model::train(name, &histories, &how).map_err(|error| {
        let (hours, series) = &longest;
        Error::invalid(format!("{error}; the longest of {} series is {series} with {hours}", histories.len()))
    })?;
    let (series, windows, sha256) = (model.trained.series, model.trained.windows, model.hash());
    Ok((Learnt { bytes: model.to_bytes(), series, windows, sha256 }, notes))
}

fn engines(options: &Options) -> Result<Vec<Engine>> {
    let mut engines = match &options.model {
        Some(bytes) => Model::from_bytes(bytes).map_err(|error| Error::invalid(error.to_string()))?.engines(),
        None => Engine::local(),
    };
    if let Some(name) = &options.engine {
        let known: Vec<&str> = engines.iter().map(Engine::name).collect();
        let known = format!("there is no forecast engine `{name}`; there are {}", known.join(", "));
        engines.retain(|engine| engine.name() == name || engine.name() == "seasonal_naive");
        if !engines.iter().any(|engine| engine.name() == name) {
            return Err(Error::invalid(known));
        }
    }
    Ok(engines)
}

fn readings(table: &Table) -> Vec<Vec<Reading>> {
    let mut readings = vec![Vec::new(); table.series.len()];
    for point in &table.points {
        let at = match point.at {
            Position::Hour(hour) => hour.saturating_mul(3600),
            Position::Second(second) => second,
        };
        readings[point.series].push(Reading { at, value: point.value });
    }
    readings
}

/// A table with at least one value.
fn filled(text: &str) -> Result<Table> {
    let table = Table::parse(text, Bounds::FILE)?;
    if table.points.is_empty() {
        let notes = if table.notes.is_empty() { "no row".to_owned() } else { table.notes.join("; ") };
        return Err(Error::invalid(format!("the CSV has no value to use: {notes}")));
    }
    Ok(table)
}

/// The hours of a series, read as a server reads them: a counter by its growth.
fn hours(
    named: &(Option<String>, String),
    readings: &[Reading],
) -> Result<(Series, CleaningReport, Vec<String>)> {
    let history = forecaster::history(&named.1, readings, i64::MAX);
    match history.series {
        Some(series) => Ok((series, history.cleaning, history.notes)),
        // What it fails with says why there are no hours.
        None => {
            let wrong = |error| Error::invalid(format!("{}: {error}", table::name(named)));
            let (series, cleaning) = clean(readings, Kind::Gauge, None).map_err(wrong)?;
            Ok((series, cleaning, history.notes))
        }
    }
}

/// What was unusual in the readings.
fn remarks(cleaning: &CleaningReport) -> Vec<String> {
    let counts = [
        (cleaning.missing_hours, "hours without a value"),
        (cleaning.duplicates, "values given twice"),
        (cleaning.conflicts, "values with the time of another, of which the last counts"),
        (cleaning.counter_resets, "restarts of the counter"),
    ];
    let counts =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{what}: {count}"));
    counts.chain(cleaning.unsorted.then(|| "the times are not in order".to_owned())).collect()
}

fn one(
    named: &(Option<String>, String),
    readings: &[Reading],
    engines: &[Engine],
    options: &Options,
) -> Result<Forecasted> {
    let name = &table::name(named);
    let wrong =
        |error: opsroom_analytics::forecast::error::ForecastError| Error::invalid(format!("{name}: {error}"));
    let (series, cleaning, mut unusual) = hours(named, readings)?;
    unusual.extend(remarks(&cleaning));
    let policy = Policy::default();
    let only = options.engine.as_deref();
    let mut notes = Vec::new();
    let mut lines = Vec::new();
    match options.origins {
        None => {
            let plan = Plan { origins: policy.lookback, ..Plan::default() };
            let choice = Choice::make(&series, engines, &plan, &policy).map_err(wrong)?;
            let choice = alone(choice, only);
            let forecast = choice.forecast(&series, engines, options.horizon).map_err(wrong)?;
            notes.push(choice.reason);
            lines.push(line(name, &series, forecast));
        }
        Some(origins) => {
            let plan = Plan { origins, step: options.step, horizon: options.horizon };
            for rolled in roll(&series, engines, &policy, &plan).map_err(wrong)? {
                let forecast = match only {
                    None => rolled.forecast,
                    Some(_) => again(&series, &rolled.choice, only, engines, rolled.origin, options)
                        .map_err(wrong)?,
                };
                lines.push(line(name, &series, forecast));
            }
            if lines.len() < origins {
                unusual.push(format!(
                    "only {} of {origins} origins: the others have less than a day before them, or lie in a gap",
                    lines.len()
                ));
            }
        }
    }
    let until = lines.first().map_or(series.len(), |line: &Line| line.origin.min(series.len()));
    let before = series.values()[until.saturating_sub(48)..until].to_vec();
    Ok(Forecasted { lines, before, notes, remarks: unusual })
}

/// The choice with all of its weight on one engine, when only that is asked for.
fn alone(mut choice: Choice, only: Option<&str>) -> Choice {
    if let Some(name) = only {
        choice.members.truncate(1);
        choice.members.iter_mut().for_each(|member| {
            member.engine = name.to_owned();
            member.weight = 1.0;
        });
        choice.reason = format!("{name} was asked for");
    }
    choice
}

fn again(
    series: &Series,
    choice: &Choice,
    only: Option<&str>,
    engines: &[Engine],
    origin: usize,
    options: &Options,
) -> Result<Forecast, opsroom_analytics::forecast::error::ForecastError> {
    let history = series.before(origin)?;
    let gap = origin - history.len();
    let mut forecast = alone(choice.clone(), only).forecast(&history, engines, options.horizon + gap)?;
    forecast.skip(gap);
    forecast.origin = origin;
    Ok(forecast)
}

fn line(name: &str, series: &Series, forecast: Forecast) -> Line {
    let (mut lower80, mut upper80, mut lower95, mut upper95) = (None, None, None, None);
    if let Some(intervals) = forecast.intervals {
        (lower80, upper80) = (Some(intervals.lower80), Some(intervals.upper80));
        (lower95, upper95) = (Some(intervals.lower95), Some(intervals.upper95));
    }
    Line {
        series: name.to_owned(),
        origin: forecast.origin,
        engine: forecast.engine,
        mean: forecast.mean,
        lower80,
        upper80,
        lower95,
        upper95,
        limit: forecast.limit,
        start: Some(3600 * (series.start() + forecast.origin as i64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options { horizon: 24, origins: None, step: 24, engine: None, model: None }
    }

    fn csv(hours: usize) -> String {
        let rows = (0..hours).flat_map(|hour| {
            let value = 10.0 + (hour % 24) as f64;
            ["a/cpu", "b"].map(|series| format!("{series},{hour},{value}\n"))
        });
        std::iter::once("series,t,y\n".to_owned()).chain(rows).collect()
    }

    fn run(text: &str, options: &Options) -> Result<Vec<Line>> {
        let mut lines = Vec::new();
        forecast(text, options, |made| {
            lines.extend(made.lines);
            Ok(())
        })?;
        Ok(lines)
    }

    #[test]
    fn each_series_is_forecast_after_its_end() {
        let lines = run(&csv(240), &options()).unwrap();
        let names: Vec<&str> = lines.iter().map(|line| line.series.as_str()).collect();
        assert_eq!(names, ["a/cpu", "b"]);
        assert_eq!(lines[0].origin, 240);
        assert!(lines[0].mean.iter().enumerate().all(|(hour, v)| (v - 10.0 - hour as f64).abs() < 1e-6));
        assert!(lines[0].limit.unwrap() >= 33.0);
        let shown = serde_json::to_string(&lines[0]).unwrap();
        assert!(shown.starts_with("{\"series\":\"a/cpu\",\"origin\":240,\"engine\":"), "{shown}");
    }

    #[test]
    fn hours_after_times_have_times_and_hours_after_indexes_have_none() {
        assert_eq!(run(&csv(240), &options()).unwrap()[0].time(0), None);
        let rows = (0..96).map(|hour| format!("2026-01-{:02} {:02}:00,{hour}\n", 5 + hour / 24, hour % 24));
        let text: String = std::iter::once("time,cpu\n".to_owned()).chain(rows).collect();
        let line = &run(&text, &options()).unwrap()[0];
        assert_eq!(line.time(0).unwrap(), "2026-01-09T00:00:00Z");
        assert_eq!(line.time(23).unwrap(), "2026-01-09T23:00:00Z");
    }

    #[test]
    fn rolling_origins_end_with_the_series_and_see_nothing_after_them() {
        let options = Options { origins: Some(3), ..options() };
        let lines = run(&csv(240), &options).unwrap();
        assert_eq!(lines.iter().take(3).map(|line| line.origin).collect::<Vec<_>>(), [168, 192, 216]);
        let changed = csv(240).replace("a/cpu,239,33", "a/cpu,239,9000");
        assert_eq!(run(&changed, &options).unwrap()[..3], lines[..3]);
    }

    fn told(text: &str, options: &Options) -> Vec<String> {
        let mut remarks = Vec::new();
        forecast(text, options, |made| {
            remarks.extend(made.remarks);
            Ok(())
        })
        .unwrap();
        remarks
    }

    #[test]
    fn a_counter_is_forecast_by_its_growth() {
        let rows = (0..240).map(|hour| format!("{hour},{}\n", 100 * hour));
        let text: String = std::iter::once("t,requests_total\n".to_owned()).chain(rows).collect();
        let line = &run(&text, &options()).unwrap()[0];
        assert!(line.mean.iter().all(|value| (value - 100.0).abs() < 1e-6), "{:?}", line.mean);
        assert!(told(&text, &options())[0].contains("counter"));
    }

    #[test]
    fn gaps_and_origins_that_there_are_not_are_told() {
        let gap = csv(240).replace("a/cpu,100,14\n", "");
        assert_eq!(told(&gap, &options()), ["hours without a value: 1"]);
        let many = told(&csv(240), &Options { origins: Some(2000), ..options() });
        assert!(many.len() == 2 && many[0].starts_with("only 9 of 2000 origins"), "{many:?}");
    }

    #[test]
    fn a_text_without_a_value_is_refused() {
        for text in ["t,x\n", "t,x\n1,\n2,nan\n"] {
            assert!(run(text, &options()).unwrap_err().message.contains("no value"), "{text}");
            assert!(train(text, "m", 1).unwrap_err().message.contains("no value"), "{text}");
        }
    }

    #[test]
    fn too_little_to_learn_from_is_told_with_the_longest_series() {
        let error = train(&csv(30), "m", 1).unwrap_err();
        assert!(error.message.contains("the longest of 2 series is a/cpu with 30"), "{error}");
    }

    #[test]
    fn one_engine_can_be_asked_for_and_an_unknown_one_is_refused() {
        for origins in [None, Some(2)] {
            let options = Options { engine: Some("theta".to_owned()), origins, ..options() };
            assert!(run(&csv(240), &options).unwrap().iter().all(|line| line.engine == "theta"));
        }
        let error = run(&csv(240), &Options { engine: Some("oracle".to_owned()), ..options() }).unwrap_err();
        assert!(error.message.contains("seasonal_naive"), "{error}");
        assert!(run(&csv(240), &Options { horizon: 0, ..options() }).is_err());
    }

    #[test]
    fn a_packed_text_is_unpacked() {
        use std::io::Write;
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(b"t,x\n1,2\n").unwrap();
        assert_eq!(text(packed.finish().unwrap().as_slice()).unwrap(), "t,x\n1,2\n");
        assert_eq!(text(&b"t,x\n"[..]).unwrap(), "t,x\n");
    }
}
