//! What is served to whom: the world's policies laid over what the services offer.
//!
//! A [`Routes`] is made anew whenever either changes, and read by every request without a lock being held.
//! A tool that is disabled, quarantined or other than its pin is not in it: it is neither listed nor found,
//! and a caller who may not use a tool gets the same answer as for one that is not there.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use opsroom_core::{Caller, Effect, Role};
use serde_json::value::RawValue;

use crate::catalogue::{Entry, Service, Tool, exposed_name};
use crate::message::{Members, raw_text};
use crate::page::Page;
use crate::seam::Definition;
use crate::upstream::Link;
use crate::world::{Profile, ToolPolicy, Upstream};

/// Which part of everything an endpoint shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum View {
    /// The built-in tools and those of every service, as `{service}__{tool}`.
    All,
    /// One service, with its own names.
    Service(String),
    /// A chosen set.
    Profile(String),
}

/// Everything that is served.
#[derive(Default)]
pub struct Routes {
    /// The services, by name.
    pub services: Vec<Arc<Served>>,
    tools: HashMap<String, (Arc<Served>, usize)>,
    prompts: HashMap<String, (Arc<Served>, usize)>,
    profiles: Vec<Profile>,
    builtin: BTreeMap<String, ToolPolicy>,
}

/// A service as it is served.
pub struct Served {
    /// The way to it.
    pub link: Arc<Link>,
    /// What it offers.
    pub service: Arc<Service>,
    /// `{name}__`: how the names of its tools begin in scopes.
    prefix: String,
    /// Its tools that are served.
    pub tools: Vec<ServedTool>,
    by_name: HashMap<String, usize>,
    /// Its prompts, with the names they have beside those of others.
    pub prompts: Vec<ServedPrompt>,
}

/// A tool as it is served.
pub struct ServedTool {
    /// What the service says of it.
    pub tool: Arc<Tool>,
    /// What is allowed.
    pub policy: ToolPolicy,
    /// Its name at the service's own endpoint.
    pub plain: String,
    /// Its name beside the tools of others.
    pub exposed: String,
    /// Its name in scopes: `{service}__{tool}`, whatever its length.
    scoped: String,
    /// Its definition with either name.
    listed: (String, String),
}

/// A prompt as it is served.
pub struct ServedPrompt {
    /// What the service says of it.
    pub entry: Arc<Entry>,
    /// Its name beside the prompts of others.
    pub exposed: String,
    listed: String,
}

impl ServedTool {
    /// What a call of it does to the world, as far as its service says.
    pub fn effect(&self) -> Effect {
        if self.tool.read_only { Effect::Read } else { Effect::Write }
    }
}

impl Served {
    /// A service with the policies of its upstream.
    pub fn new(link: Arc<Link>, service: Arc<Service>) -> Self {
        let upstream = link.upstream.clone();
        let tools = service.tools.iter().filter_map(|tool| served(&upstream, tool));
        let mut taken: Vec<ServedTool> = Vec::new();
        for tool in tools {
            // A rename must not make two tools one.
            if taken.iter().all(|other| other.plain != tool.plain) {
                taken.push(tool);
            }
        }
        let by_name = taken.iter().enumerate().map(|(at, tool)| (tool.plain.clone(), at)).collect();
        let prompts = service.prompts.iter().map(|entry| {
            let exposed = exposed_name(&upstream.name, &entry.key);
            let listed = renamed(&entry.definition, &exposed, None);
            ServedPrompt { entry: entry.clone(), exposed, listed }
        });
        Self {
            prefix: format!("{}__", upstream.name),
            prompts: prompts.collect(),
            tools: taken,
            by_name,
            link,
            service,
        }
    }

    /// Whether its tools, prompts and resources are any business of this caller's team.
    pub fn is_of(&self, caller: &Caller) -> bool {
        caller.teams.contains(&self.link.upstream.team)
    }

    /// Whether a caller may see and call a tool.
    pub fn may(&self, caller: &Caller, tool: &ServedTool) -> bool {
        let effect = tool.effect();
        let role = if effect == Effect::Read { Role::Viewer } else { Role::Operator };
        self.is_of(caller)
            && caller.role >= role
            && (caller.scopes.is_none() || caller.may_name("tools", "execute_tool", effect, &tool.scoped))
    }

    /// Whether a caller may read its prompts and resources.
    pub fn may_read(&self, caller: &Caller) -> bool {
        self.is_of(caller)
            && (caller.scopes.is_none()
                || caller.may_name("tools", "execute_tool", Effect::Read, &self.prefix))
    }
}

