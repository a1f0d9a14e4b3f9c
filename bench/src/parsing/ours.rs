//! Our parser under measurement.

use std::collections::{BTreeMap, BTreeSet};

use opsroom_analytics::parse::{LogParser, Miner, MinerConfig, ParserConfig};

use super::corpus::System;
use super::cpu;

/// The template of each message, as resolved at the end.
pub fn mine(messages: &[Vec<u8>]) -> Vec<u32> {
    let mut miner = Miner::new(MinerConfig::default());
    let ids: Vec<_> = messages.iter().map(|m| miner.mine(m).template).collect();
    ids.into_iter().map(|id| miner.resolve(id).0).collect()
}

/// The template of each raw line, as resolved at the end.
pub fn parse(lines: &[Vec<u8>]) -> Vec<u32> {
    let mut parser = LogParser::new(ParserConfig::default());
    let ids: Vec<_> = lines.iter().map(|l| parser.push(l).template).collect();
    ids.into_iter().map(|id| id.map_or(0, |id| parser.resolve(id).0)).collect()
}

/// The seconds that mining takes.
pub fn time_mining(messages: &[Vec<u8>], masks: bool) -> f64 {
    let mut miner = Miner::new(MinerConfig { masks, ..MinerConfig::default() });
    cpu::measure(|| {
        for message in messages {
            std::hint::black_box(miner.mine(message));
        }
    })
}

/// The seconds that parsing takes.
pub fn time_parsing(lines: &[Vec<u8>]) -> f64 {
    let mut parser = LogParser::new(ParserConfig::default());
    cpu::measure(|| {
        for line in lines {
            std::hint::black_box(parser.push(line));
        }
    })
}

/// Prints lines whose header was cut elsewhere than the truth says.
fn show_headers(system: &System) {
    let mut parser = LogParser::new(ParserConfig::default());
    let mut wrong = 0;
    for (at, (line, message)) in system.raw.iter().zip(&system.messages).enumerate() {
        let parsed = parser.push(line);
        if parsed.message.trim_ascii() != message.trim_ascii() {
            wrong += 1;
            if wrong <= 12 || at % 250 == 0 {
                println!("   {:>5} {:?} {}", at + 1, parsed.kind, String::from_utf8_lossy(&parsed.message));
            }
        }
    }
    println!("{wrong} headers of {} end elsewhere than the truth says", system.name);
}

/// Prints where the groups of a system are not the true ones, on messages and on raw lines.
pub fn show(system: &System) {
    show_headers(system);
    for (title, ids) in [("messages", mine(&system.messages)), ("raw lines", parse(&system.raw))] {
        println!("== {} of {}", title, system.name);
        let mut found: BTreeMap<u32, BTreeMap<&str, (usize, usize)>> = BTreeMap::new();
        let mut wanted: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        for (line, (&id, truth)) in ids.iter().zip(&system.truth).enumerate() {
            found.entry(id).or_default().entry(truth).or_insert((0, line)).0 += 1;
            wanted.entry(truth).or_default().insert(id);
        }
        for (truth, ids) in wanted.iter().filter(|(_, ids)| ids.len() > 1) {
            println!("{truth} is split into {}", ids.len());
            for id in ids.iter().take(12) {
                let (count, line) = found[id][truth];
                println!("   {count:>5}  {}", String::from_utf8_lossy(&system.messages[line]));
            }
        }
        for groups in found.values().filter(|groups| groups.len() > 1) {
            println!("one template for {}", groups.len());
            for (truth, (count, line)) in groups {
                println!("   {count:>5}  {truth:<5} {}", String::from_utf8_lossy(&system.messages[*line]));
            }
        }
    }
}
