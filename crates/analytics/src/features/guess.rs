//! Guesses which id, if any, groups the lines of a log into sessions.
//!
//! Every word of the first messages that looks like an id is put down under the shape it has: a prefix
//! (`blk_…`, `req-…`), a field's name (`trace_id=…`, `instance: …`) or a bare UUID. A shape groups the log
//! when many messages carry it, its values come back, they are many, and each lives for a part of the log
//! only: a user's name or a host comes back too, but all through the log.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::key::SessionKey;
use super::scan::{in_id, is_uuid, value};

const LOOKED_AT: usize = 20_000;
const MAX_MESSAGE: usize = 2_000;
const MAX_SHAPES: usize = 512;
const MAX_VALUES: usize = 20_000;
/// Fewer groups than this are no sessions to compare.
const MIN_VALUES: usize = 8;

/// Names that are known to stand for one unit of work.
const UNITS: [&str; 16] = [
    "blk_",
    "req-",
    "request",
    "req",
    "trace",
    "correlation",
    "instance",
    "container",
    "attempt",
    "session",
    "sess",
    "txn",
    "transaction",
    "task",
    "job",
    "workflow",
];

/// How an id is written.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Shape {
    Prefix(Vec<u8>),
    Field(Vec<u8>),
    Uuid,
}

/// What was seen of one shape.
#[derive(Debug, Default)]
struct Seen {
    messages: usize,
    /// By the value's hash: how often, first and last message.
    values: HashMap<u64, (u32, u32, u32)>,
}

/// Looks at the first messages of a log (at most 20,000 are taken) for an id that groups them.
/// `None` when none is evident.
pub fn guess_session_key<'a>(messages: impl Iterator<Item = &'a [u8]>) -> Option<SessionKey> {
    let mut shapes: HashMap<Shape, Seen> = HashMap::new();
    let mut total = 0;
    for message in messages.take(LOOKED_AT) {
        let message = &message[..message.len().min(MAX_MESSAGE)];
        let mut here = Vec::new();
        ids(message, &mut here);
        here.sort_unstable();
        // The first id of a shape is the one that `SessionKey::find` will take.
        here.dedup_by(|a, b| a.0 == b.0);
        for (shape, _, id) in here {
            if shapes.len() >= MAX_SHAPES && !shapes.contains_key(&shape) {
                continue;
            }
            note(shapes.entry(shape).or_default(), id, total);
        }
        total += 1;
    }
    let mut best: Option<(f64, Shape)> = None;
    for (shape, seen) in shapes {
        let Some(worth) = worth(&shape, &seen, total) else { continue };
        let better = best.as_ref().is_none_or(|(b, held)| (worth, &shape) > (*b, held));
        if better {
            best = Some((worth, shape));
        }
    }
    Some(match best?.1 {
        Shape::Prefix(prefix) => SessionKey::prefix(&prefix),
        Shape::Field(name) => SessionKey::field(&name),
        Shape::Uuid => SessionKey::uuid(),
    })
}

fn note(seen: &mut Seen, id: &[u8], message: u32) {
    seen.messages += 1;
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    let hash = hasher.finish();
    if seen.values.len() < MAX_VALUES || seen.values.contains_key(&hash) {
        let value = seen.values.entry(hash).or_insert((0, message, message));
        value.0 += 1;
        value.2 = message;
    }
}

/// How well a shape groups the log; `None` when it does not.
fn worth(shape: &Shape, seen: &Seen, total: u32) -> Option<f64> {
    let coverage = seen.messages as f64 / f64::from(total.max(1));
    let values = seen.values.len();
    let mean = seen.messages as f64 / values.max(1) as f64;
    let known = is_unit(shape);
    let mut spans: Vec<u32> = seen.values.values().map(|&(_, first, last)| last - first).collect();
    spans.sort_unstable();
    let span = f64::from(*spans.get(values / 2)?) / f64::from(total);
    let fits = values >= MIN_VALUES
        && coverage >= if known { 0.2 } else { 0.5 }
        && mean >= if known { 2.0 } else { 3.0 }
        && (known || span <= 0.3);
    // Among shapes that cover alike, one known by name is the better guess, then the one with more values.
    fits.then_some(coverage * if known { 1.5 } else { 1.0 } + 1e-6 * values as f64)
}

fn is_unit(shape: &Shape) -> bool {
    let name = match shape {
        Shape::Prefix(name) | Shape::Field(name) => String::from_utf8_lossy(name).to_ascii_lowercase(),
        Shape::Uuid => return true,
    };
    UNITS.iter().any(|unit| name.starts_with(unit))
}

/// All words of a message that look like ids: shape, place, id.
fn ids<'a>(message: &'a [u8], out: &mut Vec<(Shape, usize, &'a [u8])>) {
    let mut at = 0;
    while at < message.len() {
        let len = message[at..].iter().take_while(|&&b| in_id(b)).count();
        if len == 0 {
            at += 1;
            continue;
        }
        let word = &message[at..at + len];
        if let Some(prefix) = prefix_of(word) {
            out.push((Shape::Prefix(prefix.to_vec()), at, word));
        }
        if len >= 36 && is_uuid(&word[len - 36..]) {
            out.push((Shape::Uuid, at, &word[len - 36..]));
        }
        if is_field_name(word)
            && let Some(id) = value(&message[at + len..])
        {
            out.push((Shape::Field(word.to_vec()), at, id));
        }
        at += len;
    }
}

