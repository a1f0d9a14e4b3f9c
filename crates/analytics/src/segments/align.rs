//! Where a text may lie in the lines of a shape: in its own text, within a variable, or across both.

use super::column::{Want, contains};
use super::moment::Spelling;
use super::shape::{IP, Piece, RAW, TIME, TOKEN, is_word};

/// What is wanted of the variable at this place; the bounds are those of the needle's part.
pub(super) type Wanted = (usize, Want, usize, usize);

/// Whether the lines of a shape contain a text.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// All do.
    Yes,
    /// Those for which all wants of one of these lists are met; none for an empty list.
    If(Vec<Vec<Wanted>>),
}

/// Where `needle` may lie in lines of these pieces; ASCII case is not looked at.
pub(super) fn align(pieces: &[Piece<'_>], needle: &[u8]) -> Found {
    let mut search = Search { pieces, needle, found: Vec::new() };
    let mut var = 0;
    // A shape's own text has no digits.
    let digits = needle.iter().any(u8::is_ascii_digit);
    let first = needle.first().is_some_and(u8::is_ascii_digit);
    for (at, piece) in pieces.iter().enumerate() {
        match *piece {
            Piece::Text(text) => {
                if !digits && contains(text, needle) {
                    return Found::Yes;
                }
                let longest = if first { 0 } else { text.len().min(needle.len().saturating_sub(1)) };
                for taken in 1..=longest {
                    if text[text.len() - taken..].eq_ignore_ascii_case(&needle[..taken]) {
                        search.follow(at + 1, var, taken, &mut Vec::new());
                    }
                }
            }
            Piece::Var(kind, code) => {
                search.begin(at, var, kind, code);
                var += 1;
            }
        }
    }
    Found::If(search.found)
}

struct Search<'a> {
    pieces: &'a [Piece<'a>],
    needle: &'a [u8],
    found: Vec<Vec<Wanted>>,
}

impl Search<'_> {
    /// The needle begins somewhere in the variable.
    fn begin(&mut self, at: usize, var: usize, kind: u8, code: u8) {
        let length = self.needle.len();
        if kind == RAW {
            return self.found.push(vec![(var, Want::Contains, 0, length)]);
        }
        if kind == TOKEN {
            let run = self.needle.iter().take_while(|b| is_word(**b)).count();
            if run == length {
                self.found.push(vec![(var, Want::Contains, 0, length)]);
            } else if run > 0 {
                self.follow(at + 1, var + 1, run, &mut vec![(var, Want::Ends, 0, run)]);
            }
            return;
        }
        let (_, most) = lengths(kind, code);
        let run = self.needle.iter().take(most).take_while(|b| may_hold(kind, code, **b)).count();
        if run == length {
            self.found.push(vec![(var, Want::Contains, 0, length)]);
        }
        for taken in 1..=run.min(length - 1) {
            self.follow(at + 1, var + 1, taken, &mut vec![(var, Want::Ends, 0, taken)]);
        }
    }

    /// What is left of the needle from `from` on begins where the piece at `at` begins.
    fn follow(&mut self, at: usize, var: usize, from: usize, wanted: &mut Vec<Wanted>) {
        let rest = &self.needle[from..];
        if rest.is_empty() {
            return self.found.push(wanted.clone());
        }
        match self.pieces.get(at) {
            None => {}
            Some(Piece::Text(text)) => {
                let shared = text.len().min(rest.len());
                if text[..shared].eq_ignore_ascii_case(&rest[..shared]) {
                    self.follow(at + 1, var, from + shared, wanted);
                }
            }
            Some(&Piece::Var(kind, code)) => {
                let (least, most) = lengths(kind, code);
                let run = rest.iter().take(most).take_while(|b| may_hold(kind, code, **b)).count();
                if run == rest.len() {
                    wanted.push((var, Want::Begins, from, from + run));
                    self.found.push(wanted.clone());
                    wanted.pop();
                }
                let least = if kind == TOKEN { run.max(1) } else { least };
                for taken in least..=run.min(rest.len() - 1) {
                    wanted.push((var, Want::Equal, from, from + taken));
                    self.follow(at + 1, var + 1, from + taken, wanted);
                    wanted.pop();
                }
            }
        }
    }
}

/// The least and the most bytes that a variable of a kind has.
fn lengths(kind: u8, code: u8) -> (usize, usize) {
    match kind {
        TOKEN | RAW => (1, usize::MAX),
        IP => (7, 15),
        TIME => {
            let mut text = Vec::new();
            if let Some(spelling) = Spelling::of(code) {
                spelling.write(0, &mut text);
            }
            (text.len().max(1), text.len().max(1))
        }
        _ => (36, 36),
    }
}

fn may_hold(kind: u8, code: u8, byte: u8) -> bool {
    match kind {
        TOKEN => is_word(byte),
        IP => byte.is_ascii_digit() || byte == b'.',
        TIME => match Spelling::of(code) {
            // The letters of the months.
            Some(Spelling::Syslog { .. } | Spelling::Access) => {
                byte.is_ascii_digit() || b"abcdefgjlmnoprstuvy/: ".contains(&byte.to_ascii_lowercase())
            }
            _ => byte.is_ascii_digit() || b"-:/., tT".contains(&byte),
        },
        RAW => true,
        _ => byte.is_ascii_hexdigit() || byte == b'-',
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::{Var, cut, pieces};
    use super::*;

    /// Whether the alignment says that `line`, by its own variables, contains the needle.
    fn says(line: &[u8], needle: &[u8]) -> bool {
        let (mut shape, mut vars) = (Vec::new(), Vec::new());
        cut(line, &mut shape, &mut vars);
        let value = |var: &Var| &line[var.at as usize..(var.at + var.len) as usize];
        match align(&pieces(&shape), needle) {
            Found::Yes => true,
            Found::If(lists) => lists.iter().any(|list| {
                list.iter().all(|&(var, want, from, to)| want.met(value(&vars[var]), &needle[from..to]))
            }),
        }
    }

    #[test]
    fn every_part_of_a_line_is_found_and_nothing_else() {
        let lines: [&[u8]; 6] = [
            b"081109 203518 143 INFO dfs.Data: block blk_-1608 of /10.250.19.102:50010.",
            b"2026-11-21T10:00:00.5Z req=54fadb41-2c4e-40cd-baed-9335e4c35a9e took 17ms at 10.0.0.1.",
            b"Jun  9 06:06:51 combo sshd(pam_unix)[19939]: auth failure; uid=0 rhost=218.188.2.4",
            b"x1 2y 3z",
            b"odd \x01 bytes 12",
            b"no variable here",
        ];
        for line in lines {
            for from in 0..line.len() {
                for to in from + 1..=line.len() {
                    assert!(
                        says(line, &line[from..to].to_ascii_uppercase()),
                        "{:?}",
                        line[from..to].escape_ascii()
                    );
                }
            }
            for needle in [&b"blk_1608"[..], b"10.250.19.103", b"1609", b"2034", b"zz", b" 17 ms", b"35a9f"] {
                assert_eq!(says(line, needle), contains(line, needle), "{:?}", needle.escape_ascii());
            }
        }
    }
}
