//! The ten systems of loghub 2k: their raw lines, message texts and true groups.

use std::path::Path;

/// One system's log with its ground truth.
pub struct System {
    pub name: String,
    /// The lines as they were logged.
    pub raw: Vec<Vec<u8>>,
    /// Their texts without headers.
    pub messages: Vec<Vec<u8>>,
    /// What stands before the texts, without the time.
    pub heads: Vec<Vec<u8>>,
    /// The name of each line's true group.
    pub truth: Vec<String>,
}

/// All systems below a folder, by name.
pub fn load(folder: &Path) -> Result<Vec<System>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            entry.file_type().ok()?.is_dir().then(|| entry.file_name().to_string_lossy().into_owned())
        })
        .collect();
    names.sort();
    names.into_iter().map(|name| system(folder, name)).collect()
}

fn system(folder: &Path, name: String) -> Result<System, String> {
    let read = |suffix: &str| {
        let path = folder.join(&name).join(format!("{name}_2k.log{suffix}"));
        std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))
    };
    let raw = read("")?;
    let raw: Vec<Vec<u8>> =
        raw.split(|&b| b == b'\n').filter(|l| !l.is_empty()).map(<[u8]>::to_vec).collect();
    let mut rows = rows(&read("_structured.csv")?).into_iter();
    let head = rows.next().unwrap_or_default();
    let column = |title: &str| {
        head.iter().position(|t| t == title.as_bytes()).ok_or_else(|| format!("{name}: no column {title}"))
    };
    let (content, event) = (column("Content")?, column("EventId")?);
    let mut system = System {
        name: name.clone(),
        raw: raw.clone(),
        messages: Vec::new(),
        heads: Vec::new(),
        truth: Vec::new(),
    };
    let times: Vec<usize> = (0..head.len()).filter(|at| TIMES.contains(&head[*at].as_slice())).collect();
    for (row, raw) in rows.zip(&raw) {
        let cell = |at: usize| row.get(at).cloned().ok_or_else(|| format!("{name}: a row is too short"));
        let message = cell(content)?;
        let times = times.iter().map(|at| cell(*at)).collect::<Result<Vec<_>, _>>()?;
        system.heads.push(untimed(raw, &message, &times));
        system.messages.push(message);
        system.truth.push(String::from_utf8_lossy(&cell(event)?).into_owned());
    }
    if system.raw.len() != system.truth.len() {
        return Err(format!("{name}: {} lines but {} rows", system.raw.len(), system.truth.len()));
    }
    Ok(system)
}

/// The columns that say when.
const TIMES: [&[u8]; 6] = [b"Date", b"Time", b"Timestamp", b"Month", b"Day", b"DateTime"];

/// What stands before the message in a line, without these texts.
fn untimed(raw: &[u8], message: &[u8], times: &[Vec<u8>]) -> Vec<u8> {
    let end = raw.windows(message.len().max(1)).rposition(|part| part == message).unwrap_or(0);
    let mut head = raw[..end].to_vec();
    for time in times.iter().filter(|time| !time.is_empty()) {
        if let Some(at) = head.windows(time.len()).position(|part| part == time.as_slice()) {
            head.drain(at..at + time.len());
        }
    }
    let begin = head.iter().position(|b| !b" []:,-".contains(b)).unwrap_or(head.len());
    head.drain(..begin);
    head.dedup_by(|a, b| *a == b' ' && *b == b' ');
    head
}

/// The rows of a comma-separated table (RFC 4180).
fn rows(text: &[u8]) -> Vec<Vec<Vec<u8>>> {
    let mut rows = Vec::new();
    let mut row = Vec::new();
    let mut cell = Vec::new();
    let mut quoted = false;
    let mut bytes = text.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' if quoted && bytes.peek() == Some(&b'"') => {
                bytes.next();
                cell.push(b'"');
            }
            b'"' => quoted = !quoted,
            b',' if !quoted => row.push(std::mem::take(&mut cell)),
            b'\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            b'\r' if !quoted => {}
            _ => cell.push(byte),
        }
    }
    if !cell.is_empty() || !row.is_empty() {
        row.push(cell);
        rows.push(row);
    }
    rows
}

/// All systems' lines one after the other, again and again until there are `count`.
pub fn repeated(systems: &[System], lines: impl Fn(&System) -> &Vec<Vec<u8>>, count: usize) -> Vec<Vec<u8>> {
    systems
        .iter()
        .flat_map(|s| lines(s).iter().cloned())
        .collect::<Vec<_>>()
        .into_iter()
        .cycle()
        .take(count)
        .collect()
}
