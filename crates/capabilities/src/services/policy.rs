//! What a service may be. A plan says all that is wrong with it; making one refuses it for the first.

use std::collections::BTreeMap;

use opsroom_core::resolver::{Reference, Resolver};
use opsroom_core::{Caller, Error, Result, Role};

use super::config::ServicesConfig;
use super::limits;
use super::model::{HealthCheck, Kind, Place, Spec};
use super::runtime::docker::{check_image, is_root};

/// Everything that is wrong with a service, as far as can be said without asking an engine.
pub fn refusals(
    kind: Kind,
    spec: &Spec,
    caller: &Caller,
    config: &ServicesConfig,
    secrets: &Resolver,
) -> Vec<Error> {
    let mut refused = Vec::new();
    let mut hold = |checked: Result<()>| refused.extend(checked.err());
    match kind {
        Kind::Docker => {
            hold(check_image(&spec.image, &config.allowed_images));
            hold(check_user(&spec.user));
        }
        Kind::Local => {
            hold(administrator(caller));
            hold(check_command(&spec.command, config));
        }
        Kind::Cloud | Kind::Remote => hold(check_url(&spec.url)),
        Kind::Kubernetes => hold(Err(Error::invalid(
            "service_type: `kubernetes` has no engine in this version; use `docker`, `local` or `cloud`",
        ))),
    }
    for misplaced in misplaced(kind, spec) {
        hold(Err(misplaced));
    }
    if !spec.cpu_limit.is_empty() {
        hold(limits::nano_cpus(&spec.cpu_limit).map(drop));
    }
    if !spec.memory_limit.is_empty() {
        hold(limits::memory(&spec.memory_limit).map(drop));
    }
    if !spec.disk_limit.is_empty() {
        hold(limits::bytes("disk_limit", &spec.disk_limit).map(drop));
    }
    for place in &spec.allow_egress {
        hold(Place::parse(place).map(drop));
    }
    hold(check_environment(&spec.environment_vars, secrets));
    hold(check_headers(&spec.headers, secrets));
    if spec.health_check == HealthCheck::Http && spec.health_check_url.is_empty() {
        hold(Err(Error::invalid("health_check_url: a health check by `http` needs one")));
    }
    if !spec.path.starts_with('/')
        || spec.path.contains(['?', '#', ' '])
        || spec.path.chars().any(char::is_control)
    {
        hold(Err(Error::invalid("path: it begins with `/`, such as `/mcp`, and has no query")));
    }
    refused
}

/// Starting a program of this machine is the administrator's alone.
fn administrator(caller: &Caller) -> Result<()> {
    if caller.role == Role::Administrator {
        return Ok(());
    }
    Err(Error::forbidden(
        "a local service runs a program of this machine; only an administrator makes or changes one",
    ))
}

/// The whole command as it is listed: not a program with arguments of the caller's choice.
fn check_command(command: &[String], config: &ServicesConfig) -> Result<()> {
    if config.local_commands.iter().any(|listed| listed == command) {
        return Ok(());
    }
    Err(Error::forbidden(format!(
        "command: {} is not in `services.local_commands` of the configuration, which lists whole commands",
        serde_json::to_string(command).unwrap_or_default()
    )))
}

fn check_user(user: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
    if user.is_empty() || (user.len() <= 64 && user.chars().all(plain) && !is_root(user)) {
        return Ok(());
    }
    Err(Error::forbidden(format!(
        "user: `{}` is root or no user; services do not run as root",
        user.escape_debug()
    )))
}

fn check_url(url: &str) -> Result<()> {
    if url.is_empty() {
        return Err(Error::invalid(
            "url: a service of this type needs one, such as `https://mcp.example.com/mcp`",
        ));
    }
    // Where it leads is checked by the one way out, when it is dialled.
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.split('/').next().unwrap_or_default().contains('@') => Ok(()),
        _ => Err(Error::invalid("url: it begins with `https://` or `http://` and holds no user name")),
    }
}

/// Fields that mean nothing for this type: better refused than forgotten.
fn misplaced(kind: Kind, spec: &Spec) -> Vec<Error> {
    let docker = kind == Kind::Docker;
    let remote = matches!(kind, Kind::Cloud | Kind::Remote);
    let given = [
        ("image", !spec.image.is_empty(), docker || kind == Kind::Kubernetes),
        ("url", !spec.url.is_empty(), remote),
        ("headers", !spec.headers.is_empty(), remote || docker),
        ("command", !spec.command.is_empty(), docker || kind == Kind::Local),
        ("environment_vars", !spec.environment_vars.is_empty(), !remote),
        ("network_name and vlan_id", !spec.network_name.is_empty(), docker),
        ("ip_address", spec.ip_address.is_some(), docker),
        ("cpu_limit", !spec.cpu_limit.is_empty(), docker),
        ("memory_limit", !spec.memory_limit.is_empty(), docker || kind == Kind::Local),
        ("disk_limit", !spec.disk_limit.is_empty(), docker),
        ("allow_egress", !spec.allow_egress.is_empty(), docker),
        ("user", !spec.user.is_empty(), docker),
    ];
    given
        .into_iter()
        .filter(|(_, given, fits)| *given && !*fits)
        .map(|(field, _, _)| {
            Error::invalid(format!("{field}: a service of type `{}` has none; leave it out", kind.as_str()))
        })
        .collect()
}

