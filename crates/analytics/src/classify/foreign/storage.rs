//! The two containers of PyTorch's `torch.save`: where the pickle lies and where the numbers.
//!
//! The new one is a zip whose members are stored as they are; the old one is a row of pickles followed
//! by the storages. See `torch/serialization.py`.

use std::collections::HashMap;

use super::pickle::{Pickle, Value};
use crate::classify::error::{ClassifyError, file};

/// Members of a zip, at most.
const MAX_MEMBERS: usize = 10_000;

pub(super) fn refuse(problem: impl Into<String>) -> ClassifyError {
    file("PyTorch checkpoint", problem)
}

/// A checkpoint's pickle and the raw numbers of its storages by key.
pub(super) struct Container<'a> {
    pub pickle: Pickle,
    pub storages: HashMap<String, &'a [u8]>,
}

/// Opens either container.
pub(super) fn open(bytes: &[u8]) -> Result<Container<'_>, ClassifyError> {
    if bytes.starts_with(b"PK\x03\x04") { open_zip(bytes) } else { open_legacy(bytes) }
}

fn open_zip(bytes: &[u8]) -> Result<Container<'_>, ClassifyError> {
    let members = members(bytes).ok_or_else(|| refuse("its zip directory is broken"))?;
    if members.iter().any(|(_, member)| member.is_none()) {
        return Err(refuse("a member of its zip is compressed or lies outside, which PyTorch never writes"));
    }
    let find = |tail: &str| {
        let found = members.iter().find(|(name, _)| name.split_once('/').is_some_and(|(_, t)| t == tail));
        found.and_then(|(_, member)| *member)
    };
    if find("byteorder").is_some_and(|order| order != b"little") {
        return Err(refuse("its numbers are big-endian, expected little-endian"));
    }
    let pickle = find("data.pkl").ok_or_else(|| refuse("its zip has no data.pkl"))?;
    let (pickle, _) = Pickle::read(pickle)?;
    let key = |name: &str| name.split_once('/')?.1.strip_prefix("data/").map(str::to_owned);
    let storages = members.iter().filter_map(|(name, member)| Some((key(name)?, (*member)?))).collect();
    Ok(Container { pickle, storages })
}

/// Names and contents of a zip's members; a content is absent when it cannot be taken as it lies.
#[expect(clippy::type_complexity, reason = "pairs of a name and a content need no name of their own")]
fn members(bytes: &[u8]) -> Option<Vec<(String, Option<&[u8]>)>> {
    let u16_at = |at: usize| Some(usize::from(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?)));
    let u32_at = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
    // The end record is 22 bytes and a comment of at most 65,535.
    let lowest = bytes.len().saturating_sub(22 + 65_535);
    let end =
        (lowest..=bytes.len().checked_sub(22)?).rev().find(|&at| bytes[at..].starts_with(b"PK\x05\x06"))?;
    let (count, mut at) = (u16_at(end + 10)?, u32_at(end + 16)?);
    let mut members = Vec::new();
    for _ in 0..count.min(MAX_MEMBERS) {
        if bytes.get(at..at + 4)? != b"PK\x01\x02" {
            return None;
        }
        let (method, stored, size) = (u16_at(at + 10)?, u32_at(at + 20)?, u32_at(at + 24)?);
        let (name, extra, comment) = (u16_at(at + 28)?, u16_at(at + 30)?, u16_at(at + 32)?);
        let local = u32_at(at + 42)?;
        let title = String::from_utf8_lossy(bytes.get(at + 46..at + 46 + name)?).into_owned();
        let start = local.checked_add(30 + u16_at(local.checked_add(26)?)? + u16_at(local + 28)?)?;
        let content = bytes.get(start..start.checked_add(size)?);
        members.push((title, content.filter(|_| method == 0 && stored == size)));
        at += 46 + name + extra + comment;
    }
    Some(members)
}

fn open_legacy(bytes: &[u8]) -> Result<Container<'_>, ClassifyError> {
    // In order: a magic number, the protocol, facts of the system, the data, the keys of the storages.
    let mut at = 0;
    let mut next = || -> Result<Pickle, ClassifyError> {
        let (pickle, used) = Pickle::read(bytes.get(at..).unwrap_or_default())?;
        at += used;
        Ok(pickle)
    };
    let first = next()?;
    // The magic number has ten bytes; these are the lower eight of them.
    if first.root() != &Value::Int(0x1950_a86a_20f9_469c_fc6c_u128 as i64) {
        return Err(refuse("it begins neither as a zip nor with PyTorch's magic number"));
    }
    if next()?.root() != &Value::Int(1001) {
        return Err(refuse("its protocol is not 1001, the only one there was"));
    }
    next()?;
    let pickle = next()?;
    let keys = next()?;
    let Value::List(keys_at) = keys.root() else {
        return Err(refuse("it has no list of storages"));
    };
    let sizes = storage_widths(&pickle);
    let mut storages = HashMap::new();
    for &key in keys_at {
        let Value::Text(key) = keys.get(key) else {
            return Err(refuse("a storage's key is no text"));
        };
        let count = bytes.get(at..at + 8).ok_or_else(|| refuse("its storages are cut off"))?;
        let count = u64::from_le_bytes(count.try_into().expect("eight bytes were taken"));
        let width = sizes.get(key).copied().unwrap_or(4);
        let length = usize::try_from(count).ok().and_then(|count| count.checked_mul(width));
        let end = length.and_then(|length| (at + 8).checked_add(length));
        let content = end.and_then(|end| bytes.get(at + 8..end));
        let content = content.ok_or_else(|| refuse(format!("storage {key} is cut off")))?;
        at += 8 + content.len();
        storages.insert(key.clone(), content);
    }
    Ok(Container { pickle, storages })
}

/// The bytes of a number of each storage that the pickle names.
fn storage_widths(pickle: &Pickle) -> HashMap<String, usize> {
    let storages = pickle.values().filter_map(|value| match value {
        Value::Storage(storage) => Some((storage.key.clone(), storage.of.width())),
        _ => None,
    });
    storages.collect()
}
