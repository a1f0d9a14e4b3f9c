//! The command line: the commands that run the server and look after it, those that work on files
//! without a server, and every operation by its name with dashes.

mod admin;
mod backup;
mod contain;
mod operation;
pub mod server;
mod tail;
mod tree;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use opsroom_core::telemetry::printable;
use opsroom_core::{Error, Kind, Result};

use crate::files_cli::{self, learned};

/// An operations room for AI agents and the people they work for.
#[derive(Parser)]
#[command(name = "opsroom", version, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Where the server's folder, its configuration and, for operations, the server itself are.
#[derive(clap::Args, Clone, Debug)]
pub struct Place {
    /// The folder of keys, files and the embedded database [default: the platform's data folder]
    #[arg(long, global = true, env = "OPSROOM_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The configuration file [default: opsroom.yaml here or in the data folder, when there is one]
    #[arg(long, global = true, env = "OPSROOM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The server that operations are called on, instead of the data folder's own
    #[arg(long, global = true, env = "OPSROOM_SERVER", value_name = "URL", help_heading = "Remote server")]
    server: Option<String>,
    /// The API key for `--server`
    #[arg(
        long,
        global = true,
        env = "OPSROOM_API_KEY",
        value_name = "KEY",
        hide_env_values = true,
        help_heading = "Remote server"
    )]
    api_key: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the server
    Serve(server::ServeArgs),
    /// Speak MCP on standard input and output, for a client that starts this command
    Mcp,
    /// Dial out over WebSocket to a remote MCP client, and serve it there
    Pipe(server::PipeArgs),
    /// Find what is abnormal in a log: files, folders or `-` for standard input
    Detect(files_cli::DetectArgs),
    /// Show the templates of a log's lines
    Templates(files_cli::TemplatesArgs),
    /// Forecast the hours after each series of a CSV file
    Forecast(files_cli::ForecastArgs),
    /// Learn one forecaster from all series of a CSV file; without a file, from those that the server has
    TrainForecaster(files_cli::TrainForecasterArgs),
    /// Train a detector on labelled sequences of events
    Train(learned::TrainArgs),
    /// Judge sequences of events with a trained model
    Predict(learned::PredictArgs),
    /// Measure a trained model on labelled sequences
    Evaluate(learned::EvaluateArgs),
    /// Take a model over from a file: one of ours, or a PyTorch checkpoint, which is never executed
    ImportModel(learned::ImportModelArgs),
    /// Show new log lines as they are kept
    TailLogs(tail::TailArgs),
    /// Print a new setup link for the administrator, while there is none
    SetupLink,
    /// Make or update the tables in the database
    Migrate(admin::MigrateArgs),
    /// Check the configuration, the database and the folders
    Check,
    /// Save the whole room in one file, beside a running server or without one; the master key is not in it
    Backup(backup::BackupArgs),
    /// Put a backup into an empty data folder and an empty database, of the same kind or another
    Restore(backup::RestoreArgs),
    /// Look at the configuration
    #[command(subcommand)]
    Config(admin::ConfigCommand),
    /// Check the audit trail's hash chain
    VerifyAudit,
    /// Start a local service in a cage, and become it
    #[command(hide = true)]
    Contain(contain::ContainArgs),
    /// Serve the demo's example of an MCP service over standard input and output
    #[command(hide = true)]
    ExampleService,
}

/// Runs the command of this process.
pub fn run() -> ExitCode {
    match dispatch(std::env::args_os().collect()) {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            exit_code(error.kind)
        }
    }
}

