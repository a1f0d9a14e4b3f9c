//! `list_tools`, `list_tool_categories`, `get_tool_stats`, `search_tools` and `get_tool`.

use std::collections::BTreeMap;

use opsroom_core::{Call, Result, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::Tools;
use super::super::listing::{FoundTool, ToolLine};
use super::super::model::{CATEGORIES, Count, ToolStatus, rank};

/// Lists tools, built in and of services, with filters, page by page.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListTools {
    /// Only those of this category.
    #[serde(default)]
    #[schemars(length(max = 64))]
    category: Option<String>,
    /// Only those with this status.
    #[serde(default)]
    status: Option<ToolStatus>,
    /// Only those of this service.
    #[serde(default)]
    #[schemars(length(max = 100))]
    service_id: Option<String>,
    /// Only those whose name or description holds this text.
    #[serde(default)]
    #[schemars(length(max = 100))]
    search: Option<String>,
    /// The page, from 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000))]
    page: usize,
    /// How many a page, from 1 to 100.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = 100))]
    page_size: usize,
}

fn one() -> usize {
    1
}

fn twenty() -> usize {
    20
}

fn ten() -> usize {
    10
}

/// Tools.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ToolPage {
    /// The tools of this page.
    pub items: Vec<ToolLine>,
    /// Where the page is among the others.
    pub pagination: ToolPagination,
}

/// Where a page is among the others.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ToolPagination {
    /// How many there are in all.
    pub total: usize,
    /// This page, from 1.
    pub page: usize,
    /// How many a page.
    pub size: usize,
    /// How many pages.
    pub pages: usize,
}

pub async fn list_tools(tools: Tools, call: Call, input: ListTools) -> Result<ToolPage> {
    let search = input.search.map(|text| text.to_lowercase());
    let wanted = |line: &ToolLine| {
        input.category.as_ref().is_none_or(|category| *category == line.category)
            && input.status.is_none_or(|status| status == line.status)
            && input.service_id.as_ref().is_none_or(|service| Some(service) == line.service_id.as_ref())
            && search.as_ref().is_none_or(|text| {
                line.name.to_lowercase().contains(text) || line.description.to_lowercase().contains(text)
            })
    };
    let all: Vec<ToolLine> =
        tools.all(&call.caller).into_iter().map(|tool| tool.line).filter(wanted).collect();
    let pagination = ToolPagination {
        total: all.len(),
        page: input.page,
        size: input.page_size,
        pages: all.len().div_ceil(input.page_size),
    };
    let items = all.into_iter().skip((input.page - 1) * input.page_size).take(input.page_size).collect();
    Ok(ToolPage { items, pagination })
}

/// Lists the categories of tools, and how many tools each has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListToolCategories {}

/// Categories.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ToolCategories {
    /// The categories, by name.
    pub items: Vec<ToolCategory>,
}

/// A category.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ToolCategory {
    /// Its name.
    pub name: String,
    /// How many tools it has.
    pub count: usize,
}

pub async fn list_tool_categories(tools: Tools, call: Call, _: ListToolCategories) -> Result<ToolCategories> {
    let mut counts: BTreeMap<String, usize> = CATEGORIES.iter().map(|name| ((*name).to_owned(), 0)).collect();
    for tool in tools.all(&call.caller) {
        *counts.entry(tool.line.category).or_default() += 1;
    }
    Ok(ToolCategories {
        items: counts.into_iter().map(|(name, count)| ToolCategory { name, count }).collect(),
    })
}

/// Shows how tools are used: calls, how many went well, how long they took, how many the cache answered.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetToolStats {
    /// Of how many hours back, from 1 to 2160 (90 days).
    #[serde(default = "day")]
    #[schemars(range(min = 1, max = 2160))]
    hours: i64,
    /// Only those of this service.
    #[serde(default)]
    #[schemars(length(max = 100))]
    service_id: Option<String>,
}

fn day() -> i64 {
    24
}

/// How tools are used.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ToolStats {
    /// How many tools there are.
    pub total_tools: usize,
    /// All of them together.
    pub total: ToolUse,
    /// Each that was called, the most called first.
    pub items: Vec<ToolUse>,
}

