//! A service of HTTP+SSE (2024-11-05): one event stream, and a URL to which messages are posted.

use std::sync::Arc;
use std::time::Duration;

use opsroom_core::lifecycle::Lifecycle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::call::Trouble;
use super::duplex::Duplex;
use super::endpoint::{Endpoint, LARGEST_ANSWER};
use crate::sse::Decoder;

/// How long the service may take to say where messages are posted.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens the stream. `stop` closes it.
pub async fn open(
    lifecycle: &Lifecycle,
    endpoint: &Endpoint,
    stop: CancellationToken,
) -> Result<Arc<Duplex>, Trouble> {
    let mut answer = endpoint.get(&[]).await?;
    match answer.head.status {
        200 if answer.head.events => {}
        401 | 403 => return Err(Trouble::Unauthorized(answer.head.challenge.clone())),
        status => return Err(Trouble::garbled(format!("status {status} in place of an event stream"))),
    }
    let mut decoder = Decoder::default();
    let mut waiting = Vec::new();
    let first = async {
        loop {
            let Some(piece) = answer.next().await? else {
                return Err(Trouble::garbled("the stream ended before it named an endpoint"));
            };
            let events = decoder.push(&piece, LARGEST_ANSWER);
            waiting.extend(events.map_err(|_| Trouble::garbled("a message is larger than what is taken"))?);
            if let Some(at) = waiting.iter().position(|event| event.name == "endpoint") {
                return Ok(waiting.remove(at).data);
            }
        }
    };
    let named = tokio::time::timeout(PATIENCE, first).await;
    let named = named.map_err(|_| Trouble::Late(PATIENCE))??;
    let messages = endpoint.at(&named).map_err(|error| Trouble::Garbled(error.message))?;
    let (out, mut posted) = mpsc::channel::<bytes::Bytes>(64);
    let duplex = Duplex::new(out);
    let (served, stopping) = (duplex.clone(), lifecycle.stopping());
    let work = async move {
        waiting.iter().for_each(|event| served.receive(event.data.as_bytes()));
        let read = async {
            while let Ok(Some(piece)) = answer.next().await {
                let Ok(events) = decoder.push(&piece, LARGEST_ANSWER) else { return };
                for event in events.iter().filter(|event| !event.data.is_empty()) {
                    served.receive(event.data.as_bytes());
                }
            }
        };
        let post = async {
            while let Some(message) = posted.recv().await {
                match messages.post(&[], &message).await {
                    Ok(answer) if (200..300).contains(&answer.head.status) => {}
                    _ => return,
                }
            }
        };
        tokio::select! {
            () = read => {}
            () = post => {}
            () = stop.cancelled() => {}
            () = stopping.cancelled() => {}
        }
        served.ended.cancel();
        Ok(())
    };
    drop(lifecycle.spawn_work(work));
    Ok(duplex)
}
