//! What schedules promise, on every database that is at hand; the clock is set, nothing sleeps.

use std::sync::{Arc, Mutex};

use opsroom_core::caller::{Caller, Face, Role};
use opsroom_core::clock::Clock;
use opsroom_core::error::{Error, Kind, Result};
use opsroom_core::operation::{BACKGROUND, Call, Effect, Operation};
use opsroom_core::testing::{TestDb, each_database, sqlite};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{CallOperation, Rights};
use crate::jobs::JobsConfig;
use crate::jobs::tests::{Room, caller};

/// Who may do what now, as the test sets it.
type Accounts = Arc<Mutex<Vec<Caller>>>;

/// A server whose scheduler is wired.
struct Server {
    room: Room,
    accounts: Accounts,
    /// Who called what, with which input.
    calls: Arc<Mutex<Vec<(Caller, String, Value)>>>,
}

/// Look at something.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Look {
    /// At what.
    at: String,
}

#[derive(Serialize, JsonSchema)]
struct Seen {
    at: String,
}

async fn look(_: (), _: Call, input: Look) -> Result<Seen> {
    if input.at == "nothing" { Err(Error::not_found("there is nothing")) } else { Ok(Seen { at: input.at }) }
}

impl Server {
    async fn new(test: &TestDb) -> Self {
        Self::with(Room::new(test, JobsConfig::default()).await)
    }

    fn with(room: Room) -> Self {
        let look = Operation::new("tests", "look", Effect::Read, "GET /look", &(), look);
        let mut reveal = look.clone();
        (reveal.name, reveal.effect) = ("show_secret", Effect::Reveal);
        let mut known = vec![look, reveal, room.operation()];
        known.extend(room.jobs.capability().operations);
        room.jobs.set_operations(known.clone());
        let accounts: Accounts = Arc::new(Mutex::new(vec![caller()]));
        let calls = Arc::new(Mutex::new(Vec::new()));
        let server = Self { room, accounts, calls };
        server.room.jobs.wire_scheduler(server.call(known), server.rights());
        server
    }

    fn call(&self, known: Vec<Operation>) -> CallOperation {
        let (jobs, calls) = (self.room.jobs.clone(), self.calls.clone());
        Arc::new(move |caller, name, mut input| {
            let operation = known.iter().find(|operation| operation.name == name).unwrap().clone();
            let (jobs, calls) = (jobs.clone(), calls.clone());
            Box::pin(async move {
                caller.authorise(&operation)?;
                calls.lock().unwrap().push((caller.clone(), name, input.clone()));
                if !operation.long {
                    return operation.run(Call::new(caller), input).await;
                }
                assert_eq!(input.as_object_mut().unwrap().remove(BACKGROUND), Some(json!(true)));
                let started = jobs.start(&operation, Call::new(caller), input).await?.detach();
                serde_json::to_value(started).map_err(Error::internal)
            })
        })
    }

    fn rights(&self) -> Rights {
        let accounts = self.accounts.clone();
        Arc::new(move |subject| {
            let found = accounts.lock().unwrap().iter().find(|caller| caller.subject == subject).cloned();
            Box::pin(async move { found })
        })
    }

    async fn ask(&self, name: &str, input: Value) -> Result<Value> {
        self.room.call(&caller(), name, input).await
    }

    /// Makes a schedule for every day at 02:30; `more` changes what it says.
    async fn schedule(&self, more: Value) -> Value {
        self.ask("create_schedule", with(daily(), more)).await.unwrap()
    }

    async fn get(&self, schedule: &Value) -> Value {
        self.ask("get_schedule", json!({ "id": schedule["id"] })).await.unwrap()
    }

    async fn run_due(&self) -> usize {
        self.room.jobs.run_due().await.unwrap()
    }

    fn set(&self, moment: &str) {
        let moment: jiff::Timestamp = moment.parse().unwrap();
        let Clock::Manual(clock) = &self.room.clock else { panic!("the clock is manual") };
        clock.store(moment.as_microsecond(), std::sync::atomic::Ordering::SeqCst);
    }

