//! Channels: where messages to people go, each with the form, the signature and the limits of its provider.

pub mod apprise;
mod chat;
mod discord;
mod judge;
mod sign;
pub mod split;
pub mod template;
#[cfg(test)]
mod tests;
mod webhook;

use http::{HeaderName, HeaderValue};
use opsroom_core::egress::{Request, Response};
use opsroom_core::{Error, Result, Secret, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::smtp::SmtpConfig;

pub use judge::Outcome;

/// Who takes the messages of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// A custom robot of DingTalk.
    Dingtalk,
    /// A robot of a WeCom group.
    Wecom,
    /// A custom robot of Feishu or Lark.
    Feishu,
    /// An incoming webhook of Slack, or of what understands its messages.
    Slack,
    /// A webhook of Discord.
    Discord,
    /// Mail, by the server of `notifications.smtp`.
    Email,
    /// Any address that takes JSON.
    Webhook,
}

impl ChannelKind {
    /// The word of the answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dingtalk => "dingtalk",
            Self::Wecom => "wecom",
            Self::Feishu => "feishu",
            Self::Slack => "slack",
            Self::Discord => "discord",
            Self::Email => "email",
            Self::Webhook => "webhook",
        }
    }

    /// How many messages its provider takes in a minute.
    pub fn per_minute(self) -> u32 {
        match self {
            Self::Dingtalk | Self::Wecom => 20,
            Self::Feishu => 100,
            Self::Slack => 60,
            Self::Discord => 30,
            Self::Email | Self::Webhook => 600,
        }
    }
}

/// How much it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Somebody must act now.
    Critical,
    /// Somebody should look soon.
    Warning,
    /// Good to know.
    #[default]
    Info,
    /// Something is over.
    Resolved,
}

/// What a message says, before it has a channel's form.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// One line.
    pub title: String,
    /// What happened; plain text.
    pub text: String,
    /// How much it matters.
    #[serde(default)]
    pub level: Level,
    /// Where to look, when it is a web address; else empty.
    #[serde(default)]
    pub url: String,
    /// Names and values.
    #[serde(default)]
    pub fields: Vec<(String, String)>,
    /// What can be done, as a name and an address.
    #[serde(default)]
    pub actions: Vec<(String, String)>,
    /// Messages about the same thing: mails with the same one are shown together.
    #[serde(default)]
    pub thread: String,
}

impl Content {
    /// The text with fields and actions as lines.
    pub fn body(&self) -> String {
        let mut lines = vec![self.text.clone()];
        lines.extend(self.fields.iter().map(|(name, value)| format!("{name}: {value}")));
        if is_web(&self.url) {
            lines.push(self.url.clone());
        }
        lines.extend(self.actions.iter().map(|(name, url)| format!("{name}: {url}")));
        lines.retain(|line| !line.is_empty());
        lines.join("\n")
    }
}

/// Where a channel's messages go, with what opens it: kept sealed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Target {
    /// The address of requests; empty for mail.
    pub url: Secret,
    /// What signs; empty for none.
    pub secret: Secret,
    /// Mail addresses.
    pub to: Vec<String>,
    /// Who is called by name: telephone numbers or user ids, `all` for everybody.
    pub mentions: Vec<String>,
    /// The name under which messages appear, where the provider lets one choose.
    pub username: String,
    /// The picture beside them; of the configured channel alone.
    pub avatar: String,
    /// The server that takes its mail, when it is another one than that of `notifications.smtp`.
    pub smtp: Option<SmtpConfig>,
}

/// How a target is kept within its seal.
#[derive(Serialize, Deserialize)]
struct Kept {
    url: String,
    secret: String,
    to: Vec<String>,
    mentions: Vec<String>,
    username: String,
    smtp: Option<SmtpConfig>,
    /// A server's own password, which is not serialised with it.
    smtp_password: String,
}

impl Target {
    /// As JSON with its secrets, to be sealed.
    pub fn to_plain(&self) -> Result<Vec<u8>> {
        let kept = Kept {
            url: self.url.expose().to_owned(),
            secret: self.secret.expose().to_owned(),
            to: self.to.clone(),
            mentions: self.mentions.clone(),
            username: self.username.clone(),
            smtp: self.smtp.clone(),
            smtp_password: self.smtp.as_ref().map_or_else(String::new, |it| it.password.expose().to_owned()),
        };
        serde_json::to_vec(&kept).map_err(Error::internal)
    }

    /// Of the JSON of [`Target::to_plain`].
    pub fn of_plain(bytes: &[u8]) -> Result<Self> {
        let kept: Kept = serde_json::from_slice(bytes).map_err(Error::internal)?;
        let password = Secret::new(kept.smtp_password);
        Ok(Self {
            smtp: kept.smtp.map(|smtp| SmtpConfig { password, ..smtp }),
            url: Secret::new(kept.url),
            secret: Secret::new(kept.secret),
            to: kept.to,
            mentions: kept.mentions,
            username: kept.username,
            avatar: String::new(),
        })
    }
}

/// The requests that carry a message, in order; of mail there are none.
///
/// # Errors
/// `Invalid` for an address that cannot be used.
pub fn requests(
    kind: ChannelKind,
    target: &Target,
    it: &Content,
    id: &str,
    now: Time,
) -> Result<Vec<Request>> {
    let url = target.url.expose();
    let bodies = match kind {
        ChannelKind::Dingtalk => {
            let url = sign::dingtalk_url(url, target.secret.expose(), now)?;
            let requests = chat::dingtalk(target, it).into_iter();
            return Ok(requests.map(|body| Request::post_json(url.clone(), &body)).collect());
        }
        ChannelKind::Webhook => return webhook::requests(target, it, id, now),
        ChannelKind::Email => return Ok(Vec::new()),
        ChannelKind::Wecom => chat::wecom(target, it),
        ChannelKind::Feishu => chat::feishu(target, it, now),
        ChannelKind::Slack => chat::slack(it),
        ChannelKind::Discord => discord::bodies(target, it, now),
    };
    Ok(bodies.iter().map(|body| Request::post_json(url, body)).collect())
}

/// Whether an answer means that the message was taken.
pub fn judge(kind: ChannelKind, response: &Response) -> Outcome {
    judge::judge(kind, response)
}

/// What links may lead to: other schemes would run or open something where a person clicks.
fn is_web(url: &str) -> bool {
    url.starts_with("https://") || url.starts_with("http://")
}

/// A request of JSON with further headers.
fn with_headers(url: &str, body: &Value, more: &[(&'static str, String)]) -> Result<Request> {
    let mut request = Request::post_json(url, body);
    for &(name, ref value) in more {
        let value = HeaderValue::from_str(value).map_err(Error::internal)?;
        request.headers.insert(HeaderName::from_static(name), value);
    }
    Ok(request)
}
