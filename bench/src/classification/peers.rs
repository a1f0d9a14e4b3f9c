//! PyTorch and scikit-learn, run by a script of ours in an environment of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What is installed.
const PACKAGES: [&str; 3] = ["torch==2.15.0", "scikit-learn==1.9.1", "numpy"];

/// Installs the peers when they are missing, runs them on the same data and prints what they reached.
pub fn report(logs: &Path, seeds: u64) -> Result<(), String> {
    let bench = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = install(&bench.join(".peers/classification"))?;
    let status = Command::new(&python)
        .arg(bench.join("peers/classification.py"))
        .arg(logs)
        .arg(seeds.to_string())
        .status()
        .map_err(|e| format!("{}: {e}", python.display()))?;
    if status.success() { Ok(()) } else { Err(format!("the peers ended with {status}")) }
}

/// The Python of an environment with the peers in it.
fn install(folder: &Path) -> Result<PathBuf, String> {
    let python = folder.join("bin/python");
    let ready = folder.join("installed");
    if ready.exists() {
        return Ok(python);
    }
    let run = |command: &mut Command| {
        let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
        if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}")) }
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES))?;
    std::fs::write(&ready, PACKAGES.join("\n")).map_err(|e| format!("{}: {e}", ready.display()))?;
    Ok(python)
}
