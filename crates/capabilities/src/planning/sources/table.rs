//! Metrics as CSV text: one column a metric (*wide*), or one value a line (*long*).
//!
//! The first line names the columns. A time column is one of `timestamp`, `ts`, `time`, `date`, `t`,
//! `hour` or `hour_offset`; a service column one of `service`, `service_id` or `github_url`. With a column
//! `value` or `y` the file is long, and a column `metric`, `metric_name` or `series` says whose value it
//! is (`service/metric`, or the metric alone); otherwise every other column is a metric. A small number
//! of time is an hour's index; rows between two full hours are interpolated ones and are left out.
//!
//! What could be read in two ways, such as a cell too many or two columns of one name, is refused.

use std::collections::{BTreeSet, HashMap, HashSet};

use opsroom_analytics::forecast::series::MAX_VALUE;
use opsroom_core::{Error, Result};

use crate::planning::moment;

/// Below this a number of time is an hour's index and not seconds: 1973 in seconds.
const MOST_HOURS: f64 = 1e8;
/// The most columns.
const MAX_COLUMNS: usize = 1_000;

/// How much of a text is taken.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most values.
    pub points: usize,
    /// The most series.
    pub series: usize,
}

impl Bounds {
    /// Of a file that an operator named.
    pub const FILE: Bounds = Bounds { points: 50_000_000, series: 1_000_000 };
    /// Of what a request carries.
    pub const REQUEST: Bounds = Bounds { points: 200_000, series: 10_000 };
}

/// When a value was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Position {
    /// The index of an hour.
    Hour(i64),
    /// Seconds since 1970.
    Second(i64),
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TablePoint {
    /// Index of its series.
    pub series: usize,
    /// When.
    pub at: Position,
    /// The value, finite.
    pub value: f64,
}

/// What a text held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// Service, where it is named, and metric.
    pub series: Vec<(Option<String>, String)>,
    /// The values in the order of the text.
    pub points: Vec<TablePoint>,
    /// The largest index of an hour; none when the text has times.
    pub last_hour: Option<i64>,
    /// Whether no column says whose the values are: the only metric is then called `value`.
    pub unnamed: bool,
    /// What was left out.
    pub notes: Vec<String>,
}

/// What the columns are.
struct Columns {
    /// How many there are.
    count: usize,
    time: usize,
    service: Option<usize>,
    shape: Shape,
}

enum Shape {
    Long { value: usize, series: Option<usize>, composed: bool },
    Wide(Vec<(usize, String)>),
}

impl Table {
    /// Reads a text.
    ///
    /// # Errors
    /// `Invalid`, with the line, for what is no such table or too large.
    pub fn parse(text: &str, bounds: Bounds) -> Result<Self> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let (_, head) = lines
            .next()
            .ok_or_else(|| Error::invalid("the CSV is empty; its first line names the columns"))?;
        let columns = columns(&fields(head, 1)?)?;
        let unnamed = matches!(&columns.shape, Shape::Long { series: None, .. });
        let mut reader = Reader {
            bounds,
            known: HashMap::new(),
            table: Table { unnamed, ..Table::default() },
            between: 0,
            empty: 0,
            hollow: BTreeSet::new(),
        };
        for (at, line) in lines {
            reader.row(&columns, &fields(line, at + 1)?, at + 1)?;
        }
        reader.finish()
    }
}

struct Reader {
    bounds: Bounds,
    known: HashMap<(Option<String>, String), usize>,
    table: Table,
    between: usize,
    empty: usize,
    /// Series that were seen without a value.
    hollow: BTreeSet<(Option<String>, String)>,
}

impl Reader {
    fn row(&mut self, columns: &Columns, row: &[String], line: usize) -> Result<()> {
        // A comma at the end of a line makes an empty cell, which is no harm.
        if row.iter().skip(columns.count).any(|cell| !cell.trim().is_empty()) {
            return Err(Error::invalid(format!(
                "line {line} of the CSV has {} cells for {} columns; a value with a comma goes into quotes",
                row.len(),
                columns.count
            )));
        }
        let cell = |at: usize| row.get(at).map(|text| text.trim()).unwrap_or_default();
        let Some(at) = position(cell(columns.time), line)? else {
            self.between += 1;
            return Ok(());
        };
        let service = columns.service.map(|at| cell(at).to_owned()).filter(|service| !service.is_empty());
        match &columns.shape {
            Shape::Wide(metrics) => {
                for (column, metric) in metrics {
                    self.value(service.clone(), metric, at, cell(*column), line)?;
                }
                Ok(())
            }
            Shape::Long { value, series, composed } => {
                let name = series.map(cell).unwrap_or("value");
                let (service, metric) = match name.rsplit_once('/') {
                    Some((of, metric)) if *composed && service.is_none() => (Some(of.to_owned()), metric),
                    _ => (service, name),
                };
                self.value(service, metric, at, cell(*value), line)
            }
        }
    }

