//! Channels, made, kept and opened: `add_channel`, `list_channels`, `delete_channel`, `test_channel`.

use std::sync::Arc;

use opsroom_core::id::new_id;
use opsroom_core::seal::{Reseal, Sealer};
use opsroom_core::{Call, Error, Kind, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::channels::{self, ChannelKind, Content, Level, Target, apprise, template};
use super::deliver::shown;
use super::store::channels::{ChannelRow, ChannelSettings};
use super::{DEFAULT_CHANNEL, Notifications};

/// A channel, opened.
pub struct Channel {
    pub kind: ChannelKind,
    pub target: Target,
    pub per_minute: u32,
    pub hold_after_crash: bool,
    pub fallback: Option<String>,
    title_template: Option<String>,
    text_template: Option<String>,
}

impl Channel {
    /// A message in the channel's own words.
    pub fn shaped(&self, it: Content) -> Content {
        let fill =
            |template: &Option<String>| template.as_ref().map(|template| template::fill(template, &it));
        let (title, text) = (fill(&self.title_template), fill(&self.text_template));
        Content { title: title.unwrap_or(it.title), text: text.unwrap_or(it.text), ..it }
    }
}

/// Adds a channel: a place where people are told.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddChannel {
    /// Its name, which routes use: lower case letters, digits, `-` and `_`.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9][a-z0-9_-]*$"))]
    name: String,
    /// Who takes its messages; without, the address says it.
    #[serde(default)]
    kind: Option<ChannelKind>,
    /// The address that its provider gave, or an Apprise URL such as `dingtalk://SECRET@TOKEN`,
    /// `slack://A/B/C` or `mailtos://USER:PASSWORD@HOST?to=oncall@example.com`. Mail by our own server needs
    /// none.
    #[serde(default)]
    url: Secret,
    /// What messages are signed with, where DingTalk, Feishu or a plain webhook has such a secret.
    #[serde(default)]
    secret: Secret,
    /// Mail addresses.
    #[serde(default)]
    #[schemars(length(max = 50), inner(length(max = 254)))]
    to: Vec<String>,
    /// Who is called by name: telephone numbers or user ids of DingTalk, WeCom and Feishu, or `all`.
    #[serde(default)]
    #[schemars(length(max = 20), inner(length(min = 1, max = 64)))]
    mentions: Vec<String>,
    /// How many requests it takes in a minute, from 1 to 6000; without, what its provider allows. What is more
    /// goes together as one message.
    #[serde(default)]
    #[schemars(range(min = 1, max = 6000))]
    per_minute: Option<u32>,
    /// Whether a message that was on its way when the server died waits for a person instead of being sent again
    /// under the same key.
    #[serde(default)]
    hold_after_crash: bool,
    /// The channel that is told what this one refuses for good.
    #[serde(default)]
    #[schemars(length(max = 64))]
    fallback: Option<String>,
    /// What its messages say in the place of their title, with the places `{{title}}`, `{{text}}`, `{{level}}`,
    /// `{{url}}`, `{{fields}}` and `{{fields.NAME}}`, such as `[{{level}}] {{title}}`.
    #[serde(default)]
    #[schemars(length(max = 1000))]
    title_template: Option<String>,
    /// The same for their text.
    #[serde(default)]
    #[schemars(length(max = 8000))]
    text_template: Option<String>,
}

/// Shows what a channel would be sent: each request's body in its provider's form. Nothing is sent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PreviewChannel {
    /// Its name.
    #[schemars(length(min = 1, max = 64))]
    name: String,
    /// The title of the message.
    #[serde(default = "sample_title")]
    #[schemars(length(min = 1, max = 250))]
    title: String,
    /// Its text.
    #[serde(default)]
    #[schemars(length(max = 100_000))]
    text: String,
    /// How much it matters.
    #[serde(default)]
    level: Level,
}

fn sample_title() -> String {
    "disk full on db-1".to_owned()
}

/// What a channel would be sent.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ChannelPreview {
    /// The title in the channel's own words.
    pub title: String,
    /// The text in the channel's own words.
    pub text: String,
    /// The bodies of the requests, without what signs them; of mail none.
    pub bodies: Vec<Value>,
}

