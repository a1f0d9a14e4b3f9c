//! The servers under test: the gateway and nginx, each in a folder of its own, ended with the run.

use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::load::Load;

/// A free port.
pub fn free() -> Result<u16, Box<dyn Error>> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until somebody listens there.
pub fn wait(port: u16) -> Result<(), Box<dyn Error>> {
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if begun.elapsed() > Duration::from_secs(20) {
            return Err(format!("nothing listens on {port}").into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// nginx as a plain reverse proxy that keeps its connections to the backend.
pub struct Nginx {
    /// Where it listens.
    pub port: u16,
    process: Child,
    folder: PathBuf,
}

impl Nginx {
    /// Starts it before a backend.
    pub fn start(backend: u16) -> Result<Self, Box<dyn Error>> {
        let port = free()?;
        let folder = std::env::temp_dir().join(format!("opsroom-nginx-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let at = folder.display();
        let config = format!(
            "daemon off; worker_processes 2; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; client_body_temp_path {at}/b; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f;\n\
             uwsgi_temp_path {at}/u; scgi_temp_path {at}/s; keepalive_requests 100000000;\n\
             upstream b {{ server 127.0.0.1:{backend}; keepalive 64; keepalive_requests 100000000; }}\n\
             server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://b; proxy_http_version 1.1; proxy_set_header Connection ''; }} }} }}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, config)?;
        let nginx =
            ["/usr/sbin/nginx", "nginx"].into_iter().find(|path| Path::new(path).exists()).unwrap_or("nginx");
        let process = Command::new(nginx).arg("-c").arg(&file).stderr(Stdio::null()).spawn()?;
        let nginx = Self { port, process, folder };
        wait(port)?;
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers end with their master's quiet end, not with a kill.
        let _gone = Command::new("kill").arg(self.process.id().to_string()).status();
        let _waited = self.process.wait();
        let _left = fs::remove_dir_all(&self.folder);
    }
}

/// The server with services behind its gateway.
pub struct Gateway {
    /// Where it listens.
    pub port: u16,
    /// A key for it.
    pub key: String,
    process: Child,
    folder: PathBuf,
}

impl Gateway {
    /// Starts it with a service `s0`, `s1`, ... for each backend's port.
    pub fn start(binary: &Path, backends: &[u16]) -> Result<Self, Box<dyn Error>> {
        let folder =
            std::env::temp_dir().join(format!("opsroom-gateway-{}-{}", std::process::id(), backends.len()));
        let _left = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        let mut config = "log:\n  level: warn\ngateway:\n  upstreams:\n".to_owned();
        for (at, port) in backends.iter().enumerate() {
            config.push_str(&format!("    - name: s{at}\n      url: http://127.0.0.1:{port}/mcp\n"));
        }
        fs::write(folder.join("opsroom.yaml"), config)?;
        let port = free()?;
        let mut process = Command::new(binary)
            .arg("--data-dir")
            .arg(&folder)
            .args(["serve", "--port", &port.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let out = process.stdout.take().ok_or("no output")?;
        for line in BufReader::new(out).lines() {
            if line?.contains("MCP") {
                break;
            }
        }
        let made = Command::new(binary)
            .arg("--data-dir")
            .arg(&folder)
            .args(["create-api-key", "--name", "bench", "--role", "operator"])
            .output()?;
        let made: serde_json::Value = serde_json::from_slice(&made.stdout)?;
        let key = made["key"].as_str().ok_or("no key")?.to_owned();
        let gateway = Self { port, key, process, folder };
        // The first call waits until the services have said what they have.
        Load::call("echo").run(port, "/mcp/services/s0", Some(&gateway.key), 1)?;
        Ok(gateway)
    }

    /// Resident memory, after a while of rest.
    pub fn resident_mib(&self) -> Result<f64, Box<dyn Error>> {
        std::thread::sleep(Duration::from_secs(3));
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS")).ok_or("no VmRSS")?;
        let kib: f64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _waited = self.process.wait();
        let _left = fs::remove_dir_all(&self.folder);
    }
}
