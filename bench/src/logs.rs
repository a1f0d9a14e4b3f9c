//! Segments of log lines: how fast lines become one, how small they get, and how fast they are searched,
//! beside `zstd -3`, ripgrep where it is installed, and ClickHouse (chdb) on the same lines.
//!
//! `logs [MEGABYTES] [LOGHUB_FOLDER] [--no-peers] [--times N]`. With `--times` the lines are drawn once and searched
//! so many times over: as separate segments, and as a file that has them so often. Lines are those of the ten systems of loghub 2k without their
//! times and with every word that has a digit drawn anew, behind a time that goes on, a host and a process.
//! Times of packing are processor time of one core.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opsroom_analytics::parse::{LogParser, ParserConfig};
use opsroom_analytics::segments::{Labels, Pattern, Rows, Segment, Test, encode};
use rayon::prelude::*;

use crate::parsing::{corpus, cpu, drain3};

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

/// Tokens that are looked for, and how often each is in the lines.
const TOKENS: (usize, usize) = (20, 10);
/// What stands behind the time: a level by the line, one of so many hosts and processes.
const LEVELS: [&str; 4] = ["INFO", "WARN", "DEBUG", "ERROR"];
const LEVEL_OF: [usize; 8] = [0, 0, 0, 0, 0, 1, 2, 3];
const HOSTS: u64 = 40;
const PROCESSES: u64 = 60;
/// Bytes of a batch that is written at once, as a sender sends it.
const BATCH: usize = 1 << 20;

/// Runs the benchmark.
pub fn run(arguments: &[String]) -> Result<(), String> {
    let many = arguments.iter().position(|argument| argument == "--times").map(|at| at + 1);
    let times = many.and_then(|at| arguments.get(at)).map_or(Ok(1), |text| text.parse());
    let times: usize = times.map_err(|e| format!("--times: {e}"))?;
    let plain =
        arguments.iter().enumerate().filter(|(at, _)| Some(*at) != many).map(|(_, argument)| argument);
    let mut plain = plain.filter(|argument| !argument.starts_with("--"));
    let megabytes: usize = plain.next().map_or(Ok(512), |text| text.parse()).map_err(|e| format!("{e}"))?;
    let folder = plain.next().map_or("data/logs/loghub_2k", String::as_str);
    let systems = corpus::load(Path::new(folder))?;
    let lines: Vec<Vec<u8>> = systems
        .iter()
        .flat_map(|system| system.heads.iter().zip(&system.messages))
        .map(|(head, message)| [head.as_slice(), message].concat())
        .collect();
    let raw_file = std::env::temp_dir().join(format!("opsroom-bench-{}.log", std::process::id()));
    let bench = Bench { lines, megabytes, times, raw_file };
    let outcome = bench.run(!arguments.iter().any(|argument| argument == "--no-peers"));
    std::fs::remove_file(&bench.raw_file).map_err(|e| e.to_string())?;
    outcome
}

struct Bench {
    lines: Vec<Vec<u8>>,
    megabytes: usize,
    /// How many times over the lines are searched.
    times: usize,
    /// Where the lines lie as text, for those who search them so.
    raw_file: PathBuf,
}

/// What packing cost.
#[derive(Default)]
struct Cost {
    raw: usize,
    packed: usize,
    zstd: usize,
    rows: usize,
    parsing: f64,
    writing: f64,
    packing: f64,
}

impl Bench {
    fn run(&self, peers: bool) -> Result<(), String> {
        let mut dice = Dice(42);
        let tokens: Vec<String> = (0..TOKENS.0).map(|_| token(&mut dice)).collect();
        let (segments, cost) = self.pack(&tokens, &mut dice)?;
        let mb = cost.raw as f64 / 1e6;
        println!(
            "{mb:.0} MB in {} lines of {} bytes, {} segments",
            cost.rows,
            cost.raw / cost.rows.max(1),
            segments.len()
        );
        println!("reading times and levels  {:7.1} MB/s of one core", mb / cost.parsing);
        println!("writing ahead, fdatasync  {:7.1} MB/s of one core", mb / cost.writing);
        println!("packing                   {:7.1} MB/s of one core", mb / cost.packing);
        println!(
            "all three                 {:7.1} MB/s of one core",
            mb / (cost.parsing + cost.writing + cost.packing)
        );
        println!(
            "size: 1/{:.1} of raw, {:.2} of `zstd -3` (which is 1/{:.1})",
            cost.raw as f64 / cost.packed as f64,
            cost.packed as f64 / cost.zstd as f64,
            cost.raw as f64 / cost.zstd as f64
        );
        let chance = chance(&self.lines);
        println!(
            "  a line carries {chance:.2} bytes of chance: no code gets below 1/{:.1}; we take {:.2}",
            cost.raw as f64 / cost.rows as f64 / chance,
            cost.packed as f64 / cost.rows as f64
        );
        println!(
            "searched {} times over: {:.0} MB in {} segments",
            self.times,
            mb * self.times as f64,
            segments.len()
        );
        self.search(&segments, &tokens)?;
        if peers { self.chdb(&tokens) } else { Ok(()) }
    }

