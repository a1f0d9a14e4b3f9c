//! Grafana's own renderer, where it has one.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use opsroom_core::egress::{Egress, Limits, Request};
use opsroom_core::{Error, Result};
use reqwest::Url;

use super::kept::LARGEST;
use super::sources::Ready;

/// Whether this Grafana says that it has a renderer.
///
/// # Errors
/// `Conflict` when it does not let us in, `Unavailable` when it does not answer as Grafana does.
pub async fn renders(egress: &Egress, base: &Url, login: &Ready) -> Result<bool> {
    let url = base.join("api/frontend/settings").map_err(Error::internal)?;
    let limits = Limits { max_bytes: 16 << 20, timeout: Duration::from_secs(15), redirects: 0 };
    let answer = egress.send(request(&url, login)?, limits).await?;
    let place = base.origin().ascii_serialization();
    match answer.status.as_u16() {
        200 => {}
        301..=308 | 401 | 403 => {
            return Err(Error::conflict(format!(
                "{place} asks for a login; the source's `login` is missing or not accepted"
            )));
        }
        status => return Err(Error::unavailable(format!("{place} answers {status} to what Grafana knows"))),
    }
    let settings: serde_json::Value = serde_json::from_slice(&answer.body).map_err(|error| {
        Error::unavailable(format!("{place} does not answer as a Grafana does")).because(error)
    })?;
    Ok(settings["rendererAvailable"] == true)
}

/// The picture that Grafana draws.
///
/// # Errors
/// `Conflict` for a login that is not accepted, `NotFound` for a dashboard that is not there, `Unavailable` for
/// what is no picture.
pub async fn render(egress: &Egress, url: &Url, login: &Ready, limit: Duration) -> Result<bytes::Bytes> {
    let limits = Limits { max_bytes: LARGEST, timeout: limit, redirects: 0 };
    let answer = egress.send(request(url, login)?, limits).await?;
    let place = url.origin().ascii_serialization();
    match answer.status.as_u16() {
        200 => {}
        301..=308 | 401 | 403 => {
            return Err(Error::conflict(format!(
                "{place} asks for a login; the source's `login` is not accepted"
            )));
        }
        404 => return Err(Error::not_found(format!("{place} has no such dashboard or panel"))),
        status => return Err(Error::unavailable(format!("Grafana's renderer at {place} answers {status}"))),
    }
    if !answer.body.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Err(Error::unavailable(format!(
            "Grafana's renderer at {place} answers with something that is no PNG"
        )));
    }
    Ok(answer.body)
}

fn request(url: &Url, login: &Ready) -> Result<Request> {
    let mut headers = HeaderMap::new();
    for (name, value) in &login.headers {
        let wrong = || Error::invalid("the login's secret cannot stand in a header");
        let mut value = HeaderValue::from_str(value.expose()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(HeaderName::try_from(name.as_str()).map_err(|_| wrong())?, value);
    }
    Ok(Request { headers, ..Request::get(url.as_str()) })
}
