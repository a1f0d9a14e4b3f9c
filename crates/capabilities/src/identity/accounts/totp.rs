//! Codes of a second factor: TOTP, RFC 6238, with HMAC-SHA-1, six digits and thirty seconds, as every
//! authenticator app has it; and recovery codes for who has lost it.

use data_encoding::BASE32_NOPAD;
use opsroom_core::Time;
use opsroom_core::id::sha256_hex;
use ring::hmac;
use subtle::ConstantTimeEq;

/// Seconds that a code is shown.
const STEP: i64 = 30;

/// A new seed: 160 random bits in base32.
pub fn new_seed() -> String {
    let mut bytes = [0u8; 20];
    let hex = opsroom_core::id::new_token("");
    for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        let digits = std::str::from_utf8(digits).unwrap_or("0");
        *byte = u8::from_str_radix(digits, 16).unwrap_or_default();
    }
    BASE32_NOPAD.encode(&bytes)
}

/// The address that an authenticator app reads, as the usual picture has it.
pub fn address(seed: &str, user: &str) -> String {
    format!("otpauth://totp/Opsroom:{user}?secret={seed}&issuer=Opsroom&algorithm=SHA1&digits=6&period=30")
}

/// The step whose code this is, now or one step to either side, and after the last step that was used: a code
/// works once (ASVS 6.5.1).
pub fn accept(seed: &str, code: &str, now: Time, last_step: i64) -> Option<i64> {
    let current = now.0.div_euclid(1_000_000).div_euclid(STEP);
    (current - 1..=current + 1).filter(|step| *step > last_step).find(|step| {
        code_at(seed, *step).is_some_and(|right| bool::from(right.as_bytes().ct_eq(code.trim().as_bytes())))
    })
}

/// The code of a step.
pub fn code_at(seed: &str, step: i64) -> Option<String> {
    let seed = BASE32_NOPAD.decode(seed.as_bytes()).ok()?;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &seed);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let bytes = tag.as_ref();
    let at = usize::from(bytes.last()? & 15);
    let number = u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?) & 0x7fff_ffff;
    Some(format!("{:06}", number % 1_000_000))
}

/// Ten recovery codes of 60 random bits.
pub fn new_recovery_codes() -> Vec<String> {
    let code = || {
        let text = opsroom_core::id::random_text(10).to_ascii_lowercase();
        format!("{}-{}", &text[..5], &text[5..])
    };
    (0..10).map(|_| code()).collect()
}

/// How a recovery code is kept.
pub fn recovery_hash(user: &str, code: &str) -> String {
    sha256_hex(&format!("opsroom recovery code {user} {}", code.trim().to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // Appendix B, the seed `12345678901234567890`, the last six of the eight digits there.
        let seed = BASE32_NOPAD.encode(b"12345678901234567890");
        for (seconds, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            assert_eq!(code_at(&seed, seconds / STEP).as_deref(), Some(code));
        }
    }

    #[test]
    fn v6_5_1_a_replayed_totp_code_is_refused() {
        let seed = new_seed();
        let now = Time(1_790_000_000_000_000);
        let step = now.0 / 1_000_000 / STEP;
        let code = code_at(&seed, step).unwrap();
        assert_eq!(accept(&seed, &code, now, 0), Some(step));
        assert_eq!(accept(&seed, &code, now, step), None);
        assert_eq!(accept(&seed, &code, now.plus_seconds(30), 0), Some(step), "a clock that is late");
        assert_eq!(accept(&seed, &code, now.plus_seconds(90), 0), None, "too late");
        assert_eq!(accept(&seed, "", now, 0), None);
    }

    #[test]
    fn recovery_codes_differ_and_are_kept_as_hashes() {
        let codes = new_recovery_codes();
        let different: std::collections::HashSet<_> = codes.iter().collect();
        assert_eq!(different.len(), 10);
        assert_eq!(recovery_hash("u", " ABCDE-FGHIJ "), recovery_hash("u", "abcde-fghij"));
        assert_ne!(recovery_hash("u", "abcde-fghij"), recovery_hash("v", "abcde-fghij"));
    }
}
