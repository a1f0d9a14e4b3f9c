//! The house rules that a compiler does not know, read off the sources.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::fs;
use std::path::{Path, PathBuf};

/// No file is larger; one that is has more than one subject.
const LARGEST_FILE: usize = 30_000;

/// Which capability may use which other one; `room` wires them all.
const MAY_USE: [(&str, &[&str]); 13] = [
    ("alerts", &["notifications"]),
    ("backup", &["logs"]),
    ("dashboards", &[]),
    ("health", &[]),
    ("identity", &["notifications"]),
    ("jobs", &[]),
    ("logs", &["services"]),
    ("detection", &["jobs", "logs"]),
    ("notifications", &[]),
    ("planning", &["notifications"]),
    ("secrets", &["identity"]),
    ("services", &[]),
    ("tools", &["services"]),
];

fn root() -> PathBuf {
    // Tests run in their package's folder, which may be elsewhere than it was when they were built.
    Path::new("../..").canonicalize().unwrap()
}

/// Every Rust source below a folder of the workspace, with its text.
fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().join(below)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("target") && !path.ends_with(".peers") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "{below} has no sources");
    found.sort();
    found
}

/// Fails with every complaint at once.
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn every_module_says_what_it_is() {
    let silent =
        sources("crates").into_iter().chain(sources("bench")).filter(|(_, text)| !text.starts_with("//!"));
    none(silent.map(|(path, _)| format!("{} does not begin with //!", path.display())).collect());
}

#[test]
fn no_file_is_too_large() {
    let large =
        sources("crates").into_iter().chain(sources("bench")).filter(|(_, text)| text.len() > LARGEST_FILE);
    none(large.map(|(path, text)| format!("{}: {} bytes", path.display(), text.len())).collect());
}

#[test]
fn analytics_does_no_io_and_reads_no_clock() {
    let forbidden = ["std::fs", "std::net", "std::env", "std::time::", "tokio", "std::process"];
    let mut complaints = Vec::new();
    for (path, text) in sources("crates/analytics/src") {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for word in forbidden.iter().filter(|word| code.contains(**word)) {
            complaints.push(format!("{} uses {word}", path.display()));
        }
    }
    none(complaints);
}

#[test]
fn sql_stands_only_in_stores_and_in_the_database_layer() {
    let mut complaints = Vec::new();
    for (path, text) in sources("crates") {
        let place = path.to_string_lossy().replace('\\', "/");
        let allowed = place.contains("core/src/db/")
            || place.ends_with("core/src/testing.rs")
            || place.ends_with("/store.rs")
            || place.contains("/store/")
            || place.contains("/tests");
        if !allowed && (text.contains("sea_query") || text.contains("sqlx")) {
            complaints.push(format!("{place} builds SQL"));
        }
        if text.contains("AssertSqlSafe(") && !place.contains("core/src/") && !place.contains("/tests") {
            complaints.push(format!("{place} hands SQL text to the driver"));
        }
    }
    none(complaints);
}

#[test]
fn capabilities_use_only_the_ones_they_may() {
    let folder = root().join("crates/capabilities/src");
    let names: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    let mut complaints = Vec::new();
    for name in &names {
        let Some((_, may)) = MAY_USE.iter().find(|(known, _)| known == name) else {
            complaints.push(format!("{name} is not in the table of which capability may use which"));
            continue;
        };
        for (path, text) in sources(&format!("crates/capabilities/src/{name}")) {
            for other in names.iter().filter(|other| *other != name && !may.contains(&other.as_str())) {
                if text.contains(&format!("crate::{other}::")) {
                    complaints.push(format!("{} uses {other}", path.display()));
                }
            }
        }
    }
    none(complaints);
}

#[test]
fn only_faces_know_http_and_mcp() {
    let mut complaints = Vec::new();
    for crate_folder in ["crates/core/src", "crates/analytics/src", "crates/capabilities/src"] {
        for (path, text) in sources(crate_folder) {
            let http = path.ends_with("http.rs");
            for word in ["axum::", "rmcp::", "clap::"].iter().filter(|word| text.contains(**word) && !http) {
                complaints.push(format!("{} uses {word}", path.display()));
            }
        }
    }
    none(complaints);
}
