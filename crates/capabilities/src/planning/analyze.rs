//! `analyze_repository`: what a GitHub repository says about the service in it becomes a context, and the
//! context a plan. Every guess has its reason in the answer.

use std::time::Duration;

use http::HeaderMap;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use opsroom_analytics::forecast::contract::{At, Context, RuntimeEnv, ServiceType, TimeSlot};
use opsroom_core::egress::{Limits, Request};
use opsroom_core::{Call, Error, Kind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Planning;
use super::advice::WhatIf;
use super::config::FlavorConfig;
use super::context::Subject;
use super::store::digest;

/// Files at the root that say something.
const MANIFESTS: [&str; 11] = [
    "dockerfile",
    "docker-compose.yml",
    "docker-compose.yaml",
    "compose.yaml",
    "package.json",
    "requirements.txt",
    "pyproject.toml",
    "cargo.toml",
    "go.mod",
    "pom.xml",
    ".github",
];
/// Words of a description that make a service what it is, the first match counting.
const WORDS: [(ServiceType, &[&str]); 3] = [
    (ServiceType::Db, &["database", "key-value store", "sql engine", "datastore"]),
    (
        ServiceType::Web,
        &[
            "flask", "django", "fastapi", "express", "react", "vue", "next.js", "frontend", "website",
            "web app",
        ],
    ),
    (
        ServiceType::Api,
        &[
            "worker",
            "celery",
            "sidekiq",
            "queue",
            "background",
            "machine learning",
            "spark",
            "analytics",
            "api",
        ],
    ),
];

/// Looks at a GitHub repository (languages, files, manifests) and plans the service in it.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct AnalyzeRepository {
    /// `https://github.com/OWNER/NAME`, or `OWNER/NAME`. The host is that of `planning.github.api_url`.
    #[schemars(length(min = 3, max = 256))]
    pub github_url: String,
    /// `prod` or `dev`.
    #[serde(default)]
    pub runtime_env: RuntimeEnv,
}

/// What was found, and the plan.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Analysis {
    /// Always true; failures are errors.
    pub success: bool,
    /// What the repository says.
    pub repository: Repository,
    /// The forecast.
    pub predictions: Predictions,
    /// What to reserve.
    pub recommendations: Size,
    /// What it costs.
    pub cost_estimate: Cost,
    /// In a sentence.
    pub message: String,
    /// Why each guess was made.
    pub reasons: Vec<String>,
}

/// A repository.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Repository {
    /// Its name.
    pub name: String,
    /// With its owner's.
    pub full_name: String,
    /// Its description; untrusted text.
    pub description: Option<String>,
    /// Stars.
    pub stars: u64,
    /// Forks.
    pub forks: u64,
    /// The language with the most bytes.
    pub language: Option<String>,
    /// The kind of service.
    pub service_type: ServiceType,
    /// A guess at its users.
    pub estimated_users: u64,
    /// Files at its root that say how it is built and run.
    pub manifests: Vec<String>,
}

/// The forecast, as the older system shows it here.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Predictions {
    /// The hours.
    #[serde(rename = "24h_forecast")]
    pub hours: Vec<Hour>,
    /// Whether the forecast is abnormal.
    pub is_anomaly: bool,
    /// By how much; null where that is beyond measure.
    pub anomaly_score: Option<f64>,
    /// What the router chose, and with a suffix what stood in.
    pub model_version: String,
}

/// One hour.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Hour {
    /// Its beginning.
    pub time: String,
    /// The value forecast.
    pub value: f64,
}

/// What to reserve.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Size {
    /// The flavor.
    pub instance_type: String,
    /// Its virtual processors.
    pub cpu: f64,
    /// Its memory in MiB.
    pub memory_mb: f64,
}

/// What it costs.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Cost {
    /// A day.
    pub daily_usd: f64,
    /// Thirty days.
    pub monthly_usd: f64,
    /// `USD`.
    pub currency: String,
}

