//! Text of logs as it may be shown: to a terminal, in JSON, to a model.
//!
//! A log line is whatever somebody managed to get logged. Here it loses what could steer a terminal or
//! hide text from a reader: control bytes, colours, direction overrides and invisible characters are
//! written out, and no text is longer than asked for.

use std::fmt::Write;

/// The text of a line, harmless and of at most about `most` bytes.
pub fn shown(line: &[u8], most: usize) -> String {
    let cut = line.len() > most;
    // A cut in the middle of a character must not look like a broken one.
    let mut end = line.len().min(most);
    while cut && end > most.saturating_sub(3) && line[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    let mut text = clean(&String::from_utf8_lossy(&line[..end]));
    if cut {
        let _ = write!(text, "… ({} bytes in all)", line.len());
    }
    text
}

/// The same text with everything written out that does not stand for itself.
pub fn clean(text: &str) -> String {
    if !text.chars().any(is_hidden) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_hidden(character) {
            let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
        } else {
            out.push(character);
        }
    }
    out
}

fn is_hidden(character: char) -> bool {
    match character {
        '\t' => false,
        c if c.is_control() => true,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{e0000}'..='\u{e0fff}' => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_or_hides_text_is_written_out() {
        assert_eq!(shown(b"a\x1b[2J\rb\tc", 100), "a\\u{1b}[2J\\u{d}b\tc");
        assert_eq!(clean("pay\u{202e}load\u{e0041}\u{200b}"), "pay\\u{202e}load\\u{e0041}\\u{200b}");
        assert_eq!(clean("Zürich 🚆"), "Zürich 🚆");
    }

    #[test]
    fn long_lines_are_cut_between_characters_and_say_their_length() {
        assert_eq!(shown("ääää".as_bytes(), 5), "ää… (8 bytes in all)");
        assert_eq!(shown(b"short", 5), "short");
        assert!(shown(b"\xff\xfe broken", 100).ends_with("broken"));
    }
}
