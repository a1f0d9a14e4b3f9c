//! Whether a delivery comes from where it says: signatures over the raw bytes, compared in constant time.

use opsroom_core::Time;
use ring::hmac;
use subtle::ConstantTimeEq;

/// How a sender signs, after those that sign at all.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheme {
    /// The header of the signature, lower case.
    pub header: String,
    /// What stands before it, such as `sha256=`.
    pub prefix: String,
    /// The hash.
    pub hash: Hash,
    /// Whether the signature is base64 instead of hexadecimal.
    pub base64: bool,
    /// The header of the time of signing in seconds since 1970, lower case; it is signed with the body.
    pub timestamp_header: Option<String>,
    /// What stands between time and body, such as `:` or `.`.
    pub separator: String,
}

/// The hash of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How far a signed time may be from ours, in seconds.
pub const TOLERANCE_SECONDS: i64 = 300;

/// Why a delivery is refused. Told to the one who owns the receiver, never to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No signature, or none that can be read.
    Missing,
    /// The time is missing or too far from ours.
    Late,
    /// Somebody else signed, or the body was changed.
    Wrong,
}

impl Scheme {
    /// `X-Hub-Signature-256`, as GitHub signs.
    pub fn github() -> Self {
        Self { prefix: "sha256=".to_owned(), ..Self::plain("x-hub-signature-256") }
    }

    /// Grafana's: bare hexadecimal. With a time, when the contact point names a header for it.
    pub fn grafana(timestamp_header: Option<String>) -> Self {
        Self { timestamp_header, separator: ":".to_owned(), ..Self::plain("x-grafana-alerting-signature") }
    }

    fn plain(header: &str) -> Self {
        Self {
            header: header.to_owned(),
            prefix: String::new(),
            hash: Hash::Sha256,
            base64: false,
            timestamp_header: None,
            separator: String::new(),
        }
    }

    /// Holds a body against its signature.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify<'a>(
        &self,
        key: &[u8],
        header: impl Fn(&str) -> Option<&'a str>,
        body: &[u8],
        now: Time,
    ) -> Result<(), Refusal> {
        let given = header(&self.header).and_then(|text| text.trim().strip_prefix(self.prefix.as_str()));
        let given = self.decode(given.ok_or(Refusal::Missing)?).ok_or(Refusal::Missing)?;
        let mut signed = Vec::with_capacity(body.len() + 16);
        if let Some(name) = &self.timestamp_header {
            let text = header(name).map(str::trim).ok_or(Refusal::Late)?;
            let at: i64 = text.parse().map_err(|_| Refusal::Late)?;
            if (now.0 / 1_000_000).abs_diff(at) > TOLERANCE_SECONDS.unsigned_abs() {
                return Err(Refusal::Late);
            }
            signed.extend_from_slice(text.as_bytes());
            signed.extend_from_slice(self.separator.as_bytes());
        }
        signed.extend_from_slice(body);
        let algorithm = match self.hash {
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha512 => hmac::HMAC_SHA512,
        };
        hmac::verify(&hmac::Key::new(algorithm, key), &signed, &given).map_err(|_| Refusal::Wrong)
    }

    fn decode(&self, text: &str) -> Option<Vec<u8>> {
        let encoding = if self.base64 { data_encoding::BASE64 } else { data_encoding::HEXLOWER_PERMISSIVE };
        encoding.decode(text.as_bytes()).ok()
    }
}

/// Whether two secrets are equal, in time that does not depend on where they differ.
pub fn same(given: &str, known: &str) -> bool {
    given.as_bytes().ct_eq(known.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GITHUB_SECRET: &[u8] = b"It's a Secret to Everybody";
    /// From GitHub's documentation of webhook deliveries.
    const GITHUB_SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn now() -> Time {
        Time(1_762_856_400_000_000)
    }

    fn signed(key: &[u8], text: &[u8]) -> String {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
        opsroom_core::id::hex(tag.as_ref())
    }

    #[test]
    fn githubs_published_signature_is_believed_and_a_forged_one_is_not() {
        let check = |signature: Option<&'static str>, body: &[u8]| {
            Scheme::github().verify(GITHUB_SECRET, |_| signature, body, now())
        };
        assert_eq!(check(Some(GITHUB_SIGNATURE), b"Hello, World!"), Ok(()));
        assert_eq!(check(Some(GITHUB_SIGNATURE), b"Hello, World?"), Err(Refusal::Wrong));
        assert_eq!(check(None, b"Hello, World!"), Err(Refusal::Missing));
        assert_eq!(check(Some("sha256=75710"), b"Hello, World!"), Err(Refusal::Missing));
        assert_eq!(check(Some("sha1=757107ea"), b"Hello, World!"), Err(Refusal::Missing));
        assert_eq!(check(Some("sha256="), b"Hello, World!"), Err(Refusal::Wrong));
    }

    #[test]
    fn a_replayed_delivery_of_grafana_is_late() {
        let scheme = Scheme::grafana(Some("x-time".to_owned()));
        let check = |at: i64, signature_at: i64| {
            let (at, signature) = (at.to_string(), signed(b"key", format!("{signature_at}:{{}}").as_bytes()));
            let header = |name: &str| Some(if name == "x-time" { at.as_str() } else { signature.as_str() });
            scheme.verify(b"key", header, b"{}", now())
        };
        let second = now().0 / 1_000_000;
        assert_eq!(check(second, second), Ok(()));
        assert_eq!(check(second - 299, second - 299), Ok(()));
        assert_eq!(check(second - 301, second - 301), Err(Refusal::Late));
        assert_eq!(check(second + 301, second + 301), Err(Refusal::Late));
        assert_eq!(check(second, second - 10), Err(Refusal::Wrong));
        assert_eq!(
            scheme.verify(b"key", |name| (name != "x-time").then_some("00"), b"", now()),
            Err(Refusal::Late)
        );
    }

    #[test]
    fn base64_signatures_of_sha512_are_read() {
        let scheme = Scheme { hash: Hash::Sha512, base64: true, ..Scheme::plain("x-sign") };
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA512, b"k"), b"body");
        let text = data_encoding::BASE64.encode(tag.as_ref());
        assert_eq!(scheme.verify(b"k", |_| Some(text.as_str()), b"body", now()), Ok(()));
        assert_eq!(scheme.verify(b"x", |_| Some(text.as_str()), b"body", now()), Err(Refusal::Wrong));
    }
}
