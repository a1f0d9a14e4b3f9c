//! MCP over standard input and output: for a client that starts `opsroom mcp`.
//!
//! With a running server the lines go to its socket in the data folder and back, byte for byte, so that
//! the client sees exactly what `/mcp` says. Without one, the room is opened here.

use std::sync::Arc;

use bytes::Bytes;
use opsroom_capabilities::room::Room;
use opsroom_core::caller::Face;
use opsroom_core::{Caller, Error, Result};
use opsroom_gateway::View;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Stdout};

use super::relay::Relay;
use crate::client::Client;
use crate::config::ServerConfig;

/// The longest line of a client that is read.
const LONGEST_LINE: u64 = 64 << 20;

/// Serves the room on standard input and output, as the owner of the data folder, until it closes.
pub async fn serve(room: Arc<Room>, config: &ServerConfig) -> Result<()> {
    let gateway = super::gateway(&room, config)?;
    let (out, mut said) = tokio::sync::mpsc::channel::<Bytes>(64);
    let conversation = gateway.converse(Caller::operator(Face::Mcp), View::All, out);
    let stop = room.lifecycle.stopping();
    let write = async {
        let mut to = tokio::io::stdout();
        while let Some(message) = said.recv().await {
            line(&mut to, &message).await?;
        }
        Ok(())
    };
    let read = async {
        let mut from = BufReader::new(tokio::io::stdin());
        while let Some(line) = next_line(&mut from).await? {
            conversation.receive(Bytes::from(line)).await;
        }
        // What is at work when the input ends is still answered.
        conversation.finish().await;
        drop(conversation);
        Ok(())
    };
    tokio::select! {
        ended = async { tokio::try_join!(read, write) } => ended.map(drop),
        () = stop.cancelled() => Ok(()),
    }
}

/// The next line that is not empty; `None` at the end.
async fn next_line(from: &mut (impl tokio::io::AsyncBufRead + Unpin)) -> Result<Option<Vec<u8>>> {
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut *from).take(LONGEST_LINE);
        let read = bounded.read_until(b'\n', &mut line).await.map_err(Error::internal)?;
        if read == 0 {
            return Ok(None);
        }
        if read as u64 == LONGEST_LINE {
            return Err(Error::invalid(format!("a message has more than {LONGEST_LINE} bytes")));
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Some(line));
        }
    }
}

async fn line(to: &mut Stdout, message: &[u8]) -> Result<()> {
    to.write_all(message.trim_ascii()).await.map_err(Error::internal)?;
    to.write_all(b"\n").await.map_err(Error::internal)?;
    to.flush().await.map_err(Error::internal)
}

/// Carries lines between standard input and output and a server's `/mcp`.
pub async fn relay(client: Client) -> Result<()> {
    let (out, mut said) = tokio::sync::mpsc::channel::<Bytes>(64);
    let relay = Relay::new(client, out);
    let write = async {
        let mut to = tokio::io::stdout();
        while let Some(message) = said.recv().await {
            line(&mut to, &message).await?;
        }
        Ok(())
    };
    let read = async {
        let mut lines = BufReader::new(tokio::io::stdin());
        let mut requests = tokio::task::JoinSet::new();
        while let Some(line) = next_line(&mut lines).await? {
            relay.receive(line, &mut requests).await;
        }
        relay.finish(&mut requests).await;
        drop(relay);
        Ok(())
    };
    tokio::try_join!(read, write).map(drop)
}