fn served(upstream: &Upstream, tool: &Arc<Tool>) -> Option<ServedTool> {
    let policy = upstream.policy(&tool.name);
    let pinned = policy.pin.as_ref().is_none_or(|pin| *pin == tool.hash);
    if !policy.enabled || policy.quarantined || !pinned {
        return None;
    }
    let plain = policy.name.clone().unwrap_or_else(|| tool.name.clone());
    let exposed = exposed_name(&upstream.name, &plain);
    let description = policy.description.as_deref();
    let own = if plain == tool.name && description.is_none() {
        tool.definition.get().to_owned()
    } else {
        renamed(&tool.definition, &plain, description)
    };
    let listed = (own, renamed(&tool.definition, &exposed, description));
    let scoped = format!("{}__{}", upstream.name, tool.name);
    Some(ServedTool { tool: tool.clone(), policy: policy.clone(), plain, exposed, scoped, listed })
}

fn renamed(definition: &RawValue, name: &str, description: Option<&str>) -> String {
    let mut members = Members::of(definition).unwrap_or_default();
    members.set("name", raw_text(name));
    if let Some(description) = description {
        members.set("description", raw_text(description));
    }
    members.to_raw().get().to_owned()
}

impl Routes {
    /// Lays the parts together.
    pub fn new(
        services: Vec<Arc<Served>>,
        profiles: Vec<Profile>,
        builtin: BTreeMap<String, ToolPolicy>,
    ) -> Self {
        let (mut tools, mut prompts) = (HashMap::new(), HashMap::new());
        for served in &services {
            for (at, tool) in served.tools.iter().enumerate() {
                tools.entry(tool.exposed.clone()).or_insert_with(|| (served.clone(), at));
            }
            for (at, prompt) in served.prompts.iter().enumerate() {
                prompts.entry(prompt.exposed.clone()).or_insert_with(|| (served.clone(), at));
            }
        }
        Self { services, tools, prompts, profiles, builtin }
    }

    /// The service of that name.
    pub fn service(&self, name: &str) -> Option<&Arc<Served>> {
        let at = self.services.binary_search_by(|served| served.service.name.as_str().cmp(name)).ok()?;
        self.services.get(at)
    }

    /// What a caller sees at an endpoint; `None` when there is no such endpoint for this caller.
    pub fn sight<'a>(&'a self, view: &View, caller: &'a Caller) -> Option<Sight<'a>> {
        let part = match view {
            View::All => Part::All,
            View::Service(name) => {
                Part::Service(self.service(name).filter(|served| served.is_of(caller))?.clone())
            }
            View::Profile(name) => {
                let mine = |profile: &&Profile| profile.name == *name && caller.teams.contains(&profile.team);
                Part::Profile(self.profiles.iter().find(mine)?)
            }
        };
        Some(Sight { routes: self, part, caller })
    }

    /// The policy of a built-in tool.
    pub fn builtin(&self, tool: &str) -> Option<&ToolPolicy> {
        self.builtin.get(tool)
    }
}

enum Part<'a> {
    All,
    Service(Arc<Served>),
    Profile(&'a Profile),
}

/// What one caller sees at one endpoint.
pub struct Sight<'a> {
    routes: &'a Routes,
    part: Part<'a>,
    caller: &'a Caller,
}

/// A tool that was found.
pub enum Found {
    /// One of the house.
    BuiltIn,
    /// One of a service, by its place in [`Served::tools`].
    Tool(Arc<Served>, usize),
}