    fn calls(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

fn daily() -> Value {
    json!({ "name": "nightly", "cron": "30 2 * * *", "operation": "look", "input": { "at": "logs" } })
}

fn with(mut base: Value, more: Value) -> Value {
    base.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    base
}

fn somebody(subject: &str, role: Role) -> Caller {
    Caller { subject: subject.to_owned(), name: subject.to_owned(), role, ..Caller::operator(Face::Rest) }
}

#[tokio::test]
async fn a_schedule_runs_when_its_moment_comes_and_not_before() {
    for test in each_database().await {
        let server = Server::new(&test).await;
        let made = server.schedule(json!({})).await;
        assert_eq!(made["next_run_at"], "2026-01-01T02:30:00Z");
        assert_eq!((&made["owner"], &made["last_outcome"]), (&json!("operator"), &Value::Null));
        server.set("2026-01-01T02:29:59Z");
        assert_eq!(server.run_due().await, 0);
        server.set("2026-01-01T02:30:00Z");
        assert_eq!(server.run_due().await, 1);
        assert_eq!(server.run_due().await, 0, "a moment is run once");
        let ran = server.get(&made).await;
        assert_eq!(ran["last_outcome"], "succeeded");
        assert_eq!(ran["last_run_at"], "2026-01-01T02:30:00Z");
        assert_eq!(ran["next_run_at"], "2026-01-02T02:30:00Z");
        let calls = server.calls.lock().unwrap();
        assert_eq!((calls[0].0.face, &calls[0].2), (Face::Schedule, &json!({ "at": "logs" })));
    }
}

#[tokio::test]
async fn a_long_operation_runs_as_a_job_that_the_schedule_names() {
    for test in each_database().await {
        let server = Server::new(&test).await;
        let long = json!({ "operation": "do_work", "input": { "fail": "no disk", "background": false } });
        let made = server.schedule(long).await;
        assert_eq!(made["input"], json!({ "fail": "no disk" }));
        server.set("2026-01-01T02:30:00Z");
        assert_eq!(server.run_due().await, 1);
        let ran = server.get(&made).await;
        assert_eq!((&ran["last_outcome"], &ran["last_message"]), (&json!("failed"), &json!("no disk")));
        let job = server.room.job(ran["last_job_id"].as_str().unwrap()).await;
        assert_eq!((&job["operation"], &job["state"]), (&json!("do_work"), &json!("failed")));
    }
}

#[tokio::test]
async fn two_servers_on_one_database_run_a_moment_once() {
    for test in each_database().await {
        let one = Server::new(&test).await;
        let clock = one.room.clock.clone();
        let two = Server::with(Room::again(&test, JobsConfig::default(), clock));
        for name in ["a", "b", "c", "d"] {
            one.schedule(json!({ "name": name })).await;
        }
        for day in ["2026-01-01T02:30:00Z", "2026-01-02T02:30:00Z", "2026-01-03T02:30:00Z"] {
            one.set(day);
            let (first, second) = tokio::join!(one.run_due(), two.run_due());
            assert_eq!(first + second, 4, "{day} on {:?}", test.db.dialect());
        }
        assert_eq!(one.calls() + two.calls(), 12);
    }
}

#[tokio::test]
async fn missed_runs_are_left_out_or_made_up_for_once() {
    for test in each_database().await {
        let server = Server::new(&test).await;
        let skip = server.schedule(json!({ "name": "skip" })).await;
        let once = server.schedule(json!({ "name": "once", "missed": "run_once" })).await;
        server.set("2026-01-05T12:00:00Z");
        assert_eq!(server.run_due().await, 1);
        assert_eq!(server.get(&skip).await["last_run_at"], Value::Null);
        assert_eq!(server.get(&once).await["last_outcome"], "succeeded");
        for schedule in [&skip, &once] {
            assert_eq!(server.get(schedule).await["next_run_at"], "2026-01-06T02:30:00Z");
        }
    }
}

#[tokio::test]
async fn while_a_run_goes_on_the_next_moment_waits_or_is_left_out() {
    for test in each_database().await {
        let config = JobsConfig { lease_seconds: 600, ..JobsConfig::default() };
        let server = Server::with(Room::new(&test, config).await);
        let long = json!({ "cron": "* * * * *", "operation": "do_work", "input": { "wait": true } });
        let skip = server.schedule(with(long.clone(), json!({ "name": "skip" }))).await;
        let once = server.schedule(with(long, json!({ "name": "once", "missed": "run_once" }))).await;
        server.set("2026-01-01T00:01:00Z");
        let meanwhile = async {
            while server.calls() < 2 {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            server.set("2026-01-01T00:02:00Z");
            assert_eq!(server.run_due().await, 0);
            assert_eq!(server.get(&skip).await["next_run_at"], "2026-01-01T00:03:00Z");
            assert_eq!(server.get(&once).await["next_run_at"], "2026-01-01T00:02:00Z");
            let error = server.ask("run_schedule_now", json!({ "id": skip["id"] })).await.unwrap_err();
            assert_eq!(error.kind, Kind::Conflict);
            server.room.gate.add_permits(3);
        };
        let (ran, ()) = tokio::join!(server.run_due(), meanwhile);
        assert_eq!(ran, 2);
        assert_eq!(server.run_due().await, 1, "the one that waited");
        assert_eq!(server.get(&once).await["next_run_at"], "2026-01-01T00:03:00Z");
    }
}

#[tokio::test]
async fn a_run_whose_server_died_is_shown_as_interrupted_and_the_next_one_runs() {
    for test in each_database().await {
        let server = Server::new(&test).await;
        let made = server.schedule(json!({ "operation": "do_work", "input": { "wait": true } })).await;
        server.set("2026-01-01T02:30:00Z");
        // A future that is dropped in the middle is what a killed server leaves.
        let run = tokio::time::timeout(std::time::Duration::from_secs(1), server.run_due());
        assert!(run.await.is_err());
        assert_eq!(server.get(&made).await["last_outcome"], "running");
        let next = Server::with(Room::again(&test, JobsConfig::default(), server.room.clock.clone()));
        next.set("2026-01-02T02:30:00Z");
        assert_eq!(next.get(&made).await["last_outcome"], "interrupted");
        next.room.gate.add_permits(1);
        assert_eq!(next.run_due().await, 1);
        assert_eq!(next.get(&made).await["last_outcome"], "succeeded");
    }
}

#[tokio::test]
async fn the_clocks_change_is_lived_through() {
    let test = sqlite().await;
    let server = Server::new(&test).await;
    server.set("2026-03-28T12:00:00Z");
    let made = server.schedule(json!({ "zone": "Europe/Berlin" })).await;
    server.set("2026-03-29T00:59:59Z");
    assert_eq!(server.run_due().await, 0, "01:59:59, and 02:30 will not come");
    server.set("2026-03-29T01:00:00Z");
    assert_eq!(server.run_due().await, 1, "03:00, right after the gap");
    assert_eq!(server.get(&made).await["next_run_at"], "2026-03-30T00:30:00Z");
    server.set("2026-10-25T00:00:00Z");
    assert_eq!(server.run_due().await, 0, "what was missed in summer is left out");
    server.set("2026-10-25T00:30:00Z");
    assert_eq!(server.run_due().await, 1, "02:30, the first time");
    server.set("2026-10-25T01:30:00Z");
    assert_eq!(server.run_due().await, 0, "02:30, the second time");
}

#[tokio::test]
async fn each_run_checks_what_its_owner_may_do_now() {
    let test = sqlite().await;
    let server = Server::new(&test).await;
    let made = server.schedule(json!({ "cron": "0 * * * *", "operation": "do_work", "input": {} })).await;
    let elsewhere = Caller { teams: vec!["other".to_owned()], ..caller() };
    let viewer = Caller { role: Role::Viewer, ..caller() };
    let narrow = Caller { scopes: Some(vec!["logs:*".to_owned().try_into().unwrap()]), ..caller() };
    for (hour, account, expected) in [
        (1, None, "has no access any more"),
        (2, Some(elsewhere), "is not in the team default any more"),
        (3, Some(viewer), "needs the role operator"),
        (4, Some(narrow), "needs a key with the scope"),
    ] {
        *server.accounts.lock().unwrap() = account.into_iter().collect();
        server.set(&format!("2026-01-01T{hour:02}:00:00Z"));
        assert_eq!(server.run_due().await, 1);
        let ran = server.get(&made).await;
        assert_eq!(ran["last_outcome"], "failed");
        assert!(ran["last_message"].as_str().unwrap().contains(expected), "{ran}");
    }
    assert_eq!(server.calls(), 0);
}

#[tokio::test]
async fn rights_that_were_won_later_do_not_count() {
    let test = sqlite().await;
    let server = Server::new(&test).await;
    let then = Caller { scopes: Some(vec!["*:read".to_owned().try_into().unwrap()]), ..caller() };
    let then = Caller { role: Role::Viewer, ..then };
    let owner = super::model::Owner::of(&then);
    let acting = owner.acting("default", caller(), &server.room.operation()).unwrap_err();
    assert_eq!(acting.kind, Kind::Forbidden);
}

#[tokio::test]
async fn who_changes_a_schedule_owns_it_and_must_be_allowed_to_call_its_operation() {
    let test = sqlite().await;
    let server = Server::new(&test).await;
    let made = server.schedule(json!({ "operation": "do_work", "input": {} })).await;
    let id = made["id"].as_str().unwrap();
    let narrow = Caller {
        scopes: Some(vec!["jobs:*".to_owned().try_into().unwrap()]),
        ..somebody("key:narrow", Role::Operator)
    };
    let attack = json!({ "id": id, "input": { "fail": "mine" } });
    let error = server.room.call(&narrow, "update_schedule", attack).await.unwrap_err();
    assert_eq!(error.kind, Kind::Forbidden);
    let error = server.room.call(&narrow, "run_schedule_now", json!({ "id": id })).await.unwrap_err();
    assert_eq!(error.kind, Kind::Forbidden);
    let off = json!({ "id": id, "enabled": false });
    let changed = server.room.call(&narrow, "update_schedule", off).await.unwrap();
    assert_eq!((&changed["enabled"], &changed["next_run_at"]), (&json!(false), &Value::Null));
    assert_eq!(changed["created_by"], "operator", "switching off leaves the owner");
    let on = json!({ "id": id, "enabled": true, "cron": "0 6 * * *" });
    let bob = somebody("key:bob", Role::Operator);
    let changed = server.room.call(&bob, "update_schedule", on).await.unwrap();
    assert_eq!((&changed["created_by"], &changed["owner"]), (&json!("key:bob"), &json!("key:bob")));
    assert_eq!(changed["next_run_at"], "2026-01-01T06:00:00Z");
    assert_eq!(changed["input"], json!({}));
}

#[tokio::test]
async fn what_could_never_run_is_refused_when_it_is_written() {
    let test = sqlite().await;
    let server = Server::new(&test).await;
    for (more, expected) in [
        (json!({ "operation": "look_away" }), "operation: there is no operation \"look_away\""),
        (json!({ "operation": "show_secret" }), "operation: show_secret shows a secret"),
        (json!({ "operation": "create_schedule" }), "operation: create_schedule works on jobs or schedules"),
        (json!({ "input": {} }), "input.at is missing"),
        (json!({ "input": { "at": "x", "ta": 1 } }), "input.ta is not known"),
        (json!({ "input": { "at": 7 } }), "input.at is 7; it must be of type string"),
        (json!({ "operation": "do_work", "input": { "password": "hunter2" } }), "input.password is a secret"),
        (json!({ "input": { "at": "x".repeat(70_000) } }), "input has 70009 bytes"),
        (json!({ "cron": "61 * * * *" }), "cron: \"61 * * * *\" is not a cron expression"),
        (json!({ "zone": "Mars/Base" }), "zone: \"Mars/Base\""),
        (json!({ "name": "  " }), "name: "),
        (json!({ "name": "n".repeat(101) }), "name: "),
    ] {
        let error = server.ask("create_schedule", with(daily(), more)).await.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid, "{error}");
        assert!(error.message.starts_with(expected), "{error}");
        assert!(!error.message.contains("hunter2"));
    }
    assert_eq!(server.ask("list_schedules", json!({})).await.unwrap()["items"], json!([]));
}

#[tokio::test]
async fn schedules_are_listed_by_pages_changed_and_deleted() {
    for test in each_database().await {
        let server = Server::new(&test).await;
        let first = server.schedule(json!({ "name": "first" })).await;
        let second = server.schedule(json!({ "name": "second", "enabled": false })).await;
        let error =
            server.ask("create_schedule", with(daily(), json!({ "name": "first" }))).await.unwrap_err();
        assert_eq!(error.kind, Kind::Conflict);
        assert!(error.message.contains("\"first\""), "{error}");
        let page = server.ask("list_schedules", json!({ "limit": 1 })).await.unwrap();
        assert_eq!(page["items"][0]["id"], second["id"]);
        let rest = json!({ "limit": 1, "cursor": page["next"] });
        let page = server.ask("list_schedules", rest).await.unwrap();
        assert_eq!((&page["items"][0]["id"], &page["next"]), (&first["id"], &Value::Null));
        let rename = json!({ "id": second["id"], "name": "first" });
        assert_eq!(server.ask("update_schedule", rename).await.unwrap_err().kind, Kind::Conflict);
        let gone = server.ask("delete_schedule", json!({ "id": first["id"] })).await.unwrap();
        assert_eq!(gone["id"], first["id"]);
        let again = server.ask("delete_schedule", json!({ "id": first["id"] })).await.unwrap_err();
        assert_eq!(again.kind, Kind::NotFound);
    }
}

#[tokio::test]
async fn another_teams_schedule_does_not_exist() {
    let test = sqlite().await;
    let server = Server::new(&test).await;
    let made = server.schedule(json!({})).await;
    let stranger = Caller { teams: vec!["other".to_owned()], ..somebody("key:other", Role::Administrator) };
    for name in ["get_schedule", "update_schedule", "delete_schedule", "run_schedule_now"] {
        let input = json!({ "id": made["id"] });
        let error = server.room.call(&stranger, name, input).await.unwrap_err();
        assert_eq!(error.kind, Kind::NotFound, "{name}");
    }
    let page = server.room.call(&stranger, "list_schedules", json!({})).await.unwrap();
    assert_eq!(page["items"], json!([]));
    let same_name = server.room.call(&stranger, "create_schedule", daily()).await.unwrap();
    assert_eq!(same_name["team_id"], "other");
}

#[tokio::test]
async fn a_schedule_that_is_off_runs_when_asked_and_keeps_its_place() {
    for test in each_database().await {
        let server = Server::new(&test).await;
        let made = server.schedule(json!({ "enabled": false, "input": { "at": "nothing" } })).await;
        let ran = server.ask("run_schedule_now", json!({ "id": made["id"] })).await.unwrap();
        assert_eq!(
            (&ran["last_outcome"], &ran["last_message"]),
            (&json!("failed"), &json!("there is nothing"))
        );
        assert_eq!(ran["next_run_at"], Value::Null);
        let long = json!({ "name": "long", "operation": "do_work", "input": { "wait": true } });
        let made = server.schedule(long).await;
        let ran = server.ask("run_schedule_now", json!({ "id": made["id"] })).await.unwrap();
        assert_eq!(ran["last_outcome"], "running");
        let job = ran["last_job_id"].as_str().unwrap();
        server.room.gate.add_permits(1);
        assert_eq!(server.room.ended(job).await["state"], "succeeded");
    }
}

#[tokio::test]
async fn a_team_has_only_so_many_schedules() {
    let test = sqlite().await;
    let config = JobsConfig { max_schedules: 1, ..JobsConfig::default() };
    let server = Server::with(Room::new(&test, config).await);
    server.schedule(json!({})).await;
    let error = server.ask("create_schedule", with(daily(), json!({ "name": "b" }))).await.unwrap_err();
    assert!(error.message.contains("your team has 1 schedules"), "{error}");
}

#[tokio::test]
async fn the_scheduler_runs_what_is_due_until_the_server_stops() {
    let test = sqlite().await;
    let server = Server::new(&test).await;
    let (_, mut events) = server.room.events.listen(None);
    let made = server.schedule(json!({})).await;
    server.set("2026-01-01T02:30:00Z");
    server.room.jobs.start_scheduler(server.call(Vec::new()), server.rights());
    let event = events.recv().await.unwrap();
    assert_eq!((event.topic.as_str(), &event.data["outcome"]), ("schedule.ran", &json!("succeeded")));
    assert_eq!(json!(event.subject), made["id"]);
    server.room.life.finish(std::time::Duration::from_secs(10)).await.unwrap();
}

#[tokio::test]
async fn a_claim_is_lost_when_another_run_took_it_and_not_when_the_schedule_is_deleted() {
    for test in each_database().await {
        let server = Server::new(&test).await;
        let made = server.schedule(json!({})).await;
        let id = made["id"].as_str().unwrap();
        let store = &server.room.jobs.inner.scheduler.store;
        let now = server.room.clock.now();
        assert!(store.claim_now(id, "first", now, now.plus_seconds(30)).await.unwrap());
        assert!(!store.claim_now(id, "second", now, now.plus_seconds(30)).await.unwrap());
        assert!(store.renew(id, "first", now.plus_seconds(40)).await.unwrap());
        let later = now.plus_seconds(41);
        assert!(store.claim_now(id, "second", later, later.plus_seconds(30)).await.unwrap());
        assert!(!store.renew(id, "first", later).await.unwrap());
        assert!(store.taken(id, "first").await.unwrap());
        server.ask("delete_schedule", json!({ "id": id })).await.unwrap();
        assert!(!store.taken(id, "second").await.unwrap());
    }
}
