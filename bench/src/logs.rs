//! Segments of log lines: how fast lines become one, how small they get, and how fast they are searched,
//! beside `zstd -3` and, where it is installed, ripgrep on the same lines.
//!
//! `logs [MEGABYTES] [LOGHUB_FOLDER]`. Lines are those of the ten systems of loghub 2k with every word that
//! has a digit drawn anew, behind a time that goes on. Times of packing are processor time of one core.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use opsroom_analytics::parse::{LogParser, ParserConfig};
use opsroom_analytics::segments::{Labels, Pattern, Rows, Segment, Test, encode};
use rayon::prelude::*;

use crate::parsing::{corpus, cpu};

/// Bytes of text of a segment, as the store makes them.
const SEGMENT: usize = 64 << 20;
/// Expressions that are looked for everywhere.
const REGEXES: [&str; 5] = [
    r"after [0-9]+ attempts",
    r"blk_-?[0-9]+ terminating",
    r"(?i)exception.*connection",
    r"Failed password for .* from 1[0-9]+\.",
    r"session [0-9a-fx]+ closed",
];

/// Runs the benchmark.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let megabytes: usize =
        arguments.first().map_or(Ok(512), |text| text.parse()).map_err(|e| format!("{e}"))?;
    let folder = arguments.get(1).map_or("shared/data/logs/loghub_2k", String::as_str);
    let systems = corpus::load(Path::new(folder))?;
    let lines: Vec<(&[u8], &[u8])> = systems
        .iter()
        .flat_map(|system| system.raw.iter().zip(&system.messages))
        .map(|(raw, message)| (raw.as_slice(), message.as_slice()))
        .collect();
    let mut dice = Dice(42);
    let (mut segments, mut raw_bytes, mut packed_bytes, mut zstd_bytes, mut rows_made) =
        (Vec::new(), 0, 0, 0, 0);
    let (mut parsing, mut packing) = (0.0, 0.0);
    let mut time = 1_763_719_200_000_000i64;
    let raw_file = std::env::temp_dir().join(format!("opsroom-bench-{}.log", std::process::id()));
    let mut raw_out = std::io::BufWriter::new(std::fs::File::create(&raw_file).map_err(|e| e.to_string())?);
    let mut tokens = Vec::new();
    while raw_bytes < megabytes << 20 {
        let text =
            made(&lines, &mut dice, &mut time, SEGMENT.min((megabytes << 20) - raw_bytes).max(1 << 20));
        std::io::Write::write_all(&mut raw_out, &text).map_err(|e| e.to_string())?;
        raw_bytes += text.len();
        zstd_bytes += zstd::bulk::compress(&text, 3).map_err(|e| e.to_string())?.len();
        let mut rows = Rows::default();
        parsing += cpu::measure(|| {
            let mut parser = LogParser::new(ParserConfig::default());
            for line in text.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
                let parsed = parser.push(line);
                rows.push(parsed.time.unwrap_or(0), parsed.level.map_or(0, |level| level as u8 + 1), 0, line);
            }
        });
        rows_made += rows.rows.len();
        if let Some(word) = rare_word(&rows, &mut dice) {
            tokens.push(word);
        }
        let mut packed = Vec::new();
        packing += cpu::measure(|| {
            let name = &mut |lines: &[&[u8]]| vec![String::new(); lines.len()];
            packed = encode(&rows, &[Labels::new()], name).unwrap_or_default();
        });
        packed_bytes += packed.len();
        segments.push(Segment::open(Arc::new(packed)).map_err(|e| e.to_string())?);
    }
    drop(raw_out);
    let mb = raw_bytes as f64 / 1e6;
    println!(
        "{mb:.0} MB in {rows_made} lines of {} bytes, {} segments",
        raw_bytes / rows_made.max(1),
        segments.len()
    );
    println!("reading times and levels  {:7.1} MB/s of one core", mb / parsing);
    println!("packing                   {:7.1} MB/s of one core", mb / packing);
    println!("both                      {:7.1} MB/s of one core", mb / (parsing + packing));
    println!(
        "size: 1/{:.1} of raw, {:.2} of `zstd -3` (which is 1/{:.1})",
        raw_bytes as f64 / packed_bytes as f64,
        packed_bytes as f64 / zstd_bytes as f64,
        raw_bytes as f64 / zstd_bytes as f64
    );
    let mut took: Vec<f64> =
        tokens.iter().map(|token| timed(&segments, &Test::Text(token.clone())).1).collect();
    took.sort_by(f64::total_cmp);
    let median = took.get(took.len() / 2).copied().unwrap_or_default();
    println!("a rare word over everything: median of {} {median:.1} ms", took.len());
    if let Some(token) = tokens.first() {
        ripgrep(&["-c", "-F", &String::from_utf8_lossy(token)], &raw_file);
    }
    for text in REGEXES {
        let test = Test::Matches(Pattern::new(text)?);
        let (count, millis) = timed(&segments, &test);
        println!("/{text}/: {count} lines in {millis:.1} ms");
        ripgrep(&["-c", "--no-unicode", text], &raw_file);
    }
    std::fs::remove_file(&raw_file).map_err(|e| e.to_string())
}

