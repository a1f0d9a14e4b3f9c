//! Tables of text: sequences with labels, and templates by event id.
//!
//! - Sequences: a header with `sequence` and perhaps `label` and `weight`, in any case and order; ids of
//!   events separated by spaces; any label but 0 is an anomaly; other columns are left alone. A column
//!   `time` or `timestamp` says when a row was: a number, or a date and time with its zone.
//! - Templates: `id,template` with that header, or one template a line, numbered from 1.
//! - Labels of a raw log: a column `session` (also `session_id`, `BlockId` or `id`) or `line` (from 1), and a
//!   column `label`, where `0`, `normal` and `-` are normal and anything else is an anomaly.
//!
//! Fields may be quoted as in RFC 4180.

use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;

use super::dataset::{Builder, Dataset, Row};
use super::error::ClassifyError;

/// Bytes of one record, at most.
const MAX_RECORD: usize = 32 << 20;
/// Commas of one record, at most.
const MAX_COMMAS: usize = 1_000_000;
/// Bytes of memory that the labels of a raw log take, at most.
const MAX_LABELS: usize = 1 << 30;
/// Bytes that one label takes beside its session's id, with the room that a table of them keeps free.
const LABEL: usize = 80;

/// The records of a table, one at a time.
struct Records<R> {
    what: &'static str,
    reader: R,
    line: usize,
    start: usize,
}

impl<R: BufRead> Records<R> {
    fn new(what: &'static str, reader: R) -> Self {
        Self { what, reader, line: 0, start: 0 }
    }

    fn error(&self, problem: impl Into<String>) -> ClassifyError {
        ClassifyError::Table { what: self.what, line: self.start.max(1), problem: problem.into() }
    }

    /// The next line with its end taken off; `None` at the end.
    fn raw_line(&mut self, record: &mut Vec<u8>) -> Result<bool, ClassifyError> {
        let room = (MAX_RECORD.saturating_sub(record.len()) as u64).saturating_add(1);
        let mut limited = std::io::Read::take(&mut self.reader, room);
        let read = limited.read_until(b'\n', record).map_err(|error| self.error(error.to_string()))?;
        if record.len() > MAX_RECORD {
            return Err(self.error(format!("the record is longer than {MAX_RECORD} bytes")));
        }
        self.line += usize::from(read > 0);
        Ok(read > 0)
    }

    /// The fields of the next record that is not empty.
    fn next(&mut self) -> Result<Option<Vec<String>>, ClassifyError> {
        loop {
            let mut record = Vec::new();
            self.start = self.line + 1;
            if !self.raw_line(&mut record)? {
                return Ok(None);
            }
            while record.iter().filter(|&&byte| byte == b'"').count() % 2 == 1 {
                if !self.raw_line(&mut record)? {
                    return Err(self.error("a quoted field does not end"));
                }
            }
            let text = std::str::from_utf8(&record).map_err(|_| self.error("the text is not UTF-8"))?;
            let text = text.trim_start_matches('\u{feff}').trim_end_matches(['\n', '\r']);
            if text.bytes().filter(|&byte| byte == b',').count() > MAX_COMMAS {
                return Err(self.error(format!("the record has more than {MAX_COMMAS} commas")));
            }
            if !text.is_empty() {
                return Ok(Some(fields(text)));
            }
        }
    }
}

fn fields(record: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut characters = record.chars().peekable();
    while let Some(character) = characters.next() {
        let field = fields.last_mut().expect("there is always a field");
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                field.push('"');
                characters.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            _ => field.push(character),
        }
    }
    fields
}

