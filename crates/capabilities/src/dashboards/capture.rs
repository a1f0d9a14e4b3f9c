//! A capture, from what was asked for to the row and the file that are kept.

use std::time::Duration;

use bytes::Bytes;
use opsroom_core::id::{hex, new_id, sha256_hex};
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Error, Result};
use reqwest::Url;
use sha2::{Digest, Sha256};

use super::chromium::page::{self, Shot, Taken};
use super::chromium::watch::Credentials;
use super::model::{Format, GrafanaPage, SourceKind};
use super::operations::{CaptureDashboard, Seen, Theme, Via};
use super::picture::{self, Change};
use super::proxy::Proxy;
use super::sources::Ready;
use super::store::{CaptureRow, SourceRow};
use super::{Dashboards, grafana, kept};

/// How long a capture waits for others.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// What to draw, and with which login.
struct Target {
    source: Option<SourceRow>,
    url: Url,
    login: Ready,
}

/// A picture, whoever drew it.
struct Drawn {
    taken: Taken,
    via: Via,
    sandbox: Option<bool>,
    refused: Vec<String>,
}

impl Dashboards {
    /// Takes a picture and keeps it.
    ///
    /// # Errors
    /// What was wrong with the input, the page or the browser.
    pub(super) async fn capture(&self, call: &Call, input: CaptureDashboard) -> Result<CaptureRow> {
        check(&input)?;
        let target = self.target(call, &input).await?;
        let work = async {
            call.progress.report(None, "waits for other captures");
            let waited = tokio::time::timeout(LONGEST_WAIT, self.inner.places.acquire()).await;
            let late = || Error::busy("too many captures are wanted at once; ask again later");
            let _place = waited.map_err(|_| late())?.map_err(Error::internal)?;
            let drawn = self.draw(call, &input, &target).await?;
            self.keep(call, &input, &target, drawn).await
        };
        tokio::select! {
            row = work => row,
            () = call.cancel.cancelled() => Err(Error::cancelled("the capture was stopped")),
        }
    }

    async fn target(&self, call: &Call, input: &CaptureDashboard) -> Result<Target> {
        let source = match &input.source {
            Some(name) => Some(self.source(call, name).await?),
            None => None,
        };
        let url = match (&source, &input.url, &input.dashboard_uid) {
            (Some(source), None, Some(_)) if source.place.kind == SourceKind::Grafana => {
                page_of(input, source).url(&source.place.base()?)?
            }
            (Some(source), None, Some(_)) => {
                return Err(Error::invalid(format!(
                    "dashboard_uid: the source `{}` is no Grafana; give `url` with a path of it",
                    source.name
                )));
            }
            (Some(source), None, None) => source.place.base()?,
            (Some(source), Some(text), None) => below(source, text)?,
            (None, Some(text), None) => Url::parse(text)
                .map_err(|_| Error::invalid("url: it is not such as `https://example.com/page`"))?,
            (_, Some(_), Some(_)) => return Err(Error::invalid("give `url` or `dashboard_uid`, not both")),
            (None, None, _) => return Err(Error::invalid("give `url`, or `source` and `dashboard_uid`")),
        };
        self.inner.egress.check(url.as_str())?;
        let login = match &source {
            Some(source) => self.login(source).await?,
            None => Ready::default(),
        };
        Ok(Target { source, url, login })
    }

    async fn draw(&self, call: &Call, input: &CaptureDashboard, target: &Target) -> Result<Drawn> {
        let grafana = target.source.as_ref().filter(|source| source.place.kind == SourceKind::Grafana);
        let is_dashboard = grafana.is_some() && input.dashboard_uid.is_some();
        match (input.via, self.inner.chromium.program()) {
            (Via::Auto | Via::Browser, Some(_)) => self.browse(call, input, target).await,
            (Via::Browser, None) => Err(self.inner.chromium.missing()),
            (Via::Auto, None) if !is_dashboard => Err(self.inner.chromium.missing()),
            (Via::Grafana, _) if !is_dashboard => Err(Error::invalid(
                "via: only a Grafana draws, and only its dashboards: give `source` and `dashboard_uid`",
            )),
            (via, _) => {
                let Some(source) = grafana else { return Err(Error::internal("a source that is gone")) };
                call.progress.report(None, "asks Grafana's renderer");
                if !grafana::renders(&self.inner.egress, &source.place.base()?, &target.login).await? {
                    let name = &source.name;
                    return Err(match via {
                        Via::Grafana => Error::conflict(format!(
                            "the Grafana `{name}` has no image renderer; capture with `via: browser`, or install its plugin"
                        )),
                        _ => {
                            let missing = self.inner.chromium.missing().message;
                            Error::unavailable(format!(
                                "{missing}; and the Grafana `{name}` has no image renderer"
                            ))
                        }
                    });
                }
                self.render(input, target, source).await
            }
        }
    }

