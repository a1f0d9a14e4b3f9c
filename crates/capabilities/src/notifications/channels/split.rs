//! Texts within the limits of providers: split where a line ends, or else a word, and never within a character.

/// How long a text is, by a provider's measure.
pub type Measure = fn(char) -> usize;

/// In UTF-8 bytes.
pub fn bytes(character: char) -> usize {
    character.len_utf8()
}

/// In characters.
pub fn characters(_: char) -> usize {
    1
}

/// In bytes of JSON, in which some characters are escaped.
pub fn json_bytes(character: char) -> usize {
    match character {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        other if (other as u32) < 0x20 => 6,
        other => other.len_utf8(),
    }
}

/// The pieces of a text, none longer than `longest`, which is at least 8. An empty text is one empty piece.
pub fn split(text: &str, longest: usize, measure: Measure) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    loop {
        let fits = fitting(rest, longest, measure);
        if fits == rest.len() {
            pieces.push(rest);
            return pieces;
        }
        let head = &rest[..fits];
        // A border in the first half would make too many pieces.
        let border = |mark: char| head.rfind(mark).filter(|at| *at >= fits / 2);
        let at = border('\n').or_else(|| border(' ')).map_or(fits, |at| at + 1);
        pieces.push(rest[..at].trim_end_matches('\n'));
        rest = &rest[at..];
    }
}

/// The beginning of a text that is no longer than `longest`, with `…` when something is missing.
pub fn cut(text: &str, longest: usize, measure: Measure) -> String {
    if fitting(text, longest, measure) == text.len() {
        return text.to_owned();
    }
    format!("{}…", &text[..fitting(text, longest.saturating_sub(measure('…')), measure)])
}

/// How many bytes of a text are no longer than `longest`.
fn fitting(text: &str, longest: usize, measure: Measure) -> usize {
    let mut length = 0;
    for (at, character) in text.char_indices() {
        length += measure(character);
        if length > longest {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_piece_is_too_long_and_no_character_is_torn_or_lost() {
        let text = "错误 café \"quoted\"\n".repeat(500);
        for (longest, measure) in [(8, bytes as Measure), (100, bytes), (100, json_bytes), (50, characters)] {
            let pieces = split(&text, longest, measure);
            for piece in &pieces {
                let length: usize = piece.chars().map(measure).sum();
                assert!(length <= longest, "{length} > {longest}: {piece:?}");
            }
            let told: String = pieces.concat();
            assert_eq!(told.replace('\n', ""), text.replace('\n', ""));
        }
        assert_eq!(split("", 10, bytes), [""]);
        assert_eq!(split("one\ntwo three", 8, bytes), ["one\ntwo ", "three"]);
    }

    #[test]
    fn a_cut_text_says_so() {
        assert_eq!(cut("short", 10, bytes), "short");
        assert_eq!(cut("much too long", 10, bytes), "much to…");
        assert!(cut(&"é".repeat(100), 21, bytes).len() <= 21);
    }
}
