//! Calls of Amazon's services, signed by Signature Version 4.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use http::{HeaderName, HeaderValue, Method};
use reqwest::Url;
use ring::hmac;
use sha2::{Digest, Sha256};

use crate::clock::Time;
use crate::egress::Request;
use crate::error::{Error, Result};
use crate::id::hex;
use crate::secret::Secret;

/// Who calls.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The access key's id.
    pub id: String,
    /// The secret access key.
    pub key: Secret,
    /// The session token of credentials that end.
    pub token: Option<Secret>,
}

/// A POST to a service's only path. `headers` are those that the service wants besides, in lower case.
///
/// # Errors
/// `Invalid` for an endpoint that is no URL of a host, or a credential that no header can carry.
pub fn post(
    credentials: &Credentials,
    (region, service): (&str, &str),
    endpoint: &str,
    headers: &[(&'static str, &str)],
    body: String,
    now: Time,
) -> Result<Request> {
    let wrong = || Error::invalid(format!("`{}` is no address of a service of AWS", endpoint.escape_debug()));
    let url = Url::parse(endpoint).map_err(|_| wrong())?;
    let host = url.host_str().ok_or_else(wrong)?;
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let stamp = now.timestamp().strftime("%Y%m%dT%H%M%SZ").to_string();
    let mut signed: Vec<(&str, &str)> = headers.to_vec();
    signed.extend([("host", host.as_str()), ("x-amz-date", stamp.as_str())]);
    if let Some(token) = &credentials.token {
        signed.push(("x-amz-security-token", token.expose()));
    }
    signed.sort_unstable();
    let authorization = authorization(credentials, (region, service), &signed, &body, &stamp);
    let mut request = Request::get(url);
    request.method = Method::POST;
    request.body = body.into();
    let others = signed.into_iter().filter(|(name, _)| *name != "host");
    for (name, value) in others.chain([("authorization", authorization.as_str())]) {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(Error::internal)?;
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| Error::invalid("a credential of AWS has characters that no header can have"))?;
        value.set_sensitive(true);
        request.headers.insert(name, value);
    }
    Ok(request)
}

/// The header that signs; `headers` are sorted by name.
fn authorization(
    credentials: &Credentials,
    (region, service): (&str, &str),
    headers: &[(&str, &str)],
    body: &str,
    stamp: &str,
) -> String {
    let digest = |text: &str| hex(&Sha256::digest(text.as_bytes()));
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let canonical = format!("POST\n/\n\n{lines}\n{names}\n{}", digest(body));
    let day = &stamp[..8];
    let scope = format!("{day}/{region}/{service}/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", digest(&canonical));
    let sign = |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes());
    let mut key = sign(format!("AWS4{}", credentials.key.expose()).as_bytes(), day);
    for part in [region, service, "aws4_request"] {
        key = sign(key.as_ref(), part);
    }
    let signature = hex(sign(key.as_ref(), &text).as_ref());
    format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        credentials.id
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `post-vanilla` and `post-x-www-form-urlencoded` of the suite that AWS publishes for the scheme.
    #[test]
    fn requests_are_signed_as_the_published_examples_are() {
        let credentials = Credentials {
            id: "AKIDEXAMPLE".to_owned(),
            key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            token: None,
        };
        let stamp = "20150830T123600Z";
        let signature = |headers: &[(&str, &str)], body: &str| {
            let header = authorization(&credentials, ("us-east-1", "service"), headers, body, stamp);
            header.rsplit_once('=').unwrap().1.to_owned()
        };
        let plain = [("host", "example.amazonaws.com"), ("x-amz-date", stamp)];
        assert_eq!(signature(&plain, ""), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
        let form = [&[("content-type", "application/x-www-form-urlencoded")][..], &plain].concat();
        assert_eq!(
            signature(&form, "Param1=value1"),
            "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"
        );
    }

    #[test]
    fn a_secret_key_is_nowhere_in_a_request() {
        let credentials =
            Credentials { id: "AKID".to_owned(), key: "the-secret".into(), token: Some("the-token".into()) };
        let request =
            post(&credentials, ("eu-1", "sts"), "http://127.0.0.1:4566/", &[], "x=y".to_owned(), Time(0));
        let request = request.unwrap();
        let shown = format!("{request:?}");
        assert!(!shown.contains("the-secret") && !shown.contains("the-token"), "{shown}");
        assert_eq!(request.headers["x-amz-security-token"], "the-token");
    }
}
