//! What services and containers wrote is read by those who may, and by nobody else.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::TryStreamExt;
use opsroom_core::Kind;
use opsroom_core::testing::sqlite;
use serde_json::json;

use super::Here;
use crate::services::runtime::{Container, Piece};
use crate::services::{Writers, Written};

fn container(name: &str, labels: &[(&str, &str)], ours: bool) -> Container {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Container {
        id: format!("id-{name}"),
        name: name.to_owned(),
        labels: labels.collect::<BTreeMap<_, _>>(),
        ours,
    }
}

async fn names(here: &Here, of: Writers) -> Vec<String> {
    here.services.writers(&of).await.unwrap().into_iter().map(|writer| writer.name).collect()
}

fn containers(name: Option<&str>, labels: &[&str], allowed: &[&str]) -> Writers {
    let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
    Writers::Containers { name: name.map(str::to_owned), labels: owned(labels), allowed: owned(allowed) }
}

#[tokio::test]
async fn only_containers_that_are_allowed_and_no_service_of_another_are_read() {
    let test = sqlite().await;
    let here = Here::open(&test).await;
    here.engine.with(|state| {
        state.strangers = vec![
            container("web-1", &[("app", "shop"), ("tier", "front")], false),
            container("web-2", &[("app", "blog")], false),
            container("vault", &[("app", "shop")], false),
            container("opsroom-other-weather", &[("app", "shop")], true),
        ];
    });
    assert_eq!(names(&here, containers(Some("*"), &[], &["web-*"])).await, ["web-1", "web-2"]);
    assert_eq!(names(&here, containers(None, &["app=shop"], &["*"])).await, ["vault", "web-1"]);
    assert_eq!(names(&here, containers(None, &["app=shop", "tier"], &["*"])).await, ["web-1"]);
    assert_eq!(names(&here, containers(Some("vault"), &[], &["web-*"])).await, [""; 0]);
    assert_eq!(names(&here, containers(Some("opsroom-*"), &[], &["*"])).await, [""; 0]);
    assert_eq!(names(&here, containers(Some("web-1"), &[], &[])).await, [""; 0]);
    here.engine.with(|state| state.away = true);
    let error = here.services.writers(&containers(None, &["app"], &["*"])).await.unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
}

#[tokio::test]
async fn a_service_is_read_by_its_team_and_by_no_other() {
    let test = sqlite().await;
    let here = Here::open(&test).await;
    here.docker("weather").await.unwrap();
    let make = json!({ "name": "clock", "service_type": "local", "command": ["true"], "wait_seconds": 0 });
    here.call("create_service", make).await.unwrap();
    here.keep().await;
    let team = here.caller.team().to_owned();
    let of = |team: &str, one: Option<&str>| Writers::Services {
        teams: vec![team.to_owned()],
        one: one.map(str::to_owned),
    };
    assert_eq!(names(&here, of(&team, None)).await, ["clock", "weather"]);
    assert_eq!(names(&here, of("others", None)).await, [""; 0]);
    assert_eq!(here.services.writers(&of("others", Some("weather"))).await.unwrap_err().kind, Kind::NotFound);
    let piece = Piece { error: true, bytes: Bytes::from_static(b"2025-11-21T10:00:00Z one\n") };
    here.engine.with(|state| state.wrote = vec![piece.clone()]);
    let weather = here.services.writers(&of(&team, Some("weather"))).await.unwrap().remove(0);
    let Written::Pieces(pieces) = here.services.written(&weather, 5, 9).await.unwrap() else {
        panic!("a container writes pieces")
    };
    assert_eq!(pieces.try_collect::<Vec<_>>().await.unwrap(), [piece]);
    here.engine.with(|state| assert_eq!(state.asked, [(5, 9)]));
    let clock = here.services.writers(&of(&team, Some("clock"))).await.unwrap().remove(0);
    let nothing = here.services.written(&clock, 0, 0).await.map(drop).unwrap_err();
    assert_eq!((nothing.kind, nothing.message.as_str()), (Kind::NotFound, "`clock` has written nothing yet"));
    std::fs::write(here.services.inner.data_dir.join("services/2/stderr.log"), "hello\n").unwrap();
    let Written::File(mut file) = here.services.written(&clock, 0, 0).await.unwrap() else {
        panic!("a process writes a file")
    };
    let mut text = String::new();
    std::io::Read::read_to_string(&mut file, &mut text).unwrap();
    assert_eq!(text, "hello\n");
}
