//! What the gateway asks of the rest of the house: its built-in tools, somebody who counts calls, and a
//! place that replicas share.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use opsroom_core::Caller;
use opsroom_core::job::Progress;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

/// The tools that the house has itself. They keep their names.
pub trait BuiltIn: Send + Sync {
    /// The definitions of the tools that this caller may call, in a stable order.
    fn tools(&self, caller: &Caller) -> Vec<Definition>;

    /// Whether there is a tool of that name that this caller may call.
    fn has(&self, caller: &Caller, tool: &str) -> bool;

    /// Calls a tool; the answer is a `CallToolResult` as JSON, without `resultType`, or, where the call takes
    /// one, a task with the `resultType` `task`.
    fn call(&self, call: BuiltInCall) -> BoxFuture<'static, opsroom_core::Result<Box<RawValue>>>;

    /// A task that a call became, as the tasks extension has it (`taskId`, `status` and the rest); `NotFound`
    /// for one that this caller does not see.
    fn task(&self, caller: Caller, id: String) -> BoxFuture<'static, opsroom_core::Result<Box<RawValue>>>;

    /// Asks a task to stop. One that has ended stays as it is.
    fn cancel_task(&self, caller: Caller, id: String) -> BoxFuture<'static, opsroom_core::Result<()>>;

    /// What an agent is told before it sees the tools.
    fn instructions(&self) -> &str;
}

/// A built-in tool.
#[derive(Clone, Debug)]
pub struct Definition {
    /// Its name.
    pub name: Arc<str>,
    /// The whole definition, as JSON.
    pub text: Arc<RawValue>,
}

/// A call of a built-in tool.
pub struct BuiltInCall {
    /// Who calls.
    pub caller: Caller,
    /// Which tool.
    pub tool: String,
    /// The arguments, a JSON object; `None` when there were none.
    pub arguments: Option<Box<RawValue>>,
    /// Where it says how far it is.
    pub progress: Progress,
    /// Set when the caller goes away.
    pub cancel: CancellationToken,
    /// Whether the client takes a task in the place of a result that comes late.
    pub task: bool,
    /// The W3C trace that the call belongs to, where the caller named one.
    pub traceparent: Option<String>,
}

/// Is told of every call of a tool of an upstream, when it ended. It runs on the path of the call, so it
/// must not block: it hands on a copy of what it needs.
pub trait Calls: Send + Sync {
    /// One call ended.
    fn finished(&self, call: &Finished<'_>);
}

/// A call that ended.
#[derive(Clone, Copy, Debug)]
pub struct Finished<'a> {
    /// Who called.
    pub caller: &'a Caller,
    /// The service.
    pub service: &'a str,
    /// The tool, by the name that the service gives it.
    pub tool: &'a str,
    /// What came of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
    /// The bytes of the answer.
    pub bytes: usize,
    /// What the service wants before it answers (`WWW-Authenticate`), when it refused the call for that.
    pub challenge: Option<&'a str>,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The tool answered.
    Ok,
    /// The tool answered that it failed (`isError`).
    ToolError,
    /// The service answered with an error of the protocol.
    ProtocolError,
    /// The answer was in the cache.
    Cached,
    /// The tool asks for something first (elicitation and the like); another call will follow.
    InputRequired,
    /// It was refused before it reached the service: a limit, a policy.
    Refused,
    /// The service did not answer in time.
    Late,
    /// The service could not be reached, or answered what is no answer.
    Unreachable,
    /// The caller went away.
    Cancelled,
}

impl Outcome {
    /// The word used in records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::ToolError => "tool_error",
            Outcome::ProtocolError => "protocol_error",
            Outcome::Cached => "cached",
            Outcome::InputRequired => "input_required",
            Outcome::Refused => "refused",
            Outcome::Late => "late",
            Outcome::Unreachable => "unreachable",
            Outcome::Cancelled => "cancelled",
        }
    }
}

/// What replicas share: cached results and rate limits. [`crate::shared::InProcess`] is the one for a single
/// server.
pub trait Shared: Send + Sync {
    /// A kept answer.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Option<Bytes>>;

    /// Keeps an answer for a while.
    fn put<'a>(&'a self, key: &'a str, value: Bytes, keep: Duration) -> BoxFuture<'a, ()>;

    /// Takes one of so many in a minute; `false` when they are used up.
    fn take<'a>(&'a self, key: &'a str, per_minute: u32) -> BoxFuture<'a, bool>;
}
