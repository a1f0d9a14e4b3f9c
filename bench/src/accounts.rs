//! Accounts and secrets: how fast a secret is given with its record durable, how long an honest person waits for
//! a login while 200 others try passwords, and what it costs to authorise a call.
//!
//! Options: `--binary PATH` (default `target/release/opsroom`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use opsroom_capabilities::room::{Room, RoomConfig};
use opsroom_core::caller::Face;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Caller, Clock};
use serde_json::{Value, json};

use crate::server::{Client, Outcome, Server, api_key, show, together};

/// Secrets that are asked for.
const SECRETS: usize = 100;
/// Requests for secrets, by so many clients at once.
const REQUESTS: usize = 30_000;
const CLIENTS: usize = 32;
/// Logins at once.
const ATTACKERS: usize = 200;
/// Calls that are authorised.
const CALLS: u32 = 200_000;
const PASSWORD: &str = "a horse that nobody guesses";

/// Prints the table.
pub fn run(arguments: &[String]) -> Outcome<()> {
    let binary = match arguments {
        [flag, path] if flag == "--binary" => PathBuf::from(path),
        [] => PathBuf::from("target/release/opsroom"),
        _ => return Err("usage: accounts [--binary target/release/opsroom]".into()),
    };
    if !binary.exists() {
        return Err(format!("{} is not there: cargo build --release -p opsroom", binary.display()).into());
    }
    let folder = std::env::temp_dir().join(format!("opsroom-accounts-{}", std::process::id()));
    let server = Server::start(&binary, &folder)?;
    // Once there is a key, nobody is shown a setup link.
    let outcome = logins(&server, &binary, &folder).and_then(|()| secrets(&server, &binary, &folder));
    drop(server);
    let outcome = outcome.and_then(|()| authorise(&folder.join("room")));
    std::fs::remove_dir_all(&folder)?;
    outcome
}

fn secrets(server: &Server, binary: &Path, folder: &Path) -> Outcome<()> {
    let key = api_key(binary, folder)?;
    let mut client = Client::open(server.port, &key)?;
    for at in 0..SECRETS {
        client.ask("/secrets", &json!({ "path": format!("bench/{at}"), "value": format!("value {at}") }))?;
    }
    let begun = Instant::now();
    let times = together(server.port, &key, CLIENTS, REQUESTS, |client, at| {
        let at = at % SECRETS;
        let (status, body) = client.send("GET", &format!("/secrets/bench%2F{at}"), "")?;
        let body: Value = serde_json::from_slice(&body)?;
        match (status, body["fields"]["value"].as_str()) {
            (200, Some(value)) if value == format!("value {at}") => Ok(()),
            _ => Err(format!("a secret was answered with {status}").into()),
        }
    })?;
    let rate = REQUESTS as f64 / begun.elapsed().as_secs_f64();
    show(&format!("get_secret, {CLIENTS} clients ({rate:.0} a second)"), times);
    Ok(())
}

/// The server's resident memory now, in MiB.
fn resident(server: &Server) -> Outcome<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 =
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).ok_or("no VmRSS")?;
    Ok(kib / 1024.0)
}

fn logins(server: &Server, binary: &Path, folder: &Path) -> Outcome<()> {
    // The port is open a moment before the command line can reach the server.
    let begun = Instant::now();
    let mut printed = String::new();
    while !printed.contains("ops_") && begun.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(100));
        let output = Command::new(binary).arg("--data-dir").arg(folder).arg("setup-link").output()?;
        printed = String::from_utf8(output.stdout)?;
    }
    let token = printed.split("ops_").nth(1).and_then(|rest| rest.get(..64)).ok_or("no setup link")?;
    let mut client = Client::open(server.port, "none")?;
    let setup = json!({
        "token": format!("ops_{token}"), "username": "ada", "email": "ada@example.com", "password": PASSWORD,
    });
    client.send("POST", "/auth/setup", &setup.to_string())?;
    let honest = json!({ "username": "ada", "password": PASSWORD });
    let before = resident(server)?;
    let (mut most, mut times) = (before, Vec::new());
    let outcome = std::thread::scope(|scope| {
        let attack = scope.spawn(|| {
            together(server.port, "none", ATTACKERS, 5 * ATTACKERS, |client, at| {
                let wrong = json!({ "username": format!("user{at}"), "password": "guess" });
                let (status, _) = client.send("POST", "/auth/login", &wrong.to_string())?;
                // Refused for the password, or for trying too often.
                if matches!(status, 401 | 429 | 503) {
                    Ok(())
                } else {
                    Err(format!("login: {status}").into())
                }
            })
        });
        loop {
            let begun = Instant::now();
            let (status, _) = client.send("POST", "/auth/login", &honest.to_string())?;
            times.push(begun.elapsed().as_secs_f64() * 1e3);
            if status != 200 {
                return Err(format!("the honest login was answered with {status}").into());
            }
            most = most.max(resident(server)?);
            if attack.is_finished() {
                return attack.join().map_err(|_| "an attacker panicked")?;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    show(&format!("a wrong login, {ATTACKERS} at once"), outcome?);
    show("an honest login meanwhile", times);
    println!("{:<52} {most:7.1} MiB, {before:.1} before", "memory meanwhile, at most");
    Ok(())
}

/// A call's way from its key to the permission, in process.
fn authorise(folder: &Path) -> Outcome<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let config = RoomConfig { data_dir: folder.to_owned(), ..RoomConfig::default() };
        std::fs::create_dir_all(folder)?;
        let room = Room::open(&config, Clock::System, Lifecycle::new()).await?;
        let scopes: Vec<String> = (0..20).map(|at| format!("jobs:cancel_job:{at}")).collect();
        let scopes: Vec<String> =
            scopes.into_iter().chain(["detection:detect_anomalies".to_owned()]).collect();
        let input = json!({ "name": "bench", "role": "operator", "scopes": scopes });
        let made =
            room.call("create_api_key", Call::new(Caller::operator(Face::Cli)), input).await?.into_value();
        let key = made["key"].as_str().ok_or("no key was made")?;
        let operation = room.operation("detect_anomalies").ok_or("there is no detect_anomalies")?;
        let begun = Instant::now();
        for _ in 0..CALLS {
            let caller = room.identity.authenticate(key, Face::Rest, None).await?;
            caller.authorise(operation)?;
        }
        let each = begun.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS);
        println!("{:<52} {each:7.2} microseconds", "from a key of 21 scopes to the permission of a call");
        Ok(())
    })
}