    fn value(
        &mut self,
        service: Option<String>,
        metric: &str,
        at: Position,
        text: &str,
        line: usize,
    ) -> Result<()> {
        if text.is_empty() || text.eq_ignore_ascii_case("nan") || text.eq_ignore_ascii_case("null") {
            self.empty += 1;
            let key = (service, metric.to_owned());
            if !self.known.contains_key(&key) && self.hollow.len() < self.bounds.series {
                self.hollow.insert(key);
            }
            return Ok(());
        }
        // A NaN is not in the range.
        let value = text.parse::<f64>().ok().filter(|value| value.abs() <= MAX_VALUE);
        let value = value.ok_or_else(|| {
            let shown: String = text.escape_debug().take(40).collect();
            Error::invalid(format!(
                "line {line} of the CSV: `{shown}` of {metric} is not a finite number from -1e15 to 1e15"
            ))
        })?;
        let key = (service, metric.to_owned());
        let series = match self.known.get(&key) {
            Some(series) => *series,
            None => {
                if self.table.series.len() == self.bounds.series {
                    return Err(too_large("series", self.bounds.series, line));
                }
                self.table.series.push(key.clone());
                self.known.insert(key, self.table.series.len() - 1);
                self.table.series.len() - 1
            }
        };
        if self.table.points.len() == self.bounds.points {
            return Err(too_large("values", self.bounds.points, line));
        }
        if let Position::Hour(hour) = at {
            self.table.last_hour = Some(self.table.last_hour.map_or(hour, |last| last.max(hour)));
        }
        self.table.points.push(TablePoint { series, at, value });
        Ok(())
    }

