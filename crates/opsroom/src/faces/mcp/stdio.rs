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
use serde_json::json;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt, BufReader, Stdout};

use super::relay::Relay;
use crate::client::Client;
use crate::config::ServerConfig;

/// Serves the room on standard input and output, as the owner of the data folder, until it closes.
pub async fn serve(room: Arc<Room>, config: &ServerConfig) -> Result<()> {
    let gateway = super::gateway(&room, config)?;
    let (out, mut said) = tokio::sync::mpsc::channel::<Bytes>(64);
    let (refusals, most) = (out.clone(), config.max_body_bytes);
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
        while let Some(line) = next_line(&mut from, most).await? {
            match line {
                Line::Whole(line) => conversation.receive(Bytes::from(line)).await,
                // A client that has gone needs no answer.
                Line::TooLong => drop(refusals.send(Line::refusal(most)).await),
            }
        }
        drop(refusals);
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

/// What was read of a client.
#[derive(Debug, PartialEq)]
enum Line {
    /// A message.
    Whole(Vec<u8>),
    /// A line longer than what is taken, which was read to its end and left out.
    TooLong,
}

impl Line {
    /// What a line longer than `most` bytes is answered with: without an id, because nobody read it.
    fn refusal(most: usize) -> Bytes {
        let text = format!("the message is longer than {most} bytes, and was left out");
        let error = json!({ "code": -32600, "message": text });
        json!({ "jsonrpc": "2.0", "id": null, "error": error }).to_string().into()
    }
}

/// The next line that is not empty; `None` at the end. What stands after the last line's end is a line too.
async fn next_line(from: &mut (impl AsyncBufRead + Unpin), most: usize) -> Result<Option<Line>> {
    loop {
        let mut line = Vec::new();
        let mut long = false;
        loop {
            let bytes = from.fill_buf().await.map_err(input_failed)?;
            if bytes.is_empty() {
                break;
            }
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let piece = end.map_or(bytes.len(), |end| end + 1);
            long |= line.len() + piece > most + 1;
            if !long {
                line.extend_from_slice(&bytes[..piece]);
            }
            from.consume(piece);
            if end.is_some() {
                break;
            }
        }
        if long {
            return Ok(Some(Line::TooLong));
        }
        if line.is_empty() {
            return Ok(None);
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Some(Line::Whole(line)));
        }
    }
}

fn input_failed(error: std::io::Error) -> Error {
    Error::unavailable(format!("standard input cannot be read: {error}"))
}

async fn line(to: &mut Stdout, message: &[u8]) -> Result<()> {
    to.write_all(message.trim_ascii()).await.map_err(Error::internal)?;
    to.write_all(b"\n").await.map_err(Error::internal)?;
    to.flush().await.map_err(Error::internal)
}

/// Carries lines between standard input and output and a server's `/mcp`.
pub async fn relay(client: Client, config: &ServerConfig) -> Result<()> {
    let (out, mut said) = tokio::sync::mpsc::channel::<Bytes>(64);
    let (refusals, most) = (out.clone(), config.max_body_bytes);
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
        while let Some(line) = next_line(&mut lines, most).await? {
            match line {
                Line::Whole(line) => relay.receive(line, &mut requests).await,
                Line::TooLong => drop(refusals.send(Line::refusal(most)).await),
            }
        }
        drop(refusals);
        relay.finish(&mut requests).await;
        drop(relay);
        Ok(())
    };
    tokio::try_join!(read, write).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_line_that_is_too_long_is_left_out_and_the_next_is_read() {
        let input = [b"{\"a\":1}\n\n".to_vec(), vec![b'x'; 50], b"\n{}\n{\"half".to_vec()].concat();
        let mut from = BufReader::with_capacity(7, input.as_slice());
        let mut read = Vec::new();
        while let Some(line) = next_line(&mut from, 10).await.unwrap() {
            read.push(line);
        }
        let whole = |text: &str| Line::Whole(text.as_bytes().to_vec());
        assert_eq!(read, [whole("{\"a\":1}\n"), Line::TooLong, whole("{}\n"), whole("{\"half")]);
    }
}