/// The prefix of a word such as `blk_-160`, `req-3ea4052c` or `attempt_1445062781478_0011_m_000000`.
fn prefix_of(word: &[u8]) -> Option<&[u8]> {
    let letters = word.iter().take_while(|b| b.is_ascii_alphabetic()).count();
    let rest = word.get(letters + 1..)?;
    let joined = matches!(word[letters], b'_' | b'-');
    let digits = rest.iter().filter(|b| b.is_ascii_digit()).count();
    let id =
        digits >= 3 && rest.iter().all(|b| b.is_ascii_hexdigit() || matches!(b, b'_' | b'-' | b'm' | b'r'));
    (joined && (2..=16).contains(&letters) && id).then(|| &word[..=letters])
}

/// Whether a word names a field that holds an id of some unit of work.
fn is_field_name(word: &[u8]) -> bool {
    if word.len() > 40 || word.first().is_some_and(u8::is_ascii_digit) {
        return false;
    }
    let ends = [&b"_id"[..], b"Id", b"ID", b"-id", b"_ID"].iter().any(|end| word.ends_with(end));
    let lower = word.to_ascii_lowercase();
    ends || matches!(
        lower.as_slice(),
        b"instance"
            | b"request"
            | b"req"
            | b"trace"
            | b"session"
            | b"traceid"
            | b"requestid"
            | b"sessionid"
            | b"txn"
            | b"transaction"
            | b"container"
            | b"job"
            | b"task"
            | b"rid"
            | b"tid"
            | b"correlation"
            | b"attempt"
            | b"sid"
            | b"workflow"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(lines: &[String]) -> Option<SessionKey> {
        guess_session_key(lines.iter().map(String::as_bytes))
    }

    fn check(lines: &[String], message: &str, id: Option<&str>) {
        let found = guess(lines).expect("an id is evident");
        let got = found.find(message.as_bytes()).map(|id| String::from_utf8_lossy(id).into_owned());
        assert_eq!(got.as_deref(), id, "{}", found.describe());
    }

    /// Lines of `sessions` sessions that overlap four at a time.
    fn interleaved(sessions: usize, line: impl Fn(usize, usize) -> String) -> Vec<String> {
        let steps = 8;
        (0..sessions * steps).map(|i| line(i / (steps * 4) * 4 + i % 4, i / 4 % steps)).collect()
    }

    #[test]
    fn blocks_of_a_file_system_are_evident() {
        let lines = interleaved(64, |s, step| {
            format!("10.250.{step}.7:50010 step {step} of block blk_-16089{s}4 size 67108864")
        });
        check(&lines, "Deleting block blk_-42 file", Some("blk_-42"));
        check(&lines, "Starting thread", None);
    }

    #[test]
    fn instances_of_a_cloud_are_evident_although_every_request_has_an_id() {
        let id = |n: usize| format!("b9000564-fe1a-409b-b8cc-{n:012x}");
        let lines = interleaved(64, |s, step| {
            let request = format!("[req-{} - -]", id(s * 1000 + step * 17 + 1));
            if step % 2 == 0 {
                format!("{request} [instance: {}] VM step {step}", id(s))
            } else {
                format!("{request} 10.11.10.1 \"GET /v2/servers\" status: 200 time: 0.{step}")
            }
        });
        check(&lines, &format!("[req-{}] [instance: {}] x", id(7), id(3)), Some(&id(3)));
    }

    #[test]
    fn traces_in_json_are_evident() {
        let lines = interleaved(64, |s, step| {
            format!(r#"{{"msg":"step {step}","trace_id":"4bf92f{s:04x}","user_id":"u{}"}}"#, s % 3)
        });
        check(&lines, r#"{"trace_id":"4bf92f0077"}"#, Some("4bf92f0077"));
    }

    #[test]
    fn attempts_and_containers_are_evident() {
        let lines = interleaved(64, |s, step| {
            format!("attempt_1445062781478_0011_m_{s:06}_0 TaskAttempt transitioned, step {step}")
        });
        check(
            &lines,
            "Got attempt_1445062781478_0011_m_000009_0.",
            Some("attempt_1445062781478_0011_m_000009_0"),
        );
    }

    #[test]
    fn plain_logs_have_no_sessions() {
        let plain: Vec<String> =
            (0..2000).map(|i| format!("worker {} did {i} things in {}ms", i % 7, i % 90)).collect();
        assert!(guess(&plain).is_none());
        assert!(guess(&[]).is_none());
    }

    #[test]
    fn ids_that_never_come_back_group_nothing() {
        let lines: Vec<String> = (0..2000).map(|i| format!("request_id={i}77a done")).collect();
        assert!(guess(&lines).is_none());
    }

    #[test]
    fn users_that_come_back_all_through_the_log_are_no_sessions() {
        let lines: Vec<String> =
            (0..4000).map(|i| format!("login user_id={} ok", 100 + i * 7 % 40)).collect();
        assert!(guess(&lines).is_none());
    }
}
