//! What is captured and what came of it, as it is asked for, kept and shown.

use std::collections::BTreeMap;

use opsroom_core::{Error, Result};
use reqwest::Url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a picture is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Every pixel as it was; the only one that can be compared.
    #[default]
    Png,
    /// Smaller, and not exact.
    Jpeg,
    /// Pages of paper, with text that can be searched.
    Pdf,
}

impl Format {
    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Format::Png => "image/png",
            Format::Jpeg => "image/jpeg",
            Format::Pdf => "application/pdf",
        }
    }

    /// How names of its files end.
    pub fn ending(self) -> &'static str {
        match self {
            Format::Png => "png",
            Format::Jpeg => "jpg",
            Format::Pdf => "pdf",
        }
    }
}

/// What kind of dashboards a source has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// Pages of any kind.
    #[default]
    Page,
    /// A Grafana: dashboards and panels are known by their ids.
    Grafana,
}

/// How a login is shown to a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LoginKind {
    /// `Authorization: Bearer SECRET`, as Grafana's service accounts do it.
    Bearer,
    /// `Authorization: Basic`, with `username`.
    Basic,
    /// The header `name` with the secret as its value.
    Header,
    /// The cookie `name` with the secret as its value.
    Cookie,
    /// The form of a login page is filled in and sent before each capture.
    Form,
}

/// How to log in to a source. The secret goes to the source's own origin and to no other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// `bearer`, `basic`, `header`, `cookie` or `form`.
    pub kind: LoginKind,
    /// The secret, as a reference such as `secret://opsroom/grafana#token`; never the value itself.
    #[schemars(extend("x-secret-reference" = true))]
    pub secret: String,
    /// The user, for `basic` and `form`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub username: Option<String>,
    /// The name of the header or of the cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub name: Option<String>,
    /// The login page, for `form`: a path at the source's origin. Default: `/login`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 500))]
    pub path: Option<String>,
    /// The form's field of the name, as a CSS selector. Default: the first field of text or e-mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub username_field: Option<String>,
    /// The form's field of the password, as a CSS selector. Default: the first field of a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300))]
    pub password_field: Option<String>,
}

impl Login {
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn validate(&self) -> Result<()> {
        if !self.secret.starts_with("secret://") {
            return Err(Error::invalid(
                "login.secret: give a reference such as `secret://opsroom/grafana#token`, not the secret itself",
            ));
        }
        let needed = match self.kind {
            LoginKind::Bearer => None,
            LoginKind::Basic | LoginKind::Form => Some(("username", &self.username)),
            LoginKind::Header | LoginKind::Cookie => Some(("name", &self.name)),
        };
        if let Some((field, value)) = needed
            && value.as_ref().is_none_or(String::is_empty)
        {
            let kind = serde_json::to_value(self.kind).map_err(Error::internal)?;
            return Err(Error::invalid(format!("login.{field}: a login of the kind {kind} needs it")));
        }
        let token = |name: &String| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if self.name.as_ref().is_some_and(|name| !token(name)) {
            return Err(Error::invalid("login.name: letters, digits, `-`, `_` and `.`"));
        }
        let travels = ["host", "connection", "content-length", "transfer-encoding", "origin", "referer"];
        let taken = |name: &String| travels.contains(&name.to_ascii_lowercase().as_str());
        if self.kind == LoginKind::Header && self.name.as_ref().is_some_and(taken) {
            return Err(Error::invalid(
                "login.name: this header says how the request travels and is none for a login",
            ));
        }
        if self.username.as_ref().is_some_and(|name| name.contains(|c: char| c.is_control())) {
            return Err(Error::invalid("login.username: it has a control character"));
        }
        if self.path.as_ref().is_some_and(|path| !path.starts_with('/') || path.starts_with("//")) {
            return Err(Error::invalid("login.path: it begins with one `/`"));
        }
        Ok(())
    }
}

/// How a source is reached.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// `grafana` or `page`.
    #[serde(default)]
    pub kind: SourceKind,
    /// Where it is, such as `https://grafana.example.com`; with a path where it lies below one.
    #[schemars(length(min = 1, max = 1000))]
    pub url: String,
    /// How to log in; without, nobody does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// Grafana's organisation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<u32>,
}

impl Place {
    /// # Errors
    /// `Invalid`, naming the field.
    pub fn validate(&self) -> Result<()> {
        let url = self.base()?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Error::invalid(
                "url: it ends with its path; give what comes after with each capture",
            ));
        }
        self.login.as_ref().map_or(Ok(()), Login::validate)
    }

    /// Its URL, which ends with `/`.
    pub fn base(&self) -> Result<Url> {
        let text = format!("{}/", self.url.trim_end_matches('/'));
        Url::parse(&text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| Error::invalid("url: it is not such as `https://grafana.example.com`"))
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> Result<String> {
        Ok(self.base()?.origin().ascii_serialization())
    }
}

