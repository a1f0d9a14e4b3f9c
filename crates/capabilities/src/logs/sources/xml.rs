//! XML as object stores list with: elements and their text, nothing else. No entity but the five of XML and
//! numbers is known, and no document type, so that nothing is expanded.

/// The texts between `<name>` and `</name>` right below `xml`, or deeper.
pub fn all<'a>(xml: &'a str, name: &str) -> Vec<&'a str> {
    let mut found = Vec::new();
    let mut rest = xml;
    while let Some(inner) = next(&mut rest, name) {
        found.push(inner);
    }
    found
}

/// The first of them, with its entities resolved.
pub fn text(xml: &str, name: &str) -> Option<String> {
    let mut rest = xml;
    next(&mut rest, name).map(unescape)
}

fn next<'a>(rest: &mut &'a str, name: &str) -> Option<&'a str> {
    loop {
        let at = rest.find('<')?;
        let after = &rest[at + 1..];
        let Some(tail) = after.strip_prefix(name) else {
            *rest = after;
            continue;
        };
        let end = tail.find('>')?;
        let (attributes, inner) = (&tail[..end], &tail[end + 1..]);
        if !(attributes.is_empty() || attributes.starts_with([' ', '/', '\t', '\n'])) {
            *rest = tail;
            continue;
        }
        if attributes.ends_with('/') {
            *rest = inner;
            return Some("");
        }
        let close = format!("</{name}>");
        let length = inner.find(&close)?;
        *rest = &inner[length + close.len()..];
        return Some(&inner[..length]);
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(end) = rest.find(';').filter(|end| *end <= 10) else {
            out.push('&');
            rest = &rest[1..];
            continue;
        };
        let number = |digits: &str, base| u32::from_str_radix(digits, base).ok().and_then(char::from_u32);
        let character = match &rest[1..end] {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            other => match other.strip_prefix("#x") {
                Some(digits) => number(digits, 16),
                None => other.strip_prefix('#').and_then(|digits| number(digits, 10)),
            },
        };
        match character {
            Some(character) => out.push(character),
            None => out.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    out + rest
}

/// `%XX` as the byte that it stands for.
pub fn percent_decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.filter(|_| bytes[at] == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                // COS and S3 write a space as `+` where they encode.
                out.push(if bytes[at] == b'+' { b' ' } else { bytes[at] });
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_found_by_their_whole_name() {
        let xml = "<?xml version='1.0'?><R xmlns='x'><Key>a&amp;b&#65;&#x42;</Key><KeyMarker>no</KeyMarker><C><Key/></C></R>";
        assert_eq!(text(xml, "Key").unwrap(), "a&bAB");
        assert_eq!(all(xml, "Key"), ["a&amp;b&#65;&#x42;", ""]);
        assert_eq!((text(xml, "None"), text("<Key>unclosed", "Key")), (None, None));
    }

    #[test]
    fn entities_are_not_expanded() {
        let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><Key>&b;</Key>";
        assert_eq!(text(bomb, "Key").unwrap(), "&b;");
        assert_eq!(percent_decoded("a%2Fb+c%zz%2"), b"a/b c%zz%2");
    }
}
