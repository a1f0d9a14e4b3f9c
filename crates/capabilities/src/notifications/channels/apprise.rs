//! Channels as one line: the providers' own addresses, and URLs as Apprise has them.
//!
//! `dingtalk://SECRET@TOKEN/PHONE`, `wecombot://KEY`, `feishu://TOKEN`, `lark://TOKEN`, `slack://A/B/C`,
//! `discord://ID/TOKEN`, `json://HOST/PATH` and `jsons://`, `mailto://USER:PASSWORD@HOST?to=` and `mailtos://`.

use std::collections::BTreeMap;

use opsroom_core::{Error, Result, Secret};

use super::{ChannelKind, Target};
use crate::notifications::smtp::{Security, SmtpConfig};

/// The parts of `scheme://user:password@host:port/path?query`, each decoded.
#[derive(Debug, Default)]
struct Parts {
    scheme: String,
    user: String,
    password: Option<String>,
    /// With its port.
    host: String,
    path: Vec<String>,
    query: BTreeMap<String, String>,
}

/// The channel that a URL describes; `None` for an `http` or `https` address of no known provider.
///
/// # Errors
/// `Invalid`, without the URL, which holds secrets.
pub fn parse(url: &str) -> Result<Option<(ChannelKind, Target)>> {
    let Some(parts) = parts(url) else {
        return Err(Error::invalid("url: it is not such as https://..., dingtalk://... or mailtos://..."));
    };
    let plain = |kind| Ok(Some((kind, Target { url: Secret::new(url), ..Target::default() })));
    let to = |kind, url: String, target: Target| Ok(Some((kind, Target { url: Secret::new(url), ..target })));
    match parts.scheme.as_str() {
        "http" | "https" => match parts.host.as_str() {
            "oapi.dingtalk.com" => plain(ChannelKind::Dingtalk),
            "qyapi.weixin.qq.com" => plain(ChannelKind::Wecom),
            "open.feishu.cn" | "open.larksuite.com" => plain(ChannelKind::Feishu),
            "hooks.slack.com" => plain(ChannelKind::Slack),
            "discord.com" | "discordapp.com" => plain(ChannelKind::Discord),
            _ => Ok(None),
        },
        "dingtalk" => {
            let target = Target {
                secret: Secret::new(parts.user.as_str()),
                mentions: parts.path.clone(),
                ..Target::default()
            };
            let token = encoded(&parts.host);
            let url = format!("https://oapi.dingtalk.com/robot/send?access_token={token}");
            to(ChannelKind::Dingtalk, url, target)
        }
        "wecombot" => {
            let url =
                format!("https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key={}", encoded(&parts.host));
            to(ChannelKind::Wecom, url, Target::default())
        }
        "feishu" | "lark" => {
            let host = if parts.scheme == "lark" { "open.larksuite.com" } else { "open.feishu.cn" };
            let url = format!("https://{host}/open-apis/bot/v2/hook/{}", encoded(&parts.host));
            to(ChannelKind::Feishu, url, Target::default())
        }
        "slack" => {
            let tokens: Vec<String> =
                std::iter::once(&parts.host).chain(&parts.path).take(3).map(|it| encoded(it)).collect();
            if tokens.len() < 3 {
                return Err(Error::invalid(
                    "url: a slack:// URL has the three tokens of an incoming webhook",
                ));
            }
            to(
                ChannelKind::Slack,
                format!("https://hooks.slack.com/services/{}", tokens.join("/")),
                Target::default(),
            )
        }
        "discord" => {
            let token = parts.path.first().map(|it| encoded(it));
            let token = token.ok_or_else(|| Error::invalid("url: it is discord://ID/TOKEN"))?;
            let url = format!("https://discord.com/api/webhooks/{}/{token}", encoded(&parts.host));
            to(ChannelKind::Discord, url, Target { username: parts.user.clone(), ..Target::default() })
        }
        "json" | "jsons" => {
            let scheme = if parts.scheme == "json" { "http" } else { "https" };
            let rest = url.split_once("://").map_or("", |(_, rest)| rest);
            to(ChannelKind::Webhook, format!("{scheme}://{rest}"), Target::default())
        }
        "mailto" | "mailtos" => mail(&parts).map(|target| Some((ChannelKind::Email, target))),
        _ => Err(Error::invalid(
            "url: it begins with https, dingtalk, wecombot, feishu, lark, slack, discord, jsons or mailtos",
        )),
    }
}