    fn finish(mut self) -> Result<Table> {
        let seconds = self.table.points.iter().any(|point| matches!(point.at, Position::Second(_)));
        if self.table.last_hour.is_some() && seconds {
            return Err(Error::invalid(
                "the time column of the CSV mixes indexes of hours with times; use one of them",
            ));
        }
        if self.between > 0 {
            self.table.notes.push(format!("{} rows between two full hours were left out", self.between));
        }
        if self.empty > 0 {
            self.table.notes.push(format!("{} values are missing", self.empty));
        }
        self.hollow.retain(|key| !self.known.contains_key(key));
        if !self.hollow.is_empty() {
            let names: Vec<String> = self.hollow.iter().take(10).map(name).collect();
            let more = match self.hollow.len() - names.len() {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            self.table.notes.push(format!("no value at all: {}{more}", names.join(", ")));
        }
        Ok(self.table)
    }
}

/// What a series is called: its service, where one is named, and its metric.
pub fn name((service, metric): &(Option<String>, String)) -> String {
    service.as_ref().map_or_else(|| metric.clone(), |service| format!("{service}/{metric}"))
}

fn too_large(what: &str, most: usize, line: usize) -> Error {
    Error::invalid(format!("line {line} of the CSV is beyond the {most} {what} that are taken"))
}

/// When a row is; `None` for one between two full hours.
fn position(text: &str, line: usize) -> Result<Option<Position>> {
    if let Ok(number) = text.parse::<f64>()
        && number.abs() < MOST_HOURS
    {
        return Ok((number.fract() == 0.0).then_some(Position::Hour(number as i64)));
    }
    let seconds = moment::parse(text).ok_or_else(|| {
        let shown: String = text.escape_debug().take(40).collect();
        Error::invalid(format!("line {line} of the CSV: `{shown}` is no time and no index of an hour"))
    })?;
    Ok(Some(Position::Second(seconds)))
}

fn columns(names: &[String]) -> Result<Columns> {
    let mut seen = HashSet::new();
    if let Some(twice) =
        names.iter().map(|name| name.trim()).find(|name| !name.is_empty() && !seen.insert(*name))
    {
        let shown: String = twice.escape_debug().take(40).collect();
        return Err(Error::invalid(format!(
            "the CSV has two columns `{shown}`; name each column differently"
        )));
    }
    let find = |wanted: &[&str]| {
        wanted
            .iter()
            .find_map(|wanted| names.iter().position(|name| name.trim().eq_ignore_ascii_case(wanted)))
    };
    let time = find(&["timestamp", "ts", "time", "date", "datetime", "t", "hour_offset", "hour"]);
    let time = time.ok_or_else(|| {
        Error::invalid("the CSV has no time column: name one `timestamp`, `ts`, `time`, `t` or `hour_offset`")
    })?;
    let service = find(&["service", "service_id", "github_url"]);
    let value = find(&["value", "y"]);
    let shape = match value {
        Some(value) => {
            let metric = find(&["metric", "metric_name"]);
            let composed = metric.is_none();
            Shape::Long { value, series: metric.or_else(|| find(&["series", "unique_id"])), composed }
        }
        None => {
            let metrics = names.iter().enumerate().filter(|(at, _)| *at != time && Some(*at) != service);
            Shape::Wide(metrics.map(|(at, name)| (at, name.trim().to_owned())).collect())
        }
    };
    if matches!(&shape, Shape::Wide(metrics) if metrics.is_empty()) {
        return Err(Error::invalid("the CSV has no column of values"));
    }
    Ok(Columns { count: names.len(), time, service, shape })
}

/// The fields of one line (RFC 4180, without line breaks in fields).
fn fields(line: &str, number: usize) -> Result<Vec<String>> {
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    if quoted {
        return Err(Error::invalid(format!("line {number} of the CSV has a quote that does not end")));
    }
    fields.push(field);
    if fields.len() > MAX_COLUMNS {
        return Err(Error::invalid(format!("line {number} of the CSV has more than {MAX_COLUMNS} columns")));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Table> {
        Table::parse(text, Bounds::REQUEST)
    }

    #[test]
    fn a_wide_file_of_half_hours_gives_its_full_hours() {
        let table = parse("hour_offset,total_events,avg_cpu\n0.0,10,0.5\n0.5,11,0.6\n1.0,12,\n").unwrap();
        assert_eq!(table.series, [(None, "total_events".to_owned()), (None, "avg_cpu".to_owned())]);
        let points: Vec<_> = table.points.iter().map(|p| (p.series, p.at, p.value)).collect();
        assert_eq!(
            points,
            [(0, Position::Hour(0), 10.0), (1, Position::Hour(0), 0.5), (0, Position::Hour(1), 12.0)]
        );
        assert_eq!(table.notes.len(), 2, "{:?}", table.notes);
    }

    #[test]
    fn a_long_file_names_service_and_metric_in_one_column_or_two() {
        let one = parse("series,t,y\nshop/avg_cpu,0,0.5\nlonely,1,2\n").unwrap();
        assert_eq!(one.series[0], (Some("shop".to_owned()), "avg_cpu".to_owned()));
        assert_eq!(one.series[1], (None, "lonely".to_owned()));
        let two = parse("service_id,metric_name,ts,value\n\"a,b\",x/y,2025-11-11 10:00,1\n").unwrap();
        assert_eq!(two.series, [(Some("a,b".to_owned()), "x/y".to_owned())]);
        assert_eq!(two.points[0].at, Position::Second(1_762_855_200));
    }

    #[test]
    fn a_series_without_any_value_is_named() {
        let table = parse("series,t,y\nshop/cpu,0,nan\nshop/cpu,1,\nshop/mem,0,nan\nshop/mem,1,2\n").unwrap();
        assert_eq!(table.notes, ["3 values are missing", "no value at all: shop/cpu"]);
    }

    #[test]
    fn what_is_no_table_is_refused_with_its_line() {
        let message = |text: &str| parse(text).unwrap_err().message;
        assert!(message("").contains("empty"));
        assert!(message("a,b\n1,2\n").contains("no time column"));
        assert!(message("t,x\n1,2\n2,many\n").contains("line 3"));
        assert!(message("t,x\nsoon,2\n").contains("line 2"));
        assert!(message("t,x\n1,inf\n").contains("finite"));
        assert!(message("t,x\n1,2\n2025-11-11,2\n").contains("mixes"));
        assert!(message("t,x\n\"1,2\n").contains("quote"));
        assert!(message("t,x\n1,2\n2,3,5\n").contains("line 3 of the CSV has 3 cells for 2 columns"));
        assert!(message("t,x, x\n1,2,3\n").contains("two columns `x`"));
        assert!(message("t,x\n1,1e20\n").contains("1e15"));
        assert_eq!(parse("t,x,\n1,2,\n2,3,,\n").unwrap().points.len(), 2, "commas at the end");
    }

    #[test]
    fn more_values_than_a_request_may_carry_are_refused() {
        let bounds = Bounds { points: 3, series: 2 };
        let error = Table::parse("t,x\n1,1\n2,1\n3,1\n4,1\n", bounds).unwrap_err();
        assert!(error.message.contains("beyond the 3 values"), "{}", error.message);
        let error = Table::parse("t,x,y1,z\n1,1,1,1\n", bounds).unwrap_err();
        assert!(error.message.contains("beyond the 2 series"), "{}", error.message);
    }
}
