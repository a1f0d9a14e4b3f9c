//! `import_alertmanager`: Alertmanager's configuration as ours.

use std::collections::BTreeMap;

use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Alerts;
use super::matchers::Matcher;
use super::quiet::Inhibition;
use super::routing::Route;

/// Reads Alertmanager's configuration file and shows it as the section `alerts` of ours, for
/// `simulate_routing` and the configuration file. Nothing is changed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportAlertmanager {
    /// The text of its configuration file, YAML.
    #[schemars(length(min = 1, max = 1_000_000))]
    yaml: String,
}

/// Alertmanager's configuration as ours.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ImportedAlertmanager {
    /// Who is told of what: each receiver is a channel of its name.
    pub routing: Route,
    /// Which alerts keep which others quiet.
    pub inhibit: Vec<Inhibition>,
    /// The channels that routes name, to be made by `add_channel`.
    pub channels: Vec<String>,
    /// What of it has no counterpart here.
    pub left_out: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TheirConfig {
    route: TheirRoute,
    receivers: Vec<TheirReceiver>,
    inhibit_rules: Vec<TheirInhibition>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TheirRoute {
    receiver: Option<String>,
    r#match: BTreeMap<String, String>,
    match_re: BTreeMap<String, String>,
    matchers: Vec<String>,
    group_by: Option<Vec<String>>,
    group_wait: Option<String>,
    group_interval: Option<String>,
    repeat_interval: Option<String>,
    r#continue: bool,
    routes: Vec<TheirRoute>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TheirReceiver {
    name: String,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TheirInhibition {
    source_match: BTreeMap<String, String>,
    source_match_re: BTreeMap<String, String>,
    source_matchers: Vec<String>,
    target_match: BTreeMap<String, String>,
    target_match_re: BTreeMap<String, String>,
    target_matchers: Vec<String>,
    equal: Vec<String>,
}

pub(super) async fn import_alertmanager(
    _: Alerts,
    _: Call,
    input: ImportAlertmanager,
) -> Result<ImportedAlertmanager> {
    opsroom_core::lifecycle::Lifecycle::blocking(move || imported(&input.yaml)).await
}

fn imported(text: &str) -> Result<ImportedAlertmanager> {
    let theirs: TheirConfig = serde_saphyr::from_str(text).map_err(|error| {
        let said = error.to_string();
        Error::invalid(format!("yaml: it cannot be read: {}", said.lines().next().unwrap_or_default()))
    })?;
    let mut left_out = Vec::new();
    let mut channels = BTreeMap::new();
    for receiver in &theirs.receivers {
        let kinds: Vec<&str> = receiver.others.keys().map(String::as_str).collect();
        if receiver.others.is_empty() {
            left_out.push(format!(
                "receiver {:?} tells nobody: its routes have the channel `none`",
                receiver.name
            ));
        } else {
            left_out.push(format!(
                "receiver {:?} has {}: make a channel of this name",
                receiver.name,
                kinds.join(", ")
            ));
        }
        channels.insert(receiver.name.clone(), !receiver.others.is_empty());
    }
    let others = theirs.others.keys().filter(|key| !matches!(key.as_str(), "global" | "templates"));
    left_out.extend(others.map(|key| format!("{key} has no counterpart here")));
    let routing = route(&theirs.route, "route", &channels, &mut left_out)?;
    routing.validate("yaml")?;
    let rule = |it: &TheirInhibition| {
        let source = matchers(&it.source_match, &it.source_match_re, &it.source_matchers)?;
        let target = matchers(&it.target_match, &it.target_match_re, &it.target_matchers)?;
        Ok(Inhibition { source, target, equal: it.equal.clone() })
    };
    let inhibit = theirs.inhibit_rules.iter().map(rule).collect::<Result<Vec<_>>>()?;
    let channels = channels.into_iter().filter(|(_, tells)| *tells).map(|(name, _)| name).collect();
    Ok(ImportedAlertmanager { routing, inhibit, channels, left_out })
}

fn route(
    it: &TheirRoute,
    name: &str,
    channels: &BTreeMap<String, bool>,
    left_out: &mut Vec<String>,
) -> Result<Route> {
    left_out.extend(it.others.keys().map(|key| format!("{name}.{key} has no counterpart here")));
    let seconds = |key: &str, text: &Option<String>| {
        let read = |text: &String| {
            seconds(text)
                .ok_or_else(|| Error::invalid(format!("yaml: {name}.{key}: {text:?} is not such as 5m")))
        };
        text.as_ref().map(read).transpose()
    };
    let channel = it.receiver.as_ref().map(|receiver| match channels.get(receiver) {
        Some(false) => "none".to_owned(),
        _ => receiver.clone(),
    });
    let inner = it.routes.iter().enumerate();
    let routes = inner
        .map(|(number, inner)| route(inner, &format!("{name}.routes.{number}"), channels, left_out))
        .collect::<Result<_>>()?;
    Ok(Route {
        matchers: matchers(&it.r#match, &it.match_re, &it.matchers)?,
        channel,
        group_by: it.group_by.clone(),
        group_wait_seconds: seconds("group_wait", &it.group_wait)?,
        group_interval_seconds: seconds("group_interval", &it.group_interval)?,
        repeat_seconds: seconds("repeat_interval", &it.repeat_interval)?,
        send_resolved: None,
        escalate: None,
        mute_times: None,
        go_on: it.r#continue,
        routes,
    })
}

fn matchers(
    equal: &BTreeMap<String, String>,
    patterns: &BTreeMap<String, String>,
    written: &[String],
) -> Result<Vec<Matcher>> {
    let quoted = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let equal = equal.iter().map(|(name, value)| format!("{name}=\"{}\"", quoted(value)));
    let patterns = patterns.iter().map(|(name, value)| format!("{name}=~\"{}\"", quoted(value)));
    let written = written.iter().flat_map(|text| pieces(text));
    let all = equal.chain(patterns).chain(written);
    all.map(|text| {
        Matcher::try_from(text).map_err(|error| Error::invalid(format!("yaml: {}", error.message)))
    })
    .collect()
}

/// `{a="b", c=~"d,e"}` as its matchers.
fn pieces(text: &str) -> Vec<String> {
    let text = text.trim();
    let inner = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')).unwrap_or(text);
    let (mut pieces, mut quoted, mut escaped) = (vec![String::new()], false, false);
    for character in inner.chars() {
        if character == ',' && !quoted {
            pieces.push(String::new());
            continue;
        }
        quoted ^= character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        if let Some(last) = pieces.last_mut() {
            last.push(character);
        }
    }
    pieces.iter().map(|piece| piece.trim().to_owned()).filter(|piece| !piece.is_empty()).collect()
}

/// `1h30m` in seconds; parts of a second are rounded down.
fn seconds(text: &str) -> Option<u32> {
    let (mut total, mut rest) = (0_u64, text.trim());
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|character: char| character.is_ascii_digit());
        let (unit, after) = rest[digits..].split_at(unit_end.unwrap_or(rest.len() - digits));
        let millis = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            "y" => 31_536_000_000_u64,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(millis)?)?;
        rest = after;
    }
    u32::try_from(total / 1000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alertmanagers_file_becomes_ours_and_what_is_left_out_is_named() {
        let text = r#"
global: {resolve_timeout: 5m}
route:
  receiver: base
  group_by: [alertname, cluster]
  group_wait: 30s
  repeat_interval: 1h30m
  routes:
  - receiver: db
    match: {team: db}
    match_re: {env: "prod|stage"}
    continue: true
    mute_time_intervals: [nights]
  - matchers: ['{severity="critical",path=~"a,b"}']
    receiver: quiet
receivers:
- name: base
  webhook_configs: [{url: "http://x"}]
- name: db
  slack_configs: [{}]
- name: quiet
inhibit_rules:
- source_matchers: [severity="critical"]
  target_match: {severity: warning}
  equal: [cluster]
time_intervals: []
"#;
        let it = imported(text).unwrap();
        assert_eq!((it.routing.group_wait_seconds, it.routing.repeat_seconds), (Some(30), Some(5400)));
        let matchers: Vec<String> = it.routing.routes[0].matchers.iter().map(ToString::to_string).collect();
        assert_eq!(matchers, ["team=\"db\"", "env=~\"prod|stage\""]);
        assert!(it.routing.routes[0].go_on);
        let matchers: Vec<String> = it.routing.routes[1].matchers.iter().map(ToString::to_string).collect();
        assert_eq!(matchers, ["severity=\"critical\"", "path=~\"a,b\""]);
        assert_eq!(it.routing.routes[1].channel.as_deref(), Some("none"));
        assert_eq!(it.channels, ["base", "db"]);
        assert_eq!(it.inhibit.len(), 1);
        let left_out = it.left_out.join("\n");
        assert!(
            left_out.contains("mute_time_intervals") && left_out.contains("time_intervals"),
            "{left_out}"
        );
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        assert!(imported("route: [").unwrap_err().message.starts_with("yaml: "));
        assert!(imported("route: {group_wait: soon}").unwrap_err().message.contains("route.group_wait"));
        assert_eq!(seconds("1d2h"), Some(93_600));
        assert_eq!(seconds("1500ms"), Some(1));
        assert_eq!((seconds(""), seconds("5"), seconds("5x")), (None, None, None));
    }
}
