//! Protocol buffers, as far as messages of others are read: fields by their numbers, nothing generated.
//! <https://protobuf.dev/programming-guides/encoding/>

use opsroom_core::{Error, Result};

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Field<'a> {
    /// A number of variable length.
    Number(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes.
    Fixed32(u32),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    pub fn number(self) -> u64 {
        match self {
            Field::Number(number) | Field::Fixed64(number) => number,
            Field::Fixed32(number) => number.into(),
            Field::Bytes(_) => 0,
        }
    }

    pub fn bytes(self) -> &'a [u8] {
        if let Field::Bytes(bytes) = self { bytes } else { &[] }
    }

    pub fn text(self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }
}

fn broken() -> Error {
    Error::invalid("the body is not whole protobuf of the kind that this path takes; nothing of it was kept")
}

/// Gives each field of a message with its number.
pub(super) fn fields<'a>(
    mut message: &'a [u8],
    mut give: impl FnMut(u32, Field<'a>) -> Result<()>,
) -> Result<()> {
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let field = match key & 7 {
            0 => Field::Number(varint(&mut message)?),
            1 => {
                let bytes = take(&mut message, 8)?;
                Field::Fixed64(u64::from_le_bytes(bytes.try_into().map_err(|_| broken())?))
            }
            2 => {
                let length = usize::try_from(varint(&mut message)?).map_err(|_| broken())?;
                Field::Bytes(take(&mut message, length)?)
            }
            5 => {
                let bytes = take(&mut message, 4)?;
                Field::Fixed32(u32::from_le_bytes(bytes.try_into().map_err(|_| broken())?))
            }
            _ => return Err(broken()),
        };
        let number = u32::try_from(key >> 3).ok().filter(|&number| number > 0).ok_or_else(broken)?;
        give(number, field)?;
    }
    Ok(())
}

fn take<'a>(message: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (taken, rest) = message.split_at_checked(length).ok_or_else(broken)?;
    *message = rest;
    Ok(taken)
}

fn varint(message: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = message.split_first().ok_or_else(broken)?;
        *message = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(broken())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_and_what_is_not_whole_is_refused() {
        let message = [0x08, 0x96, 0x01, 0x12, 0x02, b'h', b'i', 0x19, 1, 0, 0, 0, 0, 0, 0, 0];
        let mut seen = Vec::new();
        fields(&message, |number, field| {
            seen.push((number, field));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(1, Field::Number(150)), (2, Field::Bytes(b"hi")), (3, Field::Fixed64(1))]);
        for length in [1, 2, 4, 6, 9, 15] {
            assert!(fields(&message[..length], |_, _| Ok(())).is_err(), "{length}");
        }
        assert!(fields(&[0x0b], |_, _| Ok(())).is_err() && fields(&[0x00, 1], |_, _| Ok(())).is_err());
    }
}
