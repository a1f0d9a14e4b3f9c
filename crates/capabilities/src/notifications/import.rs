//! `import_apprise`: Apprise's configuration as channels.

use std::collections::{BTreeMap, BTreeSet};

use opsroom_core::{Call, Error, Kind, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Notifications;
use super::channels::ChannelKind;
use super::open::{AddChannel, add_channel};

/// The most URLs that are taken over at once.
const MOST: usize = 500;

/// Takes over Apprise's configuration, in its text form (`tag=URL` on a line) or as YAML: each URL of a provider that
/// is known here becomes a channel, named by its first tag. A channel that has that name already is left as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImportApprise {
    /// The text of the configuration. It holds what opens the channels.
    text: Secret,
    /// Only say what would be made.
    #[serde(default)]
    dry_run: bool,
}

/// A channel of Apprise's configuration, without what opens it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ImportedChannel {
    /// Its name here.
    pub name: String,
    /// Who takes its messages.
    pub kind: ChannelKind,
    /// The tags that it had.
    pub tags: Vec<String>,
}

/// What was taken over.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ImportedApprise {
    /// The channels that were made, or would be.
    pub items: Vec<ImportedChannel>,
    /// What was not taken over, by its place, and why.
    pub left_out: Vec<String>,
}

/// A URL of the configuration. It is not `Debug`, so that no log can show it.
struct Entry {
    /// Where it stands.
    place: String,
    url: String,
    tags: Vec<String>,
}

pub(super) async fn import_apprise(
    service: Notifications,
    call: Call,
    input: ImportApprise,
) -> Result<ImportedApprise> {
    let text = input.text.expose();
    if text.len() > 1 << 20 {
        return Err(Error::invalid("text: it has at most 1 MiB"));
    }
    let (entries, mut left_out) = read(text)?;
    if entries.len() > MOST {
        return Err(Error::invalid(format!("text: at most {MOST} URLs are taken over at once")));
    }
    let mut taken: BTreeSet<String> = BTreeSet::new();
    let mut items = Vec::new();
    for entry in entries {
        let input_of = |name: String| AddChannel::at(name, &entry.url);
        let kind = match service.target(&input_of(String::new())) {
            Ok((kind, _)) => kind,
            Err(error) => {
                left_out.push(format!("{}: {}", entry.place, error.message));
                continue;
            }
        };
        let name = name(entry.tags.first().map_or(kind.as_str(), String::as_str), &mut taken);
        if service.has_channel(call.caller.team(), &name).await? {
            left_out.push(format!("{}: there is a channel `{name}` already", entry.place));
            continue;
        }
        if !input.dry_run {
            match add_channel(service.clone(), call.clone(), input_of(name.clone())).await {
                Ok(_) => {}
                Err(error) if matches!(error.kind, Kind::Invalid | Kind::Conflict | Kind::Forbidden) => {
                    left_out.push(format!("{}: {}", entry.place, error.message));
                    continue;
                }
                Err(error) => return Err(error),
            }
        }
        items.push(ImportedChannel { name, kind, tags: entry.tags });
    }
    Ok(ImportedApprise { items, left_out })
}

/// A name for a channel, of a tag: what a name cannot have becomes `-`, and a number tells the same ones apart.
fn name(tag: &str, taken: &mut BTreeSet<String>) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c.to_ascii_lowercase() } else { '-' };
    let mut base: String = tag.chars().map(plain).take(50).collect();
    base = base.trim_matches(['-', '_']).to_owned();
    if base.is_empty() || base == super::DEFAULT_CHANNEL {
        base = format!("apprise-{base}").trim_end_matches('-').to_owned();
    }
    let mut name = base.clone();
    for number in 2.. {
        if taken.insert(name.clone()) {
            break;
        }
        name = format!("{base}-{number}");
    }
    name
}

/// The URLs of a configuration, and what is none.
fn read(text: &str) -> Result<(Vec<Entry>, Vec<String>)> {
    let yaml = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let is_yaml = yaml.is_some_and(|line| {
        ["version:", "urls:", "include:", "tag:", "groups:", "asset:", "---"]
            .iter()
            .any(|word| line.starts_with(word))
    });
    if is_yaml { read_yaml(text) } else { Ok(read_lines(text)) }
}

