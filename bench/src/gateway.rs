//! The MCP gateway: calls through it, calls of the house's own tools, lists, and memory.
//!
//! Everything is on one machine and loaded with wrk at 32 keep-alive connections: the bare backend, nginx
//! as a plain reverse proxy to it, and the gateway to the same backend, in one run. wrk, nginx and the
//! backend share the cores with what is measured, so ratios count.

mod backend;
mod load;
mod peers;
mod server;
mod sessions;

use std::error::Error;
use std::path::PathBuf;

use load::{Load, latency};
use server::{Gateway, Nginx};

/// How many services the memory and the list are measured with.
const SERVICES: usize = 20;

/// `gateway [--binary PATH] [--seconds N] [--no-peers]`: prints the table.
pub fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let (mut binary, mut seconds) = (PathBuf::from("target/release/opsroom"), 10u64);
    let mut peers = true;
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        match flag.as_str() {
            "--binary" => binary = rest.next().ok_or("--binary names a file")?.into(),
            "--seconds" => seconds = rest.next().ok_or("--seconds has a number")?.parse()?,
            "--no-peers" => peers = false,
            _ => {
                let usage = "usage: gateway [--binary target/release/opsroom] [--seconds 10] [--no-peers]";
                return Err(usage.into());
            }
        }
    }
    if !binary.exists() {
        return Err(format!("{} is not there: cargo build --release -p opsroom", binary.display()).into());
    }
    let backend = backend::start()?;
    let nginx = Nginx::start(backend.port)?;
    let gateway = Gateway::start(&binary, &[backend.port])?;
    calls(&backend, &nginx, &gateway, seconds)?;
    if peers {
        fastmcp(&backend, seconds)?;
    }
    added(&backend, &gateway)?;
    drop(gateway);
    let many = Gateway::start(&binary, &[backend.port; SERVICES])?;
    lists(&many)?;
    memory(&many)
}

fn calls(
    backend: &backend::Backend,
    nginx: &Nginx,
    gateway: &Gateway,
    seconds: u64,
) -> Result<(), Box<dyn Error>> {
    println!("32 keep-alive connections, {seconds} s each, tools/call of 2026-07-28:");
    let echo = Load::call("echo");
    let bare = echo.run(backend.port, "/mcp", None, seconds)?;
    let plain = echo.run(nginx.port, "/mcp", None, seconds)?;
    let through = echo.run(gateway.port, "/mcp/services/s0", Some(&gateway.key), seconds)?;
    let named = Load::call("s0__echo").run(gateway.port, "/mcp", Some(&gateway.key), seconds)?;
    let own = Load::call("get_info").run(gateway.port, "/mcp", Some(&gateway.key), seconds)?;
    for (name, result) in [
        ("backend alone", &bare),
        ("nginx before it", &plain),
        ("gateway, /mcp/services/s0", &through),
        ("gateway, /mcp (renamed)", &named),
        ("built-in get_info", &own),
    ] {
        told(name, result);
    }
    println!("  gateway / nginx: {:.2}", through.per_second / plain.per_second);
    Ok(())
}

fn fastmcp(backend: &backend::Backend, seconds: u64) -> Result<(), Box<dyn Error>> {
    let url = format!("http://127.0.0.1:{}/mcp", backend.port);
    for (name, url) in [("FastMCP 4.1.2, proxy", Some(url.as_str())), ("FastMCP 4.1.2, server", None)] {
        let peer = peers::FastMcp::start(url)?;
        let result = Load::call("echo").run(peer.port, "/mcp", None, seconds)?;
        told(name, &result);
    }
    Ok(())
}

fn told(name: &str, result: &load::Seen) {
    println!(
        "  {name:<28} {:>9.0}/s   p50 {:>7.3} ms   p99 {:>7.3} ms   other than 200: {}",
        result.per_second, result.p50_ms, result.p99_ms, result.errors
    );
}

fn added(backend: &backend::Backend, gateway: &Gateway) -> Result<(), Box<dyn Error>> {
    let bare = latency(backend.port, "/mcp", None, "echo")?;
    let through = latency(gateway.port, "/mcp/services/s0", Some(&gateway.key), "echo")?;
    println!("one connection, calls one after the other:");
    println!("  backend alone   p50 {:.3} ms   p99 {:.3} ms", bare.0, bare.1);
    println!("  gateway         p50 {:.3} ms   p99 {:.3} ms", through.0, through.1);
    println!("  added           p50 {:.3} ms   p99 {:.3} ms", through.0 - bare.0, through.1 - bare.1);
    Ok(())
}

fn lists(gateway: &Gateway) -> Result<(), Box<dyn Error>> {
    let (p50, p99, bytes) = load::list(gateway.port, &gateway.key)?;
    println!("tools/list with {SERVICES} services, warm: p50 {p50:.3} ms, p99 {p99:.3} ms, {bytes} bytes");
    Ok(())
}

fn memory(gateway: &Gateway) -> Result<(), Box<dyn Error>> {
    let idle = gateway.resident_mib()?;
    println!("resident with {SERVICES} services, idle: {idle:.1} MiB");
    sessions::abandon(gateway.port, &gateway.key, 10_000)?;
    let settled = gateway.resident_mib()?;
    sessions::abandon(gateway.port, &gateway.key, 90_000)?;
    let after = gateway.resident_mib()?;
    println!("after  10,000 sessions opened and abandoned: {settled:.1} MiB");
    println!(
        "after 100,000 sessions opened and abandoned: {after:.1} MiB ({:+.1} % of idle)",
        (after / idle - 1.0) * 100.0
    );
    Ok(())
}
