//! The types of this folder's answers, and the rules that need no database.

use opsroom_core::{Caller, Error, Result, Role, Scope, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// The most entries that a list shows at once.
const MOST_LISTED: u32 = 200;

/// How many entries a list shows when it is not said.
const LISTED: u32 = 20;

/// An API key as everybody may know it who may see it: without the key itself.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ApiKey {
    /// Its id.
    pub id: String,
    /// What it is for.
    pub name: String,
    /// How the key starts, to recognise one that was found somewhere.
    pub starts_with: String,
    /// The rung it stands on: `viewer`, `operator` or `administrator`.
    pub role: Role,
    /// What it narrows its role to; null is the whole role.
    pub scopes: Option<Vec<Scope>>,
    /// The team whose resources it may see.
    pub team_id: String,
    /// Who made it: `key:<id>`, `operator` or `setup`.
    pub created_by: String,
    /// When it was made, RFC 3339.
    #[serde(serialize_with = "rfc3339")]
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub created_at: Time,
    /// When it stops to work, RFC 3339; null is never.
    #[serde(serialize_with = "rfc3339_or_null")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub expires_at: Option<Time>,
    /// When it was last used, RFC 3339, at most some seconds late; null is never.
    #[serde(serialize_with = "rfc3339_or_null")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub last_used_at: Option<Time>,
    /// When it was revoked, RFC 3339; null is not at all.
    #[serde(serialize_with = "rfc3339_or_null")]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub revoked_at: Option<Time>,
}

/// A key that was just made. It is not `Debug`, so that no log can show it.
#[derive(Serialize, JsonSchema)]
pub struct CreatedKey {
    /// The key itself: `opk_` and 64 hexadecimal digits. It is shown this once and cannot be shown again.
    pub key: String,
    /// What is known about it from now on.
    pub api_key: ApiKey,
}

/// Part of a list.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Page<T> {
    /// The entries, newest first.
    pub items: Vec<T>,
    /// What to send as `cursor` for the entries after these; null when these are the last.
    pub next: Option<String>,
}

/// Exchange the setup token, which the first start of the server prints, for the first administrator's
/// key. The token works once, for 15 minutes.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExchangeSetupToken {
    /// The token: `ops_` and 64 hexadecimal digits, the part of the setup link after `#`.
    #[schemars(extend("writeOnly" = true))]
    pub token: String,
}

impl<T> Page<T> {
    /// A page of at most `limit` entries out of at most one more than that.
    pub fn cut(mut items: Vec<T>, limit: usize, cursor: impl Fn(&T) -> String) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(cursor);
        Self { items, next }
    }
}

/// How many entries a list shows.
///
/// # Errors
/// `Invalid` beyond 1 to 200.
pub fn page_limit(limit: Option<u32>) -> Result<usize> {
    match limit.unwrap_or(LISTED) {
        limit @ 1..=MOST_LISTED => Ok(limit as usize),
        other => Err(Error::invalid(format!("limit {other} is not from 1 to {MOST_LISTED}"))),
    }
}

/// A short text of an input: without control characters, which no database or log should get, and not
/// longer than `most` bytes. The text is not repeated in the error when it is long.
pub fn short_text<'a>(field: &str, text: &'a str, most: usize) -> Result<&'a str> {
    if text.len() > most {
        let len = text.len();
        return Err(Error::invalid(format!("{field} has {len} bytes, more than the {most} it may have")));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(format!("{field} {text:?} has control characters; use plain text")));
    }
    Ok(text)
}

/// The id after which a page goes on.
pub fn id_cursor(cursor: &Option<String>) -> Result<Option<&str>> {
    let is_id = |text: &str| text.len() == 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    match cursor.as_deref() {
        Some(cursor) if !is_id(cursor) => Err(wrong_cursor(short_text("cursor", cursor, 64)?)),
        cursor => Ok(cursor),
    }
}

/// A cursor that no page gave.
pub fn wrong_cursor(cursor: &str) -> Error {
    Error::invalid(format!(
        "cursor {cursor:?} is not `next` of an answer of this list; leave it out for its beginning"
    ))
}

/// A name that a person gives: short text that is not blank.
pub fn name(field: &str, text: &str) -> Result<String> {
    let text = short_text(field, text.trim(), 100)?;
    if text.is_empty() {
        return Err(Error::invalid(format!("{field} is empty; say what it is for, in 1 to 100 bytes")));
    }
    // Marks that turn the direction of writing make one name look like another.
    if text.chars().any(|c| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')) {
        return Err(Error::invalid(format!("{field} {text:?} has invisible characters; use plain text")));
    }
    Ok(text.to_owned())
}

/// A moment of an input, RFC 3339.
pub fn moment(field: &str, text: &str) -> Result<Time> {
    let text = short_text(field, text, 64)?;
    let time: jiff::Timestamp = text.parse().map_err(|error| {
        let message = format!("{field} {text:?} is not a moment such as 2026-08-01T12:00:00Z");
        Error::invalid(message).because(Box::<dyn std::error::Error + Send + Sync>::from(error))
    })?;
    Ok(Time(time.as_microsecond()))
}

