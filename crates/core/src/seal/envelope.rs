//! Envelopes: what is sealed has a key of its own, which is itself sealed by a key-encryption key.
//!
//! Both layers are AES-256-GCM (NIST SP 800-38D) with random 96-bit nonces. A data key seals one text and
//! is never used again; a key-encryption key seals data keys, of which there are far fewer than the 2^32
//! that random nonces allow. What a text belongs to (its *context*: a team, a path, a version) is
//! authenticated with it, so that a row that was moved or exchanged does not open.

use data_encoding::BASE64URL_NOPAD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::id::hex;

/// How sealed texts of this form begin.
const FORM: &str = "1";

/// A key of 256 bits, wiped when dropped.
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// A new random key.
    pub fn random() -> Self {
        let mut bytes = Zeroizing::new([0u8; 32]);
        getrandom::fill(&mut *bytes).expect("the operating system gives random bytes");
        Self(bytes)
    }

    /// The key of these bytes, when there are 32.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; 32] = bytes.try_into().ok()?;
        Some(Self(Zeroizing::new(bytes)))
    }

    /// The key of 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?);
        Self::of(&bytes)
    }

    /// The key as 64 hexadecimal digits.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex(&*self.0))
    }

    /// A name that tells keys apart and says nothing about them.
    pub fn id(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(b"opsroom master key, version 1");
        hasher.update(*self.0);
        hex(&hasher.finalize()[..8])
    }

    /// The bytes, for whoever keeps the key.
    pub(super) fn bytes(&self) -> &[u8] {
        &*self.0
    }

    /// Seals: a nonce, the text, and the tag that shows changes of it or of the context.
    pub fn seal(&self, context: &Context, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0u8; NONCE_LEN];
        getrandom::fill(&mut nonce).expect("the operating system gives random bytes");
        let mut sealed = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = self
            .cipher()
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(&context.0),
                &mut sealed[NONCE_LEN..],
            )
            .expect("a text in memory is shorter than the 64 GiB that AES-GCM takes");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens what [`Key::seal`] gave; `None` when the key or the context is another one, or a bit changed.
    pub fn open(&self, context: &Context, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, rest) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = Zeroizing::new(rest.to_vec());
        let length = self.cipher().open_in_place(nonce, Aad::from(&context.0), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }

    fn cipher(&self) -> LessSafeKey {
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*self.0).expect("the key has 256 bits"))
    }
}

/// What a sealed text belongs to. Parts are written with their lengths, so that no two lists are alike.
pub struct Context(Vec<u8>);

impl Context {
    /// The context of these parts, for a purpose.
    pub fn new(purpose: &str, parts: &[&str]) -> Self {
        let mut bytes = Vec::new();
        for part in std::iter::once(&purpose).chain(parts) {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        Self(bytes)
    }
}

/// A sealed text in its parts.
pub struct Envelope {
    /// Which key-encryption key sealed the data key.
    pub kek: String,
    dek: Vec<u8>,
    text: Vec<u8>,
}

impl Envelope {
    /// Seals a text under a new data key.
    pub fn seal(kek: &Key, kek_id: &str, parts: &[&str], plain: &[u8]) -> Self {
        let dek = Key::random();
        let text = dek.seal(&Context::new("opsroom sealed text", parts), plain);
        Self { kek: kek_id.to_owned(), dek: kek.seal(&of_dek(kek_id, parts), dek.bytes()), text }
    }

    /// Opens the text.
    pub fn open(&self, kek: &Key, parts: &[&str]) -> Option<Zeroizing<Vec<u8>>> {
        self.data_key(kek, parts)?.open(&Context::new("opsroom sealed text", parts), &self.text)
    }

    /// The same text with its data key sealed by another key.
    pub fn rewrap(&self, old: &Key, new: &Key, new_id: &str, parts: &[&str]) -> Option<Self> {
        let dek = self.data_key(old, parts)?;
        Some(Self {
            kek: new_id.to_owned(),
            dek: new.seal(&of_dek(new_id, parts), dek.bytes()),
            text: self.text.clone(),
        })
    }

    fn data_key(&self, kek: &Key, parts: &[&str]) -> Option<Key> {
        Key::of(&kek.open(&of_dek(&self.kek, parts), &self.dek)?)
    }

    /// Reads the form that the database keeps.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (form, kek, dek, sealed) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if form != FORM || parts.next().is_some() {
            return None;
        }
        let decode = |text: &str| BASE64URL_NOPAD.decode(text.as_bytes()).ok();
        Some(Self { kek: kek.to_owned(), dek: decode(dek)?, text: decode(sealed)? })
    }
}

impl std::fmt::Display for Envelope {
    /// The form that the database keeps: `1.KEK.DATA KEY.TEXT`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let encode = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
        write!(f, "{FORM}.{}.{}.{}", self.kek, encode(&self.dek), encode(&self.text))
    }
}

fn of_dek(kek: &str, parts: &[&str]) -> Context {
    let parts: Vec<&str> = std::iter::once(kek).chain(parts.iter().copied()).collect();
    Context::new("opsroom data key", &parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_only_whole_in_its_place_and_with_its_key() {
        let (kek, other) = (Key::random(), Key::random());
        let sealed = Envelope::seal(&kek, "k1", &["team", "db/password", "1"], b"hunter2");
        let text = sealed.to_string();
        let read = Envelope::parse(&text).unwrap();
        assert_eq!(&**read.open(&kek, &["team", "db/password", "1"]).unwrap(), b"hunter2");
        assert!(read.open(&other, &["team", "db/password", "1"]).is_none(), "a wrong master key");
        assert!(read.open(&kek, &["team", "db/password", "2"]).is_none(), "a moved row");
        assert!(read.open(&kek, &["team", "db/passwor", "d1"]).is_none(), "shifted parts");
        assert!(!text.contains("hunter2"));
        for at in 0..sealed.text.len() {
            let mut changed = Envelope::parse(&text).unwrap();
            changed.text[at] ^= 1;
            assert!(changed.open(&kek, &["team", "db/password", "1"]).is_none(), "byte {at}");
        }
    }

    #[test]
    fn a_new_key_encryption_key_seals_the_data_key_and_leaves_the_text() {
        let (old, new) = (Key::random(), Key::random());
        let sealed = Envelope::seal(&old, "old", &["x"], b"value");
        let again = sealed.rewrap(&old, &new, "new", &["x"]).unwrap();
        assert_eq!(again.text, sealed.text);
        assert_eq!(&**again.open(&new, &["x"]).unwrap(), b"value");
        assert!(again.open(&old, &["x"]).is_none());
        assert!(sealed.rewrap(&new, &new, "new", &["x"]).is_none());
    }

    #[test]
    fn equal_texts_are_sealed_differently() {
        let kek = Key::random();
        let seal = || Envelope::seal(&kek, "k", &["x"], b"value").to_string();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn garbage_is_no_envelope() {
        for text in ["", "1", "1.a.b", "2.a.YQ.YQ", "1.a.YQ.YQ.YQ", "1.a.!.YQ"] {
            assert!(Envelope::parse(text).is_none(), "{text}");
        }
        let short = Envelope::parse("1.a.YQ.YQ").unwrap();
        assert!(short.open(&Key::random(), &[]).is_none());
    }
}
