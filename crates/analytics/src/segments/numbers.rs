//! Numbers as bytes that compress well: less their smallest, or each less the one before, in as few bytes
//! as the largest needs, all first bytes together, then all second ones, and so on. Numbers that look drawn
//! by chance do not compress: groups of them become the digits of one number, in as few bits as those need.
//! What all of them can be divided by, as milliseconds among microseconds, is taken out first.

use super::wire::{Reader, Result, SegmentError, put, unzigzag, zigzag};

const PLAIN: u8 = 0;
const DELTA: u8 = 1;
const GROUPED: u8 = 2;
/// Added to the mode of numbers that were divided.
const DIVIDED: u8 = 4;
/// The most bits of a group: eight bytes from any bit on hold it.
const GROUP_BITS: u32 = 57;
/// So many numbers say little about how often each byte is there.
const FEW: usize = 512;
/// The most numbers of a group.
const GROUP: u32 = 8;

/// Appends numbers.
pub(super) fn pack(values: &[u64], out: &mut Vec<u8>) {
    let low = values.iter().copied().min().unwrap_or(0);
    let divisor = divisor(values, low);
    let rest: Vec<u64> = values.iter().map(|value| (value - low) / divisor).collect();
    let mark = |mode: u8, out: &mut Vec<u8>| {
        out.push(if divisor > 1 { mode | DIVIDED } else { mode });
        put(out, low);
        if divisor > 1 {
            put(out, divisor);
        }
    };
    let bits = |v: u64| u64::from(64 - v.leading_zeros());
    let (mut before, mut plain, mut delta, mut widest, mut widest_step) = (0, 0, 0, 0, 0);
    for &value in &rest {
        let step = zigzag(value.wrapping_sub(before) as i64);
        before = value;
        plain += bits(value);
        delta += bits(step);
        widest = widest.max(value);
        widest_step = widest_step.max(step);
    }
    if delta * 5 < plain * 4 {
        mark(DELTA, out);
        let mut before = 0;
        let steps = rest.iter().map(|&value| {
            let step = zigzag(value.wrapping_sub(before) as i64);
            before = value;
            step
        });
        return planes(&steps.collect::<Vec<_>>(), widest_step, out);
    }
    if let Some((each, bits)) = grouping(&rest, widest) {
        mark(GROUPED, out);
        put(out, widest);
        return grouped(&rest, widest + 1, each, bits, out);
    }
    mark(PLAIN, out);
    planes(&rest, widest, out);
}

/// Whether packed numbers are grouped: then they do not compress.
pub(super) fn is_grouped(packed: &[u8]) -> bool {
    packed.first().is_some_and(|mode| mode & !DIVIDED == GROUPED)
}

/// What all numbers less the lowest can be divided by.
fn divisor(values: &[u64], low: u64) -> u64 {
    let mut divisor = 0;
    for value in values {
        let (mut a, mut b) = (divisor, value - low);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        divisor = a;
        if divisor == 1 {
            break;
        }
    }
    divisor.max(1)
}

/// How many numbers of a range make a group, and its bits: what wastes least.
fn group_of(range: u64) -> Option<(u32, u32)> {
    let ways = (1..=GROUP).map_while(|each| {
        let most = range.checked_pow(each)? - 1;
        let bits = (64 - most.leading_zeros()).max(1);
        (bits <= GROUP_BITS).then_some((each, bits))
    });
    ways.min_by(|a, b| (a.1 * b.0).cmp(&(b.1 * a.0)))
}

/// The grouping of numbers that are too many and too even for planes to become smaller; such are ids.
fn grouping(values: &[u64], widest: u64) -> Option<(u32, u32)> {
    if values.len() < 8 || widest == 0 || widest == u64::MAX {
        return None;
    }
    let (each, bits) = group_of(widest + 1)?;
    let even = if values.len() < FEW {
        is_even(values, widest)
    } else {
        f64::from(bits) / f64::from(each) < 1.02 * chance(values, widest)
    };
    even.then_some((each, bits))
}

/// Whether few numbers are about as seldom the same as when they are drawn by chance.
fn is_even(values: &[u64], widest: u64) -> bool {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let same: usize = sorted.chunk_by(|a, b| a == b).map(|same| same.len() * (same.len() - 1) / 2).sum();
    let expected = (values.len() * (values.len() - 1)) as f64 / 2.0 / (widest as f64 + 1.0);
    (same as f64) < 1.3 * expected + 2.0 * expected.sqrt() + 0.5
}

/// About how many bits a number takes when each plane is coded by how often its bytes are there.
fn chance(values: &[u64], widest: u64) -> f64 {
    let all = values.len() as f64;
    let plane = |shift: u32| {
        let mut counts = [0u32; 256];
        values.iter().for_each(|value| counts[(value >> shift) as usize & 255] += 1);
        let seen = counts.iter().filter(|count| **count > 0).count() as f64;
        let bits: f64 = counts
            .iter()
            .filter(|count| **count > 0)
            .map(|&count| f64::from(count) / all)
            .map(|share| -share * share.log2())
            .sum();
        // A sample shows less than there is (G. Miller, "Note on the bias of information estimates", 1955).
        bits + (seen - 1.0) / (2.0 * all * std::f64::consts::LN_2)
    };
    (0..64 - widest.leading_zeros()).step_by(8).map(plane).sum()
}

