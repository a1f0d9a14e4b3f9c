//! All that a container wrote, as the engine kept it.

use std::collections::BTreeMap;

use bollard::container::LogOutput;
use bollard::query_parameters::{ListContainersOptionsBuilder, LogsOptionsBuilder};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use opsroom_core::Result;

use super::super::{Container, Piece};
use super::{Docker, NODE, failure};

impl Docker {
    pub(super) async fn list_all(&self) -> Result<Vec<Container>> {
        let options = ListContainersOptionsBuilder::new().all(true).build();
        let found = self.client().await?.list_containers(Some(options)).await;
        let found = found.map_err(|error| self.failed(error))?;
        let container = |it: bollard::models::ContainerSummary| {
            let labels: BTreeMap<String, String> = it.labels.unwrap_or_default().into_iter().collect();
            let name = it.names.unwrap_or_default().into_iter().next().unwrap_or_default();
            let name = name.trim_start_matches('/').to_owned();
            Some(Container { id: it.id?, name, ours: labels.contains_key(NODE), labels })
        };
        Ok(found.into_iter().filter_map(container).collect())
    }

    pub(super) async fn read_output(
        &self,
        container: &str,
        since: i64,
        until: i64,
    ) -> Result<BoxStream<'static, Result<Piece>>> {
        let seconds = |at: i64| i32::try_from(at.max(0)).unwrap_or(i32::MAX);
        let options = LogsOptionsBuilder::new()
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .since(seconds(since))
            .until(seconds(until))
            .tail("all")
            .build();
        let client = self.client().await?;
        let socket = self.socket.clone();
        let piece = move |part: Result<LogOutput, _>| match part {
            Ok(part) => {
                let error = matches!(part, LogOutput::StdErr { .. });
                Ok(Piece { error, bytes: part.into_bytes() })
            }
            Err(error) => Err(failure(&socket, error)),
        };
        Ok(client.logs(container, Some(options)).map(piece).boxed())
    }
}
