//! What jobs promise, on every database that is at hand.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use opsroom_core::caller::{Caller, Face};
use opsroom_core::clock::{Clock, Time};
use opsroom_core::error::{Error, Kind, Result};
use opsroom_core::events::Events;
use opsroom_core::job::{Progress, State};
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::metrics::Metrics;
use opsroom_core::operation::{Call, Effect, Operation};
use opsroom_core::testing::{TestDb, each_database, sqlite};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::{Jobs, JobsConfig, MIGRATIONS};

/// A room with one operation whose work the test steers.
#[derive(Clone)]
pub struct Room {
    pub jobs: Jobs,
    pub clock: Clock,
    pub life: Lifecycle,
    pub events: Events,
    pub gate: Arc<Semaphore>,
}

/// Work as the test wants it.
#[derive(Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Work {
    /// Waits until the gate opens.
    wait: bool,
    /// Does not listen when asked to stop.
    stubborn: bool,
    /// Fails with this message.
    fail: Option<String>,
    /// Panics.
    panic: bool,
    /// Reports so many steps.
    flood: u32,
    /// Never kept.
    #[schemars(extend("writeOnly" = true))]
    password: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Done {
    done: bool,
}

async fn work(gate: Arc<Semaphore>, call: Call, input: Work) -> Result<Done> {
    call.progress.report(Some(0.5), "half way");
    (0..input.flood).for_each(|n| call.progress.report(Some(0.6), format!("{n}\u{1b}[2J")));
    if input.wait {
        tokio::select! {
            () = call.cancel.cancelled(), if !input.stubborn => return Err(Error::cancelled("stopped")),
            permit = gate.acquire() => permit.expect("the gate is never closed").forget(),
        }
    }
    assert!(!input.panic, "boom");
    match input.fail {
        Some(message) => Err(Error::invalid(message)),
        None => Ok(Done { done: input.password.is_none() || !input.stubborn }),
    }
}

pub fn start_time() -> Time {
    Time(1_767_225_600_000_000)
}

impl Room {
    pub async fn new(test: &TestDb, config: JobsConfig) -> Self {
        let clock = Clock::manual(start_time());
        test.db.migrate(&clock, &[("jobs", &MIGRATIONS)]).await.unwrap();
        Self::again(test, config, clock)
    }

    /// Another server on the same database.
    pub fn again(test: &TestDb, config: JobsConfig, clock: Clock) -> Self {
        let (life, events) = (Lifecycle::new(), Events::new(clock.clone()));
        let (db, metrics) = (test.db.clone(), Metrics::default());
        let jobs = Jobs::open(db, clock.clone(), life.clone(), events.clone(), metrics, config).unwrap();
        Self { jobs, clock, life, events, gate: Arc::new(Semaphore::new(0)) }
    }

    pub fn operation(&self) -> Operation {
        Operation::new("tests", "do_work", Effect::Write, "POST /work", &self.gate, work).long()
    }

    pub async fn start(&self, input: Value) -> Result<super::Running> {
        self.jobs.start(&self.operation(), Call::new(caller()), input).await
    }

    pub async fn call(&self, caller: &Caller, name: &str, input: Value) -> Result<Value> {
        let operations = self.jobs.capability().operations;
        let operation = operations.iter().find(|operation| operation.name == name).unwrap();
        operation.run(Call::new(caller.clone()), input).await
    }

    pub async fn job(&self, id: &str) -> Value {
        self.call(&caller(), "get_job", json!({ "id": id })).await.unwrap()
    }

