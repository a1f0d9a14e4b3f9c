//! Limits of processor, memory and disk, in Docker's and in Kubernetes' spelling, by one parser.

use opsroom_core::{Error, Result};

/// The least memory with which an engine starts a container (Docker refuses less).
const LEAST_MEMORY: u64 = 6 << 20;

/// Processor time in billionths of a processor: `0.5` and `2` (both spellings), `500m` (thousandths,
/// Kubernetes).
///
/// # Errors
/// `Invalid` for anything else, and outside 0.001 to 1024 processors.
pub fn nano_cpus(text: &str) -> Result<i64> {
    let wrong = || {
        Error::invalid(format!(
            "cpu_limit: `{}` is no number of processors; use such as `0.5`, `2` or `500m`",
            text.escape_debug()
        ))
    };
    let trimmed = text.trim();
    let nano = match trimmed.strip_suffix('m') {
        Some(thousandths) => decimal(thousandths).ok_or_else(wrong)? * 1e6,
        None => decimal(trimmed).ok_or_else(wrong)? * 1e9,
    };
    if !(1e6..=1024e9).contains(&nano) {
        return Err(Error::invalid(format!("cpu_limit: `{trimmed}` is not from 0.001 to 1024 processors")));
    }
    // Checked above: it is far below what an i64 holds.
    Ok(nano.round() as i64)
}

/// Bytes: `512m`, `1g`, `64MB` (Docker: powers of 1024), `512Mi`, `1Gi` (Kubernetes, powers of 1024),
/// `500M`, `1G`, `100k` (Kubernetes, powers of 1000), or a plain number.
///
/// The two disagree about a capital letter alone: Docker takes `512M` as `512m`; here it is what
/// Kubernetes means by it, which is the smaller one.
///
/// # Errors
/// `Invalid`, beginning with `field`, for anything else.
pub fn bytes(field: &str, text: &str) -> Result<i64> {
    let wrong = || {
        Error::invalid(format!(
            "{field}: `{}` is no amount of bytes; use such as `512m`, `1g`, `512Mi` or `1Gi`",
            text.escape_debug()
        ))
    };
    let trimmed = text.trim();
    let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(digits);
    let number = decimal(number).ok_or_else(wrong)?;
    let factor: u64 = match unit.trim() {
        "" | "b" | "B" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" | "kb" | "KB" | "KiB" | "K" => 1 << 10,
        "Mi" | "m" | "mb" | "MB" | "MiB" => 1 << 20,
        "Gi" | "g" | "gb" | "GB" | "GiB" => 1 << 30,
        "Ti" | "t" | "tb" | "TB" | "TiB" => 1 << 40,
        _ => return Err(wrong()),
    };
    let bytes = number * factor as f64;
    if !(1.0..=(1u64 << 50) as f64).contains(&bytes) {
        return Err(wrong());
    }
    Ok(bytes.round() as i64)
}

/// [`bytes`] of memory, at least what an engine takes.
///
/// # Errors
/// Those of [`bytes`], and `Invalid` for less than 6 MiB.
pub fn memory(text: &str) -> Result<i64> {
    let bytes = bytes("memory_limit", text)?;
    if bytes.unsigned_abs() < LEAST_MEMORY {
        return Err(Error::invalid(format!(
            "memory_limit: `{}` is less than 6Mi, the least there is",
            text.trim()
        )));
    }
    Ok(bytes)
}

/// A plain decimal number: no sign, no exponent, no `NaN`.
fn decimal(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if plain && text != "." { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_a_limit_are_understood() {
        for (text, nano) in
            [("0.5", 500_000_000), ("500m", 500_000_000), ("2", 2_000_000_000), ("1000m", 1_000_000_000)]
        {
            assert_eq!(nano_cpus(text).unwrap(), nano, "{text}");
        }
        let mebi = 1 << 20;
        for (text, expected) in [
            ("512m", 512 * mebi),
            ("512Mi", 512 * mebi),
            ("512MB", 512 * mebi),
            ("1g", 1024 * mebi),
            ("1Gi", 1024 * mebi),
            ("500M", 500_000_000),
            ("134217728", 134_217_728),
            ("0.5Gi", 512 * mebi),
        ] {
            assert_eq!(memory(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn limits_that_do_not_parse_are_refused_by_name() {
        for text in ["", "-1", "1e9", "NaN", "inf", "0", "9999", "half", "1 2", "0x10", "１"] {
            assert!(nano_cpus(text).unwrap_err().message.starts_with("cpu_limit: "), "{text}");
        }
        for text in ["", "-1m", "512Qi", "lots", "1e9", "0", "5m", "99999999999Ti", "."] {
            assert!(memory(text).unwrap_err().message.starts_with("memory_limit: "), "{text}");
        }
    }
}
