//! Legacy clients that open a session and leave, as most do.

use std::error::Error;

use super::load::{Line, request};

/// Opens so many sessions and ends none.
pub fn abandon(port: u16, key: &str, sessions: usize) -> Result<(), Box<dyn Error>> {
    let headers = [
        ("Content-Type", "application/json".to_owned()),
        ("Accept", "application/json, text/event-stream".to_owned()),
        ("Authorization", format!("Bearer {key}")),
    ];
    let hello = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{"elicitation":{},"sampling":{}},"clientInfo":{"name":"bench","version":"1"}}}"#;
    let request = request("/mcp", &headers, hello);
    let mut line = Line::open(port)?;
    for _ in 0..sessions {
        let (status, _) = line.ask(&request)?;
        if status != 200 {
            return Err(format!("status {status} to initialize").into());
        }
    }
    Ok(())
}
