//! Signed tokens (RFC 7515, 7519) and the keys that they are held against (RFC 7517), for signatures alone.
//!
//! What a token says about itself is never believed: its algorithm must be among those that are expected, and
//! must fit the kind of the key, so that neither `none` nor a public key taken for a shared secret opens anything
//! (RFC 8725, 3.1 and 3.2).

use data_encoding::BASE64URL_NOPAD;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The largest token, in bytes.
const LARGEST: usize = 32 << 10;

/// The most keys of a set that are looked at.
const MOST_KEYS: usize = 64;

/// How a token is signed (RFC 7518, 3.1; RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Algorithm {
    /// RSA with SHA-256.
    RS256,
    /// RSA with SHA-384.
    RS384,
    /// RSA with SHA-512.
    RS512,
    /// RSA-PSS with SHA-256.
    PS256,
    /// RSA-PSS with SHA-384.
    PS384,
    /// RSA-PSS with SHA-512.
    PS512,
    /// The curve P-256 with SHA-256.
    ES256,
    /// The curve P-384 with SHA-384.
    ES384,
    /// The curve Ed25519.
    EdDSA,
}

impl Algorithm {
    const ALL: [(&str, Self); 9] = [
        ("RS256", Self::RS256),
        ("RS384", Self::RS384),
        ("RS512", Self::RS512),
        ("PS256", Self::PS256),
        ("PS384", Self::PS384),
        ("PS512", Self::PS512),
        ("ES256", Self::ES256),
        ("ES384", Self::ES384),
        ("EdDSA", Self::EdDSA),
    ];

    fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(name, _)| *name == word).map(|(_, algorithm)| algorithm)
    }
}

/// Why a token is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// It names a key that is not in the set: the set may be old.
    UnknownKey,
    /// It is wrong, whatever the keys.
    Wrong(&'static str),
}

enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

struct Key {
    id: Option<String>,
    algorithm: Option<Algorithm>,
    material: Material,
}

/// The public keys of a provider.
pub struct Keys(Vec<Key>);

impl Keys {
    /// The keys of a set; those that are of no use here are left out. `None` for what is no set.
    pub fn parse(set: &Value) -> Option<Self> {
        let keys = set.get("keys")?.as_array()?;
        Some(Self(keys.iter().take(MOST_KEYS).filter_map(Key::parse).collect()))
    }

    /// What a token says, when one of these keys signed it by one of these algorithms.
    ///
    /// # Errors
    /// [`Fault`], which holds nothing of the token.
    pub fn open(
        &self,
        token: &str,
        algorithms: &[Algorithm],
        kinds: &[&str],
    ) -> Result<Map<String, Value>, Fault> {
        if token.len() > LARGEST {
            return Err(Fault::Wrong("it is too large"));
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(Fault::Wrong("it has no signature"))?;
        let (header, payload) = signed.split_once('.').ok_or(Fault::Wrong("it has no three parts"))?;
        let header = object(header).ok_or(Fault::Wrong("its header is no JSON object"))?;
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::parse);
        let algorithm = algorithm
            .filter(|algorithm| algorithms.contains(algorithm))
            .ok_or(Fault::Wrong("it is signed by none of the algorithms of `oidc.algorithms`"))?;
        // A token of another kind is not taken for this one (RFC 8725, 3.11), and what it calls critical is not
        // passed over (RFC 7515, 4.1.11).
        let kind = header.get("typ").map(|kind| kind.as_str().unwrap_or_default());
        let is_one = |kind: &str| kinds.iter().any(|known| kind.eq_ignore_ascii_case(known));
        if kind.is_some_and(|kind| !is_one(kind)) || header.contains_key("crit") {
            return Err(Fault::Wrong("its header says that it is something else"));
        }
        let bytes = BASE64URL_NOPAD.decode(signature.as_bytes());
        let bytes = bytes.map_err(|_| Fault::Wrong("its signature is not base64url"))?;
        let id = match header.get("kid") {
            None => None,
            Some(Value::String(id)) => Some(id.as_str()),
            Some(_) => return Err(Fault::Wrong("its `kid` is no text")),
        };
        let mut candidates =
            self.0.iter().filter(|key| id.is_none_or(|id| key.id.as_deref() == Some(id))).peekable();
        if candidates.peek().is_none() {
            return Err(Fault::UnknownKey);
        }
        if !candidates.any(|key| key.verifies(algorithm, signed.as_bytes(), &bytes)) {
            // Without a name, the key may be one that came later.
            return Err(if id.is_none() {
                Fault::UnknownKey
            } else {
                Fault::Wrong("its signature is wrong")
            });
        }
        object(payload).ok_or(Fault::Wrong("what it says is no JSON object"))
    }
}

impl Key {
    fn parse(key: &Value) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Value::as_str);
        let bytes = |name: &str| BASE64URL_NOPAD.decode(text(name)?.as_bytes()).ok();
        if text("use").is_some_and(|use_| use_ != "sig") {
            return None;
        }
        let point = |size: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            // Uncompressed (SEC 1, 2.3.3).
            (x.len() == size && y.len() == size).then(|| [&[4][..], &x, &y].concat())
        };
        let material = match (text("kty")?, text("crv")) {
            ("RSA", _) => {
                let plain =
                    |number: Vec<u8>| number.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
                let (n, e) = (plain(bytes("n")?), plain(bytes("e")?));
                // 2048 bits at least (RFC 7518, 3.3).
                (n.len() >= 256).then_some(Material::Rsa { n, e })?
            }
            ("EC", Some("P-256")) => Material::P256(point(32)?),
            ("EC", Some("P-384")) => Material::P384(point(48)?),
            ("OKP", Some("Ed25519")) => Material::Ed25519(bytes("x")?),
            _ => return None,
        };
        let algorithm = match text("alg") {
            None => None,
            Some(word) => Some(Algorithm::parse(word)?),
        };
        Some(Self { id: text("kid").map(str::to_owned), algorithm, material })
    }

    fn verifies(&self, algorithm: Algorithm, signed: &[u8], bytes: &[u8]) -> bool {
        if self.algorithm.is_some_and(|own| own != algorithm) {
            return false;
        }
        let rsa = |parameters| match &self.material {
            Material::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, bytes).is_ok()
            }
            _ => false,
        };
        let curve = |on: &'static dyn signature::VerificationAlgorithm, point: &[u8]| {
            UnparsedPublicKey::new(on, point).verify(signed, bytes).is_ok()
        };
        match (algorithm, &self.material) {
            (Algorithm::RS256, _) => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            (Algorithm::RS384, _) => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            (Algorithm::RS512, _) => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            (Algorithm::PS256, _) => rsa(&signature::RSA_PSS_2048_8192_SHA256),
            (Algorithm::PS384, _) => rsa(&signature::RSA_PSS_2048_8192_SHA384),
            (Algorithm::PS512, _) => rsa(&signature::RSA_PSS_2048_8192_SHA512),
            (Algorithm::ES256, Material::P256(point)) => curve(&signature::ECDSA_P256_SHA256_FIXED, point),
            (Algorithm::ES384, Material::P384(point)) => curve(&signature::ECDSA_P384_SHA384_FIXED, point),
            (Algorithm::EdDSA, Material::Ed25519(point)) => curve(&signature::ED25519, point),
            _ => false,
        }
    }
}

fn object(part: &str) -> Option<Map<String, Value>> {
    let bytes = BASE64URL_NOPAD.decode(part.as_bytes()).ok()?;
    serde_json::from_slice(&bytes).ok()
}
