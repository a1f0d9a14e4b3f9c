//! Telling people: of the alerts that one route tells together, what is new, what is over, and what goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use opsroom_core::{Kind, Result, Time};

use super::model::{Severity, Status};
use super::quiet::{Quiet, Surroundings};
use super::routing::Decision;
use super::store::{AlertRow, Entry, GroupRow, Looked, Member, Told};
use super::{Alerts, oncall, raised, shown};
use crate::notifications::{Content, Level};

/// How often is looked for what is due, in milliseconds.
const LOOK_MILLIS: u64 = 1000;
/// Groups that one round looks at.
const ROUND: u64 = 200;
/// Alerts of a group that one look takes in.
const MOST_MEMBERS: u64 = 10_000;
/// Alerts that go on and may inhibit others.
const MOST_SOURCES: u64 = 10_000;
/// Alerts of a group that a message names; the others are counted.
const NAMED: usize = 10;
/// How often what is old is removed, in seconds.
const TIDY_SECONDS: i64 = 3600;

impl Alerts {
    /// Reads the inbox and tells people until the server stops.
    pub fn start(&self) {
        self.start_listening();
        self.start_looking();
        let alerts = self.clone();
        let stopping = self.lifecycle.stopping();
        self.lifecycle.spawn("alerts", async move {
            let mut tidied = Time(0);
            loop {
                // A database that is away for a while must not end the server.
                if let Err(error) = alerts.round(&mut tidied).await {
                    tracing::warn!(error = %error, "the alerts cannot be read; trying again");
                }
                tokio::select! {
                    () = stopping.cancelled() => return Ok(()),
                    () = alerts.arrived.notified() => {}
                    () = tokio::time::sleep(Duration::from_millis(LOOK_MILLIS)) => {}
                }
            }
        });
    }

    async fn round(&self, tidied: &mut Time) -> Result<()> {
        while self.read_inbox().await? > 0 {
            self.tell_due().await?;
        }
        self.end_expired().await?;
        self.tell_due().await?;
        self.write_counts().await?;
        let now = self.clock.now();
        if now >= tidied.plus_seconds(TIDY_SECONDS) {
            *tidied = now;
            self.tidy(now).await?;
        }
        Ok(())
    }

    async fn tidy(&self, now: Time) -> Result<()> {
        let days = |days: u32| now.plus_seconds(-i64::from(days) * 86_400);
        let most_bytes = i64::from(self.config.keep_deliveries_mib) << 20;
        self.store.remove_deliveries(days(self.config.keep_deliveries_days), most_bytes).await?;
        self.tidy_evidence(now, days(self.config.keep_alerts_days)).await?;
        self.store.remove_overrides(days(self.config.keep_alerts_days)).await?;
        while self.store.remove_alerts(days(self.config.keep_alerts_days), 200).await? > 0 {}
        self.store.remove_links(now).await
    }

    /// Looks at every group that is due; answers how many messages that made.
    pub async fn tell_due(&self) -> Result<usize> {
        let now = self.clock.now();
        let mut told = 0;
        let mut around: BTreeMap<String, Surroundings> = BTreeMap::new();
        for group in self.store.due_groups(now, ROUND).await? {
            if !around.contains_key(&group.team) {
                around.insert(group.team.clone(), self.surroundings(&group.team, now).await?);
            }
            told += self.look(&group, &around[&group.team], now).await?;
        }
        Ok(told)
    }

    /// What of a team's alerts and silences bears on whether people are told.
    pub(super) async fn surroundings(&self, team: &str, now: Time) -> Result<Surroundings> {
        let silences = self.store.silences(std::slice::from_ref(&team.to_owned()), now).await?;
        let sources = match self.config.inhibit.is_empty() {
            true => Vec::new(),
            false => self.store.going_on(team, MOST_SOURCES).await?,
        };
        Ok(Surroundings::new(silences, &sources, &self.config.inhibit))
    }

