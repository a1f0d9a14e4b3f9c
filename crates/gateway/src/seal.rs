//! What is handed to clients to keep: sealed, so that they can neither read nor change it, and bound to
//! who may bring it back, for which request and until when.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use opsroom_core::{Clock, Error, Result};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

/// Seals with a key of its own, which lives as long as the process: what it sealed is worthless after.
pub struct Seal {
    key: LessSafeKey,
    random: SystemRandom,
    clock: Clock,
}

/// To what a sealed text is bound. Any difference, and it does not open.
#[derive(Clone, Copy)]
pub struct Bound<'a> {
    /// Who may bring it back.
    pub subject: &'a str,
    /// What it is for, such as a method.
    pub purpose: &'a str,
    /// Further what, such as the digest of the parameters.
    pub digest: &'a [u8],
}

impl Bound<'_> {
    fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.subject.len() + self.purpose.len() + self.digest.len() + 16);
        for part in [self.subject.as_bytes(), self.purpose.as_bytes(), self.digest] {
            out.extend_from_slice(&(part.len() as u64).to_be_bytes());
            out.extend_from_slice(part);
        }
        out
    }
}

impl Seal {
    /// A new key.
    ///
    /// # Errors
    /// `Internal` when the operating system gives no random bytes.
    pub fn new(clock: Clock) -> Result<Self> {
        let random = SystemRandom::new();
        let mut key = [0; 32];
        random.fill(&mut key).map_err(|_| Error::internal("no random bytes"))?;
        let key = UnboundKey::new(&CHACHA20_POLY1305, &key).map_err(|_| Error::internal("no key"))?;
        Ok(Self { key: LessSafeKey::new(key), random, clock })
    }

    /// Seals a text for so many seconds.
    ///
    /// # Errors
    /// `Internal` when it cannot be encrypted.
    pub fn seal(&self, bound: Bound<'_>, text: &[u8], seconds: i64) -> Result<String> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| Error::internal("no random bytes"))?;
        let end = self.clock.now().plus_seconds(seconds).0;
        let mut data = Vec::with_capacity(8 + text.len() + 16);
        data.extend_from_slice(&end.to_be_bytes());
        data.extend_from_slice(text);
        let unique = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(unique, Aad::from(bound.bytes()), &mut data)
            .map_err(|_| Error::internal("not sealed"))?;
        let mut out = nonce.to_vec();
        out.append(&mut data);
        Ok(URL_SAFE_NO_PAD.encode(out))
    }

    /// Opens what was sealed for the same binding, while it lasts.
    pub fn open(&self, bound: Bound<'_>, sealed: &str) -> Option<Vec<u8>> {
        let data = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = data.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let open = self.key.open_in_place(nonce, Aad::from(bound.bytes()), &mut sealed).ok()?;
        let (end, text) = open.split_first_chunk::<8>()?;
        (self.clock.now().0 < i64::from_be_bytes(*end)).then(|| text.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use opsroom_core::Time;

    use super::*;

    #[test]
    fn a_tampered_or_replayed_request_state_does_not_open() {
        let clock = Clock::manual(Time(0));
        let seal = Seal::new(clock.clone()).unwrap();
        let bound = Bound { subject: "key:1", purpose: "tools/call", digest: b"d" };
        let sealed = seal.seal(bound, b"state", 60).unwrap();
        assert_eq!(seal.open(bound, &sealed).as_deref(), Some(&b"state"[..]));
        assert_eq!(seal.open(Bound { subject: "key:2", ..bound }, &sealed), None, "another principal");
        assert_eq!(seal.open(Bound { purpose: "prompts/get", ..bound }, &sealed), None, "another method");
        assert_eq!(seal.open(Bound { digest: b"e", ..bound }, &sealed), None, "other parameters");
        for at in 0..sealed.len() {
            let mut other = sealed.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert!(other == sealed || seal.open(bound, &other).is_none(), "changed at {at}");
        }
        assert!(Seal::new(clock.clone()).unwrap().open(bound, &sealed).is_none(), "another server's");
        clock.advance_seconds(61);
        assert_eq!(seal.open(bound, &sealed), None, "too late");
        for odd in ["", "AAAA", "not base64!", &"A".repeat(30)] {
            assert_eq!(seal.open(bound, odd), None);
        }
    }
}
