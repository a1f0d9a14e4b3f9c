//! `opsroom serve --demo`: a log of a small system with a real fault hidden in it, below the server's
//! folder of files, and a finished job that found it; and a service with metrics and a plan.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use opsroom_capabilities::detection::demo::{DemoConfig, write_demo};
use opsroom_capabilities::planning::demo as metrics;
use opsroom_capabilities::room::Room;
use opsroom_core::caller::Face;
use opsroom_core::lifecycle::Lifecycle;
use opsroom_core::{Call, Caller, Error, Result};
use serde_json::json;

use crate::config::Config;

/// The demo's log, below the folder of files.
const LOG: &str = "demo/shop.log";
/// The same log at every start.
const SEED: u64 = 1;

/// The demo's service.
const SERVICE: &str = "example";

/// The configuration of a demo: its example service, which is this program, may be started.
pub fn allow_example(config: &mut Config) {
    config.services.local_commands.extend(example());
}

/// The command of the example service.
fn example() -> Option<Vec<String>> {
    let program = std::env::current_exe().ok()?.to_str()?.to_owned();
    Some(vec![program, "example-service".to_owned()])
}

/// The example service, behind the gateway. A program that was moved since is started from its new place.
async fn service(room: &Arc<Room>) -> Result<()> {
    let Some(command) = example() else { return Ok(()) };
    let call = || Call::new(Caller::operator(Face::Cli));
    if let Ok(known) = room.call("get_service", call(), json!({ "id": SERVICE })).await {
        if known.into_value()["command"] == json!(command) {
            return Ok(());
        }
        room.call("delete_service", call(), json!({ "id": SERVICE, "force": true })).await?;
    }
    let input = json!({
        "name": SERVICE,
        "description": "A small MCP server: it tells the time, adds, counts words and keeps notes",
        "service_type": "local",
        "command": command,
        "wait_seconds": 0,
    });
    room.call("create_service", call(), input).await.map(drop)
}

/// Writes the demo's log, where it is not there yet, and looks for what is abnormal in it.
pub async fn fill(room: &Arc<Room>, data_dir: &Path) -> Result<()> {
    service(room).await?;
    let path = data_dir.join("files").join(LOG);
    if path.exists() {
        return Ok(());
    }
    plan(room).await?;
    Lifecycle::blocking(move || write(&path)).await?;
    let call = Call::new(Caller::operator(Face::Cli));
    room.call("detect_anomalies", call, json!({ "path": LOG })).await?;
    Ok(())
}

/// A service with four weeks of metrics, a backtest and a plan.
async fn plan(room: &Arc<Room>) -> Result<()> {
    let now = room.clock.now();
    let csv = metrics::csv(now.0.div_euclid(1_000_000));
    let call = || Call::new(Caller::operator(Face::Cli));
    room.call("ingest_metrics", call(), json!({ "service_id": metrics::SERVICE, "csv": csv })).await?;
    let context = json!({ "service_type": "web", "timestamp": now.to_rfc3339() });
    let request =
        json!({ "service_id": metrics::SERVICE, "metric_names": metrics::METRICS, "context": context });
    room.call("create_plans", call(), request).await.map(drop)
}

fn write(path: &Path) -> Result<()> {
    let folder = path.parent().ok_or_else(|| Error::internal("the demo's log has no folder"))?;
    std::fs::create_dir_all(folder).map_err(Error::internal)?;
    // Under another name first, so that a log that is there is whole.
    let unfinished = path.with_extension("part");
    let mut out = BufWriter::new(File::create(&unfinished).map_err(Error::internal)?);
    write_demo(&DemoConfig::small(SEED), &mut out).and_then(|_| out.flush()).map_err(Error::internal)?;
    std::fs::rename(&unfinished, path).map_err(Error::internal)
}

/// What to try, for the greeting.
pub fn hint(program: &str, data_dir: &Path) -> String {
    let log = data_dir.join("files").join(LOG);
    format!(
        "\n  The demo's log has a real fault in it. Find it:\n    {program} detect {}\n  or ask your agent: what is \
         abnormal in {LOG}?\n",
        log.display()
    )
}