/// `URL`, `tag, tag=URL`, `include ...` and `group = tag`, a line each.
fn read_lines(text: &str) -> (Vec<Entry>, Vec<String>) {
    let (mut entries, mut left_out) = (Vec::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let (place, line) = (format!("line {}", number + 1), line.trim());
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        let scheme = line.find("://");
        let (tags, url) = match (line.find('='), scheme) {
            (Some(sign), Some(scheme)) if sign < scheme => (&line[..sign], line[sign + 1..].trim()),
            (_, Some(_)) => ("", line),
            (_, None) => {
                let what =
                    if line.starts_with("include") { "another file is not read" } else { "it is no URL" };
                left_out.push(format!("{place}: {what}"));
                continue;
            }
        };
        if line.starts_with("include") && tags.is_empty() {
            left_out.push(format!("{place}: another file is not read"));
            continue;
        }
        entries.push(Entry { place, url: url.to_owned(), tags: words(tags) });
    }
    (entries, left_out)
}

fn words(text: &str) -> Vec<String> {
    text.split([',', ' ', '\t']).filter(|word| !word.is_empty()).take(20).map(str::to_owned).collect()
}

fn read_yaml(text: &str) -> Result<(Vec<Entry>, Vec<String>)> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Theirs {
        version: Value,
        tag: Value,
        urls: Vec<Value>,
        #[serde(flatten)]
        others: BTreeMap<String, Value>,
    }
    // What cannot be read is not shown: it holds secrets.
    let theirs: Theirs = serde_saphyr::from_str(text)
        .map_err(|_| Error::invalid("text: it is no YAML with `urls`, and no list of lines"))?;
    let mut left_out: Vec<String> =
        theirs.others.keys().map(|key| format!("{key}: it has no counterpart here")).collect();
    if !matches!(theirs.version.as_i64(), None | Some(1)) {
        left_out.push("version: only version 1 is known".to_owned());
    }
    let mut entries = Vec::new();
    for (number, item) in theirs.urls.iter().enumerate() {
        let place = format!("urls.{number}");
        match item {
            Value::String(url) => entries.push(Entry { place, url: url.clone(), tags: tags(&theirs.tag) }),
            Value::Object(pairs) => {
                for (url, options) in pairs {
                    let options = match options {
                        Value::Array(several) => several.clone(),
                        one => vec![one.clone()],
                    };
                    for option in options {
                        let own = tags(&option["tag"]);
                        let others =
                            option.as_object().into_iter().flatten().filter(|(name, _)| *name != "tag");
                        let names: Vec<&str> = others.map(|(name, _)| name.as_str()).collect();
                        if !names.is_empty() {
                            let names = names.join(", ");
                            left_out.push(format!("{place}: options beside a URL are not read: {names}"));
                        }
                        let all = own.into_iter().chain(tags(&theirs.tag)).collect();
                        entries.push(Entry { place: place.clone(), url: url.clone(), tags: all });
                    }
                }
            }
            _ => left_out.push(format!("{place}: it is no URL")),
        }
    }
    Ok((entries, left_out))
}

fn tags(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => words(text),
        Value::Array(items) => items.iter().filter_map(Value::as_str).flat_map(words).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_what_is_none_is_named() {
        let (entries, left_out) = read(
            "# ours\nslack://A/B/C\nops, db=discord://1/T?x=y\ninclude http://elsewhere/config\nteam = ops\njsons://h/?a=b\n",
        )
        .unwrap();
        let found: Vec<_> = entries.iter().map(|it| (it.url.as_str(), it.tags.join("+"))).collect();
        assert_eq!(
            found,
            [
                ("slack://A/B/C", String::new()),
                ("discord://1/T?x=y", "ops+db".to_owned()),
                ("jsons://h/?a=b", String::new())
            ]
        );
        assert_eq!(left_out, ["line 4: another file is not read", "line 5: it is no URL"]);
        let text = "version: 1\ntag: all\ngroups: [{a: b}]\nurls:\n - slack://A/B/C\n - discord://1/T:\n   - tag: ops, db\n   - tag: [x]\n     avatar: no\n";
        let (entries, left_out) = read(text).unwrap();
        let found: Vec<_> = entries.iter().map(|it| it.tags.join("+")).collect();
        assert_eq!(found, ["all", "ops+db+all", "x+all"]);
        assert_eq!(left_out.len(), 2, "{left_out:?}");
        assert!(read("urls: [").err().unwrap().message.starts_with("text: "));
    }

    #[test]
    fn names_are_plain_and_each_is_another() {
        let mut taken = BTreeSet::new();
        let names = ["Ops Team", "ops-team", "default", "", "Käse"].map(|tag| name(tag, &mut taken));
        assert_eq!(names, ["ops-team", "ops-team-2", "apprise-default", "apprise", "k-se"]);
    }
}