/// A value of a dashboard's variable, or several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Values {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// The page of a dashboard in Grafana.
#[derive(Clone, Debug, Default)]
pub struct GrafanaPage<'a> {
    pub uid: &'a str,
    pub panel: Option<&'a str>,
    pub from: Option<&'a str>,
    pub to: Option<&'a str>,
    pub zone: Option<&'a str>,
    pub theme: &'a str,
    pub org: Option<u32>,
    pub vars: Option<&'a BTreeMap<String, Values>>,
}

impl GrafanaPage<'_> {
    /// Its address below Grafana's, as a person would open it, without menus.
    pub fn url(&self, base: &Url) -> Result<Url> {
        let place = if self.panel.is_some() { "d-solo" } else { "d" };
        self.below(base, &[place, self.uid, "_"], true)
    }

    /// Its address at Grafana's renderer.
    pub fn render_url(&self, base: &Url, width: u32, height: u32, scale: f64, seconds: u64) -> Result<Url> {
        let place = if self.panel.is_some() { "d-solo" } else { "d" };
        let mut url = self.below(base, &["render", place, self.uid, "_"], self.panel.is_none())?;
        url.query_pairs_mut()
            .append_pair("width", &width.to_string())
            .append_pair("height", &height.to_string())
            .append_pair("scale", &scale.to_string())
            .append_pair("timeout", &seconds.to_string());
        Ok(url)
    }

    fn below(&self, base: &Url, path: &[&str], kiosk: bool) -> Result<Url> {
        let mut url = base.clone();
        url.path_segments_mut()
            .map_err(|()| Error::invalid("url: nothing lies below it"))?
            .pop_if_empty()
            .extend(path);
        let org = self.org.map(|org| org.to_string());
        let named = [
            ("orgId", org.as_deref()),
            ("panelId", self.panel),
            ("from", self.from),
            ("to", self.to),
            ("tz", self.zone),
            ("timezone", self.zone),
            ("theme", Some(self.theme)),
        ];
        let mut pairs = url.query_pairs_mut();
        for (name, value) in named {
            if let Some(value) = value {
                pairs.append_pair(name, value);
            }
        }
        for (name, values) in self.vars.into_iter().flatten() {
            let values = match values {
                Values::One(value) => std::slice::from_ref(value),
                Values::Many(values) => values,
            };
            for value in values {
                pairs.append_pair(&format!("var-{name}"), value);
            }
        }
        if kiosk {
            pairs.append_pair("kiosk", "");
        }
        drop(pairs);
        Ok(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panel_has_the_address_that_grafana_gives_it() {
        let base = Place {
            kind: SourceKind::Grafana,
            url: "https://g.example/ops".to_owned(),
            login: None,
            org_id: None,
        };
        let base = base.base().unwrap();
        let vars = BTreeMap::from([
            ("host".to_owned(), Values::Many(vec!["a b".to_owned(), "c".to_owned()])),
            ("zone".to_owned(), Values::One("eu&x=y".to_owned())),
        ]);
        let page = GrafanaPage {
            uid: "a/../b",
            panel: Some("4"),
            from: Some("now-1h"),
            to: Some("now"),
            theme: "light",
            org: Some(2),
            vars: Some(&vars),
            ..GrafanaPage::default()
        };
        assert_eq!(
            page.url(&base).unwrap().as_str(),
            "https://g.example/ops/d-solo/a%2F..%2Fb/_?orgId=2&panelId=4&from=now-1h&to=now&theme=light&var-host=a+b&var-host=c&var-zone=eu%26x%3Dy&kiosk="
        );
        let render = page.render_url(&base, 800, 400, 1.0, 30).unwrap();
        assert!(
            render
                .as_str()
                .starts_with("https://g.example/ops/render/d-solo/a%2F..%2Fb/_?orgId=2&panelId=4&"),
            "{render}"
        );
        assert!(render.as_str().ends_with("&width=800&height=400&scale=1&timeout=30"), "{render}");
    }

    #[test]
    fn a_login_is_a_reference_with_what_its_kind_needs() {
        let login = |kind: LoginKind, secret: &str| Login {
            kind,
            secret: secret.to_owned(),
            username: None,
            name: None,
            path: None,
            username_field: None,
            password_field: None,
        };
        assert!(login(LoginKind::Bearer, "secret://env/TOKEN").validate().is_ok());
        let named = |name: &str| Login {
            name: Some(name.to_owned()),
            ..login(LoginKind::Header, "secret://env/TOKEN")
        };
        assert!(named("X-Token").validate().is_ok());
        for (login, field) in [
            (login(LoginKind::Bearer, "hunter2"), "login.secret"),
            (login(LoginKind::Basic, "secret://env/TOKEN"), "login.username"),
            (login(LoginKind::Cookie, "secret://env/TOKEN"), "login.name"),
            (named("Host"), "login.name"),
            (named("a\r\nb"), "login.name"),
            (Login { path: Some("//evil.example".to_owned()), ..named("a") }, "login.path"),
        ] {
            let message = login.validate().unwrap_err().message;
            assert!(message.starts_with(field) && !message.contains("hunter2"), "{message}");
        }
    }
}