    async fn look(&self, group: &GroupRow, around: &Surroundings, now: Time) -> Result<usize> {
        let members = self.store.members(&group.id, MOST_MEMBERS).await?;
        let missing = self.missing(group, &members, now).await?;
        let view = self.view(group, members, around, missing.as_ref(), now);
        let (mut look, messages) = view.conclude(group, now);
        let mut reached = Vec::with_capacity(messages.len());
        for told in &messages {
            let channel = self.reached(&group.team, &told.channel, now).await?;
            reached.push(channel.unwrap_or_else(|missing| missing));
        }
        let mut on = self.store.db.begin().await?;
        let count = messages.len();
        for (mut told, channel) in messages.into_iter().zip(reached) {
            told.content.actions = self.links(&mut on, &group.team, &told.firing, now).await?;
            let id = self.notifications.queue_in(&mut on, &group.team, &channel, &told.content).await?;
            look.history.extend(told.entries(&channel, id.as_deref(), now));
        }
        match self.store.looked_at(&mut on, group, &look).await {
            Err(error) if error.kind == Kind::Conflict => return Ok(0),
            other => other?,
        }
        on.commit().await?;
        if count > 0 {
            self.notifications.wake();
        }
        Ok(count)
    }

    /// The channel that is told: the one that is named or on call, or else, of those that there are, another one of
    /// the rotation, the outermost route's, or `default`. The error is the one that there is not.
    async fn reached(
        &self,
        team: &str,
        channel: &str,
        now: Time,
    ) -> Result<std::result::Result<String, String>> {
        let rotations = &self.config.rotations;
        let rotation = channel.strip_prefix(oncall::PREFIX).and_then(|name| rotations.get(name));
        let overrides = self.store.overrides(&[team.to_owned()], now).await?;
        let wanted = oncall::resolve(rotations, &overrides, channel, now);
        if wanted == "none" {
            return Ok(Err(wanted));
        }
        let root = self.config.routing.channel.as_deref().unwrap_or("default");
        let root = oncall::resolve(rotations, &overrides, root, now);
        let others = rotation.into_iter().flat_map(|rotation| rotation.channels.clone());
        for candidate in std::iter::once(wanted.clone()).chain(others).chain([root, "default".to_owned()]) {
            if candidate != "none" && self.notifications.has_channel(team, &candidate).await? {
                return Ok(Ok(candidate));
            }
        }
        Ok(Err(wanted))
    }

    /// Why nobody can be told of a group: none of the channels is there.
    async fn missing(&self, group: &GroupRow, members: &[Member], now: Time) -> Result<Option<Quiet>> {
        let Some(decision) = members.iter().find_map(|member| self.decision(group, member)) else {
            return Ok(None);
        };
        let Err(channel) = self.reached(&group.team, &decision.channel, now).await? else { return Ok(None) };
        let words = format!("there is no channel `{channel}`, and no other to tell instead");
        Ok(Some(Quiet { words, silenced: false, again_at: Some(now.plus_seconds(60)) }))
    }

    fn decision(&self, group: &GroupRow, member: &Member) -> Option<Decision> {
        let decisions = self.config.routing.decide(&member.alert.told.labels);
        decisions.into_iter().find(|it| it.route == group.route && it.group == group.name)
    }

    fn view(
        &self,
        group: &GroupRow,
        members: Vec<Member>,
        around: &Surroundings,
        missing: Option<&Quiet>,
        now: Time,
    ) -> View {
        let mut view = View::default();
        for member in members {
            let Some(decision) = self.decision(group, &member) else {
                view.left.push(member);
                continue;
            };
            let over = member.alert.status == Status::Resolved;
            let quiet = if over { None } else { self.quiet(&member.alert, &decision, around, now) };
            let quiet = quiet.or_else(|| missing.filter(|_| !over).cloned());
            match (over, quiet) {
                (true, _)
                    if member.told == Told::Firing && decision.send_resolved && !member.alert.expired() =>
                {
                    view.over.push(member);
                }
                (true, _) => view.left.push(member),
                (false, Some(quiet)) => view.quiet.push((member, quiet)),
                (false, None) => view.firing.push(member),
            }
            view.decision = Some(decision);
        }
        view
    }

    /// Why people are not to be told of an alert that goes on; `None` when they are.
    pub(super) fn quiet(
        &self,
        alert: &AlertRow,
        decision: &Decision,
        around: &Surroundings,
        now: Time,
    ) -> Option<Quiet> {
        let recheck = now.plus_seconds(i64::from(decision.group_interval_seconds).max(1));
        let by = || alert.handler.clone().unwrap_or_default();
        if alert.status == Status::Acknowledged {
            return Some(Quiet { words: format!("{} took it", by()), silenced: false, again_at: None });
        }
        if let Some(who) = &alert.muted_by {
            let words = format!("{who} muted it until it is over");
            return Some(Quiet { words, silenced: true, again_at: None });
        }
        if decision.channel == "none" {
            let words = "the route's channel is `none`".to_owned();
            return Some(Quiet { words, silenced: false, again_at: None });
        }
        let quiet = |name: &&String| self.config.times.get(*name).is_some_and(|time| time.holds(now));
        if let Some(name) = decision.mute_times.iter().find(quiet) {
            let words = format!("the route is quiet at the time `{name}`");
            return Some(Quiet { words, silenced: false, again_at: Some(now.plus_seconds(60)) });
        }
        around.quiet(alert, now, recheck)
    }
}