    fn pack(&self, tokens: &[String], dice: &mut Dice) -> Result<(Vec<Segment>, Cost), String> {
        let io = |error: std::io::Error| error.to_string();
        let all = self.megabytes << 20;
        let (mut cost, mut segments) = (Cost::default(), Vec::new());
        let mut time = 1_763_719_200_000_000i64;
        let mut raw_out = std::io::BufWriter::new(File::create(&self.raw_file).map_err(io)?);
        let mut ahead = tempfile()?;
        let mut planted = 0;
        while cost.raw < all {
            let bytes = SEGMENT.min(all - cost.raw).max(BATCH);
            // Each token comes as often as it should, spread over everything.
            let until = (cost.raw + bytes).min(all) * TOKENS.0 * (TOKENS.1 / self.times).max(1) / all;
            let due: Vec<&str> = (planted..until).map(|at| tokens[at % TOKENS.0].as_str()).collect();
            planted = until;
            let text = made(&self.lines, dice, &mut time, bytes, &due);
            raw_out.write_all(&text).map_err(io)?;
            cost.raw += text.len();
            cost.zstd += zstd::bulk::compress(&text, 3).map_err(io)?.len();
            let mut written = Ok(());
            cost.writing += cpu::measure(|| {
                written = text.chunks(BATCH).try_for_each(|batch| write_ahead(&mut ahead, batch));
            });
            written.and_then(|()| ahead.rewind()).and_then(|()| ahead.set_len(0)).map_err(io)?;
            let mut rows = Rows::default();
            cost.parsing += cpu::measure(|| {
                let mut parser = LogParser::new(ParserConfig::default());
                for line in text.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
                    let parsed = parser.push(line);
                    let level = parsed.level.map_or(0, |level| level as u8 + 1);
                    rows.push(parsed.time.unwrap_or(0), level, 0, line);
                }
            });
            cost.rows += rows.rows.len();
            let mut packed = Vec::new();
            cost.packing += cpu::measure(|| {
                let name = &mut |lines: &[&[u8]]| vec![String::new(); lines.len()];
                packed = encode(&rows, &[Labels::new()], name).unwrap_or_default();
            });
            cost.packed += packed.len();
            for _ in 0..self.times {
                segments.push(Segment::open(Arc::new(packed.clone())).map_err(|e| e.to_string())?);
            }
        }
        raw_out.flush().map_err(io)?;
        let mut raw_out = raw_out.into_inner().map_err(|e| e.to_string())?;
        for _ in 1..self.times {
            let mut drawn = File::open(&self.raw_file).map_err(io)?.take(cost.raw as u64);
            std::io::copy(&mut drawn, &mut raw_out).map_err(io)?;
        }
        Ok((segments, cost))
    }

    fn search(&self, segments: &[Segment], tokens: &[String]) -> Result<(), String> {
        let found: Vec<Found> =
            tokens.iter().map(|token| timed(segments, &Test::Text(token.clone().into_bytes()))).collect();
        let hits: Vec<usize> = found.iter().map(|found| found.count).collect();
        println!("{} tokens, {hits:?} hits: median {}", tokens.len(), median(found));
        // Over a large file ripgrep's times differ little from token to token.
        let few = if self.times > 1 { 3 } else { tokens.len() };
        let others: Option<Vec<Found>> =
            tokens.iter().take(few).map(|token| self.ripgrep(&["-c", "-F", token])).collect();
        match others {
            Some(found) => println!("  ripgrep, {few} of them: median {}", median(found)),
            None => println!("  ripgrep is not installed"),
        }
        for text in REGEXES {
            let found = timed(segments, &Test::Matches(Pattern::new(text)?));
            println!("/{text}/: {} lines in {found}", found.count);
            if let Some(found) = self.ripgrep(&["-c", "--no-unicode", text]) {
                println!("  ripgrep: {} lines in {found}", found.count);
            }
        }
        Ok(())
    }

    /// How many lines ripgrep finds in the raw file, and how long it takes; nothing where there is none.
    fn ripgrep(&self, arguments: &[&str]) -> Option<Found> {
        let search = || Command::new("rg").args(arguments).arg(&self.raw_file).output();
        search().ok()?;
        Some(best(|| {
            let output = search().map(|output| output.stdout).unwrap_or_default();
            String::from_utf8_lossy(&output).trim().parse().unwrap_or(0)
        }))
    }

    /// ClickHouse in process, from PyPI, on the same lines.
    fn chdb(&self, tokens: &[String]) -> Result<(), String> {
        let bench = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let python = drain3::install_package(&bench.join(".peers/chdb"), "chdb==4.4.0")?;
        let json = |list: &[String]| serde_json::to_string(list).map_err(|e| e.to_string());
        let regexes: Vec<String> = REGEXES.iter().map(|text| (*text).to_owned()).collect();
        let output = Command::new(&python)
            .arg(bench.join("peers/chdb_logs.py"))
            .arg(&self.raw_file)
            .args([json(tokens)?, json(&regexes)?])
            .output()
            .map_err(|e| format!("{}: {e}", python.display()))?;
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout)
            .map_err(|_| format!("chdb failed: {}", String::from_utf8_lossy(&output.stderr)))?;
        let number = |name: &str| answer[name].as_f64().unwrap_or_default();
        let raw = std::fs::metadata(&self.raw_file).map_err(|e| e.to_string())?.len() as f64;
        println!(
            "chdb 4.4.0: inserting with a text index {:.1} MB/s of one core",
            raw / 1e6 / number("insert_cpu_seconds")
        );
        println!("  size: 1/{:.1} of raw", raw / number("bytes"));
        println!("  {} hits: median {:.1} ms", answer["token_hits"], number("token_ms"));
        for (text, found) in REGEXES.iter().zip(answer["regexes"].as_array().into_iter().flatten()) {
            println!("  /{text}/: {} lines in {:.1} ms", found[0], found[1].as_f64().unwrap_or_default());
        }
        Ok(())
    }
}

