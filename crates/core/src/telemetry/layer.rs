//! From an event to a line.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::Output;
use super::scrub::{INSTEAD, is_secret_name, scrub};
use super::trace::{TRACEPARENT, TraceSpan};
use crate::clock::Clock;

/// The longest text of a field, in bytes; more is cut.
const MAX_TEXT_BYTES: usize = 16 << 10;
/// The names that every line has.
const OURS: [&str; 5] = ["time", "level", "target", "message", "spans"];

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Json,
    Text { colour: bool },
}

/// Writes each event as a line.
pub(super) struct LogLayer {
    style: Style,
    output: Output,
    clock: Clock,
}

impl LogLayer {
    pub fn new(style: Style, output: Output) -> Self {
        Self { style, output, clock: Clock::System }
    }

    #[cfg(test)]
    pub fn at(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }
}

/// What an event or a span says, in its order.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        let name = field.name();
        let value = if is_secret_name(name) { Value::from(INSTEAD) } else { value };
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known = value,
            None => self.0.push((name, value)),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    /// Takes a field out, as text.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        match self.0.remove(at).1 {
            Value::String(text) => Some(text),
            other => Some(other.to_string()),
        }
    }
}

fn text(text: &str) -> Value {
    let end = text.floor_char_boundary(MAX_TEXT_BYTES);
    let mut kept = scrub(&text[..end]).into_owned();
    if end < text.len() {
        write!(kept, "… ({} bytes)", text.len()).expect("a string takes what is written to it");
    }
    Value::String(kept)
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, text(&format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, text(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        // What comes over the `log` crate says in fields where it is from.
        let target = fields.take("log.target").unwrap_or_else(|| event.metadata().target().to_owned());
        for name in ["log.module_path", "log.file", "log.line"] {
            fields.take(name);
        }
        let message = fields.take("message").unwrap_or_default();
        let mut line = match self.style {
            Style::Json => Line::json(),
            Style::Text { colour } => Line::text(colour),
        };
        let time = self.clock.now().to_rfc3339();
        line.begin(&time, *event.metadata().level(), &target, &message);
        let spans = || context.event_scope(event).into_iter().flat_map(|scope| scope.from_root());
        // The innermost: a span can go on with another trace than the one around it.
        let trace =
            spans().filter_map(|span| Some(span.extensions().get::<TraceSpan>()?.context.trace)).last();
        if let Some(trace) = trace.filter(|_| self.style == Style::Json) {
            fields.0.push(("trace_id", format!("{trace:032x}").into()));
        }
        line.fields(&fields);
        for span in spans() {
            let extensions = span.extensions();
            line.span(span.name(), extensions.get::<Fields>().unwrap_or(&Fields::default()));
        }
        // A log that cannot be written has no place to say so.
        let _unwritten = self.output.lock().write_all(line.end().as_bytes());
    }
}

/// A line that is being made.
struct Line {
    text: String,
    json: bool,
    colour: bool,
    spans: usize,
}

impl Line {
    fn json() -> Self {
        Self { text: String::with_capacity(256), json: true, colour: false, spans: 0 }
    }

    fn text(colour: bool) -> Self {
        Self { text: String::with_capacity(256), json: false, colour, spans: 0 }
    }

    fn begin(&mut self, time: &str, level: Level, target: &str, message: &str) {
        let level_word = level.as_str().to_ascii_lowercase();
        if self.json {
            self.text.push_str("{\"time\":");
            quoted(&mut self.text, time);
            for (name, value) in [("level", level_word.as_str()), ("target", target), ("message", message)] {
                self.text.push(',');
                quoted(&mut self.text, name);
                self.text.push(':');
                quoted(&mut self.text, value);
            }
            return;
        }
        let (on, off) = match (self.colour, level) {
            (false, _) => ("", ""),
            (true, Level::ERROR) => ("\u{1b}[31m", "\u{1b}[0m"),
            (true, Level::WARN) => ("\u{1b}[33m", "\u{1b}[0m"),
            (true, Level::INFO) => ("\u{1b}[32m", "\u{1b}[0m"),
            (true, _) => ("\u{1b}[2m", "\u{1b}[0m"),
        };
        // To the second: a person reads it.
        self.text.push_str(time.get(..19).unwrap_or(time));
        self.text.push_str(&format!("Z {on}{:>5}{off} ", level.as_str()));
        plain(&mut self.text, target);
        self.text.push_str(": ");
        plain(&mut self.text, message);
    }

    fn fields(&mut self, fields: &Fields) {
        for (name, value) in &fields.0 {
            if !self.json {
                self.text.push(' ');
                self.pair(name, value);
                continue;
            }
            self.text.push(',');
            let name = if OURS.contains(name) { format!("{name}_") } else { (*name).to_owned() };
            quoted(&mut self.text, &name);
            self.text.push(':');
            json_value(&mut self.text, value);
        }
    }

    fn span(&mut self, name: &str, fields: &Fields) {
        self.spans += 1;
        // The trace is told once, by its id.
        let fields = fields.0.iter().filter(|(name, _)| *name != TRACEPARENT);
        if !self.json {
            self.text.push_str(if self.spans == 1 { "  in " } else { " > " });
            plain(&mut self.text, name);
            for (name, value) in fields {
                self.text.push(' ');
                self.pair(name, value);
            }
            return;
        }
        self.text.push_str(if self.spans == 1 { ",\"spans\":[{\"name\":" } else { ",{\"name\":" });
        quoted(&mut self.text, name);
        for (name, value) in fields {
            self.text.push(',');
            quoted(&mut self.text, if *name == "name" { "name_" } else { name });
            self.text.push(':');
            json_value(&mut self.text, value);
        }
        self.text.push('}');
    }

    fn end(mut self) -> String {
        if self.json {
            self.text.push_str(if self.spans > 0 { "]}" } else { "}" });
        }
        self.text.push('\n');
        self.text
    }

    /// `name=value`, quoted when it has spaces.
    fn pair(&mut self, name: &str, value: &Value) {
        plain(&mut self.text, name);
        self.text.push('=');
        match value {
            Value::String(text) if !text.is_empty() && !text.contains([' ', '"', '=']) => {
                plain(&mut self.text, text);
            }
            value => json_value(&mut self.text, value),
        }
    }
}

/// A text that can be shown on a terminal: what could end its line, steer the terminal or turn the
/// direction of what follows is escaped.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(is_tricky) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    plain(&mut shown, text);
    Cow::Owned(shown)
}

/// JSON that can be shown on a terminal: the same value, with what could steer the terminal escaped.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    // Outside of strings JSON has no such character but line ends, and inside it has none of those.
    let tricky = |c: char| is_tricky(c) && c != '\n';
    if !json.contains(tricky) {
        return Cow::Borrowed(json);
    }
    let mut shown = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if tricky(c) {
            write!(shown, "\\u{:04x}", u32::from(c)).expect("a string takes what is written to it");
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Characters that end a line, steer a terminal, or turn the direction of what follows.
fn is_tricky(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn plain(out: &mut String, text: &str) {
    for c in text.chars() {
        if is_tricky(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
}

fn json_value(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => quoted(out, text),
        other => write!(out, "{other}").expect("a string takes what is written to it"),
    }
}

/// A JSON string in which tricky characters are escaped, also those that JSON would allow.
fn quoted(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if is_tricky(c) => {
                write!(out, "\\u{:04x}", u32::from(c)).expect("a string takes what is written to it");
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