/// How one tool is used.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ToolUse {
    /// Its name; empty for all together.
    pub name: String,
    /// How often it was called.
    pub total_calls: u64,
    /// How often that went well.
    pub success_calls: u64,
    /// How often it did not.
    pub error_calls: u64,
    /// How many of its calls were refused by a limit or a policy; they are among those that did not go well.
    pub refused_calls: u64,
    /// From 0 to 1; null without calls.
    pub success_rate: Option<f64>,
    /// From 0 to 1; null without calls.
    pub cache_hit_rate: Option<f64>,
    /// The mean time of a call, in milliseconds; null without calls.
    pub avg_ms: Option<f64>,
    /// Half of the calls took no longer, in milliseconds, to within 10 %; null without calls.
    pub p50_ms: Option<f64>,
    /// 95 % of the calls took no longer.
    pub p95_ms: Option<f64>,
    /// 99 % of the calls took no longer.
    pub p99_ms: Option<f64>,
    /// When it was last called; null without calls.
    pub last_used_at: Option<String>,
}

fn used(name: String, count: &Count) -> ToolUse {
    let any = count.calls > 0;
    let share = |part: u64| any.then(|| part as f64 / count.calls as f64);
    let percentile = |share: f64| any.then(|| count.percentile(share));
    ToolUse {
        name,
        total_calls: count.calls,
        success_calls: count.ok,
        error_calls: count.calls - count.ok,
        refused_calls: count.refused,
        success_rate: share(count.ok),
        cache_hit_rate: share(count.cached),
        avg_ms: any.then(|| count.total_ms / count.calls as f64),
        p50_ms: percentile(0.5),
        p95_ms: percentile(0.95),
        p99_ms: percentile(0.99),
        last_used_at: any.then(|| Time(count.last).to_rfc3339()),
    }
}

pub async fn get_tool_stats(tools: Tools, call: Call, input: GetToolStats) -> Result<ToolStats> {
    let counted = tools.counted(input.hours).await?;
    let seen = tools.all(&call.caller);
    let mut total = Count::default();
    let mut items = Vec::new();
    let of = |tool: &&FoundTool| {
        input.service_id.as_ref().is_none_or(|service| Some(service) == tool.line.service_id.as_ref())
    };
    // Only of tools that the caller may see: what others call is none of their business.
    for tool in seen.iter().filter(of) {
        if let Some(count) = counted.get(&tool.id) {
            total.merge(count);
            items.push(used(tool.line.name.clone(), count));
        }
    }
    items.sort_by(|a, b| b.total_calls.cmp(&a.total_calls).then_with(|| a.name.cmp(&b.name)));
    Ok(ToolStats { total_tools: seen.len(), total: used(String::new(), &total), items })
}

/// Finds the tools that fit a task best, so that an agent needs to see only those. Each comes with what it
/// takes, ready to be called by its name or through `execute_tool`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchTools {
    /// What the tool should do, in a few words.
    #[schemars(length(min = 1, max = 500))]
    query: String,
    /// The most tools, from 1 to 50.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 50))]
    limit: usize,
}

/// The tools that fit.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct FoundTools {
    /// The tools, the best fitting first.
    pub items: Vec<RankedTool>,
}

/// A tool that fits.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct RankedTool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// How well it fits; only the order means something.
    pub score: f64,
    /// What it takes (JSON Schema).
    pub input_schema: Value,
}

pub async fn search_tools(tools: Tools, call: Call, input: SearchTools) -> Result<FoundTools> {
    let usable = |tool: &FoundTool| matches!(tool.line.status, ToolStatus::Active | ToolStatus::Deprecated);
    let all: Vec<FoundTool> = tools.all(&call.caller).into_iter().filter(usable).collect();
    let texts: Vec<String> = all
        .iter()
        .map(|tool| {
            let fields = tool.input["properties"].as_object();
            let fields: Vec<&str> = fields.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            // The name counts twice: it is what the tool's maker found most telling.
            let (name, tags) = (&tool.line.name, tool.line.tags.join(" "));
            format!("{name} {name} {} {tags} {}", tool.line.description, fields.join(" "))
        })
        .collect();
    let items = rank(&input.query, &texts, input.limit).into_iter().map(|(place, score)| {
        let tool = &all[place];
        RankedTool {
            name: tool.line.name.clone(),
            description: tool.line.description.clone(),
            score,
            input_schema: tool.input.clone(),
        }
    });
    Ok(FoundTools { items: items.collect() })
}

