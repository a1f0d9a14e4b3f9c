//! Opsroom: an operations room in one binary.

mod cli;
mod client;
mod config;
mod demo;
#[cfg(test)]
mod documents;
mod faces;
mod files_cli;
mod patience;
mod pipe;
mod serve;

use std::process::ExitCode;

fn main() -> ExitCode {
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("nothing installed a TLS provider before the first line of main");
    cli::run()
}
