//! `analyze_repository`: what a GitHub repository says about the service in it becomes a context, and the
//! context a plan. Every guess has its reason in the answer.

use std::time::Duration;

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
    /// `https://github.com/OWNER/NAME`, or `OWNER/NAME`.
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
    /// Virtual processors that such a service usually takes.
    pub cpu: f64,
    /// Memory that it usually takes, in MiB.
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
    let (owner, name) = parts(&input.github_url)?;
    let about = service.github(&format!("/repos/{owner}/{name}")).await?;
    // What these two miss is a smaller guess and no failure.
    let languages = service.github(&format!("/repos/{owner}/{name}/languages")).await.unwrap_or(Value::Null);
    let files = service.github(&format!("/repos/{owner}/{name}/contents")).await.unwrap_or(Value::Null);
    let mut reasons = Vec::new();
    let repository = read(&owner, &name, &about, &languages, &files, &mut reasons);
    let (cpu, memory_mb) = size(&repository, &mut reasons);
    let now = service.clock.now().0.div_euclid(1_000_000);
    let slot = slot(about["pushed_at"].as_str(), &mut reasons);
    let url = format!("https://github.com/{owner}/{name}");
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
        recommendations: Size { instance_type: plan.recommended_flavor, cpu, memory_mb },
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

/// The owner and the name in a repository's address.
fn parts(url: &str) -> Result<(String, String)> {
    let path = url.trim().trim_end_matches('/');
    let path = path.strip_prefix("https://").or_else(|| path.strip_prefix("http://")).unwrap_or(path);
    let mut parts: Vec<&str> = path.split('/').collect();
    // A host has a dot, and so may a name: it is the host when there are three parts.
    if parts.len() == 3 && parts[0].contains('.') {
        parts.remove(0);
    }
    let word = |text: &str| {
        !text.is_empty()
            && text.len() <= 100
            && !text.starts_with('.')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    match parts.as_slice() {
        // An owner's name has no dot: what has one is a host without an owner.
        [owner, name] if word(owner) && !owner.contains('.') && word(name.trim_end_matches(".git")) => {
            Ok(((*owner).to_owned(), name.trim_end_matches(".git").to_owned()))
        }
        _ => Err(Error::invalid("github_url: it is `https://github.com/OWNER/NAME`, or `OWNER/NAME`")),
    }
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
            403 | 429 if left == Some("0") || response.headers.contains_key("retry-after") => {
                Err(Error::busy(
                    "GitHub takes no more requests for now; `planning.github.token` raises its limit",
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
    reasons.push(format!("its size is guessed from its language ({language}), kind and stars"));
    ((factor * cpu).min(most_cpu), (factor * memory).min(most_memory))
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

    #[test]
    fn addresses_of_repositories_are_understood_and_others_refused() {
        let good = Some(("a".to_owned(), "b.c".to_owned()));
        for url in ["a/b.c", "https://github.com/a/b.c", "http://github.com/a/b.c/", "github.com/a/b.c.git"] {
            assert_eq!(parts(url).ok(), good, "{url}");
        }
        for url in ["", "a", "a/b/c/d", "a/..", "a/b?x", "a/b%2e", "https://github.com/a", "a b/c"] {
            assert_eq!(parts(url).unwrap_err().kind, Kind::Invalid, "{url}");
        }
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