/// Shows one tool: its definition, what is configured for it, and how its definition changed since it was
/// approved.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetTool {
    /// Its name.
    #[schemars(length(min = 1, max = 200))]
    name: String,
}

/// A tool with everything about it.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ToolDetail {
    /// The line of the list.
    #[serde(flatten)]
    pub line: ToolLine,
    /// What it is kept under.
    pub id: String,
    /// What it takes (JSON Schema).
    pub parameters_schema: Value,
    /// What it answers (JSON Schema); null when it does not say.
    pub return_schema: Value,
    /// The longest time for one call, in seconds; null is its service's.
    pub timeout_seconds: Option<u32>,
    /// How often a call that could not be delivered is tried again.
    pub max_retries: u32,
    /// The most calls in a minute; null is as many as come.
    pub rate_limit_per_minute: Option<u32>,
    /// Whether results are kept, when it only reads.
    pub cache_enabled: bool,
    /// For how long, in seconds.
    pub cache_ttl: u32,
    /// The hash of the approved definition; null for a built-in tool.
    pub pin: Option<String>,
    /// What changed since it was approved; empty when nothing did.
    pub changes: Vec<ToolChange>,
    /// When it was first seen; null for a built-in tool.
    pub created_at: Option<String>,
    /// How it was used in the last day.
    pub usage: ToolUse,
}

/// One difference between the approved definition and the one that waits.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub struct ToolChange {
    /// Where, such as `/inputSchema/properties/path`.
    pub path: String,
    /// What was approved; null when it was not there.
    pub approved: Value,
    /// What it says now; null when it is not there.
    pub now: Value,
}

pub async fn get_tool(tools: Tools, call: Call, input: GetTool) -> Result<ToolDetail> {
    let tool = tools.find(&call.caller, &input.name)?;
    tools.detail(tool).await
}

impl Tools {
    pub(super) async fn detail(&self, tool: FoundTool) -> Result<ToolDetail> {
        let counted = self.counted(24).await?;
        let count = counted.get(&tool.id).cloned().unwrap_or_default();
        let (settings, kept) = (&tool.kept.settings, &tool.kept);
        let mut changes = Vec::new();
        if let (Some(approved), Some(waiting)) = (&kept.approved, &kept.waiting) {
            differences(String::new(), approved, waiting, &mut changes);
        }
        Ok(ToolDetail {
            usage: used(tool.line.name.clone(), &count),
            id: tool.id,
            parameters_schema: tool.input,
            return_schema: tool.output,
            timeout_seconds: settings.timeout_seconds,
            max_retries: settings.max_retries,
            rate_limit_per_minute: settings.rate_limit_per_minute,
            cache_enabled: settings.cache_enabled,
            cache_ttl: settings.cache_ttl,
            pin: kept.pin.clone(),
            changes,
            created_at: (kept.first_seen > 0).then(|| Time(kept.first_seen).to_rfc3339()),
            line: tool.line,
        })
    }
}

/// What differs between two definitions, as deep as they are alike.
fn differences(path: String, approved: &Value, now: &Value, changes: &mut Vec<ToolChange>) {
    const MOST: usize = 100;
    match (approved, now) {
        _ if approved == now || changes.len() >= MOST => {}
        (Value::Object(before), Value::Object(after)) => {
            let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for name in names {
                let of = |map: &serde_json::Map<String, Value>| map.get(name).cloned().unwrap_or_default();
                let step = name.replace('~', "~0").replace('/', "~1");
                differences(format!("{path}/{step}"), &of(before), &of(after), changes);
            }
        }
        _ => changes.push(ToolChange { path, approved: approved.clone(), now: now.clone() }),
    }
}
