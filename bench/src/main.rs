//! Benchmarks: each prints our figure and the peers' from the same run.
//!
//! `cargo run --release -p opsroom-bench -- NAME [OPTIONS]`

use std::process::ExitCode;

mod parsing;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let outcome = match name.as_str() {
        "parsing" => parsing::run(&rest),
        _ => Err(format!("no benchmark is named '{name}'; known: parsing")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