fn check_environment(environment: &BTreeMap<String, String>, secrets: &Resolver) -> Result<()> {
    for (name, value) in environment {
        let first = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !first || name.len() > 128 || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(Error::invalid(format!(
                "environment_vars: `{}` is no name of a variable",
                name.escape_debug()
            )));
        }
        // What loads other code into a program is not a setting.
        let upper = name.to_ascii_uppercase();
        if upper.starts_with("LD_")
            || ["PATH", "BASH_ENV", "ENV", "NODE_OPTIONS", "PYTHONSTARTUP"].contains(&upper.as_str())
        {
            return Err(Error::forbidden(format!(
                "environment_vars: `{name}` changes which code runs; it cannot be set"
            )));
        }
        if value.len() > 32 << 10 || value.contains('\0') {
            return Err(Error::invalid(format!(
                "environment_vars: the value of `{name}` is larger than 32 KiB or holds a NUL"
            )));
        }
        secrets
            .check(value)
            .map_err(|error| Error::invalid(format!("environment_vars: {name}: {}", error.message)))?;
    }
    Ok(())
}

fn check_headers(headers: &BTreeMap<String, String>, secrets: &Resolver) -> Result<()> {
    for (name, value) in headers {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || name.len() > 128 || !name.chars().all(token) {
            return Err(Error::invalid(format!("headers: `{}` is no name of a header", name.escape_debug())));
        }
        let lower = name.to_ascii_lowercase();
        if ["host", "content-length", "transfer-encoding", "connection", "mcp-session-id"]
            .contains(&lower.as_str())
        {
            return Err(Error::invalid(format!("headers: `{name}` is set by the gateway")));
        }
        if value.chars().any(char::is_control) {
            return Err(Error::invalid(format!("headers: the value of `{name}` holds a control character")));
        }
        secrets
            .check(value)
            .map_err(|error| Error::invalid(format!("headers: {name}: {}", error.message)))?;
        let secret = ["authorization", "cookie", "token", "key", "secret", "password"]
            .iter()
            .any(|word| lower.contains(word));
        if secret && Reference::parse(value)?.is_none() {
            return Err(Error::forbidden(format!(
                "headers: `{name}` holds a credential; put a reference such as `secret://file/{lower}` in its place"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use opsroom_core::caller::Face;

    use super::*;

    fn refused(kind: Kind, spec: Spec) -> Vec<String> {
        let config = ServicesConfig {
            local_commands: vec![vec!["uvx".to_owned(), "mcp-server-time".to_owned()]],
            ..ServicesConfig::default()
        };
        let spec = Spec { path: "/mcp".to_owned(), ..spec };
        let folder = tempfile::tempdir().unwrap();
        let secrets = Resolver::new(folder.path(), &BTreeMap::new());
        let mut caller = Caller::operator(Face::Rest);
        caller.role = if spec.description == "by an operator" { Role::Operator } else { Role::Administrator };
        refusals(kind, &spec, &caller, &config, &secrets).into_iter().map(|error| error.message).collect()
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn local_server_compromise_only_whole_listed_commands_start_and_only_by_an_administrator() {
        let local = |command: &[&str]| Spec { command: words(command), ..Spec::default() };
        assert_eq!(refused(Kind::Local, local(&["uvx", "mcp-server-time"])), [""; 0]);
        for command in [
            &["uvx"][..],
            &["uvx", "mcp-server-time", "--evil"],
            &["uvx", "mcp-server-time; rm -rf /"],
            &["sh", "-c", "id"],
            &["/tmp/uvx", "mcp-server-time"],
            &[],
        ] {
            assert!(
                refused(Kind::Local, local(command))[0].contains("services.local_commands"),
                "{command:?}"
            );
        }
        let by = Spec { description: "by an operator".to_owned(), ..local(&["uvx", "mcp-server-time"]) };
        assert!(refused(Kind::Local, by)[0].contains("only an administrator"));
    }

    #[test]
    fn a_variable_that_loads_code_is_refused() {
        for name in ["LD_PRELOAD", "PATH", "NODE_OPTIONS", "ld_library_path", "A B", "", "1X"] {
            let environment_vars = BTreeMap::from([(name.to_owned(), "x".to_owned())]);
            let spec = Spec { image: "x".to_owned(), environment_vars, ..Spec::default() };
            assert_eq!(refused(Kind::Docker, spec).len(), 1, "{name}");
        }
    }

    #[test]
    fn a_credential_is_a_reference_and_never_a_plain_value() {
        let remote = |name: &str, value: &str| {
            let headers = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            refused(Kind::Cloud, Spec { url: "https://a.example/mcp".to_owned(), headers, ..Spec::default() })
        };
        assert_eq!(remote("Authorization", "secret://env/TOKEN"), [""; 0]);
        assert_eq!(remote("X-Team", "ops"), [""; 0]);
        let told = remote("Authorization", "Bearer hunter2");
        assert!(told[0].contains("secret://") && !told[0].contains("hunter2"), "{told:?}");
        assert_eq!(remote("X-A", "a\r\nX-B: c").len(), 1);
        assert_eq!(remote("Host", "evil").len(), 1);
        assert_eq!(remote("X-A", "secret://nowhere/x").len(), 1);
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let spec = Spec {
            image: "x".to_owned(),
            user: "root".to_owned(),
            cpu_limit: "many".to_owned(),
            memory_limit: "1m".to_owned(),
            allow_egress: words(&["everywhere"]),
            url: "https://x".to_owned(),
            ..Spec::default()
        };
        assert_eq!(refused(Kind::Docker, spec).len(), 5);
        assert!(refused(Kind::Kubernetes, Spec::default())[0].contains("kubernetes"));
    }
}
