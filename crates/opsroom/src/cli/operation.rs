//! `opsroom <operation>`: on the server that `--server` names, else on the one that runs in the data
//! folder, else in this process, as the folder's owner.

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgMatches, Command, FromArgMatches};
use indicatif::{ProgressBar, ProgressStyle};
use opsroom_core::caller::Face;
use opsroom_core::job::{Progress, State};
use opsroom_core::operation::BACKGROUND;
use opsroom_core::telemetry::{printable, printable_json};
use opsroom_core::{Call, Caller, Error, Kind, Operation, Result};
use serde_json::{Map, Value, json};

use super::server::{Backend, Opened};
use super::{Place, block_on, tree};

/// Parses and runs an operation's command, or prints the help that lists them all.
pub fn run(fixed: Command, arguments: &[OsString]) -> Result<ExitCode> {
    block_on(async move {
        let operations = super::server::describe().await?;
        let matches = tree::add(fixed, &operations).get_matches_from(arguments);
        let place = Place::from_arg_matches(&matches).map_err(|error| Error::invalid(error.to_string()))?;
        let (name, matches) =
            matches.subcommand().ok_or_else(|| Error::invalid("name a command; see --help"))?;
        let operation = operations
            .iter()
            .find(|operation| tree::command_name(operation) == name)
            .ok_or_else(|| Error::not_found(format!("there is no command {name}")))?;
        let answer = call(&place, operation, matches).await?;
        print(&answer)?;
        Ok(ExitCode::SUCCESS)
    })
}

async fn call(place: &Place, operation: &Operation, matches: &ArgMatches) -> Result<Value> {
    let input = tree::input(operation, matches);
    let output = if operation.is_pictured() { matches.get_one::<String>(tree::OUTPUT) } else { None };
    if output.is_some() && input.get(BACKGROUND) == Some(&json!(true)) {
        return Err(Error::invalid("`--output` needs the picture; leave out `--background`"));
    }
    match super::server::backend(place).await? {
        Backend::Remote(client) => {
            let wait = operation.long
                && input.get(BACKGROUND) != Some(&json!(true))
                && std::io::stderr().is_terminal();
            let answer = if wait {
                watch(&client, operation, input).await?
            } else {
                client.call(operation, input).await?
            };
            if let (Some(file), Some(picture)) = (output, answer["picture"].as_str()) {
                write(file, &client.bytes(picture).await?)?;
            }
            Ok(answer)
        }
        Backend::Local(opened) => {
            let answer = local(&opened, operation, input).await;
            let picture = match (output, &answer) {
                (Some(_), Ok(answer)) => {
                    operation_of(&opened, operation)?
                        .picture(Call::new(Caller::operator(Face::Cli)), answer)
                        .await?
                }
                _ => None,
            };
            opened.close().await?;
            if let (Some(file), Some(picture)) = (output, picture) {
                write(file, &picture.bytes)?;
            }
            answer
        }
    }
}

/// The operation as the room that was opened has it.
fn operation_of<'a>(opened: &'a Opened, operation: &Operation) -> Result<&'a Operation> {
    opened.room.operation(operation.name).ok_or_else(|| Error::internal("an operation that is gone"))
}

/// Writes what the user asked for where they said.
fn write(file: &str, bytes: &[u8]) -> Result<()> {
    std::fs::write(file, bytes)
        .map_err(|error| Error::unavailable(format!("`{file}` cannot be written: {error}")))
}

async fn local(opened: &Opened, operation: &Operation, mut input: Map<String, Value>) -> Result<Value> {
    if input.remove(BACKGROUND) == Some(json!(true)) {
        return Err(Error::invalid("`--background` needs a running server: start one with `opsroom serve`"));
    }
    let mut call = Call::new(Caller::operator(Face::Cli));
    let bar = bar(operation);
    if let Some(bar) = bar.clone() {
        call.progress = Progress::to(move |step| show(&bar, step.fraction, &step.message));
    }
    let cancel = call.cancel.clone();
    let room = &opened.room;
    let work = room.call(operation.name, call, Value::Object(input));
    tokio::pin!(work);
    let answer = tokio::select! {
        answer = &mut work => answer,
        _ = tokio::signal::ctrl_c() => {
            cancel.cancel();
            work.await
        }
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    answer.map(|answer| answer.into_value())
}

/// Starts the job on the server and shows its progress until it ends; an interrupt cancels it.
async fn watch(
    client: &crate::client::Client,
    operation: &Operation,
    mut input: Map<String, Value>,
) -> Result<Value> {
    input.insert(BACKGROUND.to_owned(), json!(true));
    let started = client.call(operation, input).await?;
    let id = started["job_id"].as_str().unwrap_or_default().to_owned();
    let bar = bar(operation);
    loop {
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(250)) => {}
            _ = tokio::signal::ctrl_c() => {
                let cancel = client.request(reqwest::Method::POST, &format!("/jobs/{id}/cancel"));
                let _ended_already = cancel.json(&json!({})).send().await;
            }
        }
        let job = client.get(&format!("/jobs/{id}")).await?;
        let state = job["state"].as_str().and_then(State::parse).unwrap_or(State::Running);
        if let Some(bar) = &bar {
            show(bar, job["fraction"].as_f64(), job["message"].as_str().unwrap_or_default());
        }
        if !state.ended() {
            continue;
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        if state == State::Succeeded {
            return match job["result_note"].as_str() {
                Some(why) => Err(Error::unavailable(format!("job {id} succeeded, but {why}"))),
                None => Ok(job["result"].clone()),
            };
        }
        let kind = job["error"]["kind"].as_str().and_then(Kind::parse).unwrap_or(Kind::Cancelled);
        let message = job["error"]["message"].as_str().unwrap_or(state.as_str()).to_owned();
        return Err(Error::new(kind, message));
    }
}

fn bar(operation: &Operation) -> Option<ProgressBar> {
    if !operation.long || !std::io::stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::new(1000);
    let style = ProgressStyle::with_template("{bar:30} {percent:>3} % {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    Some(bar)
}

fn show(bar: &ProgressBar, fraction: Option<f64>, message: &str) {
    if let Some(fraction) = fraction {
        bar.set_position((fraction * 1000.0) as u64);
    }
    bar.set_message(printable(message).into_owned());
}

/// Indented for a person, one line for a program.
fn print(answer: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let text =
        if out.is_terminal() { serde_json::to_string_pretty(answer) } else { serde_json::to_string(answer) };
    let text = text.map_err(Error::internal)?;
    let text = if out.is_terminal() { printable_json(&text) } else { text.into() };
    match writeln!(out, "{text}") {
        // `opsroom list-jobs | head` is no error.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::internal(error)),
        _ => Ok(()),
    }
}
