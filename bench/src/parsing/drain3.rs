//! drain3 0.9.11, the Python package, run by a script of ours in an environment of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::corpus::System;
use super::score::Score;

/// Installs drain3 when it is missing, runs it on the same data and prints what it reached.
pub fn report(systems: &[System], data: &Path) -> Result<(), String> {
    let bench = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let python = install(&bench.join(".peers/drain3"))?;
    let output = Command::new(&python)
        .arg(bench.join("peers/drain3_parsing.py"))
        .arg(data.join("logs/loghub_2k"))
        .output()
        .map_err(|e| format!("{}: {e}", python.display()))?;
    if !output.status.success() {
        return Err(format!("drain3 failed: {}", String::from_utf8_lossy(&output.stderr)));
    }
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let answer: serde_json::Value =
            serde_json::from_str(line).map_err(|e| format!("drain3 said {line}: {e}"))?;
        let name = answer["configuration"].as_str().unwrap_or_default();
        let mut sum = Score::default();
        for system in systems {
            let ids: Vec<u64> = answer["ids"][&system.name]
                .as_array()
                .ok_or_else(|| format!("drain3 gave no ids for {}", system.name))?
                .iter()
                .filter_map(serde_json::Value::as_u64)
                .collect();
            let score = Score::of(&system.truth, &ids);
            sum += score;
            println!("drain3 0.9.11, {name:<14} {:<10} {score}", system.name);
        }
        let rate = answer["lines_per_second"].as_f64().unwrap_or_default() / 1e3;
        let mean = sum / systems.len() as f64;
        println!("drain3 0.9.11, {name:<14} {:<10} {mean}   {rate:.0} thousand lines per second\n", "mean");
    }
    Ok(())
}

/// The Python of an environment with drain3 in it.
pub fn install(folder: &Path) -> Result<PathBuf, String> {
    install_package(folder, "drain3==0.9.11")
}

/// The Python of an environment with this package in it.
pub fn install_package(folder: &Path, package: &str) -> Result<PathBuf, String> {
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
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", package]))?;
    std::fs::write(&ready, package).map_err(|e| format!("{}: {e}", ready.display()))?;
    Ok(python)
}
