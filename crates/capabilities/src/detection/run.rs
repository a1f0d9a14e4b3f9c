//! From lines to verdicts: read, parse, group, learn, judge.
//!
//! Reading, unpacking and finding ids happen on one thread, parsing and grouping on another; the answer is
//! the same on one core and on many.

use opsroom_analytics::detect::{DetectError, DetectorConfig, FittedDetector};
use opsroom_analytics::features::{GroupBuilder, Groups, SessionKey};
use opsroom_analytics::parse::{Kind, Level, LogParser};
use opsroom_core::{Error, Result};

use super::grouping::{Choice, SAMPLE_LINES, choose, guess};
use super::model::{Detected, Format, Options};
use super::report::{Judged, Names, report};
use super::sequences;
use crate::logs::input::{Batch, Limits, LogReader, ReadLog, Source, Watch, read_batches};
use crate::logs::shown::shown;

/// A log to judge.
pub struct Request {
    /// The log.
    pub sources: Vec<Source>,
    /// Another log, to learn from what is normal; without one it is learnt from the log itself.
    pub train: Vec<Source>,
    /// How it is judged.
    pub options: Options,
    /// What reading may cost.
    pub limits: Limits,
}

/// Says what is abnormal in a log. Blocks, for as long as reading and judging take.
///
/// # Errors
/// `NotFound`, `Forbidden` or `Invalid` for what cannot be read as a log, and for options that do not fit
/// it; `Cancelled` when the watch says so.
pub fn detect(request: Request, watch: &Watch) -> Result<Detected> {
    match request.options.format {
        Format::Sequences => sequences::detect(request, watch),
        Format::Auto => judge_lines(request, watch),
    }
}

fn judge_lines(request: Request, watch: &Watch) -> Result<Detected> {
    let Request { sources, train, options, limits } = request;
    let mut reader = LogReader::new(sources, limits.clone(), watch.clone());
    let options = Options { parser: reader.parser_config(), ..options };
    let scale = scale(&mut reader)?;
    let choice = choose(&options, &reader.peek(SAMPLE_LINES)?, scale)?;
    let mut miner = Miner::new(choice, &options);
    let learnt = match train.is_empty() {
        true => None,
        false => Some(miner.read(LogReader::new(train, limits, watch.clone()))?),
    };
    let read = miner.read(reader)?;
    let Miner { parser, choice, .. } = miner;
    let mut log = read.log;
    if let Some(key) = &choice.key {
        check_sessions(&read.builder, key, &options, &mut log, watch)?;
    }
    watch.progress.report(None, "judging");
    let resolve = |id: u32| parser.resolve(opsroom_analytics::parse::TemplateId(id)).0;
    let learnt_groups = learnt.map(|learnt| (learnt.builder.finish_folded(resolve), learnt.log));
    let groups = read.builder.finish_folded(resolve);
    let names = Names::templates(parser.templates());
    drop(parser);
    watch.check()?;
    let detector = learn(&options, &groups, learnt_groups.as_ref().map(|(groups, _)| groups))?;
    let judged = Judged {
        detector: &detector,
        groups: &groups,
        names: &names,
        grouping: choice.describe(),
        session_pattern: choice.key.as_ref().map(|key| shown(key.describe().as_bytes(), 200)),
        learnt_from: learnt_groups.as_ref().map(|(_, log)| log),
        times: read.times,
    };
    let found = report(&judged, &mut log, &options, watch)?;
    let summary = &found.summary;
    let told = format!("judged: {} of {} {} abnormal", summary.anomalous, summary.sessions, summary.grouping);
    watch.progress.report(None, told);
    Ok(found)
}

/// Learns what is normal, from the log to learn from or from the one that is judged.
pub(super) fn learn(options: &Options, groups: &Groups, train: Option<&Groups>) -> Result<FittedDetector> {
    let config =
        DetectorConfig { expected_anomalies: options.expected_anomalies, ..DetectorConfig::default() };
    let fitted = match train {
        Some(train) if train.is_empty() => {
            return Err(Error::invalid(
                "nothing can be learnt from the log to learn from: none of its lines belongs to a session or window",
            ));
        }
        Some(train) => config.fit(train),
        None => config.fit_own(groups),
    };
    fitted.map_err(refused)
}

/// A detector's complaint is about what the caller asked.
pub(super) fn refused(error: DetectError) -> Error {
    Error::invalid(error.to_string())
}

/// About how many times longer the log is than what was looked at.
fn scale(reader: &mut LogReader) -> Result<f64> {
    let looked_at = reader.peek(SAMPLE_LINES)?.len();
    if looked_at < SAMPLE_LINES {
        return Ok(1.0);
    }
    let taken = reader.taken_bytes().max(1) as f64;
    // A stream's length is not known; a stream that fills the sample is likely to go on for a while.
    Ok(reader.total_bytes().map_or(10.0, |total| (total as f64 / taken).max(1.0)))
}

/// A pattern that finds nothing is a mistake, and the answer helps to find it.
fn check_sessions(
    builder: &GroupBuilder,
    key: &SessionKey,
    options: &Options,
    log: &mut ReadLog,
    watch: &Watch,
) -> Result<()> {
    let Some(pattern) = &options.session else { return Ok(()) };
    if !builder.is_empty() || log.lines == 0 {
        return Ok(());
    }
    let sample: Vec<Vec<u8>> = log.fetch(&(1..=1_000).collect(), watch)?.into_values().collect();
    let lines: Vec<&[u8]> = sample.iter().map(Vec::as_slice).collect();
    let first = lines.iter().find(|line| !line.trim_ascii().is_empty()).copied().unwrap_or_default();
    let instead = match guess(&lines, &options.parser).filter(|other| other.describe() != key.describe()) {
        Some(other) => {
            format!("leave it out to have the sessions guessed ({})", shown(other.describe().as_bytes(), 100))
        }
        None => "leave it out".to_owned(),
    };
    Err(Error::invalid(format!(
        "the session pattern `{}` matches none of the {} lines; it was tried on whole lines such as `{}`: write one \
         that matches the id in it, {instead}, or use a window such as 60s",
        shown(pattern.as_bytes(), 200),
        log.lines,
        shown(first, 200)
    )))
}

/// Parses and groups logs, one after the other, with the same templates.
struct Miner {
    parser: LogParser,
    choice: Choice,
}

struct Grouped {
    log: ReadLog,
    builder: GroupBuilder,
    times: Option<(i64, i64)>,
}

impl Miner {
    fn new(choice: Choice, options: &Options) -> Self {
        Self { parser: LogParser::new(options.parser.clone()), choice }
    }

    fn read(&mut self, reader: LogReader) -> Result<Grouped> {
        let mut builder = GroupBuilder::new(self.choice.grouping);
        let key = self.choice.key.clone();
        let mut times: Option<(i64, i64)> = None;
        let prepare = move |batch: &mut Batch| {
            if let Some(key) = &key {
                batch.mark(|line| key.find(line));
            }
        };
        let log = read_batches(reader, prepare, |batch| {
            for (at, (number, line)) in batch.lines().enumerate() {
                let parsed = self.parser.push(line);
                // A record is one event, however many lines it has.
                let (Kind::Head, Some(template)) = (parsed.kind, parsed.template) else { continue };
                if let Some(time) = parsed.time {
                    let (from, to) = times.unwrap_or((time, time));
                    times = Some((from.min(time), to.max(time)));
                }
                let error = parsed.level.is_some_and(|level| level >= Level::Error);
                builder.push(number, template.0, parsed.time, error, batch.marked(at));
            }
            Ok(())
        })?;
        Ok(Grouped { log, builder, times })
    }
}
