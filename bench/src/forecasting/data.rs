//! The public series that forecasts are measured on, read from a folder that is not ours.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::GzDecoder;
use opsroom_analytics::forecast::series::Series;
use sha2::{Digest, Sha256};

/// Hours and values.
type Points = Vec<(i64, f64)>;
/// The columns' names, and the rows.
type Table = (Vec<String>, Vec<Vec<f64>>);

/// One series of the file `hourly_series.csv.gz`.
#[derive(Debug, Clone)]
pub struct Named {
    /// The machine or series.
    pub uid: String,
    /// Its values.
    pub series: Series,
}

/// The series of each data set, in the order of the file.
pub type Groups = BTreeMap<String, Vec<Named>>;

/// Reads `metrics/hourly_series.csv.gz` (`dataset,uid,t,y`, `t` an hour index).
pub fn groups(data: &Path) -> Result<Groups, Box<dyn Error>> {
    let path = data.join("metrics/hourly_series.csv.gz");
    let file = File::open(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut groups: BTreeMap<String, Vec<(String, Points)>> = BTreeMap::new();
    for line in BufReader::new(GzDecoder::new(file)).lines().skip(1) {
        let line = line?;
        let mut fields = line.split(',');
        let mut next = || fields.next().ok_or_else(|| format!("too few fields: {line}"));
        let (set, uid, t, y) = (next()?, next()?, next()?, next()?);
        let rows = groups.entry(set.to_owned()).or_default();
        if rows.last().is_none_or(|(last, _)| last != uid) {
            rows.push((uid.to_owned(), Vec::new()));
        }
        let point = (t.parse()?, y.parse().unwrap_or(f64::NAN));
        rows.last_mut().expect("a row was just pushed").1.push(point);
    }
    let mut out = Groups::new();
    for (set, rows) in groups {
        let mut named = Vec::new();
        for (uid, points) in rows {
            if let Ok(series) = dense(&points) {
                named.push(Named { uid, series });
            }
        }
        out.insert(set, named);
    }
    Ok(out)
}

/// Points of an hour index as a series with gaps.
fn dense(points: &[(i64, f64)]) -> Result<Series, Box<dyn Error>> {
    let start = points.iter().map(|p| p.0).min().ok_or("no point")?;
    let end = points.iter().map(|p| p.0).max().ok_or("no point")?;
    let mut values = vec![f64::NAN; usize::try_from(end - start)? + 1];
    for (t, y) in points {
        values[usize::try_from(t - start)?] = *y;
    }
    Ok(Series::new(start, values)?)
}

/// `sha256(uid) mod 5`: from machines of 0 nothing may be learnt.
pub fn fold(uid: &str) -> u32 {
    // 256 mod 5 is 1, so the remainder of the whole number is that of the sum of its bytes.
    Sha256::digest(uid.as_bytes()).iter().map(|b| u32::from(*b)).sum::<u32>() % 5
}

/// A CSV file of numbers with a header; text columns are left out.
pub fn table(path: &Path) -> Result<Table, Box<dyn Error>> {
    let mut text = String::new();
    File::open(path).map_err(|e| format!("{}: {e}", path.display()))?.read_to_string(&mut text)?;
    let mut lines = text.lines();
    let header = lines.next().ok_or("an empty file")?.split(',').map(str::to_owned).collect();
    let rows = lines.map(|l| l.split(',').map(|f| f.parse().unwrap_or(f64::NAN)).collect()).collect();
    Ok((header, rows))
}
