//! FastMCP from the Python package index, run by a script of ours in an environment of its own.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::server::{free, wait};

const PACKAGES: [&str; 1] = ["fastmcp==4.1.2"];

/// A server of FastMCP that runs until this is dropped.
pub struct FastMcp {
    /// Where it listens.
    pub port: u16,
    process: Child,
}

impl FastMcp {
    /// Starts a proxy to the server at `url`, or, without one, a server of its own.
    pub fn start(url: Option<&str>) -> Result<Self, Box<dyn Error>> {
        let bench = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let python = install(&bench.join(".peers/gateway"))?;
        let port = free()?;
        let process = Command::new(&python)
            .arg(bench.join("peers/mcp_proxy.py"))
            .arg(port.to_string())
            .args(url)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let started = Self { port, process };
        wait(port)?;
        Ok(started)
    }
}

impl Drop for FastMcp {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _waited = self.process.wait();
    }
}

/// The Python of an environment with the peer in it.
fn install(folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let python = folder.join("bin/python");
    let ready = folder.join("installed");
    if !ready.exists() {
        finish(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
        finish(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PACKAGES))?;
        std::fs::write(&ready, PACKAGES.join("\n"))?;
    }
    Ok(python)
}

fn finish(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(format!("{command:?} ended with {status}").into()) }
}
