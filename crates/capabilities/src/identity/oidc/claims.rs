//! What an identity token says, held against what was asked for (OpenID Connect Core 1.0, 3.1.3.7).

use opsroom_core::Time;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

use super::jwt::Fault;

/// For how many seconds clocks may differ.
const SKEW: i64 = 60;

/// How many seconds old a token may be that was just made for us.
const OLDEST: i64 = 600;

/// What a token must say.
pub struct Expected<'a> {
    /// Who made it.
    pub issuer: &'a str,
    /// Whom it was made for.
    pub client_id: &'a str,
    /// What only this login knows.
    pub nonce: &'a str,
    /// The time.
    pub now: Time,
}

/// Whom the provider says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The provider's name for them, which never changes.
    pub subject: String,
    /// Their address for mail, where the provider says that it is theirs.
    pub email: Option<String>,
    /// What they would like to be called here.
    pub username: Option<String>,
    /// Their name.
    pub full_name: String,
    /// The groups that they are in.
    pub groups: Vec<String>,
}

/// Holds claims against what is expected; answers the subject.
///
/// # Errors
/// Which of them is wrong, in words that hold nothing of the token.
pub fn check(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<String, Fault> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(expected.issuer) {
        return Err(Fault::Wrong("another issuer made it"));
    }
    let audiences: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !audiences.contains(&expected.client_id) {
        return Err(Fault::Wrong("it is for another client"));
    }
    let presenter = text("azp");
    if presenter.is_some_and(|client| client != expected.client_id)
        || (audiences.len() > 1 && presenter.is_none())
    {
        return Err(Fault::Wrong("it was given to another client"));
    }
    let seconds = |name: &str| claims.get(name).and_then(Value::as_f64).filter(|at| at.abs() < 1e11);
    let at = |seconds: f64| Time(0).plus_seconds(seconds as i64);
    let end = seconds("exp").ok_or(Fault::Wrong("it does not say when it ends"))?;
    if expected.now >= at(end).plus_seconds(SKEW) {
        return Err(Fault::Wrong("it has ended"));
    }
    let made = at(seconds("iat").ok_or(Fault::Wrong("it does not say when it was made"))?);
    if made > expected.now.plus_seconds(SKEW) || made.plus_seconds(OLDEST) < expected.now {
        return Err(Fault::Wrong("it was not made just now; compare the clocks of both servers"));
    }
    if seconds("nbf").is_some_and(|from| at(from) > expected.now.plus_seconds(SKEW)) {
        return Err(Fault::Wrong("it is not good yet"));
    }
    let nonce = text("nonce").unwrap_or_default();
    if !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
        return Err(Fault::Wrong("it is for another login"));
    }
    let plain = |subject: &&str| (1..=255).contains(&subject.len()) && !subject.chars().any(char::is_control);
    let subject = text("sub").filter(plain);
    subject.map(str::to_owned).ok_or(Fault::Wrong("it names no subject of 1 to 255 bytes"))
}

/// What an access token was found to say.
pub struct Access {
    /// Whose it is.
    pub subject: String,
    /// What it is for.
    pub audiences: Vec<String>,
    /// When it ends.
    pub ends: Time,
}

/// Holds the claims of an access token against what is expected (RFC 9068, 4), but for the audience.
///
/// # Errors
/// Which of them is wrong, in words that hold nothing of the token.
pub fn check_access(claims: &Map<String, Value>, issuer: &str, now: Time) -> Result<Access, Fault> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    if text("iss") != Some(issuer) {
        return Err(Fault::Wrong("another issuer made it"));
    }
    // Only identity tokens have these: one of those is no key to anything.
    if claims.contains_key("nonce") || claims.contains_key("at_hash") {
        return Err(Fault::Wrong("it is an identity token"));
    }
    let seconds = |name: &str| claims.get(name).and_then(Value::as_f64).filter(|at| at.abs() < 1e11);
    let at = |seconds: f64| Time(0).plus_seconds(seconds as i64);
    let ends = at(seconds("exp").ok_or(Fault::Wrong("it does not say when it ends"))?);
    if now >= ends.plus_seconds(SKEW) {
        return Err(Fault::Wrong("it has ended"));
    }
    if ["nbf", "iat"].into_iter().filter_map(seconds).any(|from| at(from) > now.plus_seconds(SKEW)) {
        return Err(Fault::Wrong("it is not good yet"));
    }
    let audiences = match claims.get("aud") {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => {
            several.iter().filter_map(Value::as_str).take(32).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    let plain = |subject: &&str| (1..=255).contains(&subject.len()) && !subject.chars().any(char::is_control);
    let subject = text("sub").filter(plain).ok_or(Fault::Wrong("it names no subject of 1 to 255 bytes"))?;
    Ok(Access { subject: subject.to_owned(), audiences, ends: ends.plus_seconds(SKEW) })
}

/// The person of these claims; `more` is what the provider tells besides, which never overrules them.
pub fn person(
    subject: String,
    claims: &Map<String, Value>,
    more: &Map<String, Value>,
    groups: &str,
) -> Person {
    let find = |name: &str| claims.get(name).or_else(|| more.get(name));
    let text =
        |name: &str| find(name).and_then(Value::as_str).map(str::to_owned).filter(|text| !text.is_empty());
    // The address and whether it is verified are said by one and the same.
    let of = if claims.contains_key("email") { claims } else { more };
    let verified = match of.get("email_verified") {
        Some(Value::Bool(verified)) => *verified,
        // Some providers write a text.
        Some(Value::String(word)) => word == "true",
        _ => false,
    };
    let groups = nested(claims, groups).or_else(|| nested(more, groups));
    Person {
        subject,
        email: text("email").filter(|_| verified),
        username: text("preferred_username").or_else(|| text("nickname")),
        full_name: text("name").unwrap_or_default(),
        groups: match groups {
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(several)) => {
                several.iter().filter_map(Value::as_str).map(str::to_owned).collect()
            }
            _ => Vec::new(),
        },
    }
}

/// Whether the groups of a person are told.
pub fn tells(claims: &Map<String, Value>, name: &str) -> bool {
    nested(claims, name).is_some()
}

/// A claim by its name, or else by its names from outside to inside with dots between.
fn nested<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(found) = claims.get(name) {
        return Some(found);
    }
    let mut parts = name.split('.');
    let first = claims.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part)).filter(|_| name.contains('.'))
}
