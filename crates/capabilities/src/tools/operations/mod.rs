//! The operations of tools.

mod configure;
mod execute;
mod list;
mod profiles;

use opsroom_core::{Effect, Operation, Result, Role};

use super::Tools;

/// Every operation of this folder.
pub fn all(tools: &Tools) -> Vec<Operation> {
    vec![
        operation(tools, "list_tools", Effect::Read, "GET /tools", list::list_tools).enveloped(),
        operation(
            tools,
            "list_tool_categories",
            Effect::Read,
            "GET /tools/categories",
            list::list_tool_categories,
        )
        .enveloped(),
        operation(tools, "get_tool_stats", Effect::Read, "GET /tools/stats", list::get_tool_stats)
            .enveloped(),
        operation(tools, "search_tools", Effect::Read, "GET /tools/search", list::search_tools).enveloped(),
        operation(tools, "get_tool", Effect::Read, "GET /tools/{name}", list::get_tool).enveloped(),
        // Whoever may call the tool may call it this way: the tool's own rule is held where it is called.
        operation(tools, "execute_tool", Effect::Write, "POST /tools/{name}/execute", execute::execute_tool)
            .role(Role::Viewer)
            .enveloped(),
        operation(
            tools,
            "set_tool_enabled",
            Effect::Write,
            "PUT /tools/{name}/enabled",
            configure::set_tool_enabled,
        )
        .role(Role::Administrator)
        .idempotent()
        .enveloped(),
        operation(tools, "configure_tool", Effect::Write, "PATCH /tools/{name}", configure::configure_tool)
            .role(Role::Administrator)
            .idempotent()
            .enveloped(),
        operation(
            tools,
            "approve_tool",
            Effect::Write,
            "POST /tools/{name}/approve",
            configure::approve_tool,
        )
        .role(Role::Administrator)
        .idempotent()
        .enveloped(),
        operation(tools, "create_profile", Effect::Write, "POST /profiles", profiles::create_profile)
            .success(201),
        operation(tools, "list_profiles", Effect::Read, "GET /profiles", profiles::list_profiles),
        operation(
            tools,
            "delete_profile",
            Effect::Destroy,
            "DELETE /profiles/{name}",
            profiles::delete_profile,
        )
        .role(Role::Operator),
    ]
}

fn operation<I, O, F, R>(
    tools: &Tools,
    name: &'static str,
    effect: Effect,
    route: &'static str,
    run: F,
) -> Operation
where
    I: serde::de::DeserializeOwned + schemars::JsonSchema + Send + 'static,
    O: serde::Serialize + schemars::JsonSchema,
    F: Fn(Tools, opsroom_core::Call, I) -> R + Copy + Send + Sync + 'static,
    R: Future<Output = Result<O>> + Send + 'static,
{
    Operation::new("tools", name, effect, route, tools, run)
}