/// A channel, without what opens it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ShownChannel {
    /// Its name.
    pub name: String,
    /// Who takes its messages.
    pub kind: ChannelKind,
    /// The part of its address that is no secret.
    pub place: String,
    /// How many requests it takes in a minute.
    pub per_minute: u32,
    /// Whether what was on its way when the server died waits for a person.
    pub hold_after_crash: bool,
    /// The channel that is told what this one refuses.
    pub fallback: Option<String>,
    /// What its messages say in the place of their title; null when that.
    pub title_template: Option<String>,
    /// What they say in the place of their text; null when that.
    pub text_template: Option<String>,
    /// Who made it.
    pub created_by: String,
    /// When it was made; null for `default`, which the configuration makes.
    pub created_at: Option<String>,
}

/// Lists the channels.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListChannels {}

/// The channels, by name.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Channels {
    /// The channels.
    pub items: Vec<ShownChannel>,
}

/// Deletes a channel. What waits for it fails.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteChannel {
    /// Its name.
    #[schemars(length(min = 1, max = 64))]
    name: String,
}

/// The channel that is gone.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeletedChannel {
    /// Its name.
    pub deleted: String,
}

/// Sends a message to a channel, to see that it arrives; it is delivered like any other.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestChannel {
    /// Its name.
    #[schemars(length(min = 1, max = 64))]
    name: String,
}

/// Sends a message to people. It is durable when it is answered, and delivered after.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SendNotification {
    /// The channel.
    #[schemars(length(min = 1, max = 64))]
    channel: String,
    /// One line.
    #[schemars(length(min = 1, max = 250))]
    title: String,
    /// What happened; plain text.
    #[serde(default)]
    #[schemars(length(max = 100_000))]
    text: String,
    /// How much it matters.
    #[serde(default)]
    level: Level,
    /// Where to look.
    #[serde(default)]
    #[schemars(length(max = 2000))]
    url: String,
}

/// A message that is on its way.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SentNotification {
    /// Its id, for `get_notification`.
    pub id: String,
}

impl AddChannel {
    /// A channel of this name at this address, with nothing chosen.
    pub(super) fn at(name: String, url: &str) -> Self {
        Self {
            name,
            kind: None,
            url: Secret::new(url),
            secret: Secret::default(),
            to: Vec::new(),
            mentions: Vec::new(),
            per_minute: None,
            hold_after_crash: false,
            fallback: None,
            title_template: None,
            text_template: None,
        }
    }
}

pub(super) async fn add_channel(
    service: Notifications,
    call: Call,
    input: AddChannel,
) -> Result<ShownChannel> {
    if input.name == DEFAULT_CHANNEL {
        let message =
            "name: `default` is the channel of `notifications.discord_webhook_url`; take another name";
        return Err(Error::invalid(message));
    }
    let (kind, target) = service.target(&input)?;
    let settings = ChannelSettings {
        kind,
        place: place(&target),
        per_minute: input.per_minute.unwrap_or_else(|| kind.per_minute()),
        hold_after_crash: input.hold_after_crash,
        fallback: input.fallback.filter(|name| !name.is_empty()),
        title_template: input.title_template.filter(|text| !text.is_empty()),
        text_template: input.text_template.filter(|text| !text.is_empty()),
    };
    for (key, template) in
        [("title_template", &settings.title_template), ("text_template", &settings.text_template)]
    {
        let checked = template.as_deref().map_or(Ok(()), template::check);
        checked.map_err(|error| Error::invalid(format!("{key}: {}", error.message)))?;
    }
    let id = new_id();
    let sealed = service.sealer()?.seal(&["channel", &id], &target.to_plain()?).await?;
    let row = ChannelRow {
        id,
        team: call.caller.team().to_owned(),
        created_by: call.caller.subject.clone(),
        created_at: service.inner.clock.now(),
        name: input.name,
        settings,
        sealed,
    };
    service.inner.store.add_channel(&row).await.map_err(|error| match error.kind {
        Kind::Conflict => Error::conflict(format!("name: there is a channel {:?} already", row.name)),
        _ => error,
    })?;
    Ok(channel(row))
}