/// Writes a line to standard output. That nobody reads on (`opsroom config example | head`) is no error.
pub fn say(line: std::fmt::Arguments) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_fmt(line).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::unavailable(format!("the answer could not be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// Tells on standard error what went wrong. A message may repeat a file's name or a caller's text.
pub fn complain(error: &Error) {
    eprintln!("opsroom: {}", printable(&error.to_string()));
    let causes = error.causes();
    if error.kind == Kind::Internal && !causes.is_empty() {
        eprintln!("  caused by: {}", printable(&causes));
    }
}

/// The exit code of an error's kind; `docs/cli.md` lists them.
pub fn exit_code(kind: Kind) -> ExitCode {
    ExitCode::from(match kind {
        Kind::Internal => 1,
        Kind::Invalid => 2,
        Kind::NotFound => 3,
        Kind::Unauthenticated | Kind::Forbidden => 4,
        Kind::Conflict => 5,
        Kind::Busy | Kind::Unavailable => 6,
        Kind::Cancelled => 130,
    })
}

fn dispatch(arguments: Vec<OsString>) -> Result<ExitCode> {
    // The commands that need no list of operations are the ones that must start fast.
    let fixed = Cli::command();
    let named = first_word(&arguments);
    // `import-model FILE` needs no server; with `--path` it is the operation, on a file of the server.
    let by_path = |argument: &OsString| argument.to_string_lossy().starts_with("--path");
    let on_server = named.as_deref() == Some("import-model") && arguments.iter().any(by_path);
    let fixed = match on_server {
        true => fixed.mut_subcommand("import-model", |file| file.name("import-model-file").hide(true)),
        false => fixed,
    };
    let on_server = named.as_deref() == Some("train-forecaster") && !arguments.iter().any(trains_a_file);
    let fixed = match on_server {
        true => {
            fixed.mut_subcommand("train-forecaster", |file| file.name("train-forecaster-file").hide(true))
        }
        false => fixed,
    };
    let is_fixed =
        named.as_deref().is_some_and(|name| fixed.find_subcommand(name).is_some() && name != "help");
    if !is_fixed {
        return operation::run(fixed, &arguments);
    }
    let matches = fixed.get_matches_from(&arguments);
    let cli = Cli::from_arg_matches(&matches).map_err(|error| Error::invalid(error.to_string()))?;
    match cli.command {
        Command::Detect(args) => Ok(files_cli::detect(args)),
        Command::Templates(args) => Ok(files_cli::templates(args)),
        Command::Forecast(args) => Ok(files_cli::forecast(args)),
        Command::TrainForecaster(args) => Ok(files_cli::train_forecaster(args)),
        Command::Train(args) => Ok(learned::train(args)),
        Command::Predict(args) => Ok(learned::predict(args)),
        Command::Evaluate(args) => Ok(learned::evaluate(args)),
        Command::ImportModel(args) => Ok(learned::import_model(args, server::data_dir(&cli.place))),
        Command::Config(command) => admin::config(&cli.place, command),
        Command::Serve(args) => block_on(server::serve(&cli.place, args)),
        Command::Mcp => block_on(server::mcp(&cli.place)),
        Command::TailLogs(args) => block_on(tail::run(&cli.place, args)),
        Command::Pipe(args) => block_on(server::pipe(&cli.place, args)),
        Command::SetupLink => block_on(admin::setup_link(&cli.place)),
        Command::Migrate(args) => block_on(admin::migrate(&cli.place, args)),
        Command::Check => block_on(admin::check(&cli.place)),
        Command::Backup(args) => block_on(backup::save(&cli.place, args)),
        Command::Restore(args) => block_on(backup::restore(&cli.place, args)),
        Command::VerifyAudit => block_on(admin::verify_audit(&cli.place)),
        Command::Contain(args) => contain::contain(args),
        Command::ExampleService => crate::example::serve(),
    }
}

/// Whether an argument of `train-forecaster` says that it is about files, and so needs no server. With the
/// file of metrics alone it is taken so as well, and told that `--output` is missing.
fn trains_a_file(argument: &OsString) -> bool {
    let text = argument.to_string_lossy();
    let metrics = [".csv", ".csv.gz"].iter().any(|ending| text.ends_with(ending)) || text == "-";
    metrics || text.starts_with("--output") || text == "--help" || text == "-h"
}

/// The first argument that is not a flag or a flag's value.
fn first_word(arguments: &[OsString]) -> Option<String> {
    let mut rest = arguments.iter().skip(1);
    while let Some(argument) = rest.next() {
        let text = argument.to_str()?;
        if !text.starts_with('-') {
            return Some(text.to_owned());
        }
        if !text.contains('=') && ["--data-dir", "--config", "--server", "--api-key"].contains(&text) {
            rest.next();
        }
    }
    None
}

fn block_on(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::internal)?;
    let result = runtime.block_on(work);
    // Work that does not listen to its cancellation must not keep the process.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_file_of_metrics_is_not_meant_for_the_server() {
        for text in ["metrics.csv", "metrics.csv.gz", "-", "--output=m"] {
            assert!(trains_a_file(&text.into()), "{text}");
        }
        for text in ["train-forecaster", "--server", "http://127.0.0.1:8008", "--background"] {
            assert!(!trains_a_file(&text.into()), "{text}");
        }
    }

    #[test]
    fn the_first_word_is_found_behind_flags() {
        let word = |text: &str| first_word(&text.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(word("opsroom --data-dir /x get-info").as_deref(), Some("get-info"));
        assert_eq!(word("opsroom --config=a detect").as_deref(), Some("detect"));
        assert_eq!(word("opsroom --help"), None);
    }
}
