//! Files that were named together, in the order of their times: a rotated log is read from its oldest file
//! on, however its files were named.

use opsroom_analytics::parse::{Kind, LogParser};

use super::folder::in_order;
use super::source::{LogReader, Origin, Source};
use super::{Limits, Watch};

/// The most files whose first lines are looked at.
const MOST: usize = 256;
/// Lines that are looked at for a time.
const LINES: usize = 50;

/// The sources by the time of their first lines; files of one rotated log without times by their names.
/// What is no file, or among very many, stays in the order in which it was given.
pub fn in_time_order(mut sources: Vec<Source>, limits: &Limits) -> Vec<Source> {
    let files = sources.iter().all(|source| !matches!(source.origin, Origin::Stream(_)));
    if sources.len() < 2 || sources.len() > MOST || !files {
        return sources;
    }
    let times: Vec<Option<i64>> = sources.iter().map(|source| first_time(source, limits)).collect();
    if times.iter().all(Option::is_some) {
        let mut timed: Vec<_> = times.into_iter().zip(sources).collect();
        timed.sort_by_key(|(time, _)| *time);
        return timed.into_iter().map(|(_, source)| source).collect();
    }
    let siblings = sources.windows(2).all(|pair| super::folder::are_of_one(&pair[0].name, &pair[1].name));
    if siblings {
        sources.sort_by(|a, b| in_order(a.name.as_ref(), b.name.as_ref()));
    }
    sources
}

fn first_time(source: &Source, limits: &Limits) -> Option<i64> {
    let mut reader = LogReader::new(vec![source.clone()], limits.clone(), Watch::silent());
    // What cannot be read is told when it is read.
    let config = reader.parser_config();
    let lines = reader.peek(LINES).ok()?;
    let mut parser = LogParser::new(config);
    lines.iter().take(LINES).find_map(|line| {
        let parsed = parser.push(line);
        parsed.time.filter(|_| parsed.kind == Kind::Head)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(files: &[(&str, &str)]) -> Vec<String> {
        let sources = files.iter().map(|(name, text)| Source::text(*name, *text)).collect();
        in_time_order(sources, &Limits::default()).into_iter().map(|source| source.name).collect()
    }

    #[test]
    fn rotated_files_are_read_from_the_oldest_on_in_whatever_order_they_are_named() {
        let files = [
            ("app.log", "2025-11-21 12:00:00 INFO c\n"),
            ("app.log.2", "\tat a.B\n2025-11-21 10:00:00 INFO a\n"),
            ("app.log.1", "2025-11-21 11:00:00 INFO b\n"),
        ];
        assert_eq!(names(&files), ["app.log.2", "app.log.1", "app.log"]);
    }

    #[test]
    fn without_times_rotated_names_tell_the_order_and_other_files_stay() {
        let files = [("app.log", "c\n"), ("app.log.10", "a\n"), ("app.log.2", "b\n")];
        assert_eq!(names(&files), ["app.log.10", "app.log.2", "app.log"]);
        let files = [("web.log", "w\n"), ("app.log", "2025-11-21 10:00:00 INFO a\n")];
        assert_eq!(names(&files), ["web.log", "app.log"]);
    }
}