    /// The job once it has ended.
    pub async fn ended(&self, id: &str) -> Value {
        for _ in 0..1000 {
            let job = self.job(id).await;
            if !matches!(job["state"].as_str(), Some("queued" | "running")) {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("job {id} did not end");
    }
}

pub fn caller() -> Caller {
    Caller::operator(Face::Rest)
}

fn of_team(team: &str) -> Caller {
    Caller { teams: vec![team.to_owned()], subject: format!("key:{team}"), ..caller() }
}

#[tokio::test]
async fn the_result_is_stored_before_the_answer_is_given() {
    for test in each_database().await {
        let room = Room::new(&test, JobsConfig::default()).await;
        let running = room.start(json!({ "password": "hunter2" })).await.unwrap();
        let id = running.id.clone();
        let answer = running.result.await.unwrap();
        assert_eq!(answer, json!({ "done": true }));
        let job = room.job(&id).await;
        assert_eq!(job["state"], "succeeded");
        assert_eq!(job["result"], answer);
        assert_eq!(job["fraction"], 1.0);
        assert_eq!(job["owner"], "operator");
        assert_eq!(job["log"][0]["message"], "half way");
        assert!(!job.to_string().contains("hunter2"), "a secret is not kept");
        assert!(job["started_at"].is_string() && job["ended_at"].is_string());
    }
}

#[tokio::test]
async fn an_error_is_kept_and_a_panic_is_an_internal_one() {
    for test in each_database().await {
        let room = Room::new(&test, JobsConfig::default()).await;
        let running = room.start(json!({ "fail": "no such file\u{0} \"a\"" })).await.unwrap();
        let id = running.id.clone();
        assert_eq!(running.result.await.unwrap_err().kind, Kind::Invalid);
        let job = room.job(&id).await;
        assert_eq!(job["state"], "failed");
        assert_eq!(job["error"], json!({ "kind": "invalid", "message": "no such file  \"a\"" }));

        let running = room.start(json!({ "panic": true })).await.unwrap();
        let id = running.id.clone();
        assert_eq!(running.result.await.unwrap_err().kind, Kind::Internal);
        let job = room.job(&id).await;
        assert_eq!((&job["state"], &job["error"]["kind"]), (&json!("failed"), &json!("internal")));
        assert!(!job.to_string().contains("boom"), "what panicked is for the log");
    }
}

#[tokio::test]
async fn a_job_in_the_background_goes_on_without_its_caller() {
    for test in each_database().await {
        let room = Room::new(&test, JobsConfig::default()).await;
        let started = room.start(json!({ "wait": true, "background": true })).await.unwrap().detach();
        assert_eq!(started.state, State::Running);
        assert_eq!(room.job(&started.job_id).await["state"], "running");
        room.gate.add_permits(1);
        let job = room.ended(&started.job_id).await;
        assert_eq!((&job["state"], &job["result"]), (&json!("succeeded"), &json!({ "done": true })));
    }
}

#[tokio::test]
async fn a_job_whose_waiting_caller_goes_away_is_cancelled() {
    let test = sqlite().await;
    let room = Room::new(&test, JobsConfig::default()).await;
    let running = room.start(json!({ "wait": true })).await.unwrap();
    let id = running.id.clone();
    drop(running.result);
    let job = room.ended(&id).await;
    assert_eq!(job["state"], "cancelled");
    assert!(job["message"].as_str().unwrap().contains("the caller went away"), "{job}");
}

#[tokio::test]
async fn a_running_job_is_cancelled_and_cancelling_twice_is_fine() {
    for test in each_database().await {
        let room = Room::new(&test, JobsConfig::default()).await;
        let started = room.start(json!({ "wait": true })).await.unwrap().detach();
        let id = json!({ "id": started.job_id });
        let job = room.call(&caller(), "cancel_job", id.clone()).await.unwrap();
        assert_eq!((&job["state"], &job["cancelled_by"]), (&json!("cancelled"), &json!("operator")));
        assert!(job["message"].as_str().unwrap().contains("operator asked for it"), "{job}");
        let again = room.call(&caller(), "cancel_job", id).await.unwrap();
        assert_eq!(again["state"], "cancelled");
    }
}

#[tokio::test]
async fn a_queued_job_is_cancelled_before_it_begins_and_the_next_one_takes_its_place() {
    for test in each_database().await {
        let config = JobsConfig { max_running: 1, ..JobsConfig::default() };
        let room = Room::new(&test, config).await;
        let first = room.start(json!({ "wait": true })).await.unwrap().detach();
        let second = room.start(json!({})).await.unwrap().detach();
        let third = room.start(json!({})).await.unwrap().detach();
        assert_eq!((first.state, second.state), (State::Running, State::Queued));
        let job = room.call(&caller(), "cancel_job", json!({ "id": second.job_id })).await.unwrap();
        assert_eq!((&job["state"], &job["started_at"]), (&json!("cancelled"), &Value::Null));
        room.gate.add_permits(1);
        assert_eq!(room.ended(&first.job_id).await["state"], "succeeded");
        assert_eq!(room.ended(&third.job_id).await["state"], "succeeded");
    }
}

#[tokio::test]
async fn a_job_that_has_ended_is_not_cancelled_but_said_to_have_ended() {
    let test = sqlite().await;
    let room = Room::new(&test, JobsConfig::default()).await;
    let running = room.start(json!({})).await.unwrap();
    let id = running.id.clone();
    running.result.await.unwrap();
    let error = room.call(&caller(), "cancel_job", json!({ "id": id })).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    assert!(error.message.contains("has succeeded at 2026-01-01"), "{}", error.message);
}

#[tokio::test]
async fn too_many_waiting_jobs_are_refused_as_busy() {
    let test = sqlite().await;
    let config = JobsConfig { max_running: 1, max_waiting: 1, ..JobsConfig::default() };
    let room = Room::new(&test, config).await;
    let first = room.start(json!({ "wait": true })).await.unwrap().detach();
    let _second = room.start(json!({})).await.unwrap().detach();
    let error = room.start(json!({})).await.err().unwrap();
    assert_eq!(error.kind, Kind::Busy);
    assert!(error.message.contains("cancel_job"), "{}", error.message);
    room.gate.add_permits(1);
    room.ended(&first.job_id).await;
    assert!(room.start(json!({})).await.unwrap().result.await.is_ok());
}

#[tokio::test]
async fn one_caller_cannot_take_every_place() {
    let test = sqlite().await;
    let config = JobsConfig { max_running: 2, max_waiting: 6, ..JobsConfig::default() };
    let room = Room::new(&test, config).await;
    let mut own = Vec::new();
    for _ in 0..6 {
        own.push(room.start(json!({ "wait": true })).await.unwrap().detach());
    }
    let error = room.start(json!({ "wait": true })).await.err().unwrap();
    assert_eq!(error.kind, Kind::Busy);
    assert!(error.message.contains("of yours"), "{}", error.message);
    let states: Vec<State> = own.iter().map(|started| started.state).collect();
    assert_eq!(states.iter().filter(|state| **state == State::Running).count(), 1);
    let other = Call::new(of_team("other"));
    let other = room.jobs.start(&room.operation(), other, json!({})).await.unwrap();
    assert!(other.result.await.is_ok(), "it runs beside the one that takes his share");
}

#[tokio::test]
async fn another_teams_job_does_not_exist() {
    for test in each_database().await {
        let room = Room::new(&test, JobsConfig::default()).await;
        let started = room.start(json!({ "wait": true })).await.unwrap().detach();
        let id = json!({ "id": started.job_id });
        let stranger = of_team("other");
        for name in ["get_job", "cancel_job"] {
            let error = room.call(&stranger, name, id.clone()).await.unwrap_err();
            assert_eq!(error.kind, Kind::NotFound, "{name}");
        }
        let page = room.call(&stranger, "list_jobs", json!({})).await.unwrap();
        assert_eq!(page, json!({ "items": [], "next": null }));
        let nobody = Caller { teams: Vec::new(), ..caller() };
        let page = room.call(&nobody, "list_jobs", json!({})).await.unwrap();
        assert_eq!(page["items"], json!([]));
        assert_eq!(room.job(&started.job_id).await["state"], "running");
    }
}

#[tokio::test]
async fn jobs_are_listed_newest_first_by_pages_and_by_state() {
    for test in each_database().await {
        let room = Room::new(&test, JobsConfig::default()).await;
        let mut ids = Vec::new();
        for input in [json!({}), json!({ "fail": "no" }), json!({})] {
            let running = room.start(input).await.unwrap();
            ids.push(running.id.clone());
            let _outcome = running.result.await;
        }
        let list = |input| async { room.call(&caller(), "list_jobs", input).await.unwrap() };
        let page = list(json!({ "limit": 2 })).await;
        assert_eq!((&page["items"][0]["id"], &page["items"][1]["id"]), (&json!(ids[2]), &json!(ids[1])));
        let rest = list(json!({ "limit": 2, "cursor": page["next"] })).await;
        assert_eq!((&rest["items"][0]["id"], &rest["next"]), (&json!(ids[0]), &Value::Null));
        let failed = list(json!({ "state": "failed", "operation": "do_work" })).await;
        assert_eq!(failed["items"].as_array().unwrap().len(), 1);
        assert_eq!(failed["items"][0]["error"]["message"], "no");
        assert_eq!(list(json!({ "operation": "other" })).await["items"], json!([]));
        let error = room.call(&caller(), "list_jobs", json!({ "limit": 0 })).await.unwrap_err();
        assert!(error.message.contains("from 1 to 200"));
    }
}

#[tokio::test]
async fn progress_reaches_the_caller_and_the_bus() {
    let test = sqlite().await;
    let room = Room::new(&test, JobsConfig::default()).await;
    let (_, mut live) = room.events.listen(None);
    let steps = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = steps.clone();
    let progress = Progress::to(move |step| seen.lock().unwrap().push(step.message));
    let call = Call { progress, ..Call::new(caller()) };
    let running = room.jobs.start(&room.operation(), call, json!({})).await.unwrap();
    running.result.await.unwrap();
    assert_eq!(*steps.lock().unwrap(), ["half way"]);
    let mut topics = Vec::new();
    while let Ok(event) = live.try_recv() {
        assert_eq!(event.team, "default");
        topics.push(event.topic.clone());
    }
    assert_eq!(topics, ["job.started", "job.progress", "job.ended"]);
}

#[tokio::test]
async fn what_a_dead_server_left_is_interrupted_when_its_lease_has_run_out() {
    for test in each_database().await {
        let dead = Room::new(&test, JobsConfig { max_running: 1, ..JobsConfig::default() }).await;
        let running = dead.start(json!({ "wait": true })).await.unwrap().detach();
        let queued = dead.start(json!({})).await.unwrap().detach();
        let next = Room::again(&test, JobsConfig::default(), dead.clock.clone());
        next.jobs.keep().await.unwrap();
        assert_eq!(next.job(&running.job_id).await["state"], "running", "its lease still runs");
        next.clock.advance_seconds(31);
        let (_, mut live) = next.events.listen(None);
        assert_eq!(next.jobs.recover().await.unwrap(), 2);
        assert_eq!(next.jobs.recover().await.unwrap(), 0);
        for id in [&running.job_id, &queued.job_id] {
            let job = next.job(id).await;
            assert_eq!(job["state"], "interrupted");
            assert!(job["message"].as_str().unwrap().contains("start it again with do_work"), "{job}");
        }
        assert_eq!(live.try_recv().unwrap().topic, "job.ended");
        let page = next.call(&caller(), "list_jobs", json!({ "state": "interrupted" })).await.unwrap();
        assert_eq!(page["items"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn on_sqlite_a_restart_interrupts_at_once() {
    let test = sqlite().await;
    let dead = Room::new(&test, JobsConfig::default()).await;
    let started = dead.start(json!({ "wait": true })).await.unwrap().detach();
    let next = Room::again(&test, JobsConfig::default(), dead.clock.clone());
    assert_eq!(next.jobs.recover().await.unwrap(), 1);
    assert_eq!(next.job(&started.job_id).await["state"], "interrupted");
}

#[tokio::test]
async fn a_server_that_was_taken_for_dead_does_not_overwrite_the_row() {
    for test in each_database().await {
        let slow = Room::new(&test, JobsConfig::default()).await;
        let running = slow.start(json!({ "wait": true })).await.unwrap();
        let id = running.id.clone();
        let other = Room::again(&test, JobsConfig::default(), slow.clock.clone());
        slow.clock.advance_seconds(31);
        assert_eq!(other.jobs.recover().await.unwrap(), 1);
        slow.gate.add_permits(1);
        let error = running.result.await.unwrap_err();
        assert_eq!(error.kind, Kind::Conflict);
        assert!(error.message.contains("interrupted"), "{}", error.message);
        assert_eq!(slow.job(&id).await["state"], "interrupted");
    }
}

#[tokio::test]
async fn a_lease_that_is_renewed_keeps_the_job() {
    for test in each_database().await {
        let room = Room::new(&test, JobsConfig::default()).await;
        let started = room.start(json!({ "wait": true })).await.unwrap().detach();
        let other = Room::again(&test, JobsConfig::default(), room.clock.clone());
        for _ in 0..3 {
            room.clock.advance_seconds(20);
            room.jobs.keep().await.unwrap();
            other.jobs.keep().await.unwrap();
        }
        room.gate.add_permits(1);
        assert_eq!(room.ended(&started.job_id).await["state"], "succeeded");
    }
}

#[tokio::test]
async fn a_job_of_another_server_is_cancelled_through_the_database() {
    for test in each_database().await {
        let room = Room::new(&test, JobsConfig::default()).await;
        let started = room.start(json!({ "wait": true })).await.unwrap().detach();
        let other = Room::again(&test, JobsConfig::default(), room.clock.clone());
        let job = other.call(&caller(), "cancel_job", json!({ "id": started.job_id })).await.unwrap();
        assert_eq!((&job["state"], &job["cancelled_by"]), (&json!("running"), &json!("operator")));
        room.jobs.keep().await.unwrap();
        assert_eq!(room.ended(&started.job_id).await["state"], "cancelled");
    }
}

#[tokio::test]
async fn stopping_the_server_cancels_what_runs_and_what_waits_and_takes_no_more() {
    for test in each_database().await {
        let room = Room::new(&test, JobsConfig { max_running: 1, ..JobsConfig::default() }).await;
        room.jobs.start_upkeep();
        let first = room.start(json!({ "wait": true })).await.unwrap().detach();
        let second = room.start(json!({ "wait": true })).await.unwrap().detach();
        room.life.finish(Duration::from_secs(10)).await.unwrap();
        for id in [&first.job_id, &second.job_id] {
            let job = room.job(id).await;
            assert_eq!(job["state"], "cancelled");
            assert!(job["message"].as_str().unwrap().contains("the server was stopped"), "{job}");
        }
        assert_eq!(room.start(json!({})).await.err().unwrap().kind, Kind::Unavailable);
    }
}

#[tokio::test]
async fn work_that_does_not_listen_is_abandoned() {
    let test = sqlite().await;
    let room = Room::new(&test, JobsConfig { stop_seconds: 0, ..JobsConfig::default() }).await;
    let started = room.start(json!({ "wait": true, "stubborn": true })).await.unwrap().detach();
    room.call(&caller(), "cancel_job", json!({ "id": started.job_id })).await.unwrap();
    assert_eq!(room.ended(&started.job_id).await["state"], "cancelled");
}

#[tokio::test]
async fn old_jobs_are_removed_and_younger_ones_stay() {
    for test in each_database().await {
        let room = Room::new(&test, JobsConfig { retention_days: 2, ..JobsConfig::default() }).await;
        room.start(json!({})).await.unwrap().result.await.unwrap();
        room.clock.advance_seconds(86_400);
        room.start(json!({})).await.unwrap().result.await.unwrap();
        room.clock.advance_seconds(86_401);
        room.jobs.keep().await.unwrap();
        let page = room.call(&caller(), "list_jobs", json!({})).await.unwrap();
        assert_eq!(page["items"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn an_input_and_a_result_are_shown_only_to_those_who_may_call_its_operation() {
    let test = sqlite().await;
    let room = Room::new(&test, JobsConfig::default()).await;
    room.jobs.set_operations(vec![room.operation()]);
    let running = room.start(json!({})).await.unwrap();
    let id = running.id.clone();
    running.result.await.unwrap();
    let scopes = Some(vec!["jobs:*".to_owned().try_into().unwrap()]);
    let narrow = Caller { scopes, subject: "key:narrow".to_owned(), ..caller() };
    let job = room.call(&narrow, "get_job", json!({ "id": id })).await.unwrap();
    assert_eq!(job["result"], Value::Null);
    assert_eq!(job["input"], Value::Null);
    assert!(job["result_note"].as_str().unwrap().contains("do_work"), "{job}");
    assert_eq!(room.job(&id).await["result"], json!({ "done": true }));
}

#[tokio::test]
async fn a_secret_that_a_job_reveals_is_not_kept() {
    let test = sqlite().await;
    let room = Room::new(&test, JobsConfig::default()).await;
    let mut reveal = room.operation();
    reveal.effect = Effect::Reveal;
    let running = room.jobs.start(&reveal, Call::new(caller()), json!({})).await.unwrap();
    let id = running.id.clone();
    assert_eq!(running.result.await.unwrap(), json!({ "done": true }));
    let job = room.job(&id).await;
    assert_eq!((&job["state"], &job["result"]), (&json!("succeeded"), &Value::Null));
}

#[test]
fn a_limit_out_of_its_range_is_named_with_the_range() {
    let error = JobsConfig { max_running: 0, ..JobsConfig::default() }.validate().unwrap_err();
    assert_eq!(error.message, "jobs.max_running: 0 is not from 1 to 1000");
}

#[tokio::test]
async fn watching_a_job_tells_its_state_its_progress_and_its_end() {
    let test = sqlite().await;
    let room = Room::new(&test, JobsConfig::default()).await;
    let started = room.start(json!({ "wait": true })).await.unwrap().detach();
    let other = room.start(json!({ "wait": true })).await.unwrap().detach();
    let mut stream = pin!(room.jobs.watch(caller(), &started.job_id).await.unwrap());
    let first = stream.next().await.unwrap();
    assert_eq!((first.topic.as_str(), first.id), ("job.progress", 0));
    room.gate.add_permits(2);
    let mut last = first;
    while let Some(event) = stream.next().await {
        assert_eq!(event.subject, started.job_id, "the job {} is not told of", other.job_id);
        last = event;
    }
    assert_eq!((last.topic.as_str(), &last.data["state"]), ("job.ended", &json!("succeeded")));
}

#[tokio::test]
async fn watching_a_job_that_has_ended_tells_only_its_end() {
    let test = sqlite().await;
    let room = Room::new(&test, JobsConfig::default()).await;
    let running = room.start(json!({ "fail": "no" })).await.unwrap();
    let id = running.id.clone();
    let _outcome = running.result.await;
    let events: Vec<_> = room.jobs.watch(caller(), &id).await.unwrap().collect().await;
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].topic.as_str(), &events[0].data["error"]["message"]), ("job.ended", &json!("no")));
    let error = room.jobs.watch(of_team("other"), &id).await.err().unwrap();
    assert_eq!(error.kind, Kind::NotFound);
}

#[tokio::test]
async fn watching_ends_with_the_server_and_tells_the_end_of_its_own_jobs() {
    let test = sqlite().await;
    let room = Room::new(&test, JobsConfig::default()).await;
    let other = Room::again(&test, JobsConfig::default(), room.clock.clone());
    let started = room.start(json!({ "wait": true })).await.unwrap().detach();
    let own = room.jobs.watch(caller(), &started.job_id).await.unwrap();
    let from_afar = other.jobs.watch(caller(), &started.job_id).await.unwrap();
    other.life.stop();
    let events: Vec<_> = from_afar.collect().await;
    assert_eq!(events.last().unwrap().topic, "job.progress");
    room.life.stop();
    let events: Vec<_> = own.collect().await;
    assert_eq!(events.last().unwrap().data["state"], "cancelled");
}

#[tokio::test]
async fn a_job_in_the_background_can_still_be_waited_for_by_its_server() {
    let test = sqlite().await;
    let room = Room::new(&test, JobsConfig::default()).await;
    let running = room.start(json!({})).await.unwrap();
    let started = running.detach();
    assert_eq!((started.state, &started.job_id), (State::Running, &running.id));
    assert_eq!(running.result.await.unwrap(), json!({ "done": true }));
}

#[tokio::test]
async fn watching_a_job_of_another_server_ends_with_it() {
    for test in each_database().await {
        let room = Room::new(&test, JobsConfig::default()).await;
        let started = room.start(json!({ "wait": true })).await.unwrap().detach();
        let other = Room::again(&test, JobsConfig::default(), room.clock.clone());
        let stream = other.jobs.watch(caller(), &started.job_id).await.unwrap();
        room.gate.add_permits(1);
        let events: Vec<_> = stream.collect().await;
        assert_eq!(events.last().unwrap().topic, "job.ended", "{:?}", test.db.dialect());
    }
}

#[tokio::test]
async fn a_flood_of_progress_does_not_drown_the_bus_or_the_log() {
    let test = sqlite().await;
    let room = Room::new(&test, JobsConfig::default()).await;
    let (_, mut live) = room.events.listen(None);
    let running = room.start(json!({ "flood": 50_000 })).await.unwrap();
    let id = running.id.clone();
    running.result.await.unwrap();
    let mut events = 0;
    while live.try_recv().is_ok() {
        events += 1;
    }
    assert!(events < 1000, "{events} events");
    let job = room.job(&id).await;
    assert_eq!(job["log"].as_array().unwrap().len(), 2, "the moving figure is one line");
    assert_eq!(job["message"], "49999 [2J");
}

#[tokio::test]
async fn a_nul_or_a_quote_in_an_id_or_a_filter_finds_nothing_and_breaks_nothing() {
    for test in each_database().await {
        let room = Room::new(&test, JobsConfig::default()).await;
        for id in ["\u{0}", "' OR '1'='1", "", "0199\u{0}0000-0000-7000-8000-000000000000", &"9".repeat(36)] {
            for name in ["get_job", "cancel_job", "get_schedule", "delete_schedule"] {
                let error = room.call(&caller(), name, json!({ "id": id })).await.unwrap_err();
                assert_eq!(error.kind, Kind::NotFound, "{name} {id:?}");
            }
        }
        for filter in
            [json!({ "cursor": "\u{0}" }), json!({ "operation": "a\u{0}" }), json!({ "operation": "a'b" })]
        {
            let error = room.call(&caller(), "list_jobs", filter).await.unwrap_err();
            assert_eq!(error.kind, Kind::Invalid);
        }
        let error = room.call(&caller(), "list_schedules", json!({ "cursor": "x" })).await.unwrap_err();
        assert!(error.message.starts_with("cursor: "), "{error}");
    }
}

#[tokio::test]
async fn a_caller_who_gives_up_while_the_job_is_accepted_leaves_no_job_running() {
    let test = sqlite().await;
    let room = Room::new(&test, JobsConfig::default()).await;
    // The only writer is held, so that the insertion waits.
    let held = test.db.begin().await.unwrap();
    let start = tokio::time::timeout(Duration::from_millis(50), room.start(json!({ "wait": true })));
    assert!(start.await.is_err());
    drop(held);
    room.jobs.keep().await.unwrap();
    let page = room.call(&caller(), "list_jobs", json!({ "state": "running" })).await.unwrap();
    assert_eq!(page["items"], json!([]));
    assert!(room.start(json!({})).await.unwrap().result.await.is_ok());
}

#[tokio::test]
async fn what_ended_is_counted() {
    let test = sqlite().await;
    let room = Room::new(&test, JobsConfig::default()).await;
    room.start(json!({})).await.unwrap().result.await.unwrap();
    let metrics = room.jobs.inner.metrics.render();
    let line = r#"opsroom_jobs_ended_total{operation="do_work",state="succeeded"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
}