pub(super) async fn analyze_repository(
    service: Planning,
    call: Call,
    input: AnalyzeRepository,
) -> Result<Analysis> {
    let site = Site::of(&service.config.github.api_url);
    let (owner, name) = parts(&input.github_url, &site)?;
    let path = format!("/repos/{owner}/{name}");
    let about = service.github(&path).await?;
    if !about["name"].is_string() {
        return Err(Error::unavailable("GitHub: its answer describes no repository"));
    }
    // What these two miss is a smaller guess and no failure.
    let mut reasons = Vec::new();
    let mut or_reason = |what: &str, found: Result<Value>| {
        found.unwrap_or_else(|error| {
            reasons.push(format!("its {what} could not be read: {}", error.message));
            Value::Null
        })
    };
    let languages = or_reason("languages", service.github(&format!("{path}/languages")).await);
    let files = or_reason("files", service.github(&format!("{path}/contents")).await);
    let repository = read(&owner, &name, &about, &languages, &files, &mut reasons);
    let (cpu, memory_mb) = size(&repository, &mut reasons);
    let now = service.clock.now().0.div_euclid(1_000_000);
    let slot = slot(about["pushed_at"].as_str(), &mut reasons);
    let url = format!("https://{}/{owner}/{name}", site.shown);
    let subject = Subject {
        context_id: digest(&[&url, &now.to_string()]),
        region: None,
        requirements: None,
        dialect: At::Head,
        service: url,
        context: Context {
            service_type: repository.service_type,
            runtime_env: input.runtime_env,
            time_slot: slot,
            weight: 1.0,
            expected_users: Some(repository.estimated_users),
        },
        now,
        cpus: Some(cpu),
        memory_mib: Some(memory_mb),
        notes: Vec::new(),
    };
    let plan = service.plan(&call, &subject, "total_events", &WhatIf::default()).await?;
    reasons.extend(plan.notes.clone());
    let hours =
        plan.prediction.predictions.iter().map(|hour| Hour { time: hour.time.clone(), value: hour.value });
    Ok(Analysis {
        success: true,
        predictions: Predictions {
            hours: hours.collect(),
            is_anomaly: plan.anomaly.abnormal,
            anomaly_score: plan.anomaly.score.score,
            model_version: plan.prediction.model_version,
        },
        recommendations: flavor_size(plan.recommended_flavor, &service.config.flavors),
        cost_estimate: Cost {
            daily_usd: plan.expected_cost_per_day,
            monthly_usd: 30.0 * plan.expected_cost_per_day,
            currency: "USD".to_owned(),
        },
        message: format!("{} was looked at and planned", repository.full_name),
        repository,
        reasons,
    })
}

/// The size of a flavor, so that it, its price and its numbers are of the same thing.
fn flavor_size(name: String, flavors: &[FlavorConfig]) -> Size {
    let known = flavors.iter().find(|flavor| flavor.name == name);
    let (cpu, memory_mb) = known.map_or((0.0, 0.0), |flavor| (flavor.cpus, flavor.memory_mib));
    Size { instance_type: name, cpu, memory_mb }
}

/// Where repositories are, by the address of its API.
struct Site {
    /// The host in a repository's address.
    shown: String,
    /// The host, with its port, of the API.
    api: String,
}

impl Site {
    /// GitHub Enterprise has its API below `/api/v3` of its own host; any other API is taken for one that
    /// stands before github.com.
    fn of(api_url: &str) -> Self {
        let (_, rest) = scheme(api_url.trim());
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let api = host.to_ascii_lowercase();
        let own = path.trim_end_matches('/') == "api/v3";
        Site { shown: if own { api.clone() } else { "github.com".to_owned() }, api }
    }

    fn has(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        host.strip_prefix("www.").unwrap_or(&host) == self.shown || host == self.api
    }
}

/// Whether an address begins with a scheme of the web, and what follows it.
fn scheme(text: &str) -> (bool, &str) {
    let after = |scheme: &str| {
        text.get(..scheme.len())
            .filter(|head| head.eq_ignore_ascii_case(scheme))
            .map(|_| &text[scheme.len()..])
    };
    after("https://").or_else(|| after("http://")).map_or((false, text), |rest| (true, rest))
}

