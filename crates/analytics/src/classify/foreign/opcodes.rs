//! The instructions of pickles, protocols 0 to 5, that build data.

use super::pickle::{Machine, Value, refuse};
use crate::classify::error::ClassifyError;

/// The bytes of a pickle and how far they were read.
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn position(&self) -> usize {
        self.at
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], ClassifyError> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end =
            end.ok_or_else(|| refuse(format!("it ends in the middle, at byte {}", self.bytes.len())))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, ClassifyError> {
        Ok(self.take(1)?[0])
    }

    /// A little-endian number of up to eight bytes.
    fn number(&mut self, width: usize) -> Result<u64, ClassifyError> {
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(self.take(width)?);
        Ok(u64::from_le_bytes(bytes))
    }

    fn length(&mut self, width: usize) -> Result<usize, ClassifyError> {
        usize::try_from(self.number(width)?).map_err(|_| refuse("a length is beyond all memory"))
    }

    /// Text up to the end of a line.
    fn line(&mut self) -> Result<&'a str, ClassifyError> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(end.ok_or_else(|| refuse("a line does not end"))?)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| refuse("a line is not text"))
    }

    fn text(&mut self, width: usize) -> Result<Value, ClassifyError> {
        let length = self.length(width)?;
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| refuse("a text is not UTF-8"))?;
        Ok(Value::Text(text.to_owned()))
    }

    fn bytes(&mut self, width: usize) -> Result<Value, ClassifyError> {
        let length = self.length(width)?;
        Ok(Value::Bytes(self.take(length)?.to_vec()))
    }

    /// Text of an old protocol, which may be bytes: Latin-1 holds either.
    fn old_text(&mut self, width: usize) -> Result<Value, ClassifyError> {
        let length = self.length(width)?;
        Ok(Value::Text(self.take(length)?.iter().map(|&byte| char::from(byte)).collect()))
    }

    /// A whole number in two's complement of any length; only what fits 64 bits is kept.
    fn long(&mut self, width: usize) -> Result<Value, ClassifyError> {
        let length = self.length(width)?;
        let bytes = self.take(length)?;
        let sign = if bytes.last().is_some_and(|&byte| byte >= 0x80) { 0xff } else { 0 };
        let mut wide = [sign; 8];
        let kept = bytes.len().min(8);
        wide[..kept].copy_from_slice(&bytes[..kept]);
        // PyTorch's files start with a number of ten bytes, which is a mark and not a quantity.
        Ok(Value::Int(i64::from_le_bytes(wide)))
    }
}

impl Machine {
    /// Does one instruction.
    pub(super) fn step(&mut self, opcode: u8, input: &mut Input<'_>) -> Result<(), ClassifyError> {
        match opcode {
            0x80 => input.byte().map(drop),
            0x95 => input.take(8).map(drop),
            b'(' => self.mark(),
            b'0' => self.pop().map(drop),
            b'1' => self.pop_mark().map(drop),
            b'2' => self.duplicate(),
            b'g' | b'h' | b'j' => {
                let key = memo_key(opcode, input)?;
                self.recall(key)
            }
            b'p' | b'q' | b'r' => {
                let key = memo_key(opcode, input)?;
                self.remember(Some(key))
            }
            0x94 => self.remember(None),
            b'c' => {
                let (module, name) = (input.line()?, input.line()?);
                self.global(module, name)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (module, name) = (self.text(module)?.to_owned(), self.text(name)?.to_owned());
                self.global(&module, &name)
            }
            b'R' => self.reduce(),
            b'b' => self.build(),
            b'Q' => self.persistent(),
            b']' | b')' | b'}' | b'l' | b't' | b'd' | 0x85..=0x87 | b'a' | b'e' | b's' | b'u' => {
                self.collection(opcode)
            }
            _ => {
                let value = literal(opcode, input)?;
                self.push(value)
            }
        }
    }

    fn collection(&mut self, opcode: u8) -> Result<(), ClassifyError> {
        match opcode {
            b']' | b')' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dict(Vec::new())),
            b'l' | b't' => {
                let items = self.pop_mark()?;
                self.push(Value::List(items))
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push(Value::Dict(Vec::new()))?;
                self.set_items(&items)
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(&items)
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)
            }
            _ => {
                let mut items = Vec::new();
                for _ in 0..=opcode - 0x85 {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.push(Value::List(items))
            }
        }
    }
}

fn memo_key(opcode: u8, input: &mut Input<'_>) -> Result<usize, ClassifyError> {
    match opcode {
        b'g' | b'p' => input.line()?.trim().parse().map_err(|_| refuse("a memo's key is no number")),
        b'h' | b'q' => input.length(1),
        _ => input.length(4),
    }
}

fn literal(opcode: u8, input: &mut Input<'_>) -> Result<Value, ClassifyError> {
    let value = match opcode {
        b'N' => Value::None,
        0x88 => Value::Bool(true),
        0x89 => Value::Bool(false),
        b'K' => Value::Int(input.number(1)? as i64),
        b'M' => Value::Int(input.number(2)? as i64),
        b'J' => Value::Int(i64::from(input.number(4)? as u32 as i32)),
        0x8a => input.long(1)?,
        0x8b => input.long(4)?,
        b'I' | b'L' => match input.line()? {
            "00" => Value::Bool(false),
            "01" => Value::Bool(true),
            text => {
                let number = text.trim_end_matches('L').parse();
                Value::Int(number.map_err(|_| refuse(format!("{text:?} is no whole number")))?)
            }
        },
        b'F' => {
            let text = input.line()?;
            Value::Float(text.parse().map_err(|_| refuse(format!("{text:?} is no number")))?)
        }
        b'G' => Value::Float(f64::from_bits(input.number(8)?.swap_bytes())),
        b'V' => Value::Text(input.line()?.to_owned()),
        0x8c => input.text(1)?,
        b'X' => input.text(4)?,
        0x8d => input.text(8)?,
        b'U' => input.old_text(1)?,
        b'T' => input.old_text(4)?,
        b'C' => input.bytes(1)?,
        b'B' => input.bytes(4)?,
        0x8e | 0x96 => input.bytes(8)?,
        _ => {
            let at = input.position() - 1;
            return Err(refuse(format!(
                "instruction {opcode:#04x} at byte {at} is not one that plain data need; nothing was executed"
            )));
        }
    };
    Ok(value)
}