/// Reads sequences.
pub fn read_sequences(reader: impl BufRead) -> Result<Dataset, ClassifyError> {
    let mut records = Records::new("sequences", reader);
    let Some(header) = records.next()? else {
        return Err(records.error("the table is empty, expected a header with `sequence`"));
    };
    let column = |name: &str| header.iter().position(|field| field.trim().eq_ignore_ascii_case(name));
    let Some(sequence) = column("sequence") else {
        let found = header.join(", ");
        return Err(records.error(format!("no column is named `sequence`; the header has: {found:.200}")));
    };
    let (label, weight) = (column("label"), column("weight"));
    let time = column("time").or_else(|| column("timestamp"));
    let mut times = Vec::new();
    let mut builder = Builder::default();
    while let Some(fields) = records.next()? {
        let field = |at: usize| fields.get(at).map(|field| field.trim());
        let Some(ids) = field(sequence) else {
            return Err(records.error(format!("the record has {} fields, too few", fields.len())));
        };
        let events = builder.events(ids.split_ascii_whitespace());
        let events = events.map_err(|error| records.error(error.to_string()))?;
        if events.is_empty() {
            return Err(records.error("the sequence has no events"));
        }
        let anomalous = label.and_then(field).filter(|label| !label.is_empty());
        let anomalous = anomalous.map(|label| label.parse::<f64>() != Ok(0.0));
        let weight = match weight.and_then(field).filter(|weight| !weight.is_empty()) {
            None => 1.0,
            Some(text) => match text.parse::<f64>() {
                Ok(weight) if weight >= 0.0 && weight.is_finite() => weight,
                _ => {
                    return Err(records.error(format!("the weight is {text:?}, expected a number from 0")));
                }
            },
        };
        times.extend(time.and_then(field).and_then(moment));
        builder.row(Row { events, anomalous, weight }).map_err(|error| records.error(error.to_string()))?;
    }
    // A column of that name may hold something else, and is then left alone like others.
    if times.len() == builder.dataset.rows.len() {
        builder.dataset.times = times;
    }
    if builder.dataset.rows.is_empty() {
        return Err(records.error("the table has a header but no rows"));
    }
    Ok(builder.dataset)
}

/// Which parts of a raw log are anomalies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    /// By the id of a session.
    Sessions(HashMap<String, bool>),
    /// By the number of a line, from 1.
    Lines(HashMap<u64, bool>),
}

/// Reads the labels of a raw log.
pub fn read_labels(reader: impl BufRead) -> Result<Labels, ClassifyError> {
    let mut records = Records::new("labels", reader);
    let Some(header) = records.next()? else {
        return Err(
            records.error("the table is empty, expected a header with `session` or `line`, and `label`")
        );
    };
    let column = |name: &str| header.iter().position(|field| field.trim().eq_ignore_ascii_case(name));
    let session =
        ["session", "session_id", "sessionid", "block_id", "blockid", "id"].into_iter().find_map(column);
    let line = column("line").or_else(|| column("line_id")).or_else(|| column("lineid"));
    let (Some(place), Some(label)) = (session.or(line), column("label")) else {
        let found = header.join(", ");
        let expected = "expected the columns `session` or `line`, and `label`";
        return Err(records.error(format!("{expected}; the header has: {found:.200}")));
    };
    let (mut sessions, mut lines) = (HashMap::new(), HashMap::new());
    let mut left = MAX_LABELS;
    while let Some(fields) = records.next()? {
        let (Some(place), Some(label)) = (fields.get(place), fields.get(label)) else {
            return Err(records.error(format!("the record has {} fields, too few", fields.len())));
        };
        let (place, label) = (place.trim(), label.trim());
        left = left.checked_sub(LABEL + place.len()).ok_or_else(|| {
            records.error(format!("the labels up to here take all the {MAX_LABELS} bytes of memory they may"))
        })?;
        let normal = ["", "0", "-", "normal"].iter().any(|word| label.eq_ignore_ascii_case(word));
        if session.is_some() {
            sessions.insert(place.to_owned(), !normal);
        } else {
            let number = place.parse::<u64>().ok().filter(|number| *number > 0);
            let number =
                number.ok_or_else(|| records.error(format!("{place:?} is no number of a line, from 1")))?;
            lines.insert(number, !normal);
        }
    }
    Ok(if session.is_some() { Labels::Sessions(sessions) } else { Labels::Lines(lines) })
}

/// A moment as millionths of the unit that it is written in.
fn moment(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<f64>() {
        return number.is_finite().then_some((number * 1e6) as i64);
    }
    text.parse::<jiff::Timestamp>().ok().map(|time| time.as_microsecond())
}

/// Reads templates by event id.
pub fn read_templates(mut reader: impl BufRead) -> Result<BTreeMap<String, String>, ClassifyError> {
    let mut text = String::new();
    let mut limited = std::io::Read::take(&mut reader, MAX_RECORD as u64 + 1);
    std::io::Read::read_to_string(&mut limited, &mut text).map_err(|error| ClassifyError::Table {
        what: "templates",
        line: 1,
        problem: error.to_string(),
    })?;
    if text.len() > MAX_RECORD {
        let problem = format!("the table is longer than {MAX_RECORD} bytes");
        return Err(ClassifyError::Table { what: "templates", line: 1, problem });
    }
    let mut records = Records::new("templates", text.as_bytes());
    // A first line that is no record (an odd quote, say) is a template like the others.
    let header = records.next().ok().flatten().unwrap_or_default();
    let column = |names: [&str; 2]| {
        let named = |field: &String| names.iter().any(|name| field.trim().eq_ignore_ascii_case(name));
        header.iter().position(named)
    };
    let columns = column(["id", "EventId"]).zip(column(["template", "EventTemplate"]));
    let Some((id, template)) = columns else {
        let lines = text.trim_start_matches('\u{feff}').lines().filter(|line| !line.trim().is_empty());
        return Ok(lines.enumerate().map(|(at, line)| ((at + 1).to_string(), line.to_owned())).collect());
    };
    let mut templates = BTreeMap::new();
    while let Some(fields) = records.next()? {
        let (Some(id), Some(template)) = (fields.get(id), fields.get(template)) else {
            return Err(records.error(format!("the record has {} fields, too few", fields.len())));
        };
        templates.insert(id.trim().to_owned(), template.clone());
    }
    Ok(templates)
}

