//! Identifiers and random tokens.

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// A new identifier: a version 7 UUID (RFC 9562), so that newer ones sort later.
pub fn new_id() -> String {
    Uuid::now_v7().to_string()
}

/// A secret token: `prefix` and 256 random bits in hexadecimal.
pub fn new_token(prefix: &str) -> String {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    format!("{prefix}{}", hex(&bytes))
}

/// A random text of letters and digits, each equally likely: a password that a shell, a URL or YAML reads as
/// nothing but itself.
pub fn random_text(length: usize) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let mut bytes = [0u8; 64];
        getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
        // 248 is four times 62: what is above would make some letters likelier.
        let fair = bytes.iter().filter(|byte| **byte < 248);
        text.extend(fair.take(length - text.len()).map(|byte| char::from(ALPHABET[usize::from(byte % 62)])));
    }
    text
}

/// The SHA-256 of a text in hexadecimal: how a token is stored, so that a stolen table opens nothing.
pub fn sha256_hex(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// Bytes in lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)] as char);
        out.push(DIGITS[usize::from(byte & 15)] as char);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_identifiers_sort_later_and_tokens_differ() {
        let (first, second) = (new_id(), new_id());
        assert!(first < second);
        assert_ne!(new_token("k_"), new_token("k_"));
        assert_eq!(new_token("k_").len(), 2 + 64);
    }

    #[test]
    fn a_token_is_stored_as_its_sha256() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_hex("abc"), expected);
    }
}
