//! `set_tool_enabled`, `configure_tool` and `approve_tool`.

use opsroom_core::{Call, Error, Result};
use schemars::JsonSchema;
use serde::Deserialize;

use super::super::Tools;
use super::super::listing::FoundTool;
use super::super::store::Kept;
use super::list::ToolDetail;

/// Switches a tool on or off: one that is off is neither listed nor callable.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetToolEnabled {
    /// Its name.
    #[schemars(length(min = 1, max = 200))]
    name: String,
    /// Whether it is on.
    enabled: bool,
}

/// Configures a tool. What is left out stays as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigureTool {
    /// Its name.
    #[schemars(length(min = 1, max = 200))]
    name: String,
    /// Whether it is on.
    #[serde(default)]
    is_enabled: Option<bool>,
    /// For a tool of a service: another name, after the service's. An empty text gives it its own back.
    #[serde(default)]
    #[schemars(length(max = 64))]
    rename: Option<String>,
    /// Another description. An empty text gives it its own back.
    #[serde(default)]
    #[schemars(length(max = 4000))]
    description: Option<String>,
    /// The longest time for one call, in seconds.
    #[serde(default)]
    #[schemars(range(min = 1, max = 3600))]
    timeout_seconds: Option<u32>,
    /// How often a call that could not be delivered is tried again. One that may have begun is tried again
    /// only when the tool says that this does no harm.
    #[serde(default)]
    #[schemars(range(min = 0, max = 10))]
    max_retries: Option<u32>,
    /// The most calls in a minute, of all callers together; 0 is as many as come.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1_000_000))]
    rate_limit_per_minute: Option<u32>,
    /// Whether results are kept. Only a tool that says that it only reads can be cached.
    #[serde(default)]
    cache_enabled: Option<bool>,
    /// For how long results are kept, in seconds, at least 60.
    #[serde(default)]
    #[schemars(range(min = 60, max = 86400))]
    cache_ttl: Option<u32>,
    /// Its category.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    category: Option<String>,
    /// Words to find it by, in the place of all of them.
    #[serde(default)]
    #[schemars(length(max = 32))]
    tags: Option<Vec<String>>,
}

/// Approves the definition that a tool of a service has now, after it changed: from then on it is listed
/// and callable again. Look at `changes` of `get_tool` first: a changed description can be an instruction to
/// your agent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveTool {
    /// Its name.
    #[schemars(length(min = 1, max = 200))]
    name: String,
    /// The hash of the definition that you looked at, as an event or `get_tool` gave it; when it changed
    /// again meanwhile, nothing is approved.
    #[serde(default)]
    #[schemars(length(min = 64, max = 64))]
    hash: Option<String>,
}

pub async fn set_tool_enabled(tools: Tools, call: Call, input: SetToolEnabled) -> Result<ToolDetail> {
    let enabled = input.enabled;
    tools
        .change(&call, &input.name, |tool, kept| {
            keep_the_way_back(tool, enabled)?;
            kept.settings.enabled = enabled;
            Ok(())
        })
        .await
}

pub async fn configure_tool(tools: Tools, call: Call, input: ConfigureTool) -> Result<ToolDetail> {
    let name = input.name.clone();
    tools.change(&call, &name, |tool, kept| input.apply(tool, kept)).await
}

pub async fn approve_tool(tools: Tools, call: Call, input: ApproveTool) -> Result<ToolDetail> {
    let by = call.caller.subject.clone();
    let now = tools.inner.clock.now().0;
    tools
        .change(&call, &input.name, |tool, kept| {
            let Some(hash) = kept.waiting_hash.take() else {
                return match kept.pin {
                    Some(_) => Ok(()),
                    None => Err(Error::invalid(format!(
                        "`{}` is built in; only the definitions of services' tools are approved",
                        tool.line.name
                    ))),
                };
            };
            if input.hash.as_ref().is_some_and(|looked_at| *looked_at != hash) {
                return Err(Error::conflict(
                    "the definition changed again after you looked at it; look at `get_tool` once more",
                ));
            }
            (kept.pin, kept.approved) = (Some(hash), kept.waiting.take());
            (kept.approved_by, kept.changed_at) = (by, now);
            Ok(())
        })
        .await
}

