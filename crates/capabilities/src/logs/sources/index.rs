//! Files below a URL: what the links of an index page lead to.

use std::time::Duration;

use opsroom_core::egress::{Limits, Request};
use opsroom_core::{Error, Result};

use super::client::{Listed, Remote, whole};
use super::model::Object;
use super::xml;

/// The most bytes of an index page.
const PAGE_BYTES: u64 = 16 << 20;

/// The files and folders that the page at the prefix's folder links to; folders are listed as pages of their
/// own, one after the other. `from` is the folders that are still to be looked at.
pub(super) async fn list(remote: &Remote, prefix: &str, from: Option<&str>) -> Result<Listed> {
    let folder_of_prefix = prefix.rfind('/').map_or("", |at| &prefix[..=at]);
    let mut waiting: Vec<String> = match from {
        None => vec![folder_of_prefix.to_owned()],
        Some(text) => text.split('\n').map(str::to_owned).collect(),
    };
    let folder = waiting.pop().unwrap_or_default();
    let endpoint = remote.config.endpoint.as_deref().unwrap_or_default().trim_end_matches('/');
    let url = format!("{endpoint}/{}", super::sign::encode_path(&folder));
    let limits = Limits { max_bytes: PAGE_BYTES, timeout: Duration::from_secs(60), redirects: 2 };
    let answer = remote.egress.open(Request::get(url), limits).await?;
    if !answer.status.is_success() {
        let status = answer.status.as_u16();
        return Err(Error::unavailable(format!(
            "the index page of `{folder}` is not given (status {status})"
        )));
    }
    let page = whole(answer).await?;
    let mut listed = Listed::default();
    for link in links(&String::from_utf8_lossy(&page)) {
        let key = format!("{folder}{link}");
        if link.ends_with('/') {
            let depth = key.matches('/').count();
            if (key.starts_with(prefix) || prefix.starts_with(&key)) && depth <= 16 && waiting.len() < 10_000
            {
                waiting.push(key);
            }
        } else if key.starts_with(prefix) {
            // An index page states no size that could be relied on.
            listed.objects.push(Object { key, bytes: 0, modified: None, etag: None, storage_class: None });
        }
    }
    listed.next = (!waiting.is_empty()).then(|| waiting.join("\n"));
    Ok(listed)
}

/// The names below a page that its links lead to.
fn links(page: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in page.split("href=").skip(1) {
        let Some(quote) = part.chars().next().filter(|c| *c == '"' || *c == '\'') else { continue };
        let Some(link) = part[1..].split(quote).next() else { continue };
        let link = link.strip_prefix("./").unwrap_or(link).replace("&amp;", "&");
        let Ok(name) = String::from_utf8(xml::percent_decoded(&link.replace('+', "%2B"))) else { continue };
        let plain = name.strip_suffix('/').unwrap_or(&name);
        let below = !plain.is_empty()
            && !plain.starts_with('.')
            && !plain.contains(['/', '\\', '?', '#', ':'])
            && !plain.chars().any(char::is_control);
        if below && !found.contains(&name) {
            found.push(name);
        }
    }
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_a_page_is_followed() {
        let page = r#"<a href="../">up</a><a href="app.log">a</a> <a href='old/'>o</a> <a href="/etc/passwd">x</a>
            <a href="http://evil.example/x">y</a><a href="?C=N">s</a><a href="a%2F..%2Fb">z</a><a href="x%20y+z.gz">q</a>"#;
        assert_eq!(links(page), ["app.log", "old/", "x y+z.gz"]);
    }
}
