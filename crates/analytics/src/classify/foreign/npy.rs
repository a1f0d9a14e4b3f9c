//! numpy's `.npy` format, versions 1 to 3: whole numbers, floats and fixed-width text.

use crate::classify::error::{ClassifyError, file};

/// Numbers of one array, at most.
const MAX_ITEMS: usize = 400_000_000;

/// The items of an array.
#[derive(Clone, Debug, PartialEq)]
pub enum Numbers {
    /// Whole numbers.
    Whole(Vec<i64>),
    /// Floats.
    Real(Vec<f64>),
    /// Text, without the padding.
    Text(Vec<String>),
}

/// An array, its last index running fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct NpyArray {
    /// The sizes.
    pub shape: Vec<usize>,
    /// The items.
    pub items: Numbers,
}

fn refuse(problem: impl Into<String>) -> ClassifyError {
    file("npy array", problem)
}

/// Reads an array.
pub fn read(bytes: &[u8]) -> Result<NpyArray, ClassifyError> {
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
        .map(|size| size.parse().map_err(|_| refuse(format!("{size:?} is no size"))))
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
    (length <= rest.len()).then(|| rest.split_at(length))
}

fn entry<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let quoted = format!("'{key}'");
    let rest = &header[header.find(&quoted)? + quoted.len()..];
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

/// Puts an array together from its parts.
pub(super) fn assemble(
    dtype: &str,
    shape: Vec<usize>,
    fortran: bool,
    data: &[u8],
) -> Result<NpyArray, String> {
    let count = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let count = count.filter(|&count| count <= MAX_ITEMS);
    let count = count.ok_or_else(|| format!("its shape {shape:?} has more than {MAX_ITEMS} items"))?;
    let items = decode(dtype, data, count)?;
    let items = match (fortran, &shape[..]) {
        (false, _) | (true, [] | [_]) => items,
        (true, &[rows, cols]) => match items {
            Numbers::Whole(items) => Numbers::Whole(by_rows(&items, rows, cols)),
            Numbers::Real(items) => Numbers::Real(by_rows(&items, rows, cols)),
            Numbers::Text(items) => Numbers::Text(by_rows(&items, rows, cols)),
        },
        (true, _) => return Err(format!("its shape {shape:?} is stored by columns, at most 2 sizes can be")),
    };
    Ok(NpyArray { shape, items })
}

fn by_rows<T: Clone>(items: &[T], rows: usize, cols: usize) -> Vec<T> {
    (0..rows * cols).map(|at| items[at % cols * rows + at / cols].clone()).collect()
}