fn timed(segments: &[Segment], test: &Test) -> (usize, f64) {
    let find = || -> usize {
        segments.par_iter().map(|s| s.find(test, i64::MIN..i64::MAX).map_or(0, |hits| hits.count())).sum()
    };
    find();
    let start = Instant::now();
    let count = find();
    (count, start.elapsed().as_secs_f64() * 1e3)
}

fn ripgrep(arguments: &[&str], file: &Path) {
    let search = || Command::new("rg").args(arguments).arg(file).output();
    if search().is_err() {
        return println!("  ripgrep is not installed");
    }
    let start = Instant::now();
    if let Ok(output) = search() {
        let count = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        println!("  ripgrep: {count} lines in {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
    }
}

/// A word of a line that hardly any other line has.
fn rare_word(rows: &Rows, dice: &mut Dice) -> Option<Vec<u8>> {
    (0..1_000).find_map(|_| {
        let row = &rows.rows[dice.roll(rows.rows.len() as u64) as usize];
        let mut words = rows.text_of(row).split(|b| !b.is_ascii_alphanumeric());
        words
            .find(|word| word.len() >= 9 && word.iter().filter(|b| b.is_ascii_digit()).count() >= 6)
            .map(<[u8]>::to_vec)
    })
}

/// Lines with their variables drawn anew, behind a time that goes on.
fn made(lines: &[(&[u8], &[u8])], dice: &mut Dice, time: &mut i64, bytes: usize) -> Vec<u8> {
    const LEVELS: [&str; 8] = ["INFO", "INFO", "INFO", "INFO", "INFO", "WARN", "DEBUG", "ERROR"];
    let mut out = Vec::with_capacity(bytes + 4096);
    while out.len() < bytes {
        *time += dice.roll(2_000) as i64;
        let at = jiff_text(*time);
        let which = dice.roll(lines.len() as u64);
        let level = LEVELS[(which % 8) as usize];
        out.extend_from_slice(
            format!("{at} {level} host-{:02} worker[{}]: ", dice.roll(40), 1_000 + dice.roll(60)).as_bytes(),
        );
        redraw(lines[which as usize].1, dice, &mut out);
        out.push(b'\n');
    }
    out
}

fn jiff_text(micros: i64) -> String {
    let (seconds, fraction) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000) / 1_000);
    let day = (seconds / 86_400 - 20_413) + 21;
    let of_day = seconds % 86_400;
    format!(
        "2025-11-{:02} {:02}:{:02}:{:02},{fraction:03}",
        day.clamp(1, 30),
        of_day / 3600,
        of_day / 60 % 60,
        of_day % 60
    )
}

fn redraw(message: &[u8], dice: &mut Dice, out: &mut Vec<u8>) {
    for word in message.split_inclusive(|b| !b.is_ascii_alphanumeric()) {
        let hex =
            word.iter().filter(|b| b.is_ascii_alphanumeric()).all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let has_digit = word.iter().any(u8::is_ascii_digit);
        for (at, &byte) in word.iter().enumerate() {
            out.push(match byte {
                b'0'..=b'9' if at == 0 && word.len() > 2 => b'1' + dice.roll(9) as u8,
                b'0'..=b'9' => b'0' + dice.roll(10) as u8,
                b'a'..=b'f' if hex && has_digit && word.len() >= 6 => {
                    b"0123456789abcdef"[dice.roll(16) as usize]
                }
                other => other,
            });
        }
    }
}

/// A small generator: the same lines on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}
