//! Benchmarks: each prints our figure and the peers' from the same run.
//!
//! `cargo run --release -p opsroom-bench -- NAME [OPTIONS]`

use std::process::ExitCode;

mod accounts;
mod alerts;
mod captures;
mod classification;
mod detect_file;
mod detection;
mod forecasting;
mod gateway;
mod logs;
mod logs_served;
mod parsing;
mod plans;
mod server;
mod startup;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let outcome = match name.as_str() {
        "accounts" => accounts::run(&rest).map_err(|error| error.to_string()),
        "alerts" => alerts::run(&rest).map_err(|error| error.to_string()),
        "captures" => captures::run(&rest).map_err(|error| error.to_string()),
        "classification" => classification::run(&rest),
        "detect-file" => detect_file::run(&rest),
        "detection" => detection::run(&rest).map_err(|error| error.to_string()),
        "forecasting" => forecasting::run(&rest).map_err(|error| error.to_string()),
        "logs" => logs::run(&rest),
        "logs-served" => logs_served::run(&rest).map_err(|error| error.to_string()),
        "gateway" => gateway::run(&rest).map_err(|error| error.to_string()),
        "parsing" => parsing::run(&rest),
        "plans" => plans::run(&rest).map_err(|error| error.to_string()),
        "startup" => startup::run(&rest).map_err(|error| error.to_string()),
        _ => Err(format!(
            "no benchmark is named '{name}'; known: accounts, alerts, captures, classification, detect-file, detection, forecasting, gateway, \
             logs, logs-served, parsing, plans, startup"
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
