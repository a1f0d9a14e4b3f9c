//! When a page is done: when several signals agree, each of which alone has been seen to lie.
//!
//! The document and its fonts are loaded, nothing is on its way, the tree of elements is quiet, no timer of the
//! page is about to load more, no loading mark is shown, Grafana's scene has its data, and then two pictures a
//! moment apart are the same, byte by byte.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::watch::Watch;

/// How long nothing may have been on its way.
const NETWORK_QUIET: Duration = Duration::from_millis(300);
/// How long the elements must have been as they are, in milliseconds.
const QUIET_MS: f64 = 250.0;

/// What the page's own watcher says.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Look {
    pub ready: bool,
    pub fonts: bool,
    pub quiet: f64,
    pub timers: u32,
    pub marks: u32,
    pub pictures: u32,
    pub scene: u32,
    pub wanted: bool,
    pub url: String,
    pub title: String,
    pub password: bool,
    #[serde(default)]
    pub panels: Vec<Panel>,
    #[serde(default)]
    pub height: f64,
    #[serde(rename = "box")]
    pub frame: Option<Frame>,
}

/// Where an element is on its page, in CSS pixels.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Frame {
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
}

/// A panel of a dashboard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Panel {
    /// Its title.
    pub title: String,
    /// `ok`, `no_data`, `error` or `loading`.
    pub state: String,
    /// What it says of an error.
    pub message: String,
}

/// What a page still waits for, in words; empty when nothing is left but to see whether its pixels hold still.
pub fn waits_for(look: &Look, watch: &Watch) -> Vec<String> {
    let mut left = Vec::new();
    if !look.ready {
        left.push("load: the document is not complete".to_owned());
    }
    if !look.wanted {
        left.push("wait_for: nothing that can be seen matches it".to_owned());
    }
    let waiting = watch.waiting();
    if !waiting.is_empty() {
        left.push(format!("network: no answer yet from {}", waiting.join(", ")));
    } else if watch.network.elapsed() < NETWORK_QUIET {
        left.push("network: requests were made until now".to_owned());
    }
    if look.quiet < QUIET_MS {
        left.push("elements: they change".to_owned());
    }
    let counted = [
        (look.timers, "timers: the page is about to do more"),
        (look.marks, "loading marks: they are shown"),
        (look.scene, "scene: queries are running"),
        (look.pictures, "images: they are loading"),
        (u32::from(!look.fonts), "fonts: they are loading"),
    ];
    left.extend(counted.iter().filter(|(count, _)| *count > 0).map(|(_, text)| (*text).to_owned()));
    left
}

/// The signals that a page that waits for nothing has given.
pub fn given(look: &Look, watch: &Watch) -> Vec<String> {
    let mut signals: Vec<&str> = vec!["load", "network", "elements", "timers", "loading marks", "pixels"];
    if watch.requests == 0 {
        signals.retain(|signal| *signal != "network");
    }
    if !look.panels.is_empty() {
        signals.push("panels");
    }
    signals.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_page_is_not_done_while_one_signal_says_so() {
        let watch = Watch::new("s", "t", None);
        tokio::time::advance(Duration::from_secs(1)).await;
        let done = Look { ready: true, fonts: true, quiet: 1e3, wanted: true, ..Look::default() };
        assert!(waits_for(&done, &watch).is_empty());
        for (look, word) in [
            (Look { ready: false, ..done.clone() }, "load"),
            (Look { fonts: false, ..done.clone() }, "fonts"),
            (Look { quiet: 10.0, ..done.clone() }, "elements"),
            (Look { timers: 1, ..done.clone() }, "timers"),
            (Look { marks: 1, ..done.clone() }, "loading marks"),
            (Look { scene: 1, ..done.clone() }, "scene"),
            (Look { pictures: 1, ..done.clone() }, "images"),
            (Look { wanted: false, ..done.clone() }, "wait_for"),
        ] {
            let left = waits_for(&look, &watch);
            assert!(left.len() == 1 && left[0].starts_with(word), "{left:?}");
        }
    }
}