#[cfg(test)]
mod tests {
    use super::{Labels, read_labels, read_sequences, read_templates};

    #[test]
    fn columns_are_found_by_name_in_any_case_and_order() {
        let text = "extra,WEIGHT,Label,Sequence\r\nx,2.5,0,1 2 2\r\n\"a,\"\"b\"\"\",,3,E7\n\nz,0,,9 9";
        let data = read_sequences(text.as_bytes()).unwrap();
        let labels: Vec<_> = data.rows.iter().map(|row| row.anomalous).collect();
        assert_eq!(labels, [Some(false), Some(true), None]);
        assert_eq!(data.rows.iter().map(|row| row.weight).collect::<Vec<_>>(), [2.5, 1.0, 0.0]);
        assert_eq!(data.rows[0].events, [0, 1, 1]);
        assert_eq!(data.events[2].id, "E7");
    }

    #[test]
    fn rows_say_when_they_were_and_a_column_of_something_else_is_left_alone() {
        let times = |text: &str| read_sequences(text.as_bytes()).unwrap().times;
        assert_eq!(times("time,sequence\n7.5,1\n-2,1\n"), [7_500_000, -2_000_000]);
        assert_eq!(times("sequence,Timestamp\n1,1970-01-01T00:00:01Z\n"), [1_000_000]);
        assert!(times("sequence,time\n1,5\n2,soon\n").is_empty());
        assert!(times("sequence\n1\n").is_empty());
    }

    #[test]
    fn a_table_without_labels_is_read_for_prediction() {
        let data = read_sequences("sequence\n5 5 22\n".as_bytes()).unwrap();
        assert_eq!(data.rows[0].anomalous, None);
    }

    #[test]
    fn errors_name_the_line_and_what_would_be_right() {
        for (text, line, part) in [
            ("", 1, "empty"),
            ("a,b\n1,2\n", 1, "no column is named `sequence`"),
            ("sequence,label\n", 2, "no rows"),
            ("sequence,label\n1 2,0\n ,1\n", 3, "no events"),
            ("label,sequence\n1\n", 2, "too few"),
            ("sequence,weight\n1,2\n1,-1\n", 3, "expected a number from 0"),
            ("sequence,weight\n1,NaN\n", 2, "expected a number from 0"),
            ("sequence\n\"1 2\n", 2, "does not end"),
        ] {
            let error = read_sequences(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(&format!("line {line} ")), "{text:?}: {error}");
        }
    }

    #[test]
    fn labels_are_by_session_or_by_line() {
        let sessions = read_labels("BlockId,Label\nblk_1,Normal\nblk_2,Anomaly\n".as_bytes()).unwrap();
        assert_eq!(sessions, Labels::Sessions([("blk_1".into(), false), ("blk_2".into(), true)].into()));
        let lines = read_labels("label,line\n-,1\n0,2\nKERNDTLB,3\n".as_bytes()).unwrap();
        assert_eq!(lines, Labels::Lines([(1, false), (2, false), (3, true)].into()));
        for (text, part) in [
            ("", "empty"),
            ("label\n1\n", "expected the columns"),
            ("line,label\n0,1\n", "no number of a line"),
            ("session,label\nx\n", "too few"),
        ] {
            assert!(read_labels(text.as_bytes()).unwrap_err().to_string().contains(part), "{text:?}");
        }
    }

    #[test]
    fn templates_come_with_a_header_or_numbered_by_line() {
        let named = read_templates("id,template\nE1,\"a, <*> b\"\n7,c\n".as_bytes()).unwrap();
        assert_eq!(named["E1"], "a, <*> b");
        let structured = read_templates("EventId,EventTemplate\nE1,x\n".as_bytes()).unwrap();
        assert_eq!(structured["E1"], "x");
        let plain = read_templates("first, with a comma\nsecond \"quoted\n".as_bytes()).unwrap();
        assert_eq!((plain["1"].as_str(), plain["2"].as_str()), ("first, with a comma", "second \"quoted"));
    }
}
