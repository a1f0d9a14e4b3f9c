//! The templates of a log, and which line has which.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};

use opsroom_analytics::parse::{LogParser, Template, TemplateId};
use opsroom_core::{Error, Result};

use super::input::{Limits, LogReader, Source, Watch, read_batches};
use super::model::{LogTemplate, TemplateList};
use super::shown::{clean, shown};

/// Bytes of a template or an example that an answer quotes.
const MOST_BYTES: usize = 1_000;

/// Mines the templates of a log. Blocks, for as long as reading takes.
///
/// # Errors
/// Those of reading; `Cancelled` when the watch says so.
pub fn list_templates(
    sources: Vec<Source>,
    limits: Limits,
    watch: &Watch,
    limit: usize,
) -> Result<TemplateList> {
    let mined = mine(sources, limits, watch, |_, _| Ok(()))?;
    let mut templates = mined.parser.templates();
    templates.sort_by(|a, b| b.count.cmp(&a.count).then(a.id.cmp(&b.id)));
    let more = templates.len().saturating_sub(limit) as u64;
    templates.truncate(limit);
    Ok(TemplateList {
        templates: templates.into_iter().map(answered).collect(),
        more,
        lines: mined.lines,
        warnings: mined.warnings,
    })
}

/// Gives every line's number and the id of its template to `each`, in order: a continuation has its head's,
/// an empty line none. Ids are those of [`list_templates`].
///
/// # Errors
/// Those of reading, and what `each` fails with.
pub fn line_templates(
    sources: Vec<Source>,
    limits: Limits,
    watch: &Watch,
    mut each: impl FnMut(u64, Option<u32>) -> Result<()>,
) -> Result<Vec<String>> {
    // Which templates turn out to be one is known at the end, so ids wait in a file: a log may have more
    // lines than memory has room for.
    let kept =
        tempfile::tempfile().map_err(|error| Error::unavailable(format!("no temporary file: {error}")))?;
    let mut kept = BufWriter::new(kept);
    let mined = mine(sources, limits, watch, |_, id| {
        kept.write_all(&id.map_or(0, |id| id.0).to_le_bytes()).map_err(lost)
    })?;
    let mut file: File = kept.into_inner().map_err(|error| lost(error.into_error()))?;
    file.rewind().map_err(lost)?;
    let mut ids = BufReader::new(file);
    let mut bytes = [0; 4];
    for line in 1..=mined.lines {
        ids.read_exact(&mut bytes).map_err(lost)?;
        let id = u32::from_le_bytes(bytes);
        each(line, (id != 0).then(|| mined.parser.resolve(TemplateId(id)).0))?;
    }
    Ok(mined.warnings)
}

fn lost(error: std::io::Error) -> Error {
    Error::unavailable(format!("the temporary file of template ids failed: {error}"))
}

struct Mined {
    parser: LogParser,
    lines: u64,
    warnings: Vec<String>,
}

fn mine(
    sources: Vec<Source>,
    limits: Limits,
    watch: &Watch,
    mut each: impl FnMut(u64, Option<TemplateId>) -> Result<()>,
) -> Result<Mined> {
    let reader = LogReader::new(sources, limits, watch.clone());
    let mut parser = LogParser::new(reader.parser_config());
    let log = read_batches(
        reader,
        |_| {},
        |batch| batch.lines().try_for_each(|(number, line)| each(number, parser.push(line).template)),
    )?;
    let warnings = log.warnings.iter().map(|warning| clean(warning)).collect();
    Ok(Mined { parser, lines: log.lines, warnings })
}

fn answered(template: Template) -> LogTemplate {
    let quoted = |text: String| shown(text.as_bytes(), MOST_BYTES);
    LogTemplate {
        id: template.id.0,
        template: quoted(template.template),
        count: template.count,
        first_line: template.first_line,
        examples: template.examples.into_iter().map(quoted).collect(),
        parameters: template.params.into_iter().map(|seen| seen.into_iter().map(quoted).collect()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "2026-01-01 10:00:00 INFO user 1 logged in\n\
        2026-01-01 10:00:01 ERROR job 7 failed\n\
        \tat a.B.c(B.java:1)\n\
        \n\
        2026-01-01 10:00:02 INFO user 2 logged in\n";

    fn text() -> Vec<Source> {
        vec![Source::text("text", LOG)]
    }

    #[test]
    fn every_line_has_the_id_of_a_listed_template_and_an_empty_one_none() {
        let list = list_templates(text(), Limits::default(), &Watch::silent(), 10).unwrap();
        let mut ids = Vec::new();
        line_templates(text(), Limits::default(), &Watch::silent(), |line, id| {
            ids.push((line, id));
            Ok(())
        })
        .unwrap();
        assert_eq!(ids, [(1, Some(1)), (2, Some(2)), (3, Some(2)), (4, None), (5, Some(1))]);
        let listed: Vec<_> = list.templates.iter().map(|t| (t.id, t.template.as_str(), t.count)).collect();
        assert_eq!(listed, [(1, "user <*> logged in", 2), (2, "job <*> failed", 1)]);
        assert_eq!(list.templates[0].parameters, [["1", "2"]]);
        assert_eq!((list.lines, list.more), (5, 0));
    }

    #[test]
    fn a_limit_says_how_many_more_there_are() {
        let list = list_templates(text(), Limits::default(), &Watch::silent(), 1).unwrap();
        assert_eq!((list.templates.len(), list.more), (1, 1));
    }
}
