//! The server is killed at random moments while alerts come in and go out: what was accepted and is not there
//! afterwards, and what was told again although it was confirmed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Connection, House, Outcome, SENDERS, Told, delivery};

/// The longest life of a server, in milliseconds.
const LONGEST_LIFE: u64 = 1_500;

/// Prints what became of the alerts that were accepted over so many kills.
pub fn run(house: &mut House, told: &Told, kills: usize) -> Outcome<()> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut accepted = BTreeSet::new();
    let mut lives = Vec::new();
    for round in 0..kills {
        // xorshift64: moments that are spread, and the same in every run.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let life = Duration::from_millis(random % LONGEST_LIFE);
        lives.push(life);
        let over = AtomicBool::new(false);
        let taken = std::thread::scope(|scope| -> Outcome<Vec<usize>> {
            let (house, over) = (&*house, &over);
            let sending =
                |sender| scope.spawn(move || send(house, over, (round * SENDERS + sender) * 100_000));
            let senders: Vec<_> = (0..SENDERS).map(sending).collect();
            std::thread::sleep(life);
            let killed =
                std::process::Command::new("kill").args(["-9", &house.process.id().to_string()]).status();
            over.store(true, Ordering::Relaxed);
            let taken = senders.into_iter().filter_map(|sender| sender.join().ok()).flatten().collect();
            if killed?.success() { Ok(taken) } else { Err("the server was gone before it was killed".into()) }
        })?;
        accepted.extend(taken);
        house.process.wait()?;
        house.again()?;
    }
    let seconds = settled(house)?;
    let kept = kept(house)?;
    let lost = accepted.difference(&kept).count();
    let (messages, repeated, wrong) = repeated(house, told)?;
    lives.sort();
    println!("kills                                     {kills:>10}");
    println!("median life of a server                   {:>10} ms", lives[kills / 2].as_millis());
    println!("alerts accepted                           {:>10}", accepted.len());
    println!("of them lost                              {lost:>10}");
    println!("messages told                             {messages:>10}");
    println!("told again, on record as unknown          {repeated:>10}");
    println!("told again although confirmed             {wrong:>10}");
    println!("until all was told after the last kill    {seconds:>10.1} s");
    if lost > 0 || wrong > 0 || accepted.is_empty() {
        return Err("a promise was broken".into());
    }
    Ok(())
}

/// Sends alerts, one after the other; answers the numbers of those that were accepted.
fn send(house: &House, over: &AtomicBool, first: usize) -> Vec<usize> {
    let mut taken = Vec::new();
    let Ok(mut connection) = Connection::open(house.port) else { return taken };
    for n in first.. {
        let sent = connection.post(&house.secret, &delivery("followed", n, 1, "firing"));
        if sent.is_err() || over.load(Ordering::Relaxed) {
            // What was answered while it was killed counts, too.
            taken.extend(sent.is_ok().then_some(n));
            return taken;
        }
        taken.push(n);
        // People are told of every one: a bounded load.
        std::thread::sleep(Duration::from_millis(40));
    }
    taken
}

/// Every page of an operation that lists.
fn pages(house: &House, operation: &str) -> Outcome<Vec<Value>> {
    let mut items: Vec<Value> = Vec::new();
    loop {
        let mut arguments = vec![operation.to_owned(), "--limit=200".to_owned()];
        if let Some(last) = items.last() {
            arguments.push(format!("--after={}", last["id"].as_str().unwrap_or_default()));
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let page = house.command(&arguments)?;
        let found = page["items"].as_array().ok_or("no items")?;
        if found.is_empty() {
            return Ok(items);
        }
        items.extend(found.iter().cloned());
    }
}

/// Waits until nothing waits; answers how long that was, in seconds.
fn settled(house: &House) -> Outcome<f64> {
    let begun = Instant::now();
    let mut calm = 0;
    while calm < 3 {
        std::thread::sleep(Duration::from_secs(1));
        let page = house.command(&["list-notifications", "--limit=200"])?;
        let waiting = page["items"].as_array().into_iter().flatten().any(|it| it["state"] == "waiting");
        calm = if waiting { 0 } else { calm + 1 };
        if begun.elapsed() > Duration::from_secs(300) {
            return Err("messages still wait after five minutes".into());
        }
    }
    Ok(begun.elapsed().as_secs_f64() - 3.0)
}

/// The numbers of the alerts that are there.
fn kept(house: &House) -> Outcome<BTreeSet<usize>> {
    let number = |alert: &Value| {
        let instance = alert["labels"]["instance"].as_str()?;
        instance.strip_prefix("host-")?.split(':').next()?.parse().ok()
    };
    Ok(pages(house, "list-alerts")?.iter().filter_map(number).collect())
}

/// How many messages came, how many came again after an attempt of unknown end, and how many without one.
fn repeated(house: &House, told: &Told) -> Outcome<(usize, usize, usize)> {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    while let Ok((_, body)) = told.seen.try_recv() {
        let body: Value = serde_json::from_slice(&body)?;
        *times.entry(body["id"].as_str().ok_or("a message without an id")?.to_owned()).or_default() += 1;
    }
    let (mut known, mut wrong) = (0, 0);
    for (id, times) in times.iter().filter(|(_, times)| **times > 1) {
        let story = house.command(&["get-notification", id])?;
        let attempts = story["attempts"].as_array().into_iter().flatten();
        let unknown = attempts.filter(|attempt| attempt["outcome"] == "unknown").count();
        if unknown + 1 >= *times {
            known += 1;
        } else {
            wrong += 1;
        }
    }
    Ok((times.len(), known, wrong))
}