impl Sight<'_> {
    /// The tool of that name; `None` when there is none that this caller may use.
    pub fn tool(&self, name: &str) -> Option<Found> {
        let (served, at) = match &self.part {
            Part::Service(served) => (served, *served.by_name.get(name)?),
            Part::All | Part::Profile(_) => match self.routes.tools.get(name) {
                Some((served, at)) => (served, *at),
                None => return self.may_builtin(name).then_some(Found::BuiltIn),
            },
        };
        let tool = &served.tools[at];
        let chosen = self.chosen(Some(&served.service.name), &tool.tool.name);
        (chosen && served.may(self.caller, tool)).then(|| Found::Tool(served.clone(), at))
    }

    fn may_builtin(&self, name: &str) -> bool {
        let enabled = self.routes.builtin(name).is_none_or(|policy| policy.enabled);
        enabled && self.chosen(None, name)
    }

    fn chosen(&self, service: Option<&str>, tool: &str) -> bool {
        let Part::Profile(profile) = &self.part else { return true };
        profile.tools.iter().any(|choice| {
            choice.service.as_deref() == service && choice.tool.as_ref().is_none_or(|name| name == tool)
        })
    }

    /// Puts the definitions of every tool that the caller may use on a page.
    pub fn list_tools(&self, builtin: &[Definition], page: &mut Page) {
        if !matches!(self.part, Part::Service(_)) {
            for Definition { name, text } in builtin {
                if self.may_builtin(name) {
                    match self.routes.builtin(name).and_then(|policy| policy.description.as_deref()) {
                        Some(description) => page.push(&renamed(text, name, Some(description))),
                        None => page.push(text.get()),
                    }
                }
            }
        }
        for served in self.services() {
            let own = matches!(self.part, Part::Service(_));
            for tool in served.tools.iter().filter(|tool| served.may(self.caller, tool)) {
                if self.chosen(Some(&served.service.name), &tool.tool.name) {
                    page.push(if own { &tool.listed.0 } else { &tool.listed.1 });
                }
            }
        }
    }

    /// The services that are seen.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Served>> {
        let only = match &self.part {
            Part::Service(served) => Some(served),
            _ => None,
        };
        let all = if only.is_none() { self.routes.services.as_slice() } else { &[] };
        only.into_iter().chain(all).filter(|served| served.is_of(self.caller))
    }

    /// The only service, at its own endpoint.
    pub fn only(&self) -> Option<&Arc<Served>> {
        match &self.part {
            Part::Service(served) => Some(served),
            _ => None,
        }
    }

    /// What a profile tells agents.
    pub fn profile(&self) -> Option<&Profile> {
        match &self.part {
            Part::Profile(profile) => Some(profile),
            _ => None,
        }
    }

    /// The prompt of that name, with the name that its service gives it.
    pub fn prompt(&self, name: &str) -> Option<(Arc<Served>, String)> {
        let found = match &self.part {
            Part::Service(served) => (served.clone(), name.to_owned()),
            Part::All => {
                let (served, at) = self.routes.prompts.get(name)?;
                (served.clone(), served.prompts[*at].entry.key.clone())
            }
            Part::Profile(_) => return None,
        };
        found.0.may_read(self.caller).then_some(found)
    }

    /// The service that has a resource: the first, by name, that lists it or a template that it fits.
    pub fn resource(&self, uri: &str) -> Option<Arc<Served>> {
        match &self.part {
            Part::Service(served) => Some(served.clone()),
            Part::Profile(_) => None,
            Part::All => {
                let mine = || self.services().filter(|served| served.may_read(self.caller));
                let exact =
                    mine().find(|served| served.service.resources.iter().any(|entry| entry.key == uri));
                exact
                    .or_else(|| {
                        mine()
                            .find(|served| served.service.templates.iter().any(|entry| fits(&entry.key, uri)))
                    })
                    .cloned()
            }
        }
        .filter(|served| served.may_read(self.caller))
    }

    /// Puts the definitions of prompts, resources or templates on a page.
    pub fn list_entries(&self, list: Entries, page: &mut Page) {
        if self.profile().is_some() {
            return;
        }
        let own = self.only().is_some();
        let mut seen = std::collections::HashSet::new();
        for served in self.services().filter(|served| served.may_read(self.caller)) {
            let mut push = |key: &str, definition: &str| {
                // A resource that two services name is the first one's: reading it reads that one.
                if seen.insert(key.to_owned()) {
                    page.push(definition);
                }
            };
            match list {
                Entries::Prompts if !own => {
                    served.prompts.iter().for_each(|prompt| push(&prompt.exposed, &prompt.listed));
                }
                Entries::Prompts => {
                    served.service.prompts.iter().for_each(|entry| push(&entry.key, entry.definition.get()));
                }
                Entries::Resources => {
                    served
                        .service
                        .resources
                        .iter()
                        .for_each(|entry| push(&entry.key, entry.definition.get()));
                }
                Entries::Templates => {
                    served
                        .service
                        .templates
                        .iter()
                        .for_each(|entry| push(&entry.key, entry.definition.get()));
                }
            }
        }
    }
}

/// A list that is not of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries {
    /// `prompts/list`.
    Prompts,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    Templates,
}

/// Whether a URI could be of a template (RFC 6570): its fixed parts are there, in their order.
fn fits(template: &str, uri: &str) -> bool {
    let mut rest = uri;
    let mut parts = template.split('{');
    let Some(after) = rest.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    rest = after;
    let mut open = false;
    for part in parts {
        let fixed = part.split_once('}').map_or("", |(_, fixed)| fixed);
        if fixed.is_empty() {
            open = true;
            continue;
        }
        let Some(at) = rest.find(fixed) else { return false };
        rest = &rest[at + fixed.len()..];
        open = false;
    }
    open || rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_fits_the_template_that_it_was_made_of() {
        assert!(fits("test://template/{id}/data", "test://template/7/data"));
        assert!(fits("file:///{+path}", "file:///a/b"));
        assert!(!fits("test://template/{id}/data", "test://template/7/other"));
        assert!(!fits("test://template/{id}/data", "other://template/7/data"));
        assert!(fits("test://fixed", "test://fixed") && !fits("test://fixed", "test://fixed/more"));
    }
}