fn grouped(values: &[u64], range: u64, each: u32, bits: u32, out: &mut Vec<u8>) {
    let (mut held, mut filled) = (0u64, 0);
    for group in values.chunks(each as usize) {
        let word = group.iter().rev().fold(0, |word, value| word * range + value);
        held |= word << filled;
        filled += bits;
        while filled >= 8 {
            out.push(held as u8);
            held >>= 8;
            filled -= 8;
        }
    }
    if filled > 0 {
        out.push(held as u8);
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
    let divisor = if mode & DIVIDED == 0 { 1 } else { reader.number()? };
    let mode = mode & !DIVIDED;
    let mut values = match mode {
        GROUPED => ungrouped(reader, count)?,
        PLAIN | DELTA => of_planes(reader, count)?,
        _ => return Err(SegmentError::Damaged("numbers of an unknown kind")),
    };
    if mode == DELTA {
        let mut before = 0u64;
        for value in &mut values {
            before = before.wrapping_add(unzigzag(*value) as u64);
            *value = before;
        }
    }
    if divisor != 1 {
        values.iter_mut().for_each(|value| *value = value.wrapping_mul(divisor));
    }
    if low != 0 {
        values.iter_mut().for_each(|value| *value = value.wrapping_add(low));
    }
    Ok(values)
}

fn of_planes(reader: &mut Reader<'_>, count: usize) -> Result<Vec<u64>> {
    let width = reader.byte()? as usize;
    if width > 8 {
        return Err(SegmentError::Damaged("numbers of too many bytes"));
    }
    let bytes = reader.take(width * count)?;
    let mut values = vec![0u64; count];
    for (place, plane) in bytes.chunks_exact(count.max(1)).enumerate() {
        let shift = 8 * place;
        values.iter_mut().zip(plane).for_each(|(value, byte)| *value |= u64::from(*byte) << shift);
    }
    Ok(values)
}

fn ungrouped(reader: &mut Reader<'_>, count: usize) -> Result<Vec<u64>> {
    let damaged = SegmentError::Damaged("numbers of a range that cannot be");
    let range = reader.number()?.checked_add(1).ok_or(damaged)?;
    let (each, bits) = group_of(range).ok_or(SegmentError::Damaged("numbers of a range that cannot be"))?;
    let groups = count.div_ceil(each as usize);
    let bytes = reader.take((groups * bits as usize).div_ceil(8))?;
    let mask = (1u64 << bits) - 1;
    let mut values = Vec::with_capacity(count + GROUP as usize);
    for group in 0..groups {
        let at = group * bits as usize;
        let word = match bytes.get(at / 8..at / 8 + 8) {
            Some(eight) => u64::from_le_bytes(eight.try_into().expect("eight of them")),
            None => bytes[at / 8..].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        let mut word = word >> (at % 8) & mask;
        // Division by a number of 32 bits is much faster where both are.
        if let (Ok(mut small), Ok(range)) = (u32::try_from(word), u32::try_from(range)) {
            for _ in 0..each {
                values.push(u64::from(small % range));
                small /= range;
            }
            continue;
        }
        for _ in 0..each {
            values.push(word % range);
            word /= range;
        }
    }
    values.truncate(count);
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_in_either_way() {
        let rising: Vec<u64> = (0..1000).map(|n| 1_700_000_000_000_000 + n * 1_234).collect();
        let mixed = vec![u64::MAX, 0, 7, 1 << 40, 7];
        let drawn = |range: u64, count: u64| -> Vec<u64> {
            (1..=count).map(|n| 100 + n.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) % range).collect()
        };
        let many = [10, 40, 60, 900, 9_000, 90_000, 1 << 32, 1 << 52];
        let drawn =
            many.into_iter().flat_map(|range| [drawn(range, 1_000), drawn(range, 997), drawn(range, 64)]);
        let plain = [vec![], vec![5], vec![9; 100], rising.clone(), mixed];
        for values in plain.into_iter().chain(drawn) {
            let mut out = Vec::new();
            pack(&values, &mut out);
            let mut reader = Reader(&out);
            assert_eq!(unpack(&mut reader, values.len()).unwrap(), values);
            assert!(reader.0.is_empty());
        }
        let mut out = Vec::new();
        pack(&rising, &mut out);
        assert!(out.len() < 1_100, "{}", out.len());
        for (range, bits) in [(10u64, 3.4), (40, 5.4), (900, 10.1), (9_000, 13.6)] {
            let (each, taken) = group_of(range).unwrap();
            assert!(f64::from(taken) / f64::from(each) < bits, "{range}: {taken} bits for {each}");
        }
        let drawn: Vec<u64> = (1..=1_000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).collect();
        let mut out = Vec::new();
        pack(&drawn, &mut out);
        assert_eq!(out[0], GROUPED);
        assert!(unpack(&mut Reader(&out[..out.len() - 1]), 1_000).is_err());
        assert!(unpack(&mut Reader(&[9, 0, 0]), 1).is_err());
        assert!(
            unpack(&mut Reader(&[GROUPED, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]), 1).is_err()
        );
        assert!(unpack(&mut Reader(&[0, 0, 8, 1]), 1).is_err());
    }
}