/// A file of its own on the disk that the raw lines lie on.
fn tempfile() -> Result<File, String> {
    let path = std::env::temp_dir().join(format!("opsroom-bench-{}.wal", std::process::id()));
    let file = File::create(&path).map_err(|e| e.to_string())?;
    std::fs::remove_file(&path).map_err(|e| e.to_string())?;
    Ok(file)
}

/// A batch as the write-ahead file keeps it: with its checksum, and on the disk when this answers.
fn write_ahead(file: &mut File, batch: &[u8]) -> std::io::Result<()> {
    file.write_all(&crc32fast::hash(batch).to_le_bytes())?;
    file.write_all(batch)?;
    file.sync_data()
}

/// What a search found, and its milliseconds: as they passed in the best try, and of processors in all tries.
#[derive(Clone, Copy)]
struct Found {
    count: usize,
    passed: f64,
    processor: f64,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1} ms, {:.0} ms of processors", self.passed, self.processor)
    }
}

fn median(mut found: Vec<Found>) -> Found {
    found.sort_by(|a, b| a.passed.total_cmp(&b.passed));
    found[found.len() / 2]
}

/// Milliseconds of processors that this process and the children that ended have taken.
fn spent() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace();
    // After the name: user and system, then those of children, in hundredths of a second.
    fields.skip(11).take(4).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10.0
}

/// How often each search is tried: the best try counts, as others use the machine too.
const TRIES: usize = 7;
/// After so long a search is not tried again, which bounds what a large file costs.
const ENOUGH: Duration = Duration::from_secs(4);

/// How many rows meet a condition.
fn timed(segments: &[Segment], test: &Test) -> Found {
    let find = || -> usize {
        segments.par_iter().map(|s| s.find(test, i64::MIN..i64::MAX).map_or(0, |hits| hits.count())).sum()
    };
    best(find)
}