pub(super) async fn list_channels(service: Notifications, call: Call, _: ListChannels) -> Result<Channels> {
    let inner = &service.inner;
    let mut items = Vec::new();
    if !inner.config.discord_webhook_url.is_empty() {
        items.push(ShownChannel {
            name: DEFAULT_CHANNEL.to_owned(),
            kind: ChannelKind::Discord,
            place: "notifications.discord_webhook_url".to_owned(),
            per_minute: ChannelKind::Discord.per_minute(),
            hold_after_crash: false,
            fallback: None,
            title_template: None,
            text_template: None,
            created_by: "configuration".to_owned(),
            created_at: None,
        });
    }
    items.extend(inner.store.channels(&call.caller.teams).await?.into_iter().map(channel));
    Ok(Channels { items })
}

pub(super) async fn delete_channel(
    service: Notifications,
    call: Call,
    input: DeleteChannel,
) -> Result<DeletedChannel> {
    let row = service.inner.store.channel(&call.caller.teams, &input.name).await?;
    let row = row.ok_or_else(|| missing(&input.name))?;
    service.inner.store.remove_channel(&row.id).await?;
    Ok(DeletedChannel { deleted: row.name })
}

pub(super) async fn test_channel(
    service: Notifications,
    call: Call,
    input: TestChannel,
) -> Result<SentNotification> {
    let content = Content {
        title: "A test from Opsroom".to_owned(),
        text: format!("{} asked whether this channel works. It does.", call.caller.name),
        ..Content::default()
    };
    service.send(&call, &input.name, &content).await
}

pub(super) async fn preview_channel(
    service: Notifications,
    call: Call,
    input: PreviewChannel,
) -> Result<ChannelPreview> {
    let opened =
        service.channel(call.caller.team(), &input.name).await?.ok_or_else(|| missing(&input.name))?;
    let content = Content { title: input.title, text: input.text, level: input.level, ..Content::default() };
    let content = opened.shaped(content);
    let now = service.inner.clock.now();
    let requests = channels::requests(opened.kind, &opened.target, &content, "preview", now)?;
    let body = |request: &opsroom_core::egress::Request| {
        let mut body: Value = serde_json::from_slice(&request.body).map_err(Error::internal)?;
        for name in ["sign", "timestamp"] {
            body.as_object_mut().and_then(|body| body.remove(name));
        }
        Ok(body)
    };
    let bodies = requests.iter().map(body).collect::<Result<_>>()?;
    Ok(ChannelPreview { title: content.title, text: content.text, bodies })
}

pub(super) async fn send_notification(
    service: Notifications,
    call: Call,
    input: SendNotification,
) -> Result<SentNotification> {
    let content = Content {
        title: input.title,
        text: input.text,
        level: input.level,
        url: input.url,
        ..Content::default()
    };
    service.send(&call, &input.channel, &content).await
}

fn channel(row: ChannelRow) -> ShownChannel {
    ShownChannel {
        name: row.name,
        kind: row.settings.kind,
        place: row.settings.place,
        per_minute: row.settings.per_minute,
        hold_after_crash: row.settings.hold_after_crash,
        fallback: row.settings.fallback,
        title_template: row.settings.title_template,
        text_template: row.settings.text_template,
        created_by: row.created_by,
        created_at: Some(shown(row.created_at)),
    }
}

fn missing(name: &str) -> Error {
    let name: String = name.chars().take(64).collect();
    Error::not_found(format!("there is no channel {name:?}; list_channels has their names"))
}

/// What may be shown of an address: paths and queries of webhooks are secrets.
fn place(target: &Target) -> String {
    let url: Option<reqwest::Url> = target.url.expose().parse().ok();
    url.map_or_else(|| target.to.join(", "), |url| url.origin().ascii_serialization())
}

impl Notifications {
    /// Who keeps what opens channels.
    pub fn set_sealer(&self, sealer: Sealer) {
        // It is set once, when the room is made.
        let _set_before = self.inner.sealer.set(sealer);
    }

