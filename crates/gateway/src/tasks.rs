//! The tasks extension (SEP-2663) for the house's own long calls: a client that knows it gets a task at once,
//! and comes back for what became of it. A service's own tasks pass through at the service's endpoint.

use std::sync::Arc;

use opsroom_core::Kind;
use serde_json::json;
use serde_json::value::RawValue;

use crate::client::{Answer, Client};
use crate::gateway::Inner;
use crate::message::{self, INVALID_PARAMS, MISSING_CAPABILITY, Members, raw, raw_text};
use crate::tools::Asked;

/// The name of the extension.
pub const EXTENSION: &str = "io.modelcontextprotocol/tasks";

/// Whether a client's capabilities say that it knows tasks.
pub fn declared(capabilities: Option<&RawValue>) -> bool {
    let members = capabilities.and_then(Members::of).unwrap_or_default();
    let extensions = members.get("extensions").and_then(Members::of);
    extensions.is_some_and(|extensions| extensions.get(EXTENSION).is_some())
}

/// Adds the extension to the capabilities of an endpoint of the house.
pub fn offered(capabilities: &mut serde_json::Value) {
    capabilities["extensions"] = json!({ EXTENSION: {} });
}

/// Answers `tasks/get`, `tasks/update` and `tasks/cancel`.
pub async fn answer(gateway: &Arc<Inner>, client: &Client, method: &str, asked: &Asked<'_>) -> Answer {
    if !client.tasks {
        let needed = json!({ "requiredCapabilities": { "extensions": { EXTENSION: {} } } });
        let text = format!("{method} is for clients that declare the extension {EXTENSION}");
        let error = message::error_object(MISSING_CAPABILITY, &text, Some(needed));
        return Answer::error_raw(asked.id, MISSING_CAPABILITY, &error);
    }
    let Some(id) = asked.params.task.and_then(message::text) else {
        return Answer::error(asked.id, INVALID_PARAMS, "params.taskId, the task's id, is missing");
    };
    let (caller, id) = (client.caller.clone(), id.into_owned());
    let told = match method {
        "tasks/cancel" => gateway.builtin.cancel_task(caller, id).await.map(|()| raw(&json!({}))),
        // No task of the house asks for anything; one that is there takes what nobody asked for.
        "tasks/update" => gateway.builtin.task(caller, id).await.map(|_| raw(&json!({}))),
        _ => gateway.builtin.task(caller, id).await,
    };
    match told {
        Ok(task) => {
            let mut members = Members::of(&task).unwrap_or_default();
            members.set("resultType", raw_text("complete"));
            Answer::result(asked.id, &members.to_raw())
        }
        Err(error) => {
            let code = match error.kind {
                Kind::Internal | Kind::Unavailable | Kind::Busy => message::UNAVAILABLE,
                _ => INVALID_PARAMS,
            };
            Answer::error(asked.id, code, &error.message).because(error.kind)
        }
    }
}