fn best(find: impl Fn() -> usize) -> Found {
    let (begun, before) = (Instant::now(), spent());
    let mut found = Found { count: 0, passed: f64::INFINITY, processor: 0.0 };
    for tried in 1..=TRIES {
        let start = Instant::now();
        found.count = find();
        found.passed = found.passed.min(start.elapsed().as_secs_f64() * 1e3);
        found.processor = (spent() - before) / tried as f64;
        if begun.elapsed() > ENOUGH {
            break;
        }
    }
    found
}

/// A number that no line has but those that it is planted into.
fn token(dice: &mut Dice) -> String {
    (0..16).map(|at| char::from(b'1' + dice.roll(if at == 0 { 9 } else { 8 }) as u8)).collect()
}

/// Puts a token in the place of a long number of the line that begins at `from`; answers whether there is one.
fn plant(out: &mut Vec<u8>, from: usize, token: &str) -> bool {
    let line = &out[from..];
    let long = |word: &[u8]| word.len() >= 6 && word.iter().all(u8::is_ascii_digit);
    let mut at = 0;
    let place = line.split(|b| !b.is_ascii_alphanumeric()).find_map(|word| {
        let start = at;
        at += word.len() + 1;
        long(word).then_some(from + start..from + start + word.len())
    });
    let Some(place) = place else { return false };
    drop(out.splice(place, token.bytes()));
    true
}

/// Lines with their variables drawn anew, behind a time that goes on; each of `tokens` is in one of them.
fn made(lines: &[Vec<u8>], dice: &mut Dice, time: &mut i64, bytes: usize, tokens: &[&str]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes + 4096);
    let mut waiting = tokens.iter().enumerate().peekable();
    while out.len() < bytes || waiting.peek().is_some() {
        *time += dice.roll(2_000) as i64;
        let at = jiff_text(*time);
        let which = dice.roll(lines.len() as u64);
        let level = LEVELS[LEVEL_OF[(which % 8) as usize]];
        out.extend_from_slice(
            format!("{at} {level} host-{:02} worker[{}]: ", dice.roll(HOSTS), 1_000 + dice.roll(PROCESSES))
                .as_bytes(),
        );
        let from = out.len();
        redraw(&lines[which as usize], dice, &mut out);
        if let Some((at, token)) = waiting.peek()
            && from >= bytes / tokens.len() * at
            && plant(&mut out, from, token)
        {
            waiting.next();
        }
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
    redraw_with(message, &mut |sides| dice.roll(sides), out);
}

fn redraw_with(message: &[u8], roll: &mut dyn FnMut(u64) -> u64, out: &mut Vec<u8>) {
    for word in message.split_inclusive(|b| !b.is_ascii_alphanumeric()) {
        let hex =
            word.iter().filter(|b| b.is_ascii_alphanumeric()).all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let has_digit = word.iter().any(u8::is_ascii_digit);
        for (at, &byte) in word.iter().enumerate() {
            out.push(match byte {
                b'0'..=b'9' if at == 0 && word.len() > 2 => b'1' + roll(9) as u8,
                b'0'..=b'9' => b'0' + roll(10) as u8,
                b'a'..=b'f' if hex && has_digit && word.len() >= 6 => b"0123456789abcdef"[roll(16) as usize],
                other => other,
            });
        }
    }
}

/// The bytes of a line that nothing else tells: what was drawn, and which line it is (Shannon's entropy).
fn chance(lines: &[Vec<u8>]) -> f64 {
    let mut kinds: HashMap<(Vec<u8>, usize), f64> = HashMap::new();
    let mut bits = 0.0;
    for (which, line) in lines.iter().enumerate() {
        // With a die that always shows its least face, lines of a kind become the same.
        let (mut kind, mut drawn) = (Vec::new(), 0.0);
        redraw_with(
            line,
            &mut |sides| {
                drawn += (sides as f64).log2();
                0
            },
            &mut kind,
        );
        bits += drawn;
        *kinds.entry((kind, LEVEL_OF[which % 8])).or_default() += 1.0;
    }
    let all = lines.len() as f64;
    let kind: f64 = kinds.values().map(|count| -count / all * (count / all).log2()).sum();
    // Steps of 0 to 1,999 microseconds, of which milliseconds are seen: about 0, 1 or 2, at .25, .5 and .25.
    let header = (HOSTS as f64 * PROCESSES as f64).log2() + 1.5;
    (bits / all + kind + header) / 8.0
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