/// The first `count` items of raw bytes of a numpy type.
pub(super) fn decode(dtype: &str, data: &[u8], count: usize) -> Result<Numbers, String> {
    let (big, code) = match dtype.strip_prefix('>') {
        Some(code) => (true, code),
        None => (false, dtype.trim_start_matches(['<', '|', '='])),
    };
    let (letter, size) = code.split_at(code.len().min(1));
    let size: usize = size.parse().map_err(|_| format!("its type is {dtype:?}, expected numbers or text"))?;
    let width = if letter == "U" { size.checked_mul(4) } else { Some(size) };
    let width = width.filter(|&width| width > 0 && width <= 1 << 16);
    let width = width.ok_or_else(|| format!("its type {dtype:?} has items of no sensible size"))?;
    let needed = count.checked_mul(width).filter(|&needed| needed <= data.len());
    let needed = needed.ok_or_else(|| {
        format!("it should hold {count} items of {width} bytes, but has {} bytes of them", data.len())
    })?;
    let items = data[..needed].chunks_exact(width);
    let ordered = |item: &[u8]| -> [u8; 8] {
        let mut wide = [0; 8];
        wide[..item.len()].copy_from_slice(item);
        if big {
            wide[..item.len()].reverse();
        }
        wide
    };
    match (letter, size) {
        ("i", 1 | 2 | 4 | 8) => {
            let spare = 64 - 8 * size as u32;
            let signed = |item| i64::from_le_bytes(ordered(item)) << spare >> spare;
            Ok(Numbers::Whole(items.map(signed).collect()))
        }
        ("u", 1 | 2 | 4 | 8) | ("b", 1) => {
            let unsigned = |item| i64::try_from(u64::from_le_bytes(ordered(item)));
            let whole: Result<_, _> = items.map(unsigned).collect();
            Ok(Numbers::Whole(whole.map_err(|_| "a number does not fit 63 bits".to_owned())?))
        }
        ("f", 4) => {
            let real = |item| f64::from(f32::from_bits(u64::from_le_bytes(ordered(item)) as u32));
            Ok(Numbers::Real(items.map(real).collect()))
        }
        ("f", 8) => {
            let real = |item| f64::from_bits(u64::from_le_bytes(ordered(item)));
            Ok(Numbers::Real(items.map(real).collect()))
        }
        ("U", _) => {
            let letter = |bytes: &[u8]| char::from_u32(u64::from_le_bytes(ordered(bytes)) as u32);
            let text = |item: &[u8]| item.chunks_exact(4).map(letter).collect::<Option<String>>();
            let texts: Option<Vec<String>> = items.map(text).collect();
            let texts = texts.ok_or("a text holds what is no letter")?;
            Ok(Numbers::Text(texts.into_iter().map(|t| t.trim_end_matches('\0').to_owned()).collect()))
        }
        ("S", _) => {
            let text = |item: &[u8]| String::from_utf8_lossy(item).trim_end_matches('\0').to_owned();
            Ok(Numbers::Text(items.map(text).collect()))
        }
        _ => Err(format!("its type is {dtype:?}, expected whole numbers, floats or text")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Numbers, read};

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

    #[test]
    fn types_orders_and_versions_are_read() {
        let data: Vec<u8> = [1i32, -2, 3, 4, 5, 6].iter().flat_map(|v| v.to_le_bytes()).collect();
        let array = read(&npy(1, &header("<i4", "False", "(2, 3)"), &data)).unwrap();
        assert_eq!((array.shape, array.items), (vec![2, 3], Numbers::Whole(vec![1, -2, 3, 4, 5, 6])));
        let array = read(&npy(2, &header("<i4", "True", "(2, 3)"), &data)).unwrap();
        assert_eq!(array.items, Numbers::Whole(vec![1, 3, 5, -2, 4, 6]));
        let data: Vec<u8> = [0.5f64, -1.0].iter().flat_map(|v| v.to_be_bytes()).collect();
        let array = read(&npy(3, &header(">f8", "False", "(2,)"), &data)).unwrap();
        assert_eq!(array.items, Numbers::Real(vec![0.5, -1.0]));
        let data: Vec<u8> = ['E', '7', 'F', '\0'].iter().flat_map(|&c| (c as u32).to_le_bytes()).collect();
        let array = read(&npy(1, &header("<U2", "False", "(2,)"), &data)).unwrap();
        assert_eq!(array.items, Numbers::Text(vec!["E7".into(), "F".into()]));
    }

    #[test]
    fn broken_and_hostile_headers_are_refused() {
        let good = header("<i8", "False", "(1,)");
        for (bytes, part) in [
            (b"PK".to_vec(), "does not begin"),
            (npy(1, &good, &[0; 7]), "has 7 bytes"),
            (npy(1, &good, &[0; 8])[..20].to_vec(), "cut off"),
            (npy(1, &header("|O", "False", "(1,)"), &[0; 8]), "expected numbers"),
            (npy(1, &header("<i8", "False", "(9999999999, 9999999999, 99)"), &[]), "more than"),
            (npy(1, &header("<i8", "False", "(-1,)"), &[]), "no size"),
            (npy(1, &header("<c8", "False", "(1,)"), &[0; 8]), "expected whole numbers"),
            (npy(1, "{}", &[]), "names no simple type"),
        ] {
            let error = read(&bytes).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
