//! What may be in the binary: one TLS stack, licences that allow it, and no crate twice without a reason.

#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// Crates that must be nowhere in the tree: a second TLS stack, or a panic waiting for a second provider.
const FORBIDDEN: [&str; 6] =
    ["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls", "chromiumoxide"];

/// Licences that Apache-2.0 software may contain.
const LICENCES: [&str; 14] = [
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "MIT",
    "MIT-0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "0BSD",
    "Zlib",
    "Unlicense",
    "CC0-1.0",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
];

/// Crates that are in the binary in several versions, and why that cannot be helped yet.
const TWICE: &[(&str, &str)] = &[
    ("base64", "sqlx 0.9 is one version behind hyper-util, reqwest and rmcp"),
    ("block-buffer", "with sha2"),
    ("cpufeatures", "with sha2"),
    ("crypto-common", "with sha2"),
    ("digest", "with sha2"),
    ("generic-array", "russh is at 1, RustCrypto's generation before at 0.14"),
    ("getrandom", "ring is at 0.2, ahash (of jsonschema) at 0.3, the others at 0.4"),
    ("hashbrown", "sqlx and safetensors are one version behind"),
    ("heck", "sea-query's derive is one version behind; runs only while building"),
    ("miniz_oxide", "png is one version behind flate2"),
    ("num-bigint", "the fractions of jsonschema are one version behind russh"),
    ("rand", "tungstenite is one version behind sqlx"),
    ("rand_core", "with rand"),
    ("sha1", "tungstenite stands on RustCrypto's generation before"),
    ("sha2", "sqlx 0.9 stands on RustCrypto's generation before"),
    ("strum", "croner is one version behind jsonschema"),
    ("strum_macros", "with strum; runs only while building"),
    ("syn", "derives move to 3 one by one; runs only while building"),
    ("tower-http", "reqwest pins 0.6"),
];

struct Tree {
    packages: BTreeMap<String, Value>,
    in_binary: BTreeSet<String>,
}

/// The packages of the binary on this platform: what it builds and links, without what only tests need.
fn tree() -> Tree {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let arguments = ["metadata", "--format-version", "1", "--offline"];
    let target = ["--filter-platform", "x86_64-unknown-linux-gnu"];
    let output = Command::new(cargo).args(arguments).args(target).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let id = |value: &Value| value.as_str().unwrap().to_owned();
    let list = |value: &Value| value.as_array().unwrap().clone();
    let packages: BTreeMap<_, _> =
        list(&metadata["packages"]).into_iter().map(|p| (id(&p["id"]), p)).collect();
    let nodes: BTreeMap<_, _> =
        list(&metadata["resolve"]["nodes"]).into_iter().map(|n| (id(&n["id"]), n)).collect();
    let mut waiting: Vec<String> = packages
        .iter()
        .filter(|(_, package)| package["name"] == "opsroom")
        .map(|(id, _)| id.clone())
        .collect();
    let mut in_binary = BTreeSet::new();
    while let Some(next) = waiting.pop() {
        if !in_binary.insert(next.clone()) {
            continue;
        }
        for dependency in list(&nodes[&next]["deps"]) {
            if list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev") {
                waiting.push(id(&dependency["pkg"]));
            }
        }
    }
    Tree { packages, in_binary }
}

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

#[test]
fn there_is_one_tls_stack() {
    let tree = tree();
    let found: Vec<_> = tree.packages.values().map(name).filter(|name| FORBIDDEN.contains(name)).collect();
    assert!(found.is_empty(), "{found:?} came into the tree; `cargo tree -i NAME` says by whom");
    assert!(tree.packages.values().any(|package| name(package) == "ring"));
}

#[test]
fn every_licence_is_one_that_we_may_ship() {
    let tree = tree();
    let mut complaints = Vec::new();
    for package in tree.in_binary.iter().map(|id| &tree.packages[id]) {
        let licence = package["license"].as_str().unwrap_or("none stated");
        if !allowed(licence) {
            complaints.push(format!("{}: {licence}", name(package)));
        }
    }
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// Whether an SPDX expression can be met: one side of an `OR`, both of an `AND`.
fn allowed(licence: &str) -> bool {
    let licence = licence.replace(['(', ')'], "").replace('/', " OR ");
    licence.split(" AND ").all(|part| part.split(" OR ").any(|one| LICENCES.contains(&one.trim())))
}

#[test]
fn no_crate_is_there_twice_without_a_reason() {
    let tree = tree();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in tree.in_binary.iter().map(|id| &tree.packages[id]) {
        versions.entry(name(package)).or_default().insert(package["version"].as_str().unwrap());
    }
    let twice: BTreeMap<_, _> = versions.into_iter().filter(|(_, versions)| versions.len() > 1).collect();
    let unexplained: Vec<_> =
        twice.iter().filter(|(name, _)| !TWICE.iter().any(|(known, _)| known == *name)).collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    let gone: Vec<_> = TWICE.iter().filter(|(name, _)| !twice.contains_key(name)).collect();
    assert!(gone.is_empty(), "no longer twice, take out: {gone:?}");
}
