//! Numbers as bytes that compress well: less their smallest, or each less the one before, in as few bytes
//! as the largest needs, all first bytes together, then all second ones, and so on.

use super::wire::{Reader, Result, SegmentError, put, unzigzag, zigzag};

const PLAIN: u8 = 0;
const DELTA: u8 = 1;

/// Appends numbers.
pub(super) fn pack(values: &[u64], out: &mut Vec<u8>) {
    let (low, high) = values.iter().fold((u64::MAX, 0), |(low, high), &v| (low.min(v), high.max(v)));
    let low = low.min(high);
    let bits = |v: u64| u64::from(64 - v.leading_zeros());
    let plain: u64 = values.iter().map(|v| bits(v - low)).sum();
    let (mut before, mut delta, mut widest) = (low, 0, 0);
    for &value in values {
        let step = zigzag(value.wrapping_sub(before) as i64);
        before = value;
        delta += bits(step);
        widest = widest.max(step);
    }
    if delta * 5 < plain * 4 {
        out.push(DELTA);
        put(out, low);
        let mut before = low;
        let steps = values.iter().map(|&value| {
            let step = zigzag(value.wrapping_sub(before) as i64);
            before = value;
            step
        });
        planes(&steps.collect::<Vec<_>>(), widest, out);
    } else {
        out.push(PLAIN);
        put(out, low);
        planes(&values.iter().map(|v| v - low).collect::<Vec<_>>(), high.max(low) - low, out);
    }
}

fn planes(values: &[u64], widest: u64, out: &mut Vec<u8>) {
    let width = (64 - widest.leading_zeros() as usize).div_ceil(8);
    out.push(width as u8);
    let start = out.len();
    out.resize(start + width * values.len(), 0);
    for (place, plane) in out[start..].chunks_exact_mut(values.len().max(1)).enumerate() {
        let shift = 8 * place;
        plane.iter_mut().zip(values).for_each(|(byte, value)| *byte = (value >> shift) as u8);
    }
}

/// Reads `count` numbers.
pub(super) fn unpack(reader: &mut Reader<'_>, count: usize) -> Result<Vec<u64>> {
    let mode = reader.byte()?;
    let low = reader.number()?;
    let width = reader.byte()? as usize;
    if width > 8 || mode > DELTA {
        return Err(SegmentError::Damaged("numbers of an unknown kind"));
    }
    let bytes = reader.take(width * count)?;
    let mut values = vec![0u64; count];
    for (place, plane) in bytes.chunks_exact(count.max(1)).enumerate() {
        let shift = 8 * place;
        values.iter_mut().zip(plane).for_each(|(value, byte)| *value |= u64::from(*byte) << shift);
    }
    if mode == PLAIN {
        values.iter_mut().for_each(|value| *value = value.wrapping_add(low));
    } else {
        let mut before = low;
        for value in &mut values {
            before = before.wrapping_add(unzigzag(*value) as u64);
            *value = before;
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_in_either_way() {
        let rising: Vec<u64> = (0..1000).map(|n| 1_700_000_000_000_000 + n * 1_234).collect();
        let mixed = vec![u64::MAX, 0, 7, 1 << 40, 7];
        for values in [vec![], vec![5], vec![9; 100], rising.clone(), mixed] {
            let mut out = Vec::new();
            pack(&values, &mut out);
            let mut reader = Reader(&out);
            assert_eq!(unpack(&mut reader, values.len()).unwrap(), values);
            assert!(reader.0.is_empty());
        }
        let mut out = Vec::new();
        pack(&rising, &mut out);
        assert!(out.len() < 2_100, "{}", out.len());
        assert!(unpack(&mut Reader(&[9, 0, 0]), 1).is_err());
        assert!(unpack(&mut Reader(&[0, 0, 8, 1]), 1).is_err());
    }
}
