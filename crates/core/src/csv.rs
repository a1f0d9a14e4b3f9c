//! Values of CSV (RFC 4180) that no spreadsheet takes for a formula, whatever somebody put into them.

/// A value as a cell of a line.
pub fn cell(value: &str) -> String {
    // Full-width forms too: spreadsheets take them for the plain ones.
    let begins = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];
    let formula = value.trim_start().starts_with(begins) || value.starts_with(['\t', '\r', '\n']);
    let text = if formula { format!("'{value}") } else { value.to_owned() };
    if formula || text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_formula_is_text() {
        for (value, expected) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("=1+1", "\"'=1+1\""),
            ("  =HYPERLINK(\"x\")", "\"'  =HYPERLINK(\"\"x\"\")\""),
            ("-2", "\"'-2\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\u{ff1d}1", "\"'\u{ff1d}1\""),
            ("\t=1", "\"'\t=1\""),
        ] {
            assert_eq!(cell(value), expected);
        }
    }
}
