//! Signing requests to object stores. Pure: the time is given.

use hmac::{Hmac, KeyInit, Mac};
use opsroom_core::clock::Time;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// What signs requests: an identity and its key, with a token where they are temporary.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The public part: SecretId, access key id, or the account's name.
    pub id: String,
    /// The key.
    pub key: opsroom_core::secret::Secret,
    /// The token of temporary credentials.
    pub token: Option<opsroom_core::secret::Secret>,
}

/// A request as it is signed.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned<'a> {
    /// `GET` and so on.
    pub method: &'a str,
    /// The host, with its port where that is not the usual one.
    pub host: &'a str,
    /// The path, not encoded.
    pub path: &'a str,
    /// The query, not encoded.
    pub query: &'a [(String, String)],
    /// What is sent.
    pub body: &'a [u8],
}

/// Keeps letters, digits, `-`, `_`, `.` and `~`; writes the rest as `%XX` (RFC 3986).
pub fn encode(text: &str) -> String {
    encode_but(text, "")
}

/// The same, keeping slashes.
pub fn encode_path(text: &str) -> String {
    encode_but(text, "/")
}

fn encode_but(text: &str, kept: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || kept.as_bytes().contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hmac_sha1(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hmac_sha256(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// `k=v` pairs in the order of their lower-case encoded names, and the list of these names.
fn listed(pairs: &[(String, String)]) -> (String, String) {
    let mut encoded: Vec<(String, String)> =
        pairs.iter().map(|(name, value)| (encode(name).to_ascii_lowercase(), encode(value))).collect();
    encoded.sort();
    let names: Vec<&str> = encoded.iter().map(|(name, _)| name.as_str()).collect();
    let all: Vec<String> = encoded.iter().map(|(name, value)| format!("{name}={value}")).collect();
    (names.join(";"), all.join("&"))
}

/// The `Authorization` of a request to Tencent COS (XML API v5), valid in `key_time` ("start;end", seconds
/// since 1970). <https://www.tencentcloud.com/document/product/436/7778>
pub fn cos(
    credentials: &Credentials,
    method: &str,
    path: &str,
    query: &[(String, String)],
    headers: &[(String, String)],
    key_time: &str,
) -> String {
    let sign_key = hex(&hmac_sha1(credentials.key.expose().as_bytes(), key_time));
    let signature = cos_signature(&sign_key, method, path, query, headers, key_time);
    let (header_list, _) = listed(headers);
    let (param_list, _) = listed(query);
    format!(
        "q-sign-algorithm=sha1&q-ak={}&q-sign-time={key_time}&q-key-time={key_time}&q-header-list={header_list}\
         &q-url-param-list={param_list}&q-signature={signature}",
        credentials.id
    )
}

fn cos_signature(
    sign_key: &str,
    method: &str,
    path: &str,
    query: &[(String, String)],
    headers: &[(String, String)],
    key_time: &str,
) -> String {
    let (_, params) = listed(query);
    let (_, headers) = listed(headers);
    let request = format!("{}\n{path}\n{params}\n{headers}\n", method.to_ascii_lowercase());
    let text = format!("sha1\n{key_time}\n{}\n", hex(&Sha1::digest(request.as_bytes())));
    // The key of the signature is the text of the key's digits.
    hex(&hmac_sha1(sign_key.as_bytes(), &text))
}

/// The headers of a request to S3 and what is compatible with it (AWS Signature Version 4).
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html>
pub fn aws(
    credentials: &Credentials,
    region: &str,
    request: Unsigned<'_>,
    now: Time,
) -> Vec<(String, String)> {
    let stamp = now.timestamp().strftime("%Y%m%dT%H%M%SZ").to_string();
    let payload = hex(&Sha256::digest(request.body));
    let mut headers = vec![
        ("host".to_owned(), request.host.to_owned()),
        ("x-amz-content-sha256".to_owned(), payload.clone()),
        ("x-amz-date".to_owned(), stamp.clone()),
    ];
    if let Some(token) = &credentials.token {
        headers.push(("x-amz-security-token".to_owned(), token.expose().to_owned()));
    }
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    let names = names.join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let mut query: Vec<String> =
        request.query.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    query.sort();
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{names}\n{payload}",
        request.method,
        encode_path(request.path),
        query.join("&")
    );
    let scope = format!("{}/{region}/s3/aws4_request", &stamp[..8]);
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let mut key = format!("AWS4{}", credentials.key.expose()).into_bytes();
    for part in [&stamp[..8], region, "s3", "aws4_request"] {
        key = hmac_sha256(&key, part);
    }
    let signature = hex(&hmac_sha256(&key, &text));
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        credentials.id
    );
    headers.remove(0);
    headers.push(("authorization".to_owned(), authorization));
    headers
}

/// The headers of a request to Azure Blob Storage (Shared Key). `headers` are those that are sent
/// besides. <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>
pub fn azure(
    credentials: &Credentials,
    request: Unsigned<'_>,
    headers: &[(String, String)],
    now: Time,
) -> opsroom_core::Result<Vec<(String, String)>> {
    let date = now.timestamp().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let mut ours = vec![("x-ms-date".to_owned(), date), ("x-ms-version".to_owned(), "2021-08-06".to_owned())];
    let own = headers.iter().filter(|(name, _)| name.starts_with("x-ms-"));
    let mut canonical: Vec<String> =
        own.chain(&ours).map(|(name, value)| format!("{name}:{value}\n")).collect();
    canonical.sort();
    let canonical = canonical.concat();
    let mut query: Vec<String> = request
        .query
        .iter()
        .map(|(name, value)| format!("\n{}:{value}", name.to_ascii_lowercase()))
        .collect();
    query.sort();
    let resource = format!("/{}{}{}", credentials.id, encode_path(request.path), query.concat());
    let value = |name: &str| {
        headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map_or("", |(_, value)| value.as_str())
    };
    let length = if request.body.is_empty() { String::new() } else { request.body.len().to_string() };
    let text = format!(
        "{}\n\n\n{length}\n\n{}\n\n\n{}\n{}\n\n{}\n{canonical}{resource}",
        request.method,
        value("content-type"),
        value("if-match"),
        value("if-none-match"),
        value("range")
    );
    let key = from_base64(credentials.key.expose())
        .ok_or_else(|| opsroom_core::Error::invalid("the account's key is not Base64, as Azure shows it"))?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
    mac.update(text.as_bytes());
    let signature = to_base64(&mac.finalize().into_bytes());
    ours.push(("authorization".to_owned(), format!("SharedKey {}:{signature}", credentials.id)));
    Ok(ours)
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn to_base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let word =
            group.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place) & 63) as usize] as char;
            out.push(if place <= group.len() { digit } else { '=' });
        }
    }
    out
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim().trim_end_matches('=');
    let (mut out, mut word, mut bits) = (Vec::new(), 0u32, 0);
    for byte in text.bytes() {
        word = word << 6 | DIGITS.iter().position(|digit| *digit == byte)? as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((word >> bits) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    const PATH: &str = "/exampleobject(腾讯云)";
    const HOST: (&str, &str) = ("Host", "examplebucket-1250000000.cos.ap-beijing.myqcloud.com");

    #[test]
    fn the_first_vector_of_cos_is_signed_as_documented() {
        let headers = pairs(&[
            ("Date", "Thu, 16 May 2019 06:45:51 GMT"),
            HOST,
            ("Content-Type", "text/plain"),
            ("Content-Length", "13"),
            ("Content-MD5", "mQ/fVh815F3k6TAUm8m0eg=="),
            ("x-cos-acl", "private"),
            ("x-cos-grant-read", "uin=\"100000000011\""),
        ]);
        let key = "eb2519b498b02ac213cb1f3d1a3d27a3b3c9bc5f";
        let signature = cos_signature(key, "PUT", PATH, &[], &headers, "1557989151;1557996351");
        assert_eq!(signature, "3b8851a11a569213c17ba8fa7dcf2abec6935172");
    }

    #[test]
    fn the_second_vector_of_cos_is_signed_as_documented() {
        let headers = pairs(&[("Date", "Thu, 16 May 2019 06:55:53 GMT"), HOST]);
        let query = pairs(&[
            ("response-content-type", "application/octet-stream"),
            ("response-cache-control", "max-age=600"),
        ]);
        let key = "937914bf490e9e8c189836aad2052e4feeb35eaf";
        let signature = cos_signature(key, "GET", PATH, &query, &headers, "1557989753;1557996953");
        assert_eq!(signature, "01681b8c9d798a678e43b685a9f1bba0f6c0e012");
    }

    #[test]
    fn the_key_of_a_signature_is_made_of_the_secret_and_the_time() {
        // HMAC-SHA1 of RFC 2202, test case 2, in the place of a secret and a time.
        assert_eq!(
            hex(&hmac_sha1(b"Jefe", "what do ya want for nothing?")),
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
        );
        let credentials = Credentials { id: "AKID".to_owned(), key: "Jefe".into(), token: None };
        let signed = cos(&credentials, "GET", "/", &pairs(&[("acl", "")]), &pairs(&[HOST]), "1;2");
        assert!(signed.contains(
            "q-ak=AKID&q-sign-time=1;2&q-key-time=1;2&q-header-list=host&q-url-param-list=acl&q-signature="
        ));
        assert!(!signed.contains("Jefe"));
    }

    #[test]
    fn the_example_of_amazon_is_signed_as_documented() {
        let credentials = Credentials {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            token: None,
        };
        let query = pairs(&[("max-keys", "2"), ("prefix", "J")]);
        let request = Unsigned {
            method: "GET",
            host: "examplebucket.s3.amazonaws.com",
            path: "/",
            query: &query,
            body: b"",
        };
        let headers = aws(&credentials, "us-east-1", request, Time(1_369_353_600_000_000));
        let (_, authorization) = headers.last().unwrap();
        assert!(
            authorization
                .ends_with("Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"),
            "{authorization}"
        );
    }

    #[test]
    fn base64_goes_there_and_back() {
        for (bytes, text) in [(&b""[..], ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foobar", "Zm9vYmFy")] {
            assert_eq!((to_base64(bytes).as_str(), from_base64(text).unwrap().as_slice()), (text, bytes));
        }
        assert_eq!(from_base64("a b"), None);
    }
}
