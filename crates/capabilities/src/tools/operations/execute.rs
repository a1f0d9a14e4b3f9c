//! `execute_tool`.

use std::time::{Duration, Instant};

use opsroom_core::{Call, Error, Kind, Result};
use opsroom_gateway::seam::Outcome;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::Tools;
use super::super::listing::FoundTool;
use super::super::model::ToolStatus;

/// Calls a tool by its name: a built-in one or one of a service. What it may do is what the tool itself may
/// do for you.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecuteTool {
    /// Its name.
    #[schemars(length(min = 1, max = 200))]
    name: String,
    /// What it is given; `get_tool` shows what it takes.
    #[serde(default)]
    #[schemars(extend("writeOnly" = true))]
    parameters: Map<String, Value>,
    /// Accepted for older clients and noted nowhere: who calls is who the key belongs to.
    #[serde(default)]
    #[expect(dead_code, reason = "it is part of an older system's contract and proves nothing")]
    user_id: Option<String>,
    /// Accepted for older clients and noted nowhere.
    #[serde(default)]
    #[expect(dead_code, reason = "it is part of an older system's contract and proves nothing")]
    session_id: Option<String>,
    /// The longest time to wait, in seconds; the tool's own unless named.
    #[serde(default)]
    #[schemars(range(min = 1, max = 3600))]
    timeout: Option<u32>,
    /// Accepted for older clients: whether a result may be an earlier one is configured for each tool.
    #[serde(default = "yes")]
    #[expect(dead_code, reason = "it is part of an older system's contract")]
    use_cache: bool,
}

fn yes() -> bool {
    true
}

/// A call of a tool.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct Execution {
    /// Its id.
    pub execution_id: String,
    /// What the tool is kept under.
    pub tool_id: String,
    /// The tool's name.
    pub tool_name: String,
    /// `success`, `failed` (the tool says so), or `timeout`.
    pub status: String,
    /// What the tool answered; null when it failed.
    pub result: Value,
    /// Why it failed.
    pub error_message: Option<String>,
    /// How long it took, in milliseconds.
    pub execution_time_ms: f64,
    /// When it began.
    pub started_at: String,
    /// When it was over.
    pub completed_at: String,
}

pub async fn execute_tool(tools: Tools, call: Call, input: ExecuteTool) -> Result<Execution> {
    let tool = tools.find(&call.caller, &input.name)?;
    match tool.line.status {
        ToolStatus::Inactive => {
            return Err(Error::conflict(format!("the tool `{}` is switched off", tool.line.name)));
        }
        ToolStatus::Quarantined => {
            return Err(Error::conflict(format!(
                "the definition of the tool `{}` changed after it was approved; `get_tool` shows how, `approve_tool` lets it be called",
                tool.line.name
            )));
        }
        ToolStatus::Active | ToolStatus::Deprecated | ToolStatus::Error => {}
    }
    if tool.own_name == "execute_tool" && tool.team.is_none() {
        return Err(Error::invalid("name: execute_tool does not call itself; name the tool that you want"));
    }
    let clock = tools.inner.clock.clone();
    let (started_at, begun) = (clock.now(), Instant::now());
    let limit = input.timeout.or(tool.kept.settings.timeout_seconds);
    let limit = limit.map(|seconds| Duration::from_secs(seconds.into()));
    let answer = match tool.line.service_id.clone() {
        Some(service) => tools.call_service(&call, &service, &tool, input.parameters, limit).await,
        None => tools.call_built_in(&call, &tool, input.parameters, limit).await,
    };
    let took = begun.elapsed();
    let (status, result, error_message) = match answer {
        Ok(Ran::Answered(result)) => ("success", result, None),
        Ok(Ran::Failed(why)) => ("failed", Value::Null, Some(why)),
        Ok(Ran::Late) => {
            ("timeout", Value::Null, Some(format!("it did not answer within {} s", took.as_secs())))
        }
        Err(error) => return Err(error),
    };
    Ok(Execution {
        execution_id: opsroom_core::id::new_id(),
        tool_id: tool.id,
        tool_name: tool.line.name,
        status: status.to_owned(),
        result,
        error_message,
        execution_time_ms: took.as_secs_f64() * 1e3,
        started_at: started_at.to_rfc3339(),
        completed_at: clock.now().to_rfc3339(),
    })
}

enum Ran {
    Answered(Value),
    Failed(String),
    Late,
}

impl Tools {
    async fn call_service(
        &self,
        call: &Call,
        service: &str,
        tool: &FoundTool,
        parameters: Map<String, Value>,
        limit: Option<Duration>,
    ) -> Result<Ran> {
        let missing =
            || Error::unavailable("the gateway does not run in this process; call the running server");
        let call_upstream = self.inner.call_upstream.get().ok_or_else(missing)?;
        let arguments = serde_json::value::to_raw_value(&parameters).map_err(Error::internal)?;
        let work = call_upstream(
            call.caller.clone(),
            service.to_owned(),
            tool.own_name.clone(),
            Some(arguments),
            limit,
        );
        let answer = tokio::select! {
            answer = work => answer?,
            () = call.cancel.cancelled() => return Err(Error::new(Kind::Cancelled, "the caller stopped the call")),
        };
        let answer: Value = serde_json::from_str(answer.get()).map_err(Error::internal)?;
        if answer["isError"] == true {
            return Ok(Ran::Failed(text_of(&answer)));
        }
        Ok(Ran::Answered(answer))
    }

    async fn call_built_in(
        &self,
        call: &Call,
        tool: &FoundTool,
        parameters: Map<String, Value>,
        limit: Option<Duration>,
    ) -> Result<Ran> {
        let missing = || Error::internal("the built-in tools were not wired");
        let call_builtin = self.inner.call_builtin.get().ok_or_else(missing)?;
        let begun = Instant::now();
        let work = call_builtin(call.clone(), tool.own_name.clone(), Value::Object(parameters));
        let answer = match limit {
            None => work.await,
            Some(limit) => match tokio::time::timeout(limit, work).await {
                Ok(answer) => answer,
                Err(_) => {
                    self.count(tool.id.clone(), Outcome::Late, begun.elapsed(), 0);
                    return Ok(Ran::Late);
                }
            },
        };
        let outcome = if answer.is_ok() { Outcome::Ok } else { Outcome::ToolError };
        self.count(tool.id.clone(), outcome, begun.elapsed(), 0);
        answer.map(Ran::Answered)
    }
}

/// The texts of a result.
fn text_of(result: &Value) -> String {
    let parts = result["content"].as_array().map_or(&[][..], Vec::as_slice);
    let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
    if texts.is_empty() { "the tool failed and did not say why".to_owned() } else { texts.join("\n") }
}