/// The alerts of a group, by what is to be done with them.
#[derive(Default)]
struct View {
    decision: Option<Decision>,
    firing: Vec<Member>,
    over: Vec<Member>,
    quiet: Vec<(Member, Quiet)>,
    left: Vec<Member>,
}

/// A message to one channel, and of which alerts it tells.
struct ToTell {
    content: Content,
    channel: String,
    alerts: Vec<String>,
    /// Those of them that somebody can take.
    firing: Vec<String>,
    words: String,
}

impl ToTell {
    fn new(group: &GroupRow, channel: &str, rows: &[&AlertRow], words: String) -> Self {
        let firing = rows.iter().filter(|row| row.status != Status::Resolved);
        Self {
            content: content(group, rows),
            channel: channel.to_owned(),
            alerts: rows.iter().map(|row| row.id.clone()).collect(),
            firing: firing.map(|row| row.id.clone()).collect(),
            words,
        }
    }

    fn entries(&self, channel: &str, id: Option<&str>, now: Time) -> Vec<(String, Entry)> {
        let named = match channel == self.channel {
            true => format!("`{channel}`"),
            false if self.channel.starts_with(oncall::PREFIX) => {
                format!("`{channel}`, which is on call for `{}`", self.channel)
            }
            false => format!("`{channel}`, because there is no channel `{}`", self.channel),
        };
        let how = match id {
            Some(_) => format!("handed to the channel {named}"),
            None => format!("not told: there is no channel {named}"),
        };
        let others = self.alerts.len() - 1;
        let words = format!("{how} with {others} others of the group; {}", self.words);
        let entry = |alert: &String| {
            let entry = Entry {
                at: now,
                what: if id.is_some() { "told" } else { "untold" },
                by: "routing".to_owned(),
                words: words.clone(),
                notification: id.map(str::to_owned),
            };
            (alert.clone(), entry)
        };
        self.alerts.iter().map(entry).collect()
    }
}

impl View {
    /// What is told and what is noted.
    fn conclude(self, group: &GroupRow, now: Time) -> (Looked, Vec<ToTell>) {
        let mut look = Looked { told_at: group.told_at, ..Looked::default() };
        let mut messages = Vec::new();
        look.left = self.left.iter().chain(&self.over).map(|member| member.id.clone()).collect();
        let Some(decision) = self.decision else { return (look, messages) };
        let mut due: Vec<Time> = Vec::new();
        for (member, quiet) in self.quiet {
            due.extend(quiet.again_at);
            look.keep_quiet(member, &quiet, now);
        }
        let repeat = |member: &Member| {
            member.told_at.map(|at| at.plus_seconds(i64::from(decision.repeat_seconds).max(1)))
        };
        let is_new = |member: &Member| member.told == Told::Nothing;
        let news = self.firing.iter().any(is_new) || !self.over.is_empty();
        let again = self.firing.iter().any(|member| repeat(member).is_some_and(|at| at <= now));
        let tell = news || again;
        if tell {
            let why = match (news, again) {
                (true, _) => "something is new",
                (false, _) => "it goes on",
            };
            let rows: Vec<&AlertRow> =
                self.firing.iter().chain(&self.over).map(|member| &member.alert).collect();
            let words = format!("{why}; route {}, group {}", decision.route, decision.group);
            messages.push(ToTell::new(group, &decision.channel, &rows, words));
            look.told_at = Some(now);
        }
        let mut steps: BTreeMap<usize, Vec<AlertRow>> = BTreeMap::new();
        for mut member in self.firing {
            if member.alert.status == Status::Silenced {
                look.quieted.push((member.alert.id.clone(), false));
            }
            if tell {
                if member.told == Told::Nothing {
                    member.first_at = Some(now);
                    member.level = 0;
                }
                member.told = Told::Firing;
                member.told_at = Some(now);
            }
            let mut changed = tell || member.quiet.take().is_some();
            let after = |level: i64| {
                let step = decision.escalate.get(usize::try_from(level).ok()?)?;
                Some(member.first_at?.plus_seconds(step.after_seconds.into()))
            };
            while after(member.level).is_some_and(|at| at <= now) {
                steps
                    .entry(usize::try_from(member.level).unwrap_or(0))
                    .or_default()
                    .push(member.alert.clone());
                member.level += 1;
                changed = true;
            }
            due.extend(after(member.level));
            due.extend(repeat(&member));
            look.keep(member, changed);
        }
        for (number, rows) in steps {
            let step = &decision.escalate[number];
            let words = format!(
                "nobody took it within {} s: step {} of the escalation of route {}",
                step.after_seconds,
                number + 1,
                decision.route
            );
            let rows: Vec<&AlertRow> = rows.iter().collect();
            messages.push(ToTell::new(group, &step.channel, &rows, words));
        }
        look.due_at = due.into_iter().min();
        (look, messages)
    }
}

