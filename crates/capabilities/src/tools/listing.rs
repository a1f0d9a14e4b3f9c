//! Every tool that a caller may see, in one shape: built in or from a service.

use std::sync::{Arc, PoisonError};

use opsroom_core::{Caller, Effect, Error, Operation, Result, Role};
use opsroom_gateway::catalogue::{self, Health, exposed_name};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::Tools;
use super::model::{Settings, ToolStatus};
use super::store::Kept;
use super::world::id_of;

/// A tool in a list.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ToolLine {
    /// Its name: by this it is called.
    pub name: String,
    /// Its service; null for a built-in tool.
    pub service_id: Option<String>,
    /// What it does.
    pub description: String,
    /// What kind of tool it is.
    pub category: String,
    /// How it is.
    pub status: ToolStatus,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Whether it says that it changes nothing.
    pub read_only: bool,
    /// Whether it is listed and can be called, as far as somebody chose.
    pub is_enabled: bool,
}

/// A tool as it was found.
#[derive(Clone, Debug)]
pub struct FoundTool {
    /// Its line.
    pub line: ToolLine,
    /// What it is kept under.
    pub id: String,
    /// The name that its service gives it; of a built-in tool its name.
    pub own_name: String,
    /// Its team; `None` for a built-in tool.
    pub team: Option<String>,
    /// What it takes.
    pub input: Value,
    /// What it answers; null when it does not say.
    pub output: Value,
    /// What is kept of it.
    pub kept: Kept,
}

impl Tools {
    /// What is kept, as it was last read.
    pub(super) fn kept(&self, id: &str) -> Kept {
        self.inner.kept.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned().unwrap_or_default()
    }

    /// Every tool that a caller may see, built-in ones first. One that is quarantined or switched off is
    /// listed, so that somebody can approve it or switch it on.
    pub(super) fn all(&self, caller: &Caller) -> Vec<FoundTool> {
        let builtin = self.inner.builtin.get().map_or(&[][..], Vec::as_slice);
        let mut found: Vec<FoundTool> =
            builtin.iter().filter(|operation| caller.may(operation)).map(|it| self.built_in(it)).collect();
        if let Some(catalogue) = self.inner.catalogue.get().map(|catalogue| catalogue.borrow().clone()) {
            for service in catalogue.services.iter().filter(|service| caller.teams.contains(&service.team)) {
                let tools = service.tools.iter().filter(|tool| may(caller, service, tool));
                found.extend(tools.map(|tool| self.of_service(service, tool)));
            }
        }
        found
    }

    /// The tool of that name, or of that id (`SERVICE/TOOL`).
    pub(super) fn find(&self, caller: &Caller, name: &str) -> Result<FoundTool> {
        let found = self.all(caller).into_iter().find(|tool| tool.line.name == name || tool.id == name);
        found.ok_or_else(|| {
            Error::not_found(format!(
                "there is no tool `{}` for this key; `list_tools` or `search_tools` names those there are",
                name.escape_debug()
            ))
        })
    }

    fn built_in(&self, operation: &Operation) -> FoundTool {
        let kept = self.kept(operation.name);
        let settings = &kept.settings;
        let status = if settings.enabled { ToolStatus::Active } else { ToolStatus::Inactive };
        FoundTool {
            line: ToolLine {
                name: operation.name.to_owned(),
                service_id: None,
                description: described(settings, operation.description()),
                category: settings
                    .category
                    .clone()
                    .unwrap_or_else(|| category(operation.capability).to_owned()),
                status,
                tags: tags(settings, operation.capability),
                read_only: operation.effect == Effect::Read,
                is_enabled: settings.enabled,
            },
            id: operation.name.to_owned(),
            own_name: operation.name.to_owned(),
            team: None,
            input: operation.input().clone(),
            output: operation.output().clone(),
            kept,
        }
    }

    fn of_service(&self, service: &Arc<catalogue::Service>, tool: &Arc<catalogue::Tool>) -> FoundTool {
        let id = id_of(&service.name, &tool.name);
        let kept = self.kept(&id);
        let settings = &kept.settings;
        let changed = kept.pin.as_ref().is_some_and(|pin| *pin != tool.hash);
        let said: Value = serde_json::from_str(tool.definition.get()).unwrap_or_default();
        // What waits for approval is shown by `get_tool` alone, as a difference: nobody acts on it unseen.
        let shown = match (&kept.approved, changed) {
            (Some(approved), true) => approved.clone(),
            _ => said,
        };
        let status = match () {
            () if changed => ToolStatus::Quarantined,
            () if !settings.enabled => ToolStatus::Inactive,
            () if matches!(service.health, Health::Unreachable { .. }) => ToolStatus::Error,
            () if shown["annotations"]["deprecated"] == true || shown["deprecated"] == true => {
                ToolStatus::Deprecated
            }
            () => ToolStatus::Active,
        };
        let own = settings.name.as_deref().unwrap_or(&tool.name);
        FoundTool {
            line: ToolLine {
                name: exposed_name(&service.name, own),
                service_id: Some(service.name.clone()),
                description: described(settings, shown["description"].as_str().unwrap_or_default()),
                category: settings.category.clone().unwrap_or_else(|| "custom".to_owned()),
                status,
                tags: tags(settings, &service.name),
                read_only: tool.read_only,
                is_enabled: settings.enabled,
            },
            id,
            own_name: own.to_owned(),
            team: Some(service.team.clone()),
            input: shown["inputSchema"].clone(),
            output: shown["outputSchema"].clone(),
            kept,
        }
    }
}

/// By the same rule as the gateway's: reading needs a viewer, the rest an operator, and the scope
/// `tools:execute_tool:SERVICE__TOOL`.
fn may(caller: &Caller, service: &catalogue::Service, tool: &catalogue::Tool) -> bool {
    let (effect, role) =
        if tool.read_only { (Effect::Read, Role::Viewer) } else { (Effect::Write, Role::Operator) };
    let name = format!("{}__{}", service.name, tool.name);
    caller.authorise_resource("tools", "execute_tool", effect, role, &name).is_ok()
}

fn described(settings: &Settings, own: &str) -> String {
    settings.description.clone().unwrap_or_else(|| own.to_owned())
}

fn tags(settings: &Settings, usual: &str) -> Vec<String> {
    if settings.tags.is_empty() { vec![usual.to_owned()] } else { settings.tags.clone() }
}

fn category(capability: &str) -> &'static str {
    match capability {
        "logs" | "detection" | "planning" => "knowledge",
        "services" | "tools" => "agent",
        "notifications" | "alerts" => "utility",
        _ => "system",
    }
}
