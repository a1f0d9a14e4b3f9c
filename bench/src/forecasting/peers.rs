//! Peers from the Python package index, run by a script of ours in an environment of their own.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGES: [&str; 4] = ["statsforecast", "lightgbm", "pandas", "numpy"];

/// Installs the peers when they are missing, runs them on the same machines and prints what they
/// reached.
pub fn report(data: &Path) -> Result<(), Box<dyn Error>> {
    let bench = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folder = bench.join(".peers/forecasting");
    let python = folder.join("bin/python");
    let ready = folder.join("installed");
    if !ready.exists() {
        finish(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        finish(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES))?;
        std::fs::write(&ready, PACKAGES.join("\n"))?;
    }
    println!("\npeers on the same machines and origins");
    let script = bench.join("peers/forecasting_machines.py");
    finish(Command::new(&python).arg(script).arg(data.join("metrics/hourly_series.csv.gz")))
}

fn finish(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}").into()) }
}