    async fn browse(&self, call: &Call, input: &CaptureDashboard, target: &Target) -> Result<Drawn> {
        let shot = Shot {
            url: target.url.to_string(),
            width: input.width,
            height: input.height,
            scale: input.scale,
            full_page: input.full_page,
            element: input.element.clone(),
            wait_for: input.wait_for.clone(),
            format: input.format,
            dark: input.theme == Theme::Dark,
            zone: input.tz.clone(),
            settle: Duration::from_secs(input.settle_seconds),
            limit: Duration::from_secs(input.timeout_seconds),
            credentials: match &target.source {
                Some(source) if !target.login.headers.is_empty() => Some(Credentials {
                    origin: source.place.origin()?,
                    headers: target.login.headers.clone(),
                }),
                _ => None,
            },
            form: target.login.form.clone(),
        };
        let inner = &self.inner;
        let browser = inner.chromium.browser().await?;
        let proxy = Proxy::start(&inner.lifecycle, &inner.egress, inner.config.traffic_mib << 20).await?;
        call.progress.report(None, "waits for the page to be done");
        let mut taken = page::take(&browser, &proxy, &shot).await?;
        if proxy.is_spent() {
            let most = inner.config.traffic_mib;
            let cut = format!(
                "the page loads more than `dashboards.traffic_mib` ({most} MiB); the rest was cut off"
            );
            taken.failures.push(cut);
        }
        let refused = proxy.refused().into_iter().map(|it| match it.forbidden {
            true => format!("{} (kept from it)", it.place),
            false => format!("{} (no answer)", it.place),
        });
        let refused = refused.collect();
        Ok(Drawn { taken, via: Via::Browser, sandbox: Some(browser.sandbox), refused })
    }

    async fn render(&self, input: &CaptureDashboard, target: &Target, source: &SourceRow) -> Result<Drawn> {
        if input.format != Format::Png || input.element.is_some() || input.full_page {
            return Err(Error::invalid(
                "Grafana's renderer draws whole panels and dashboards as PNG; leave out `format`, `element` and `full_page`",
            ));
        }
        let (limit, begun) = (Duration::from_secs(input.timeout_seconds), tokio::time::Instant::now());
        let base = source.place.base()?;
        let url = page_of(input, source).render_url(
            &base,
            input.width,
            input.height,
            input.scale,
            input.timeout_seconds,
        )?;
        let bytes = grafana::render(&self.inner.egress, &url, &target.login, limit).await?;
        let (width, height) = picture::size(&bytes).unwrap_or((input.width, input.height));
        let taken = Taken {
            bytes,
            width,
            height,
            url: target.url.to_string(),
            title: String::new(),
            panels: Vec::new(),
            signals: vec!["Grafana's renderer answered".to_owned()],
            waiting: Vec::new(),
            took: begun.elapsed(),
            dialogs: Vec::new(),
            downloads: Vec::new(),
            failures: Vec::new(),
        };
        Ok(Drawn { taken, via: Via::Grafana, sandbox: None, refused: Vec::new() })
    }

