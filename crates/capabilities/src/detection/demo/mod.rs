//! The log of a small shop with a real fault in it, made from a seed.
//!
//! A web API, a worker, a database with a pool of connections, a cache and a scheduler write one log. Every
//! line of a request carries the request's id. From a deployment on, some searches do not give their
//! connection back: no line says so, one is only missing. Leak by leak the pool runs dry, until requests
//! wait and then fail; a recycling of the pool ends that, and the leak goes on.
//!
//! The same configuration gives the same bytes, on every machine. Nothing is kept but the requests in
//! flight, so a log of any size can be written.

mod numbers;
mod story;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};

use jiff::Timestamp;

use numbers::Numbers;
use story::{Entry, Pool, Story};

/// How a demo log is made.
#[derive(Clone, Debug)]
pub struct DemoConfig {
    /// Chooses everything that is left to chance.
    pub seed: u64,
    /// When the log begins.
    pub start: Timestamp,
    /// How many requests are served.
    pub requests: u64,
    /// Requests a second, on average over the day's ups and downs.
    pub rate: f64,
    /// The log ends at the first line after this many bytes, if it has not ended before.
    pub most_bytes: u64,
}

impl DemoConfig {
    /// Four hours of a quiet shop: about 100,000 lines.
    pub fn small(seed: u64) -> Self {
        Self { seed, start: start(), requests: 12_000, rate: 12_000.0 / (4.0 * 3600.0), most_bytes: u64::MAX }
    }

    /// A busy shop, cut off at this many bytes.
    pub fn large(seed: u64, bytes: u64) -> Self {
        // A request writes about 700 bytes; the log is to be cut off, and late enough to have the fault.
        let requests = (bytes / 450).max(1_000);
        Self { seed, start: start(), requests, rate: 40.0, most_bytes: bytes }
    }
}

fn start() -> Timestamp {
    Timestamp::new(1_773_475_200, 0).expect("a time in the year 2026")
}

/// What was written, and where the fault in it lies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Lines, those of stack traces included.
    pub lines: u64,
    /// Bytes.
    pub bytes: u64,
    /// Ids of the requests that kept their connection, in order.
    pub leaking: Vec<String>,
    /// Ids of the requests that failed because no connection was left, in order.
    pub starved: Vec<String>,
}

/// At most so many ids of each kind are told.
const MOST_TOLD: usize = 10_000;

/// Writes the log.
pub fn write_demo(config: &DemoConfig, out: &mut impl Write) -> io::Result<Written> {
    let mut shop = Shop::new(config);
    let mut line = Vec::with_capacity(512);
    while shop.step(&mut line) {
        out.write_all(&line)?;
        shop.written.bytes += line.len() as u64;
        shop.written.lines += memchr::memchr_iter(b'\n', &line).count() as u64;
        if shop.written.bytes >= config.most_bytes {
            break;
        }
    }
    Ok(shop.written)
}

struct Shop<'a> {
    config: &'a DemoConfig,
    numbers: Numbers,
    pool: Pool,
    /// What is going to be written, the next first; the second number keeps equal times in order.
    pending: BinaryHeap<Reverse<(i64, u64, Entry)>>,
    sequence: u64,
    /// When the next request comes, in milliseconds since the start.
    arrival: f64,
    served: u64,
    /// When the next line of each clockwork comes.
    ticks: [i64; story::CLOCKWORKS],
    written: Written,
}

impl<'a> Shop<'a> {
    fn new(config: &'a DemoConfig) -> Self {
        let mut ticks = [0; story::CLOCKWORKS];
        for (at, tick) in ticks.iter_mut().enumerate() {
            *tick = 1_000 + 700 * at as i64;
        }
        let mut shop = Self {
            config,
            numbers: Numbers::new(config.seed),
            pool: Pool::new(config.requests),
            pending: BinaryHeap::new(),
            sequence: 0,
            arrival: 400.0,
            served: 0,
            ticks,
            written: Written::default(),
        };
        shop.add(0, story::start_up());
        shop
    }

