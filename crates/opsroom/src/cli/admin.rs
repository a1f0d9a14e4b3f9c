//! The commands that look after a server: `migrate`, `check`, `config`, `setup-link`, `verify-audit`.

use std::process::ExitCode;

use clap::Subcommand;
use opsroom_capabilities::room;
use opsroom_core::caller::Face;
use opsroom_core::files::DataDir;
use opsroom_core::telemetry::printable;
use opsroom_core::{Call, Caller, Clock, Error, Result};
use serde_json::{Map, Value, json};

use super::server::{Backend, URL_FILE, backend, configuration, data_dir, room_config};
use super::{Place, say};
use crate::config::Config;

/// Flags of `opsroom migrate`.
#[derive(clap::Args)]
pub struct MigrateArgs {
    /// Say what would be made, and make nothing
    #[arg(long)]
    dry_run: bool,
}

/// `opsroom config ...`
#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Print the documented configuration file with its defaults
    Example,
    /// Print the values in force and who set them; secrets are hidden
    Show,
}

/// `opsroom config ...`
pub fn config(place: &Place, command: ConfigCommand) -> Result<ExitCode> {
    let text = match command {
        ConfigCommand::Example => opsroom_core::config::example::<Config>(),
        ConfigCommand::Show => configuration(place, &data_dir(place)?, Vec::new())?.show()?,
    };
    say(format_args!("{}", text.trim_end()))?;
    Ok(ExitCode::SUCCESS)
}

/// `opsroom migrate`
pub async fn migrate(place: &Place, args: MigrateArgs) -> Result<ExitCode> {
    let path = data_dir(place)?;
    let config = configuration(place, &path, Vec::new())?.config;
    let folder = DataDir::open(&path)?;
    let _lock = folder.lock()?;
    let config = room_config(folder.path(), &config)?;
    let made = if args.dry_run {
        let database = config.database.open(&config.data_dir).await?;
        database.pending(&room::migrations()).await?
    } else {
        room::migrate(&config, &Clock::System).await?
    };
    let verb = if args.dry_run { "would make" } else { "made" };
    for migration in &made {
        say(format_args!("{verb} {} {}: {}", migration.capability, migration.version, migration.name))?;
    }
    if made.is_empty() {
        say(format_args!("the tables are as this version needs them"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The exit codes of `opsroom check`: which kind of thing failed first.
const CONFIGURATION_FAILED: u8 = 10;
const FOLDERS_FAILED: u8 = 11;
const DATABASE_FAILED: u8 = 12;

/// `opsroom check`: each part, one line, in the order in which a start would meet it.
pub async fn check(place: &Place) -> Result<ExitCode> {
    let path = data_dir(place)?;
    let config = match configuration(place, &path, Vec::new()) {
        Ok(loaded) => loaded.config,
        Err(error) => return failed("configuration", &error, CONFIGURATION_FAILED),
    };
    say(format_args!("ok      configuration"))?;
    let folder =
        match DataDir::open(&path).and_then(|folder| config.files.open(folder.path()).map(|_| folder)) {
            Ok(folder) => folder,
            Err(error) => return failed("folders", &error, FOLDERS_FAILED),
        };
    say(format_args!("ok      folders         {}", folder.path().display()))?;
    let opened = async {
        let database = config.database.open(folder.path()).await?;
        database.ping().await?;
        let pending = database.pending(&room::migrations()).await?.len();
        database.close().await;
        Ok((database.dialect(), pending))
    };
    match opened.await {
        Ok((dialect, 0)) => say(format_args!("ok      database        {}", dialect.as_str()))?,
        Ok((dialect, pending)) => say(format_args!(
            "ok      database        {}; {pending} migrations are made at the next start or by `opsroom migrate`",
            dialect.as_str()
        ))?,
        Err(error) => return failed("database", &error, DATABASE_FAILED),
    }
    Ok(ExitCode::SUCCESS)
}

fn failed(part: &str, error: &Error, code: u8) -> Result<ExitCode> {
    say(format_args!("failed  {part:<15} {}", printable(&error.to_string())))?;
    Ok(ExitCode::from(code))
}

/// `opsroom setup-link`
pub async fn setup_link(place: &Place) -> Result<ExitCode> {
    let path = data_dir(place)?;
    let config = configuration(place, &path, Vec::new())?.config;
    let answer = call(place, "create_setup_token", Map::new()).await?;
    let token = answer["token"].as_str().ok_or_else(|| Error::internal("no token in the answer"))?;
    // A running server may have been started with another port than the configuration's.
    let base = match (std::fs::read_to_string(path.join(URL_FILE)), config.server.public_url.as_str()) {
        (Ok(url), _) => url,
        (Err(_), "") => format!("http://{}:{}", config.server.host, config.server.port),
        (Err(_), url) => url.trim_end_matches('/').to_owned(),
    };
    say(format_args!("{base}/#setup={token}"))?;
    Ok(ExitCode::SUCCESS)
}

/// `opsroom verify-audit`: exit code 0 only for a chain that holds.
pub async fn verify_audit(place: &Place) -> Result<ExitCode> {
    let answer = call(place, "verify_audit", Map::new()).await?;
    say(format_args!("{}", serde_json::to_string_pretty(&answer).map_err(Error::internal)?))?;
    Ok(if answer["intact"] == json!(true) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn call(place: &Place, name: &str, input: Map<String, Value>) -> Result<Value> {
    match backend(place).await? {
        Backend::Remote(client) => {
            let operations = super::server::describe().await?;
            let operation = operations.iter().find(|operation| operation.name == name);
            client.call(operation.ok_or_else(|| Error::internal("an operation is missing"))?, input).await
        }
        Backend::Local(opened) => {
            let call = Call::new(Caller::operator(Face::Cli));
            let answer = opened.room.call(name, call, Value::Object(input)).await;
            opened.close().await?;
            answer.map(|answer| answer.into_value())
        }
    }
}