    async fn keep(
        &self,
        call: &Call,
        input: &CaptureDashboard,
        target: &Target,
        drawn: Drawn,
    ) -> Result<CaptureRow> {
        let Drawn { taken, via, sandbox, refused } = drawn;
        if taken.bytes.len() as u64 > kept::LARGEST {
            return Err(Error::invalid(format!(
                "the picture has more than {} MiB; ask for a smaller one",
                kept::LARGEST >> 20
            )));
        }
        let key = key(input, target, via)?;
        let team = call.caller.team().to_owned();
        let change = match input.format {
            Format::Png => self.change(&team, &key, &taken.bytes).await?,
            _ => None,
        };
        let row = CaptureRow {
            id: new_id(),
            team,
            created_by: call.caller.subject.clone(),
            created_at: self.inner.clock.now(),
            source: target.source.as_ref().map(|source| source.name.clone()).unwrap_or_default(),
            target: key,
            bytes: taken.bytes.len() as i64,
            seen: Seen {
                url: taken.url,
                title: taken.title,
                format: input.format,
                width: taken.width,
                height: taken.height,
                sha256: hex(&Sha256::digest(&taken.bytes)),
                took_ms: taken.took.as_millis() as u64,
                via,
                sandbox,
                complete: taken.waiting.is_empty(),
                signals: taken.signals,
                waiting: taken.waiting,
                panels: taken.panels,
                refused,
                failures: taken.failures,
                dialogs: taken.dialogs,
                downloads: taken.downloads,
                change,
                alert: input.alert.clone(),
            },
        };
        self.inner.files.write(kept::name(&row), taken.bytes).await?;
        if let Err(error) = self.inner.store.add_capture(&row).await {
            self.inner.files.remove(kept::name(&row)).await?;
            return Err(error);
        }
        self.remove_old().await?;
        let data = serde_json::json!({ "source": row.source, "complete": row.seen.complete, "sha256": row.seen.sha256 });
        self.inner.events.publish("capture.taken", &row.team, &row.id, data);
        Ok(row)
    }

    /// What changed since the newest capture of the same thing.
    async fn change(&self, team: &str, key: &str, bytes: &Bytes) -> Result<Option<Change>> {
        let Some(before) = self.inner.store.newest(team, key).await? else { return Ok(None) };
        let Ok(old) = self.inner.files.read(kept::name(&before)).await else { return Ok(None) };
        let new = bytes.clone();
        let compared = Lifecycle::blocking(move || picture::compare(&before.id, &old, &new)).await;
        // One that cannot be compared is a picture all the same.
        Ok(compared.ok())
    }
}

fn check(input: &CaptureDashboard) -> Result<()> {
    if input.panel_id.is_some() && input.dashboard_uid.is_none() {
        return Err(Error::invalid("panel_id: give the `dashboard_uid` that it is of"));
    }
    if input.dashboard_uid.as_ref().is_some_and(|uid| uid.is_empty() || uid.starts_with('.')) {
        return Err(Error::invalid("dashboard_uid: it is none"));
    }
    let of_grafana = input.from.is_some() || input.to.is_some() || !input.vars.is_empty();
    if of_grafana && input.dashboard_uid.is_none() {
        return Err(Error::invalid(
            "from, to and vars are Grafana's: give `dashboard_uid`, or write them into `url`",
        ));
    }
    let pixels = f64::from(input.width) * f64::from(input.height) * input.scale * input.scale;
    if pixels > page::MOST_PIXELS {
        return Err(Error::invalid(
            "width, height and scale: the picture would have more than 24 million pixels",
        ));
    }
    if input.full_page && input.element.is_some() {
        return Err(Error::invalid("give `full_page` or `element`, not both"));
    }
    if input.format == Format::Pdf && input.element.is_some() {
        return Err(Error::invalid("a PDF is of the whole page; leave out `element`"));
    }
    Ok(())
}

/// A path of the source, or an address at its origin.
fn below(source: &SourceRow, text: &str) -> Result<Url> {
    let base = source.place.base()?;
    let wrong = || {
        Error::invalid(format!(
            "url: it is neither a path of the source `{}` nor an address there",
            source.name
        ))
    };
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(_) => base.join(text.trim_start_matches('/')).map_err(|_| wrong())?,
    };
    // A login is for this place alone, and so is what is captured through it.
    if url.origin() == base.origin() { Ok(url) } else { Err(wrong()) }
}

fn page_of<'a>(input: &'a CaptureDashboard, source: &SourceRow) -> GrafanaPage<'a> {
    GrafanaPage {
        uid: input.dashboard_uid.as_deref().unwrap_or_default(),
        panel: input.panel_id.as_deref(),
        from: input.from.as_deref(),
        to: input.to.as_deref(),
        zone: input.tz.as_deref(),
        theme: if input.theme == Theme::Dark { "dark" } else { "light" },
        org: source.place.org_id,
        vars: Some(&input.vars),
    }
}

/// What two captures of the same thing have in common: all that was asked for but how long it may take.
fn key(input: &CaptureDashboard, target: &Target, via: Via) -> Result<String> {
    let same = CaptureDashboard {
        settle_seconds: 0,
        timeout_seconds: 0,
        via,
        url: Some(target.url.to_string()),
        ..input.clone()
    };
    Ok(sha256_hex(&serde_json::to_string(&same).map_err(Error::internal)?))
}
