//! Jobs as tasks of MCP (SEP-2663): what became of a long call, for a client that comes back for it.

use std::sync::Arc;

use opsroom_capabilities::room::Room;
use opsroom_core::{Call, Caller, Error, Kind, Result};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::{result_of, show};

/// How often a client should ask, in milliseconds.
const POLL: u64 = 1_000;

/// The answer to a call that goes on as a job.
pub async fn begun(room: &Arc<Room>, caller: Caller, started: &Value) -> Result<Box<RawValue>> {
    let id = started["job_id"].as_str().unwrap_or_default();
    let mut task = task(&details(room, caller, id).await?);
    task["resultType"] = json!("task");
    // The result is for who asks for it.
    if let Some(fields) = task.as_object_mut() {
        fields.remove("result");
    }
    to_raw_value(&task).map_err(Error::internal)
}

/// A task and what it holds so far.
pub async fn get(room: &Arc<Room>, caller: Caller, id: &str) -> Result<Box<RawValue>> {
    let job = details(room, caller.clone(), id).await?;
    let mut task = task(&job);
    if job["state"] == "succeeded" {
        show(room, caller, job["operation"].as_str().unwrap_or_default(), &mut task["result"]).await;
    }
    to_raw_value(&task).map_err(Error::internal)
}

/// Asks a task to stop.
pub async fn cancel(room: &Arc<Room>, caller: Caller, id: &str) -> Result<()> {
    match room.call("cancel_job", Call::new(caller), json!({ "id": id })).await {
        Ok(_) => Ok(()),
        // It has ended.
        Err(error) if error.kind == Kind::Conflict => Ok(()),
        Err(error) => Err(error),
    }
}

async fn details(room: &Arc<Room>, caller: Caller, id: &str) -> Result<Value> {
    let answer = room.call("get_job", Call::new(caller), json!({ "id": id })).await?;
    Ok(answer.into_value())
}

/// A job in the words of the extension. A tool that says that it failed has a result that says so; `failed`
/// is for what has none.
fn task(job: &Value) -> Value {
    let text = |name: &str| job[name].as_str().unwrap_or_default().to_owned();
    let (status, more) = match text("state").as_str() {
        "succeeded" => {
            let result = match (&job["result"], job["result_note"].as_str()) {
                (Value::Null, Some(note)) => json!({ "content": [{ "type": "text", "text": note }] }),
                (result, _) => result_of(Ok(result.clone())),
            };
            ("completed", json!({ "result": result }))
        }
        "failed" => {
            let error = &job["error"];
            let words = [&error["kind"], &error["message"]].map(|word| word.as_str().unwrap_or_default());
            let text = words.join(": ");
            let result = json!({ "content": [{ "type": "text", "text": text }], "isError": true });
            ("completed", json!({ "result": result }))
        }
        "cancelled" => ("cancelled", json!({})),
        "interrupted" => {
            let error =
                json!({ "code": -32603, "message": "the server ended while it ran; call the tool again" });
            ("failed", json!({ "error": error }))
        }
        _ => ("working", json!({})),
    };
    let said = job["log"].as_array().and_then(|log| log.last()?["time"].as_str());
    let time = |name: &str| job[name].as_str();
    let updated = time("ended_at").or(said).or(time("started_at")).or(time("created_at"));
    let mut task = json!({
        "taskId": job["id"],
        "status": status,
        "statusMessage": job["message"],
        "createdAt": job["created_at"],
        "lastUpdatedAt": updated,
        // A job is kept for longer than anybody waits.
        "ttlMs": null,
        "pollIntervalMs": POLL,
    });
    if let (Some(fields), Value::Object(more)) = (task.as_object_mut(), more) {
        fields.extend(more);
    }
    task
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_a_task_in_each_of_its_states() {
        let job = |state: &str| {
            json!({
                "id": "j", "state": state, "message": "read 3 lines", "created_at": "2026-01-05T10:00:00Z",
                "started_at": "2026-01-05T10:00:01Z", "ended_at": null, "result": { "n": 1 },
                "error": { "kind": "invalid", "message": "no lines" },
                "log": [{ "time": "2026-01-05T10:00:02Z", "message": "a" }, { "time": "2026-01-05T10:00:03Z" }],
            })
        };
        let states = ["queued", "running", "succeeded", "failed", "cancelled", "interrupted"];
        let told = states.map(|state| task(&job(state))["status"].as_str().unwrap().to_owned());
        assert_eq!(told, ["working", "working", "completed", "completed", "cancelled", "failed"]);
        assert_eq!(task(&job("running"))["lastUpdatedAt"], "2026-01-05T10:00:03Z");
        assert_eq!(task(&job("succeeded"))["result"]["structuredContent"]["n"], 1);
        assert_eq!(task(&job("failed"))["result"]["isError"], true);
        assert!(task(&job("running")).get("result").is_none());
    }
}
