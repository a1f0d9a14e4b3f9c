//! Traces: which request a span belongs to, here and in the programs before and after this one.
//!
//! A span that is made with the field `traceparent` (W3C Trace Context) goes on with the trace of whoever
//! called; any other span without a parent begins a new one. [`traceparent`] is what to send to whoever
//! is called next. Fields that begin with `otel.` name and describe the span, as elsewhere in Rust:
//! `otel.name`, and `otel.kind` (`server` or `client`).

use std::fmt;

use tokio::sync::mpsc::Sender;
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, Registry};

use super::layer::Fields;
use crate::clock::{Clock, Time};

/// The field that says which trace a span goes on with.
pub(super) const TRACEPARENT: &str = "traceparent";

/// The place of a span in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace; never zero.
    pub trace: u128,
    /// The span; never zero.
    pub span: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent` header.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.trim().split('-');
        let mut hex = |digits: usize| {
            let part = parts.next()?;
            let lower = part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            (part.len() == digits && lower).then_some(part)
        };
        let (version, trace, span, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        // The first version has four parts; later ones may have more, and none is `ff`.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
        let span = u64::from_str_radix(span, 16).ok().filter(|span| *span != 0)?;
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        Some(Self { trace, span, sampled })
    }

    /// A new trace, recorded with this probability.
    fn begin(share: f64) -> Self {
        let (trace, span) = (random_nonzero::<16>(), random_nonzero::<8>());
        let (trace, span) = (u128::from_be_bytes(trace), u64::from_be_bytes(span));
        // The last 53 bits are a fraction of 1, as exact as a float can be.
        let place = (trace & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64;
        Self { trace, span, sampled: place < share }
    }

    fn child(self) -> Self {
        Self { span: u64::from_be_bytes(random_nonzero::<8>()), ..self }
    }
}

/// As a `traceparent` header.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

fn random_nonzero<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    while bytes == [0; N] {
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    }
    bytes
}

/// The `traceparent` header for a call that is made within the current span, when it is in a trace.
pub fn traceparent() -> Option<String> {
    let context = tracing::Span::current().with_subscriber(|(id, dispatch)| {
        let span = dispatch.downcast_ref::<Registry>()?.span(id)?;
        span.extensions().get::<TraceSpan>().map(|span| span.context)
    });
    context.flatten().map(|context| context.to_string())
}

/// A span's part in its trace, kept with the span.
pub(super) struct TraceSpan {
    pub context: TraceContext,
    parent: Option<u64>,
    start: Time,
    error: Option<String>,
}

/// A span that has ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub context: TraceContext,
    pub parent: Option<u64>,
    pub name: &'static str,
    pub start: Time,
    pub end: Time,
    pub fields: Fields,
    /// The first error that was logged in it.
    pub error: Option<String>,
}

/// Gives every span its place in a trace, and hands on those that end.
pub(super) struct TraceLayer {
    share: f64,
    ended: Option<Sender<Finished>>,
    clock: Clock,
}

impl TraceLayer {
    /// `share` of the traces that begin here are recorded, those of callers as they ask.
    pub fn new(share: f64, ended: Option<Sender<Finished>>) -> Self {
        Self { share, ended, clock: Clock::System }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for TraceLayer {
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let header = |fields: &Fields| {
            let header = fields.iter().find(|(name, _)| *name == TRACEPARENT)?.1.as_str()?;
            TraceContext::parse(header)
        };
        // The log's layer is nearer to the registry, and has noted the fields.
        let caller = span.extensions().get::<Fields>().and_then(header);
        let above = span.parent().and_then(|parent| Some(parent.extensions().get::<TraceSpan>()?.context));
        let parent = caller.or(above);
        let own = match parent {
            Some(parent) => parent.child(),
            None => TraceContext::begin(if self.ended.is_some() { self.share } else { 0.0 }),
        };
        let parent = parent.map(|parent| parent.span);
        let kept = TraceSpan { context: own, parent, start: self.clock.now(), error: None };
        span.extensions_mut().insert(kept);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if *event.metadata().level() != Level::ERROR {
            return;
        }
        if let Some(span) = context.event_span(event)
            && let Some(kept) = span.extensions_mut().get_mut::<TraceSpan>()
            && kept.error.is_none()
        {
            let mut fields = Fields::default();
            event.record(&mut fields);
            kept.error = Some(fields.take("message").unwrap_or_default());
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let (Some(ended), Some(span)) = (&self.ended, context.span(&id)) else { return };
        let mut extensions = span.extensions_mut();
        // The span is over: nobody else needs its fields.
        let fields = extensions.get_mut::<Fields>().map(std::mem::take).unwrap_or_default();
        let Some(kept) = extensions.remove::<TraceSpan>().filter(|kept| kept.context.sampled) else { return };
        let TraceSpan { context, parent, start, error } = kept;
        let end = self.clock.now();
        // When spans end faster than they are sent, the rest is left out.
        let _full =
            ended.try_send(Finished { context, parent, name: span.name(), start, end, fields, error });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_as_it_is_written_and_a_wrong_one_is_none() {
        let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context = TraceContext::parse(header).unwrap();
        assert!(context.sampled);
        assert_eq!(context.to_string(), header);
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-more";
        assert!(!TraceContext::parse(later).unwrap().sampled);
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-é-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceContext::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn about_the_asked_share_of_traces_is_recorded() {
        let recorded = |share| (0..400).filter(|_| TraceContext::begin(share).sampled).count();
        assert_eq!((recorded(0.0), recorded(1.0)), (0, 400));
        assert!((100..300).contains(&recorded(0.5)));
    }
}
