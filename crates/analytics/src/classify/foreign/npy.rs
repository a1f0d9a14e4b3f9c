//! numpy's `.npy` format, versions 1 to 3: whole numbers, floats and fixed-width text.
//!
//! An array is a view of the file's bytes: a cell is read when it is asked for, so a file of one-byte
//! numbers takes no more memory than its bytes.

use std::borrow::Cow;

use crate::classify::error::{ClassifyError, file};

/// Sizes of an array, at most.
const MAX_SIZES: usize = 32;

/// Bytes of a header, at most.
const MAX_HEADER: usize = 1 << 16;

/// A cell of an array.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell<'a> {
    /// A whole number.
    Whole(i64),
    /// A float.
    Real(f64),
    /// Text, without the padding.
    Text(Cow<'a, str>),
}

/// An array over the bytes of its file, its last index running fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct NpyArray<'a> {
    /// The sizes.
    pub shape: Vec<usize>,
    cells: Cells<'a>,
    /// Rows and columns of an array that lies by columns.
    by_columns: Option<(usize, usize)>,
}

impl<'a> NpyArray<'a> {
    /// How many cells it has.
    pub fn len(&self) -> usize {
        self.cells.count
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The cell at a place, counted along the last index first.
    ///
    /// # Errors
    /// For a cell that holds no number or text of its type.
    ///
    /// # Panics
    /// For a place from [`NpyArray::len`] on.
    pub fn cell(&self, at: usize) -> Result<Cell<'a>, ClassifyError> {
        let place = self.by_columns.map_or(at, |(rows, columns)| at % columns * rows + at / columns);
        self.cells.cell(place).map_err(refuse)
    }
}

fn refuse(problem: impl Into<String>) -> ClassifyError {
    file("npy array", problem)
}

/// Reads an array.
///
/// # Errors
/// For what is no such file, is cut off, or has cells that are neither numbers nor text.
pub fn read(bytes: &[u8]) -> Result<NpyArray<'_>, ClassifyError> {
    let rest = bytes.strip_prefix(b"\x93NUMPY").ok_or_else(|| refuse("it does not begin as numpy's do"))?;
    let (header, data) = split_header(rest).ok_or_else(|| refuse("its header is cut off"))?;
    let header = std::str::from_utf8(header).map_err(|_| refuse("its header is not text"))?;
    let dtype = entry(header, "descr")
        .and_then(|value| value.strip_prefix('\'')?.split('\'').next())
        .ok_or_else(|| refuse("its header names no simple type"))?;
    let fortran = entry(header, "fortran_order").is_some_and(|value| value.starts_with("True"));
    let shape = entry(header, "shape")
        .and_then(|value| value.strip_prefix('(')?.split(')').next())
        .ok_or_else(|| refuse("its header has no shape"))?;
    let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
    let shape: Vec<usize> = sizes
        .map(|size| size.parse().map_err(|_| refuse(format!("{} is no size", shown(size)))))
        .collect::<Result<_, _>>()?;
    let array = assemble(dtype, shape, fortran, data).map_err(refuse)?;
    Ok(array)
}

fn split_header(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, start) = match rest.first()? {
        1 => (usize::from(u16::from_le_bytes([*rest.get(2)?, *rest.get(3)?])), 4),
        2 | 3 => (u32::from_le_bytes(rest.get(2..6)?.try_into().ok()?) as usize, 6),
        _ => return None,
    };
    let rest = rest.get(start..)?;
    (length <= rest.len().min(MAX_HEADER)).then(|| rest.split_at(length))
}

/// The beginning of a text that a file had.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(40).collect::<String>())
}

fn entry<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let quoted = format!("'{key}'");
    let rest = &header[header.find(&quoted)? + quoted.len()..];
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

/// Puts an array together from its parts.
pub(super) fn assemble<'a>(
    dtype: &str,
    shape: Vec<usize>,
    fortran: bool,
    data: &'a [u8],
) -> Result<NpyArray<'a>, String> {
    if shape.len() > MAX_SIZES {
        return Err(format!("it has {} sizes, at most {MAX_SIZES} can be", shape.len()));
    }
    let count = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let count = count.ok_or_else(|| format!("its shape {shape:?} has more items than can be"))?;
    let cells = Cells::of(dtype, data, count)?;
    let by_columns = match (fortran, &shape[..]) {
        (false, _) | (true, [] | [_]) => None,
        (true, &[rows, columns]) => Some((rows, columns)),
        (true, _) => return Err(format!("its shape {shape:?} is stored by columns, at most 2 sizes can be")),
    };
    Ok(NpyArray { shape, cells, by_columns })
}

/// What a cell's bytes mean.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Type {
    Signed,
    Unsigned,
    Real,
    Letters,
    Bytes,
}

/// Raw bytes as cells of one numpy type.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cells<'a> {
    of: Type,
    big: bool,
    width: usize,
    count: usize,
    data: &'a [u8],
}

impl<'a> Cells<'a> {
    /// The first `count` cells of raw bytes of a numpy type.
    pub(super) fn of(dtype: &str, data: &'a [u8], count: usize) -> Result<Self, String> {
        let (big, code) = match dtype.strip_prefix('>') {
            Some(code) => (true, code),
            None => (false, dtype.trim_start_matches(['<', '|', '='])),
        };
        let strange = || format!("its type is {}, expected whole numbers, floats or text", shown(dtype));
        let letter = code.chars().next().filter(char::is_ascii).ok_or_else(strange)?;
        let size: usize = code[1..].parse().map_err(|_| strange())?;
        let width = if letter == 'U' { size.checked_mul(4) } else { Some(size) };
        let width = width.filter(|&width| width > 0 && width <= 1 << 16);
        let width =
            width.ok_or_else(|| format!("its type {} has items of no sensible size", shown(dtype)))?;
        let of = match (letter, size) {
            ('i', 1 | 2 | 4 | 8) => Type::Signed,
            ('u', 1 | 2 | 4 | 8) | ('b', 1) => Type::Unsigned,
            ('f', 4 | 8) => Type::Real,
            ('U', _) => Type::Letters,
            ('S', _) => Type::Bytes,
            _ => return Err(strange()),
        };
        if count.checked_mul(width).is_none_or(|needed| needed > data.len()) {
            let found = data.len();
            return Err(format!(
                "it should hold {count} items of {width} bytes, but has {found} bytes of them"
            ));
        }
        Ok(Self { of, big, width, count, data })
    }

