//! How robots are signed to: DingTalk and Feishu use the same words in opposite places.

use data_encoding::BASE64;
use opsroom_core::{Error, Result, Time};
use ring::hmac;

/// DingTalk: the secret is the key, and time and secret are what is signed.
pub fn dingtalk(secret: &str, millis: i64) -> String {
    mac(secret, format!("{millis}\n{secret}").as_bytes())
}

/// Feishu: time and secret are the key, and nothing is signed.
pub fn feishu(secret: &str, seconds: i64) -> String {
    mac(&format!("{seconds}\n{secret}"), b"")
}

fn mac(key: &str, text: &[u8]) -> String {
    BASE64.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), text).as_ref())
}

/// The address of a robot of DingTalk, signed when there is a secret. It holds for an hour.
pub fn dingtalk_url(url: &str, secret: &str, now: Time) -> Result<String> {
    if secret.is_empty() {
        return Ok(url.to_owned());
    }
    let millis = now.0.div_euclid(1000);
    let mut url: reqwest::Url =
        url.parse().map_err(|_| Error::invalid("url: the channel's address is no URL"))?;
    url.query_pairs_mut()
        .append_pair("timestamp", &millis.to_string())
        .append_pair("sign", &dingtalk(secret, millis));
    Ok(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_values_of_both_providers_come_out() {
        let sign = dingtalk("this is secret", 1_577_808_000_000);
        assert_eq!(sign, "ijHEivi6YiCNPZOq4hZstmvZ3sPfbioAiMhP30ae7W0=");
        assert_eq!(feishu("demo", 1_599_360_473), "l1N0gAcBjdwBvGm1xMjOF0XSyaLRpR7tuO5dHfhAYc8=");
        let now = Time(1_577_808_000_000_000);
        let url = dingtalk_url("https://oapi.dingtalk.com/robot/send?access_token=t", "this is secret", now);
        assert_eq!(
            url.unwrap(),
            "https://oapi.dingtalk.com/robot/send?access_token=t&timestamp=1577808000000&sign=ijHEivi6YiCNPZOq4hZstmvZ3sPfbioAiMhP30ae7W0%3D"
        );
    }
}
