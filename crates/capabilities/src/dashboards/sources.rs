//! `add_dashboard_source`, `list_dashboard_sources`, `delete_dashboard_source`, and what a source's login is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opsroom_core::id::new_id;
use opsroom_core::resolver::Purpose;
use opsroom_core::{Call, Error, Result, Secret};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Dashboards;
use super::chromium::page::Form;
use super::model::{Login, LoginKind, Place};
use super::store::SourceRow;

/// The most sources of a team.
const MOST_SOURCES: usize = 1_000;

/// Add a place where dashboards are: a Grafana, or pages of any kind, with the login that captures use there.
///
/// The login's secret is given as a reference and goes to the source's own origin (scheme, host and port) and
/// to no other.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AddDashboardSource {
    /// What it is called: letters, digits, `-`, `_` and `.`, at most 64.
    #[schemars(length(min = 1, max = 64))]
    pub name: String,
    /// How it is reached: an object with `kind` (`grafana` or `page`), `url` and, where one is needed, `login`.
    pub place: Place,
}

/// List the places where dashboards are.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListDashboardSources {}

/// Forget a place where dashboards are; captures of it stay.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteDashboardSource {
    /// The source.
    #[schemars(length(max = 64))]
    pub name: String,
}

/// A place where dashboards are.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DashboardSource {
    /// What it is called.
    pub name: String,
    /// How it is reached.
    pub place: Place,
    /// Who added it.
    pub created_by: String,
    /// When.
    pub created_at: String,
}

/// Places where dashboards are.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DashboardSourceList {
    /// They, by name.
    pub items: Vec<DashboardSource>,
}

/// A source was forgotten.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ForgottenSource {
    /// What it was called.
    pub name: String,
}

fn shown(row: SourceRow) -> DashboardSource {
    let SourceRow { name, place, created_by, created_at, .. } = row;
    DashboardSource { name, place, created_by, created_at: created_at.to_rfc3339() }
}

pub(super) async fn add_dashboard_source(
    service: Dashboards,
    call: Call,
    input: AddDashboardSource,
) -> Result<DashboardSource> {
    let inner = &service.inner;
    let plain = input.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !plain || input.name.is_empty() || input.name.len() > 64 {
        return Err(Error::invalid("name: letters, digits, `-`, `_` and `.`, at most 64 of them"));
    }
    input.place.validate().map_err(|error| Error { message: format!("place.{}", error.message), ..error })?;
    inner.egress.check(&input.place.url)?;
    if let Some(login) = &input.place.login {
        inner.secrets.check(&login.secret)?;
    }
    if inner.store.sources(&call.caller.teams).await?.len() >= MOST_SOURCES {
        return Err(Error::invalid(format!(
            "there are {MOST_SOURCES} sources already, the most that are kept"
        )));
    }
    let row = SourceRow {
        id: new_id(),
        team: call.caller.team().to_owned(),
        name: input.name,
        place: input.place,
        created_by: call.caller.subject.clone(),
        created_at: inner.clock.now(),
    };
    inner.store.add_source(&row).await?;
    Ok(shown(row))
}

pub(super) async fn list_dashboard_sources(
    service: Dashboards,
    call: Call,
    _: ListDashboardSources,
) -> Result<DashboardSourceList> {
    let rows = service.inner.store.sources(&call.caller.teams).await?;
    Ok(DashboardSourceList { items: rows.into_iter().map(shown).collect() })
}

pub(super) async fn delete_dashboard_source(
    service: Dashboards,
    call: Call,
    input: DeleteDashboardSource,
) -> Result<ForgottenSource> {
    let row = service.source(&call, &input.name).await?;
    service.inner.store.delete_source(&row.id).await?;
    Ok(ForgottenSource { name: row.name })
}

/// A login whose secret has been looked up.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    /// Headers of every request to the source's origin.
    pub headers: Vec<(String, Secret)>,
    /// The form to fill in first.
    pub form: Option<Form>,
}

impl Dashboards {
    /// The caller's source of this name.
    pub(super) async fn source(&self, call: &Call, name: &str) -> Result<SourceRow> {
        let found = self.inner.store.source(&call.caller.teams, name).await?;
        found.ok_or_else(|| {
            let name: String = name.chars().take(64).collect();
            Error::not_found(format!(
                "there is no dashboard source {name:?}; `list_dashboard_sources` names them"
            ))
        })
    }

    /// Looks the login's secret up, on behalf of the one who added the source.
    pub(super) async fn login(&self, row: &SourceRow) -> Result<Ready> {
        let Some(login) = &row.place.login else { return Ok(Ready::default()) };
        let user = format!("dashboard source:{}", row.name);
        let purpose = Purpose { team: &row.team, owner: &row.created_by, user: &user };
        let secret = self.inner.secrets.value(&login.secret, purpose).await?;
        if secret.expose().contains(['\r', '\n', '\0']) {
            return Err(Error::invalid(format!(
                "the secret of the dashboard source `{}` has a line break",
                row.name
            )));
        }
        ready(login, &row.place.origin()?, &secret)
    }
}

fn ready(login: &Login, origin: &str, secret: &Secret) -> Result<Ready> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let authorization = |value: String| vec![("Authorization".to_owned(), Secret::new(value))];
    let headers = match login.kind {
        LoginKind::Bearer => authorization(format!("Bearer {}", secret.expose())),
        LoginKind::Basic => {
            let pair = format!("{}:{}", text(&login.username), secret.expose());
            authorization(format!("Basic {}", STANDARD.encode(pair)))
        }
        LoginKind::Header => vec![(text(&login.name), secret.clone())],
        LoginKind::Cookie => {
            vec![("Cookie".to_owned(), Secret::new(format!("{}={}", text(&login.name), secret.expose())))]
        }
        LoginKind::Form => {
            let or = |value: &Option<String>, usual: &str| value.clone().unwrap_or_else(|| usual.to_owned());
            let form = Form {
                url: format!("{origin}{}", or(&login.path, "/login")),
                origin: origin.to_owned(),
                username: text(&login.username),
                password: secret.clone(),
                username_field: or(
                    &login.username_field,
                    "input[type=email], input[type=text], input:not([type]), input[name=user], input[name=username]",
                ),
                password_field: or(&login.password_field, "input[type=password]"),
            };
            return Ok(Ready { headers: Vec::new(), form: Some(form) });
        }
    };
    Ok(Ready { headers, form: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_login_says_what_it_is_to_say() {
        let login = |kind| Login {
            kind,
            secret: "secret://env/X".to_owned(),
            username: Some("ada".to_owned()),
            name: Some("sid".to_owned()),
            path: None,
            username_field: None,
            password_field: None,
        };
        let secret = Secret::new("hunter2");
        for (kind, name, value) in [
            (LoginKind::Bearer, "Authorization", "Bearer hunter2"),
            (LoginKind::Basic, "Authorization", "Basic YWRhOmh1bnRlcjI="),
            (LoginKind::Header, "sid", "hunter2"),
            (LoginKind::Cookie, "Cookie", "sid=hunter2"),
        ] {
            let ready = ready(&login(kind), "http://a:1", &secret).unwrap();
            let said: Vec<(&str, &str)> =
                ready.headers.iter().map(|(n, v)| (n.as_str(), v.expose())).collect();
            assert_eq!(said, [(name, value)]);
            assert!(!format!("{ready:?}").contains("hunter2"));
        }
        let form = ready(&login(LoginKind::Form), "http://a:1", &secret).unwrap().form.unwrap();
        assert_eq!((form.url.as_str(), form.password.expose()), ("http://a:1/login", "hunter2"));
    }
}