    pub(super) fn sealer(&self) -> Result<&Sealer> {
        self.inner.sealer.get().ok_or_else(|| Error::internal("notifications have no sealer"))
    }

    /// Seals what opens channels again by the newest key.
    pub fn resealing_channels(&self) -> Reseal {
        let service = self.clone();
        Arc::new(move || {
            let service = service.clone();
            Box::pin(async move { service.reseal_channels().await })
        })
    }

    async fn reseal_channels(&self) -> Result<u64> {
        let mut count = 0;
        for row in self.inner.store.every_channel().await? {
            if let Some(again) = self.sealer()?.rewrap(&["channel", &row.id], &row.sealed).await? {
                self.inner.store.set_channel_sealed(&row.id, &again).await?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// A team's channel of this name, opened.
    pub(super) async fn channel(&self, team: &str, name: &str) -> Result<Option<Channel>> {
        let inner = &self.inner;
        if name == DEFAULT_CHANNEL {
            let target = Target {
                url: inner.config.discord_webhook_url.clone(),
                username: inner.config.discord_bot_name.clone(),
                avatar: inner.config.discord_bot_avatar.clone(),
                ..Target::default()
            };
            let kind = ChannelKind::Discord;
            let opened = Channel {
                kind,
                target,
                per_minute: kind.per_minute(),
                hold_after_crash: false,
                fallback: None,
                title_template: None,
                text_template: None,
            };
            return Ok((!inner.config.discord_webhook_url.is_empty()).then_some(opened));
        }
        let Some(row) = inner.store.channel(&[team.to_owned()], name).await? else { return Ok(None) };
        let plain = self.sealer()?.open(&["channel", &row.id], &row.sealed).await?;
        Ok(Some(Channel {
            kind: row.settings.kind,
            target: Target::of_plain(&plain)?,
            per_minute: row.settings.per_minute,
            hold_after_crash: row.settings.hold_after_crash,
            fallback: row.settings.fallback,
            title_template: row.settings.title_template,
            text_template: row.settings.text_template,
        }))
    }

    pub(super) fn target(&self, input: &AddChannel) -> Result<(ChannelKind, Target)> {
        let url = input.url.expose();
        let named = if url.is_empty() { None } else { apprise::parse(url)? };
        let (kind, target) = match (named, input.kind) {
            (Some((kind, _)), Some(given)) if kind != given => {
                return Err(Error::invalid("kind: the address is of another kind of channel"));
            }
            (Some(named), _) => named,
            (None, Some(kind)) => (kind, Target { url: input.url.clone(), ..Target::default() }),
            (None, None) => (ChannelKind::Webhook, Target { url: input.url.clone(), ..Target::default() }),
        };
        let or =
            |given: &Vec<String>, found: Vec<String>| if given.is_empty() { found } else { given.clone() };
        let target = Target {
            secret: if input.secret.is_empty() { target.secret } else { input.secret.clone() },
            to: or(&input.to, target.to),
            mentions: or(&input.mentions, target.mentions),
            ..target
        };
        if kind == ChannelKind::Email {
            if target.to.is_empty() {
                return Err(Error::invalid("to: a channel of mail has at least one address"));
            }
            let server = target.smtp.as_ref().unwrap_or(&self.inner.config.smtp);
            if server.host.is_empty() {
                return Err(Error::invalid(
                    "kind: mail needs `notifications.smtp.host`, or a url mailtos://...",
                ));
            }
            return Ok((kind, Target { url: Secret::default(), ..target }));
        }
        self.inner
            .egress
            .check(target.url.expose())
            .map_err(|error| Error::new(error.kind, format!("url: {}", error.message)))?;
        Ok((kind, target))
    }

    async fn send(&self, call: &Call, channel: &str, content: &Content) -> Result<SentNotification> {
        let mut on = self.inner.store.db.begin().await?;
        let id = self.queue_in(&mut on, call.caller.team(), channel, content).await?;
        let id = id.ok_or_else(|| missing(channel))?;
        on.commit().await?;
        self.wake();
        Ok(SentNotification { id })
    }
}