/// Whoever switched these off could not switch them on again.
fn keep_the_way_back(tool: &FoundTool, enabled: bool) -> Result<()> {
    let needed = ["set_tool_enabled", "configure_tool", "list_tools", "get_tool"];
    if !enabled && tool.team.is_none() && needed.contains(&tool.own_name.as_str()) {
        return Err(Error::invalid(format!(
            "`{}` cannot be switched off: it is the way back",
            tool.own_name
        )));
    }
    Ok(())
}

impl ConfigureTool {
    fn apply(self, tool: &FoundTool, kept: &mut Kept) -> Result<()> {
        let built_in = tool.team.is_none();
        let settings = &mut kept.settings;
        let only_services = |field: &str| {
            Err(Error::invalid(format!(
                "{field}: a built-in tool has none; it can be switched, described and limited"
            )))
        };
        if let Some(enabled) = self.is_enabled {
            keep_the_way_back(tool, enabled)?;
            settings.enabled = enabled;
        }
        if let Some(name) = self.rename {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if built_in {
                return only_services("rename");
            }
            if !name.chars().all(plain) {
                return Err(Error::invalid("rename: a name is of letters, digits, `_` and `-`"));
            }
            settings.name = Some(name).filter(|name| !name.is_empty());
        }
        if let Some(description) = self.description {
            settings.description = Some(description).filter(|text| !text.is_empty());
        }
        if let Some(cache) = self.cache_enabled {
            if built_in && cache {
                return only_services("cache_enabled");
            }
            if cache && !tool.line.read_only {
                return Err(Error::invalid(format!(
                    "cache_enabled: `{}` does not say that it only reads; its results cannot be kept",
                    tool.line.name
                )));
            }
            settings.cache_enabled = cache;
        }
        if let Some(retries) = self.max_retries {
            if built_in && retries > 0 {
                return only_services("max_retries");
            }
            settings.max_retries = retries;
        }
        settings.timeout_seconds = self.timeout_seconds.or(settings.timeout_seconds);
        settings.cache_ttl = self.cache_ttl.unwrap_or(settings.cache_ttl);
        settings.category = self.category.or(settings.category.take());
        if let Some(rate) = self.rate_limit_per_minute {
            settings.rate_limit_per_minute = Some(rate).filter(|rate| *rate > 0);
        }
        if let Some(tags) = self.tags {
            settings.tags = tags;
        }
        Ok(())
    }
}

impl Tools {
    /// Changes what is kept of a tool, and makes the world anew before the answer.
    async fn change(
        &self,
        call: &Call,
        name: &str,
        change: impl FnOnce(&FoundTool, &mut Kept) -> Result<()>,
    ) -> Result<ToolDetail> {
        let inner = &self.inner;
        let found = self.find(&call.caller, name)?;
        {
            let _one_at_a_time = inner.keeping.lock().await;
            let all = inner.store.tools().await?;
            let known = all.into_iter().find(|(id, _)| *id == found.id);
            let mut kept = known.map_or_else(Kept::default, |(_, kept)| kept);
            change(&found, &mut kept)?;
            let team = found.team.as_deref().unwrap_or_else(|| call.caller.team());
            inner.store.put(&found.id, team, &call.caller.subject, &kept).await?;
        }
        let services = inner.services.upstreams().borrow().clone();
        let told = inner.catalogue.get().map(|catalogue| catalogue.borrow().clone());
        self.make_world(&services, told.as_deref()).await?;
        let now = self.all(&call.caller).into_iter().find(|tool| tool.id == found.id);
        self.detail(now.unwrap_or(found)).await
    }
}