/// The owner and the name in a repository's address, which may be that of a page in it.
fn parts(url: &str, site: &Site) -> Result<(String, String)> {
    let (has_scheme, rest) = scheme(url.trim());
    // An owner's name has no dot: what has one before the first slash is a host.
    let (host, path) = match rest.split_once('/') {
        Some((host, path)) if has_scheme || host.contains('.') => (Some(host), path),
        _ => (None, rest),
    };
    if let Some(host) = host
        && !site.has(host)
    {
        let shown: String = host.escape_debug().take(80).collect();
        let text = format!(
            "github_url: `{shown}` is not `{}`, the site that `planning.github.api_url` looks at",
            site.shown
        );
        return Err(Error::invalid(text));
    }
    let path = if host.is_some() { path.split(['?', '#']).next().unwrap_or_default() } else { path };
    let mut parts = path.trim_end_matches('/').split('/');
    let word = |text: &str| {
        (1..=100).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let owner = parts.next().filter(|owner| word(owner) && !owner.contains('.'));
    let name = parts.next().map(|name| name.strip_suffix(".git").unwrap_or(name));
    let name = name.filter(|name| word(name) && !name.bytes().all(|b| b == b'.'));
    match (owner, name) {
        (Some(owner), Some(name)) if host.is_some() || parts.next().is_none() => {
            Ok((owner.to_owned(), name.to_owned()))
        }
        _ => Err(Error::invalid(format!(
            "github_url: it is `https://{}/OWNER/NAME`, or `OWNER/NAME`",
            site.shown
        ))),
    }
}

/// For how many seconds GitHub takes no more requests, by the headers of its answer; at most a day.
fn pause(headers: &HeaderMap, now: i64) -> u64 {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<i64>().ok();
    let seconds = number("retry-after").or_else(|| Some(number("x-ratelimit-reset")?.saturating_sub(now)));
    // Without either GitHub asks for a minute.
    seconds.unwrap_or(60).clamp(1, 86_400).unsigned_abs()
}

impl Planning {
    async fn github(&self, path: &str) -> Result<Value> {
        let config = &self.config.github;
        let mut request = Request::get(format!("{}{path}", config.api_url.trim_end_matches('/')));
        let accept =
            "application/vnd.github+json".parse().map_err(|_| Error::internal("a constant is a header"))?;
        request.headers.insert("accept", accept);
        if !config.token.is_empty() {
            let value = format!("Bearer {}", config.token.expose()).parse();
            let value =
                value.map_err(|_| Error::unavailable("planning.github.token cannot be sent in a header"))?;
            request.headers.insert("authorization", value);
        }
        let limits = Limits { max_bytes: 4 << 20, timeout: Duration::from_secs(10), redirects: 3 };
        let response = self.egress.send(request, limits).await;
        let response = response.map_err(|error| {
            let kind = if error.kind == Kind::Forbidden { Kind::Forbidden } else { Kind::Unavailable };
            Error { kind, message: format!("GitHub: {}", error.message), ..error }
        })?;
        let left = response.headers.get("x-ratelimit-remaining").and_then(|value| value.to_str().ok());
        match response.status.as_u16() {
            200 => serde_json::from_slice(&response.body)
                .map_err(|_| Error::unavailable("GitHub: its answer is not JSON")),
            status @ (403 | 429)
                if status == 429 || left == Some("0") || response.headers.contains_key("retry-after") =>
            {
                let seconds = pause(&response.headers, self.clock.now().0.div_euclid(1_000_000));
                Err(Error::busy_for(
                    seconds,
                    format!(
                        "GitHub takes no more requests for {seconds} seconds; `planning.github.token` raises its limit"
                    ),
                ))
            }
            401 | 403 => {
                Err(Error::unavailable("GitHub refuses the token of `planning.github.token`, or needs one"))
            }
            404 => Err(Error::not_found("github_url: GitHub has no such repository, or it is private")),
            status => Err(Error::unavailable(format!("GitHub answered {status}"))),
        }
    }
}

fn read(
    owner: &str,
    name: &str,
    about: &Value,
    languages: &Value,
    files: &Value,
    reasons: &mut Vec<String>,
) -> Repository {
    let text = |key: &str| about[key].as_str().map(|text| text.chars().take(500).collect::<String>());
    let most = languages.as_object().and_then(|all| all.iter().max_by_key(|(_, bytes)| bytes.as_u64()));
    let language = most.map(|(language, _)| language.chars().take(50).collect()).or_else(|| text("language"));
    let names = files.as_array().into_iter().flatten().filter_map(|file| file["name"].as_str());
    let manifests: Vec<String> = names
        .filter(|name| MANIFESTS.contains(&name.to_lowercase().as_str()))
        .take(20)
        .map(str::to_owned)
        .collect();
    if !manifests.is_empty() {
        reasons.push(format!("its root has {}", manifests.join(", ")));
    }
    let (stars, forks) =
        (about["stargazers_count"].as_u64().unwrap_or(0), about["forks_count"].as_u64().unwrap_or(0));
    let estimated_users = ((0.05 * stars as f64 + 1.5 * forks as f64) as u64).max(10);
    reasons.push(format!("{estimated_users} users are guessed from {stars} stars and {forks} forks"));
    let topics = about["topics"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let words = topics.fold(text("description").unwrap_or_default(), |all, topic| format!("{all} {topic}"));
    let service_type = kind(&words.to_lowercase(), language.as_deref(), reasons);
    Repository {
        name: name.to_owned(),
        full_name: format!("{owner}/{name}"),
        description: text("description"),
        stars,
        forks,
        language,
        service_type,
        estimated_users,
        manifests,
    }
}

fn kind(words: &str, language: Option<&str>, reasons: &mut Vec<String>) -> ServiceType {
    for (kind, known) in WORDS {
        if let Some(word) = known.iter().find(|word| words.contains(**word)) {
            reasons.push(
                format!("it is taken for {kind:?} because its description or topics say `{word}`")
                    .to_lowercase(),
            );
            return kind;
        }
    }
    let web = matches!(language, Some("JavaScript" | "TypeScript"));
    let kind = if web { ServiceType::Web } else { ServiceType::Api };
    reasons.push(format!("it is taken for {kind:?} by its language").to_lowercase());
    kind
}

/// What such a service usually takes, by the older system's table.
fn size(repository: &Repository, reasons: &mut Vec<String>) -> (f64, f64) {
    let (cpu, memory) = match repository.language.as_deref() {
        Some("Java" | "Scala" | "Kotlin") => (4.0, 8192.0),
        Some("C++") => (4.0, 4096.0),
        Some("Rust" | "Go") => (2.0, 2048.0),
        _ => (2.0, 4096.0),
    };
    let (cpu, memory) = match repository.service_type {
        ServiceType::Web => (cpu, 1.5 * memory),
        ServiceType::Api => (1.2 * cpu, memory),
        ServiceType::Db => (2.0 * cpu, 2.0 * memory),
    };
    let (factor, most_cpu, most_memory): (f64, f64, f64) = match repository.stars {
        50_001.. => (4.0, 16.0, 32_768.0),
        10_001.. => (2.0, 8.0, 16_384.0),
        1_001.. => (1.5, f64::MAX, f64::MAX),
        _ => (1.0, f64::MAX, f64::MAX),
    };
    let language = repository.language.as_deref().unwrap_or("unknown");
    let (cpu, memory) = ((factor * cpu).min(most_cpu), (factor * memory).min(most_memory));
    reasons.push(format!(
        "{cpu} processors and {memory} MiB are guessed as what it has, from its language ({language}), kind and stars"
    ));
    (cpu, memory)
}

/// How busy the present hours are, guessed from when work was last pushed.
fn slot(pushed_at: Option<&str>, reasons: &mut Vec<String>) -> TimeSlot {
    let Some(pushed) = pushed_at.and_then(|text| text.parse::<Timestamp>().ok()) else {
        reasons.push("normal hours are assumed: it is not known when it was pushed to".to_owned());
        return TimeSlot::Normal;
    };
    let pushed = pushed.to_zoned(TimeZone::UTC);
    let weekend = matches!(pushed.weekday(), jiff::civil::Weekday::Saturday | jiff::civil::Weekday::Sunday);
    let slot = match pushed.hour() {
        _ if weekend => TimeSlot::Weekend,
        9..=17 => TimeSlot::Peak,
        22.. | 0..=5 => TimeSlot::Low,
        _ => TimeSlot::Normal,
    };
    reasons.push(
        format!(
            "{slot:?} hours are assumed, because it was last pushed to at {}",
            pushed.strftime("%A %H:%M UTC")
        )
        .to_lowercase(),
    );
    slot
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn github() -> Site {
        Site::of("https://api.github.com")
    }

    #[test]
    fn addresses_of_repositories_are_understood_and_others_refused() {
        let good = Some(("a".to_owned(), "b.c".to_owned()));
        for url in [
            "a/b.c",
            "https://github.com/a/b.c",
            "http://github.com/a/b.c/",
            "github.com/a/b.c.git",
            "HTTPS://GitHub.com/a/b.c",
            "https://www.github.com/a/b.c/tree/main",
            "https://github.com/a/b.c#readme",
            "https://github.com/a/b.c?tab=readme",
        ] {
            assert_eq!(parts(url, &github()).ok(), good, "{url}");
        }
        assert_eq!(parts("a/.github", &github()).unwrap().1, ".github");
        for url in
            ["", "a", "a/b/c/d", "a/..", "a/.git", "a/b?x", "a/b%2e", "https://github.com/a", "a b/c", "é/a"]
        {
            assert_eq!(parts(url, &github()).unwrap_err().kind, Kind::Invalid, "{url}");
        }
    }

    #[test]
    fn a_repository_of_another_site_is_not_taken_for_one_of_the_same_name_here() {
        let enterprise = Site::of("https://git.acme.example/api/v3");
        assert!(parts("https://git.acme.example/acme/shop", &enterprise).is_ok());
        for (url, site) in [
            ("https://gitlab.com/acme/shop", &github()),
            ("gitlab.com/acme/shop", &github()),
            ("https://github.com.evil.example/acme/shop", &github()),
            ("https://github.com@evil.example/acme/shop", &github()),
            ("https://github.com/acme/shop", &enterprise),
        ] {
            let error = parts(url, site).unwrap_err();
            assert!(error.message.contains("planning.github.api_url"), "{url}: {error}");
        }
    }

    #[test]
    fn the_pause_is_what_github_says() {
        let headers = |name: &'static str, value: &str| {
            HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
        };
        assert_eq!(pause(&headers("retry-after", "90"), 1000), 90);
        assert_eq!(pause(&headers("x-ratelimit-reset", "1300"), 1000), 300);
        assert_eq!(pause(&headers("x-ratelimit-reset", "900"), 1000), 1);
        assert_eq!(pause(&headers("retry-after", "soon"), 1000), 60);
        assert_eq!(pause(&headers("retry-after", "99999999"), 1000), 86_400);
    }

    #[test]
    fn the_numbers_of_a_size_are_those_of_its_flavor() {
        let flavors = crate::planning::config::PlanningConfig::default().flavors;
        let size = flavor_size("large".to_owned(), &flavors);
        let large = flavors.iter().find(|flavor| flavor.name == "large").unwrap();
        assert_eq!((size.cpu, size.memory_mb), (large.cpus, large.memory_mib));
    }

    #[test]
    fn each_guess_has_its_reason_and_absent_fields_do_no_harm() {
        let mut reasons = Vec::new();
        let about = json!({ "description": "A Django shop", "stargazers_count": 2000, "forks_count": 10 });
        let files = json!([{ "name": "Dockerfile" }, { "name": "README.md" }, 7]);
        let found = read("a", "b", &about, &json!({ "Python": 10, "C": 2 }), &files, &mut reasons);
        assert_eq!((found.service_type, found.estimated_users), (ServiceType::Web, 115));
        assert_eq!((found.language.as_deref(), found.manifests.len()), (Some("Python"), 1));
        assert_eq!(size(&found, &mut reasons), (3.0, 9216.0));
        assert_eq!(slot(Some("2025-11-11T10:00:00Z"), &mut reasons), TimeSlot::Peak);
        assert_eq!(reasons.len(), 5, "{reasons:?}");
        let none = read("a", "b", &Value::Null, &Value::Null, &Value::Null, &mut Vec::new());
        assert_eq!((none.service_type, none.estimated_users), (ServiceType::Api, 10));
        assert_eq!(slot(Some("soon"), &mut Vec::new()), TimeSlot::Normal);
    }
}