    /// A cell by its place among the bytes.
    pub(super) fn cell(&self, place: usize) -> Result<Cell<'a>, String> {
        let item = &self.data[..self.count * self.width][place * self.width..][..self.width];
        let ordered = |item: &[u8]| -> u64 {
            let mut wide = [0; 8];
            wide[..item.len()].copy_from_slice(item);
            if self.big {
                wide[..item.len()].reverse();
            }
            u64::from_le_bytes(wide)
        };
        Ok(match self.of {
            Type::Signed => {
                let spare = 64 - 8 * self.width as u32;
                Cell::Whole((ordered(item) as i64) << spare >> spare)
            }
            Type::Unsigned => {
                let number = i64::try_from(ordered(item));
                Cell::Whole(number.map_err(|_| "a number does not fit 63 bits".to_owned())?)
            }
            Type::Real if self.width == 4 => Cell::Real(f64::from(f32::from_bits(ordered(item) as u32))),
            Type::Real => Cell::Real(f64::from_bits(ordered(item))),
            Type::Letters => {
                let letters = item.chunks_exact(4).map(|bytes| char::from_u32(ordered(bytes) as u32));
                let text = letters.collect::<Option<String>>().ok_or("a text holds what is no letter")?;
                Cell::Text(Cow::Owned(text.trim_end_matches('\0').to_owned()))
            }
            Type::Bytes => {
                let end = item.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
                Cell::Text(String::from_utf8_lossy(&item[..end]))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Cell, NpyArray, read};

    fn npy(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([version, 0]);
        match version {
            1 => bytes.extend((header.len() as u16).to_le_bytes()),
            _ => bytes.extend((header.len() as u32).to_le_bytes()),
        }
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    fn header(dtype: &str, fortran: &str, shape: &str) -> String {
        format!("{{'descr': '{dtype}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n")
    }

    fn cells(bytes: &[u8]) -> (Vec<usize>, Vec<Cell<'_>>) {
        let array: NpyArray<'_> = read(bytes).unwrap();
        let cells = (0..array.len()).map(|at| array.cell(at).unwrap()).collect();
        (array.shape, cells)
    }

    fn whole(items: &[i64]) -> Vec<Cell<'static>> {
        items.iter().map(|&item| Cell::Whole(item)).collect()
    }

    #[test]
    fn types_orders_and_versions_are_read() {
        let data: Vec<u8> = [1i32, -2, 3, 4, 5, 6].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(
            cells(&npy(1, &header("<i4", "False", "(2, 3)"), &data)),
            (vec![2, 3], whole(&[1, -2, 3, 4, 5, 6]))
        );
        assert_eq!(cells(&npy(2, &header("<i4", "True", "(2, 3)"), &data)).1, whole(&[1, 3, 5, -2, 4, 6]));
        let data: Vec<u8> = [0.5f64, -1.0].iter().flat_map(|v| v.to_be_bytes()).collect();
        let bytes = npy(3, &header(">f8", "False", "(2,)"), &data);
        assert_eq!(cells(&bytes).1, [Cell::Real(0.5), Cell::Real(-1.0)]);
        let data: Vec<u8> = ['E', '7', 'F', '\0'].iter().flat_map(|&c| (c as u32).to_le_bytes()).collect();
        let bytes = npy(1, &header("<U2", "False", "(2,)"), &data);
        assert_eq!(cells(&bytes).1, [Cell::Text("E7".into()), Cell::Text("F".into())]);
        let bytes = npy(1, &header("|S3", "False", "(2,)"), b"E7\0\0\0\0");
        assert_eq!(cells(&bytes).1, [Cell::Text("E7".into()), Cell::Text("".into())]);
        let bytes = npy(1, &header("<u8", "False", "(1,)"), &[255; 8]);
        assert!(read(&bytes).unwrap().cell(0).unwrap_err().to_string().contains("63 bits"));
    }

    #[test]
    fn broken_and_hostile_headers_are_refused() {
        let good = header("<i8", "False", "(1,)");
        for (bytes, part) in [
            (b"PK".to_vec(), "does not begin"),
            (npy(1, &good, &[0; 7]), "has 7 bytes"),
            (npy(1, &good, &[0; 8])[..20].to_vec(), "cut off"),
            (npy(1, &header("|O", "False", "(1,)"), &[0; 8]), "expected whole numbers"),
            (npy(1, &header("<i8", "False", "(9999999999, 9999999999, 99)"), &[]), "more items than"),
            (npy(1, &header("<i8", "False", "(400000000,)"), &[0; 64]), "has 64 bytes of them"),
            (npy(1, &header("<i8", "False", &format!("({})", "1,".repeat(9000))), &[0; 8]), "sizes"),
            (npy(1, &header("<i8", "False", "(-1,)"), &[]), "no size"),
            (npy(1, &header("<c8", "False", "(1,)"), &[0; 8]), "expected whole numbers"),
            (npy(1, "{}", &[]), "names no simple type"),
        ] {
            let error = read(&bytes).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