/// The scopes of a new key, none of which may reach beyond the caller's own.
///
/// A caller with scopes must say which of them the new key gets: left out, the key would have the whole
/// role. Whether an operation's name is covered by an effect (`search_logs` by `read`) is not known
/// here, so a scope must lie within one of the caller's scopes by its words.
pub fn granted_scopes(caller: &Caller, wanted: Option<Vec<Scope>>) -> Result<Option<Vec<Scope>>> {
    const MOST: usize = 64;
    let Some(own) = &caller.scopes else {
        return checked_count(wanted, MOST);
    };
    let Some(wanted) = checked_count(wanted, MOST)? else {
        return Err(Error::forbidden(format!(
            "a key without scopes could do more than {}; name scopes within its own: {}",
            caller.name,
            listed(own)
        )));
    };
    let (denied, given): (Vec<&Scope>, Vec<&Scope>) = own.iter().partition(|scope| scope.denies());
    let beyond = |scope: &&Scope| !scope.denies() && !given.iter().any(|outer| scope.within(outer));
    if let Some(beyond) = wanted.iter().find(beyond) {
        return Err(Error::forbidden(format!(
            "the scope `{}` is more than {} has; name scopes within its own: {}",
            String::from(beyond.clone()),
            caller.name,
            listed(own)
        )));
    }
    // What is taken away from the maker is taken away from the key.
    let inherited: Vec<Scope> =
        denied.into_iter().filter(|denied| !wanted.contains(denied)).cloned().collect();
    Ok(Some(wanted.into_iter().chain(inherited).collect()))
}

fn checked_count(scopes: Option<Vec<Scope>>, most: usize) -> Result<Option<Vec<Scope>>> {
    match scopes.as_ref().map(Vec::len) {
        Some(0) => Err(Error::invalid(
            "scopes is an empty list, and such a key could do nothing; leave it out for the whole role",
        )),
        Some(count) if count > most => {
            Err(Error::invalid(format!("scopes has {count} entries, more than the {most} it may have")))
        }
        _ => Ok(scopes),
    }
}

fn listed(scopes: &[Scope]) -> String {
    let words: Vec<String> =
        scopes.iter().map(|scope| format!("`{}`", String::from(scope.clone()))).collect();
    words.join(", ")
}

/// A moment in an answer.
pub fn rfc3339<S: Serializer>(time: &Time, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(&time.to_rfc3339())
}

/// A moment that may be missing in an answer.
pub fn rfc3339_or_null<S: Serializer>(time: &Option<Time>, to: S) -> std::result::Result<S::Ok, S::Error> {
    time.map(Time::to_rfc3339).serialize(to)
}

#[cfg(test)]
mod tests {
    use opsroom_core::Kind;
    use opsroom_core::caller::Face;

    use super::*;

    fn scope(text: &str) -> Scope {
        Scope::try_from(text.to_owned()).unwrap()
    }

    fn caller(scopes: &[&str]) -> Caller {
        Caller { scopes: Some(scopes.iter().map(|s| scope(s)).collect()), ..Caller::operator(Face::Rest) }
    }

    #[test]
    fn a_narrowed_caller_cannot_grant_the_whole_role() {
        let error = granted_scopes(&caller(&["logs:*"]), None).unwrap_err();
        assert_eq!(error.kind, Kind::Forbidden);
        assert!(error.message.contains("`logs:*`"), "{}", error.message);
        assert!(granted_scopes(&caller(&["logs:*"]), Some(vec![scope("*:read")])).is_err());
        assert!(granted_scopes(&caller(&["logs:*"]), Some(vec![scope("logs:read")])).is_ok());
        assert_eq!(granted_scopes(&Caller::operator(Face::Cli), None).unwrap(), None);
    }

    #[test]
    fn what_is_denied_to_the_maker_is_denied_to_the_key() {
        let maker = caller(&["logs:*", "!logs:destroy"]);
        let given = granted_scopes(&maker, Some(vec![scope("logs:*")])).unwrap().unwrap();
        assert_eq!(given, [scope("logs:*"), scope("!logs:destroy")]);
        assert!(granted_scopes(&maker, Some(vec![scope("!jobs:read"), scope("jobs:*")])).is_err());
    }

    #[test]
    fn an_empty_or_endless_list_of_scopes_is_refused() {
        let operator = Caller::operator(Face::Cli);
        assert!(granted_scopes(&operator, Some(Vec::new())).unwrap_err().message.contains("empty"));
        let many = vec![scope("logs:read"); 65];
        assert!(granted_scopes(&operator, Some(many)).unwrap_err().message.contains("65"));
    }

    #[test]
    fn hostile_names_are_refused_and_long_ones_are_not_repeated() {
        for bad in ["", "  ", "a\0b", "a\nb", "a\u{1b}[31m", "a\u{202e}b", "\u{200b}"] {
            assert_eq!(name("name", bad).unwrap_err().kind, Kind::Invalid, "{bad:?}");
        }
        let error = name("name", &"x".repeat(10_000_000)).unwrap_err();
        assert!(error.message.len() < 100);
        assert_eq!(
            name("name", " it's \"fine\"; DROP TABLE x -- 🙂 ").unwrap(),
            "it's \"fine\"; DROP TABLE x -- 🙂"
        );
    }

    #[test]
    fn a_page_says_where_the_next_one_starts() {
        let page = Page::cut(vec![3, 2, 1], 2, |n| n.to_string());
        assert_eq!((page.items, page.next), (vec![3, 2], Some("2".to_owned())));
        let page = Page::cut(vec![1], 2, |n| n.to_string());
        assert_eq!(page.next, None);
        assert!(page_limit(Some(0)).is_err() && page_limit(Some(201)).is_err());
        assert_eq!(page_limit(None).unwrap(), 20);
    }
}