    /// The next record into `line`; `false` at the end.
    fn step(&mut self, line: &mut Vec<u8>) -> bool {
        while self.served < self.config.requests {
            // Nothing is written before everything that may come earlier is known.
            let (tick, which) = self.next_tick();
            let arrival = self.arrival as i64;
            if self.pending.peek().is_some_and(|Reverse((at, ..))| *at < tick.min(arrival)) {
                break;
            }
            if tick <= arrival {
                let (story, pause) = story::clockwork(which, &mut self.numbers, &self.pool);
                self.add(tick, story);
                self.ticks[which] = tick + pause;
            } else {
                self.serve(arrival);
            }
        }
        let Some(Reverse((at, _, entry))) = self.pending.pop() else { return false };
        line.clear();
        entry.write(self.config.start, at, line);
        true
    }

    fn next_tick(&self) -> (i64, usize) {
        let ticks = self.ticks.iter().zip(0..);
        ticks.map(|(&tick, which)| (tick, which)).min().expect("there are clockworks")
    }

    /// One request comes in.
    fn serve(&mut self, now: i64) {
        let share = self.served as f64 / self.config.requests as f64;
        for story in self.pool.events(share, now, &mut self.numbers) {
            self.add(now, story);
        }
        let story = story::request(&mut self.numbers, &mut self.pool);
        self.told(&story);
        self.add(now, story);
        self.served += 1;
        // More in the middle of the run than at its ends, as by day and night.
        let rate = self.config.rate * (0.7 + 0.6 * (share * std::f64::consts::PI).sin());
        self.arrival += self.numbers.exponential() * 1_000.0 / rate;
    }

    fn told(&mut self, story: &Story) {
        if story.leaks && self.written.leaking.len() < MOST_TOLD {
            self.written.leaking.push(story.id.clone());
        }
        if story.starves && self.written.starved.len() < MOST_TOLD {
            self.written.starved.push(story.id.clone());
        }
    }

    fn add(&mut self, now: i64, story: Story) {
        let mut at = now;
        for (pause, entry) in story.entries {
            at += pause;
            self.sequence += 1;
            self.pending.push(Reverse((at, self.sequence, entry)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(config: &DemoConfig) -> (String, Written) {
        let mut out = Vec::new();
        let written = write_demo(config, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), written)
    }

    #[test]
    fn the_same_seed_gives_the_same_log_and_another_one_does_not() {
        let config = DemoConfig::small(1);
        assert_eq!(written(&config), written(&config));
        assert_ne!(written(&config).0, written(&DemoConfig::small(2)).0);
    }

    #[test]
    fn the_root_of_the_fault_says_nothing_and_its_end_fails_requests() {
        let (log, written) = written(&DemoConfig::small(7));
        assert!((5..60).contains(&written.leaking.len()), "{}", written.leaking.len());
        assert!((5..200).contains(&written.starved.len()), "{}", written.starved.len());
        let of = |id: &str| log.lines().filter(|line| line.contains(id)).collect::<Vec<_>>().join("\n");
        let leak = of(&written.leaking[0]);
        assert!(leak.contains("acquired connection") && !leak.contains("released connection"), "{leak}");
        assert!(!leak.contains("ERROR") && !leak.contains("WARN"), "{leak}");
        assert!(of(&written.starved[0]).contains("ERROR"));
    }

    #[test]
    fn times_never_go_back_and_a_large_log_ends_where_it_is_told_to() {
        let (log, written) = written(&DemoConfig::large(3, 3 << 20));
        assert!((3 << 20..(3 << 20) + 4096).contains(&log.len()), "{}", log.len());
        assert_eq!(written.lines, log.lines().count() as u64);
        let times: Vec<&str> =
            log.lines().filter(|line| line.starts_with("2026")).map(|line| &line[..23]).collect();
        assert!(times.is_sorted());
        assert!(!written.leaking.is_empty() && !written.starved.is_empty());
    }
}
