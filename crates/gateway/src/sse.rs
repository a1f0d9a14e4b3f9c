//! Server-sent events, written and read.

use bytes::{Bytes, BytesMut};

/// One event as it was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its name; empty is `message`.
    pub name: String,
    /// Its id, where it has one.
    pub id: Option<String>,
    /// Its text.
    pub data: String,
    /// How long to wait before connecting again, in milliseconds, where it says so.
    pub retry: Option<u64>,
}

/// Reads events off pieces of a stream.
#[derive(Default)]
pub struct Decoder {
    line: BytesMut,
    event: Event,
    size: usize,
    begun: bool,
    after_return: bool,
}

impl Decoder {
    /// Takes a piece and gives the events that it completes.
    ///
    /// # Errors
    /// When an event is larger than `most` bytes.
    pub fn push(&mut self, piece: &[u8], most: usize) -> Result<Vec<Event>, TooLarge> {
        let mut events = Vec::new();
        let mut rest = piece;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_return) && rest[0] == b'\n' {
                rest = &rest[1..];
                continue;
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', rest) else {
                self.grow(rest.len(), most)?;
                self.line.extend_from_slice(rest);
                break;
            };
            self.grow(end, most)?;
            self.after_return = rest[end] == b'\r';
            if self.line.is_empty() {
                self.take(&rest[..end], &mut events);
            } else {
                self.line.extend_from_slice(&rest[..end]);
                let line = self.line.split();
                self.take(&line, &mut events);
            }
            rest = &rest[end + 1..];
        }
        Ok(events)
    }

    fn grow(&mut self, by: usize, most: usize) -> Result<(), TooLarge> {
        self.size += by;
        if self.size > most { Err(TooLarge) } else { Ok(()) }
    }

    fn take(&mut self, line: &[u8], events: &mut Vec<Event>) {
        if line.is_empty() {
            self.size = 0;
            if std::mem::take(&mut self.begun) {
                let mut event = std::mem::take(&mut self.event);
                if event.data.ends_with('\n') {
                    event.data.pop();
                }
                events.push(event);
            }
            return;
        }
        let line = String::from_utf8_lossy(line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                self.event.data.push_str(value);
                self.event.data.push('\n');
            }
            "event" => value.clone_into(&mut self.event.name),
            "id" => self.event.id = Some(value.to_owned()),
            "retry" => self.event.retry = value.parse().ok(),
            _ => return,
        }
        self.begun = true;
    }
}

/// An event is larger than what is taken.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

/// A message as an event. JSON of one line stays one line; other line ends become several `data` lines.
pub fn event(id: Option<&str>, message: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(message.len() + 64);
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(b"\n");
    }
    out.extend_from_slice(b"event: message\n");
    for line in message.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !line.is_empty()) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.extend_from_slice(b"\n");
    }
    out.extend_from_slice(b"\n");
    out.freeze()
}

/// The comment that keeps a quiet stream open.
pub const KEEP_ALIVE: &[u8] = b":\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_however_the_stream_is_cut() {
        let text = b": hello\n\nid: 7\nretry: 500\ndata:\n\nevent: message\r\ndata: {\"a\":1,\r\ndata: \"b\":2}\r\n\r\ndata: x\r\rdata: half";
        for size in 1..=text.len() {
            let mut decoder = Decoder::default();
            let mut events = Vec::new();
            for piece in text.chunks(size) {
                events.extend(decoder.push(piece, 1000).unwrap());
            }
            let ids: Vec<_> = events.iter().map(|event| event.id.as_deref()).collect();
            assert_eq!(ids, [Some("7"), None, None], "pieces of {size}");
            assert_eq!(events[0].retry, Some(500));
            assert_eq!(events[1].data, "{\"a\":1,\n\"b\":2}");
            assert_eq!(events[2].data, "x");
        }
    }

    #[test]
    fn an_event_without_an_end_is_given_up() {
        let mut decoder = Decoder::default();
        decoder.push(b"data: ", 100).unwrap();
        assert_eq!((0..20).find_map(|_| decoder.push(b"0123456789", 100).err()), Some(TooLarge));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let written = event(Some("3"), b"{\n \"a\": 1\n}");
        let events = Decoder::default().push(&written, 1000).unwrap();
        assert_eq!(events[0].data, "{\n \"a\": 1\n}");
        assert_eq!(events[0].id.as_deref(), Some("3"));
    }
}