impl Looked {
    /// Keeps a member of which nobody is told, with a line of its history for every new reason.
    fn keep_quiet(&mut self, mut member: Member, quiet: &Quiet, now: Time) {
        let id = &member.alert.id;
        if quiet.silenced != (member.alert.status == Status::Silenced) {
            self.quieted.push((id.clone(), quiet.silenced));
        }
        if member.quiet.as_ref() != Some(&quiet.words) {
            let entry = Entry {
                at: now,
                what: "quiet",
                by: "routing".to_owned(),
                words: format!("not told: {}", quiet.words),
                notification: None,
            };
            self.history.push((id.clone(), entry));
            member.quiet = Some(quiet.words.clone());
            return self.keep(member, true);
        }
        self.keep(member, false);
    }

    fn keep(&mut self, member: Member, changed: bool) {
        self.stays = true;
        if changed {
            self.changed.push(member);
        }
    }
}

/// What people are told of alerts.
fn content(group: &GroupRow, rows: &[&AlertRow]) -> Content {
    let firing: Vec<&&AlertRow> = rows.iter().filter(|row| row.status != Status::Resolved).collect();
    let over = rows.len() - firing.len();
    let worst = firing.iter().map(|row| row.told.severity).min().unwrap_or(Severity::Info);
    let first = rows.first().map(|row| row.told.title.clone()).unwrap_or_default();
    let state = match (firing.len(), over) {
        (0, over) => format!("resolved ({over})"),
        (firing, 0) => format!("{} ({firing})", worst.as_str()),
        (firing, over) => format!("{} ({firing}, {over} resolved)", worst.as_str()),
    };
    let line = |row: &&AlertRow| {
        let state = if row.status == Status::Resolved { "resolved" } else { row.told.severity.as_str() };
        let value = row.told.value.as_ref().map(|value| format!(" ({value})")).unwrap_or_default();
        let since = shown(row.starts_at);
        format!("[{state}] {}{value} since {since}\n{}", row.told.title, row.told.description)
            .trim_end()
            .to_owned()
    };
    let mut lines: Vec<String> = rows.iter().take(NAMED).map(line).collect();
    if rows.len() > NAMED {
        lines.push(format!("and {} more", rows.len() - NAMED));
    }
    let urls = ["dashboard", "panel", "source", "github", "details"];
    let url = rows.iter().find_map(|row| urls.iter().find_map(|name| row.told.links.get(*name)));
    let level = match (firing.len(), worst) {
        (0, _) => Level::Resolved,
        (_, Severity::Critical) => Level::Critical,
        (_, Severity::Warning) => Level::Warning,
        (_, Severity::Info) => Level::Info,
    };
    Content {
        title: format!("{state}: {first}"),
        text: lines.join("\n\n"),
        level,
        url: url.cloned().unwrap_or_default(),
        fields: fields(group, rows),
        actions: Vec::new(),
        thread: group.id.clone(),
    }
}

/// Names and values beside the text: of a finding of the house its details.
fn fields(group: &GroupRow, rows: &[&AlertRow]) -> Vec<(String, String)> {
    let mut fields = vec![("group".to_owned(), group.name.clone())];
    if let [row] = rows
        && row.receiver == raised::RECEIVER
    {
        fields.extend(row.told.annotations.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    fields
}