fn mail(parts: &Parts) -> Result<Target> {
    let given = |name: &str| parts.query.get(name).filter(|value| !value.is_empty());
    let (name, port) = match parts.host.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().ok()),
        None => (parts.host.as_str(), None),
    };
    let host = given("smtp").map_or(name, String::as_str);
    let here = ["localhost", "127.0.0.1"].contains(&host);
    let security = match given("mode").map(String::as_str) {
        Some("ssl") => Security::Tls,
        None | Some("starttls") if !(here && parts.scheme == "mailto") => Security::Starttls,
        _ => Security::None,
    };
    let usual = match security {
        Security::Tls => 465,
        Security::Starttls => 587,
        Security::None => 25,
    };
    let full = |user: &str| if user.contains('@') { user.to_owned() } else { format!("{user}@{name}") };
    let own = full(if parts.user.is_empty() { "opsroom" } else { &parts.user });
    let from = given("from").map_or(own.clone(), |from| full(from));
    let user = given("user").cloned().unwrap_or_else(|| parts.user.clone());
    let smtp = SmtpConfig {
        host: host.to_owned(),
        port: port.unwrap_or(usual),
        security,
        username: if parts.password.is_some() { user } else { String::new() },
        password: Secret::new(parts.password.clone().unwrap_or_default()),
        from,
    };
    smtp.validate().map_err(|error| Error::invalid(format!("url: {}", error.message)))?;
    let mut to: Vec<String> =
        given("to").into_iter().flat_map(|to| to.split(',').map(str::trim)).map(full).collect();
    to.extend(parts.path.iter().map(|to| full(to)));
    if to.is_empty() {
        to.push(own);
    }
    Ok(Target { to, smtp: Some(smtp), ..Target::default() })
}

fn parts(url: &str) -> Option<Parts> {
    let (scheme, rest) = url.split_once("://")?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, host) = match authority.rsplit_once('@') {
        Some((login, host)) => (login, host),
        None => ("", authority),
    };
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(decoded(password)?)),
        None => (login, None),
    };
    if host.is_empty() || url.chars().any(char::is_control) {
        return None;
    }
    let path = path.split('/').filter(|part| !part.is_empty()).map(decoded).collect::<Option<_>>()?;
    let query = form_urlencoded::parse(query.as_bytes());
    Some(Parts {
        scheme: scheme.to_ascii_lowercase(),
        user: decoded(user)?,
        password,
        host: decoded(host)?,
        path,
        query: query.map(|(name, value)| (name.to_lowercase(), value.into_owned())).collect(),
    })
}

/// A part of a URL without its `%41`; `None` for what is not UTF-8 then.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, more @ ..] = rest {
        let pair = more.get(..2).and_then(|pair| data_encoding::HEXLOWER_PERMISSIVE.decode(pair).ok());
        match (first, pair) {
            (b'%', Some(byte)) => {
                bytes.extend(byte);
                rest = &more[2..];
            }
            _ => {
                bytes.push(*first);
                rest = more;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

/// A token as a part of a URL, so that it can be nothing else.
fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> (ChannelKind, Target) {
        parse(url).unwrap().unwrap()
    }

    #[test]
    fn a_line_is_a_channel() {
        for (url, kind, address) in [
            (
                "dingtalk://tok",
                ChannelKind::Dingtalk,
                "https://oapi.dingtalk.com/robot/send?access_token=tok",
            ),
            (
                "wecombot://k-1",
                ChannelKind::Wecom,
                "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=k-1",
            ),
            ("feishu://Tok", ChannelKind::Feishu, "https://open.feishu.cn/open-apis/bot/v2/hook/Tok"),
            ("slack://T1/B2/c3/#ops", ChannelKind::Slack, "https://hooks.slack.com/services/T1/B2/c3"),
            ("discord://1/To", ChannelKind::Discord, "https://discord.com/api/webhooks/1/To"),
            ("jsons://h.example:8/a?b=c", ChannelKind::Webhook, "https://h.example:8/a?b=c"),
            (
                "https://discord.com/api/webhooks/1/x",
                ChannelKind::Discord,
                "https://discord.com/api/webhooks/1/x",
            ),
        ] {
            let (found, target) = parsed(url);
            assert_eq!((found, target.url.expose()), (kind, address), "{url}");
        }
        let (_, target) = parsed("dingtalk://se%2Fcret@tok/13800000000/ada");
        assert_eq!((target.secret.expose(), target.mentions.len()), ("se/cret", 2));
        assert!(parse("https://example.com/hook").unwrap().is_none());
    }

    #[test]
    fn a_line_of_mail_has_its_server() {
        let (kind, target) =
            parsed("mailtos://ada:p%40ss@example.com?to=bob@example.org,eve&smtp=mx.example.com");
        let smtp = target.smtp.unwrap();
        assert_eq!((kind, smtp.host.as_str(), smtp.port), (ChannelKind::Email, "mx.example.com", 587));
        assert_eq!((smtp.username.as_str(), smtp.password.expose()), ("ada", "p@ss"));
        assert_eq!(smtp.from, "ada@example.com");
        assert_eq!(target.to, ["bob@example.org", "eve@example.com"]);
        assert!(parse("mailto://ada:x@example.com?mode=insecure").is_err(), "a password would be readable");
    }

    #[test]
    fn what_is_none_is_refused_without_repeating_it() {
        for url in
            ["", "x", "tgram://s3cret", "slack://s3cret", "discord://s3cret", "feishu://", "a\u{7}://s3cret"]
        {
            let error = parse(url).unwrap_err();
            assert!(error.message.starts_with("url: ") && !error.message.contains("s3cret"), "{url}");
        }
    }
}
