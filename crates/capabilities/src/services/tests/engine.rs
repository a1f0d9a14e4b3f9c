//! An engine that is none: it stands for Docker, remembers what it was told, and fails on request.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, StreamExt};
use opsroom_core::{Error, Result, Secret};

use crate::services::addresses::Subnet;
use crate::services::model::{Service, Spec};
use crate::services::runtime::{Container, Engine, Holding, LogLine, Look, Note, Piece, Placement, Usage};
use crate::services::store::Driver;

#[derive(Default)]
pub struct Fake(Mutex<State>);

#[derive(Default)]
pub struct State {
    /// By id: of which service, of which generation, whether it runs.
    pub containers: BTreeMap<String, (i64, i64, bool)>,
    pub networks: BTreeMap<String, String>,
    pub environment: Vec<(String, String)>,
    /// What the next start does instead.
    pub start: Option<Trouble>,
    /// The engine does not answer.
    pub away: bool,
    pub starts: u32,
    /// Containers that others made.
    pub strangers: Vec<Container>,
    /// What every container wrote.
    pub wrote: Vec<Piece>,
    /// Between which moments it was asked for.
    pub asked: Vec<(i64, i64)>,
    next: u32,
}

#[derive(Clone, Copy)]
pub enum Trouble {
    /// The engine goes away after the container was made.
    AwayAfterCreate,
    /// The container ends at once.
    EndsAtOnce,
}

impl Fake {
    pub fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn answer<T>(&self, answer: impl FnOnce(&mut State) -> T) -> Result<T> {
        self.with(
            |state| {
                if state.away { Err(Error::unavailable("the engine is away")) } else { Ok(answer(state)) }
            },
        )
    }
}

impl Engine for Fake {
    fn pin<'a>(&'a self, spec: &'a Spec, _: Note<'a>) -> BoxFuture<'a, Result<String>> {
        let known = spec.image == "weather:1";
        let missing = || Error::not_found(format!("image: there is no image `{}` on the engine", spec.image));
        let answer = self.answer(|_| if known { Ok("sha256:abc".to_owned()) } else { Err(missing()) });
        Box::pin(async move { answer? })
    }

    fn look<'a>(&'a self, it: &'a Service) -> BoxFuture<'a, Result<Look>> {
        let answer = self.answer(|state| {
            let found = state.containers.iter().find(|(_, (service, _, _))| *service == it.id);
            match found {
                None => Look::Missing,
                Some((id, (_, generation, true))) => Look::Running {
                    container: id.clone(),
                    address: Some(([172, 30, 0, 2], it.spec.service_port.unwrap_or(1)).into()),
                    started_at: Some(1),
                    generation: *generation,
                },
                Some((id, (_, generation, false))) => Look::Ended {
                    container: id.clone(),
                    exit_code: 137,
                    trouble: None,
                    ended_at: Some(2),
                    generation: *generation,
                },
            }
        });
        Box::pin(async move { answer })
    }

    fn start<'a>(
        &'a self,
        it: &'a Service,
        placement: &'a Placement,
        environment: &'a [(String, Secret)],
        note: Note<'a>,
    ) -> BoxFuture<'a, Result<()>> {
        note("making");
        let answer = self.answer(|state| {
            state.starts += 1;
            state.next += 1;
            state.containers.retain(|_, (service, _, _)| *service != it.id);
            state.networks.insert(format!("id-{}", placement.network.name), placement.network.name.clone());
            state.environment =
                environment.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect();
            let runs = state.start.is_none();
            state.containers.insert(format!("c{}", state.next), (it.id, it.generation, runs));
            if matches!(state.start, Some(Trouble::AwayAfterCreate)) {
                state.away = true;
                return Err(Error::unavailable("the engine went away"));
            }
            Ok(())
        });
        Box::pin(async move { answer? })
    }

    fn stop<'a>(&'a self, it: &'a Service) -> BoxFuture<'a, Result<()>> {
        let answer = self.answer(|state| {
            for (service, _, runs) in state.containers.values_mut() {
                *runs &= *service != it.id;
            }
        });
        Box::pin(async move { answer })
    }

    fn remove<'a>(&'a self, container: &'a str) -> BoxFuture<'a, Result<()>> {
        let answer = self.answer(|state| {
            state.containers.remove(container);
        });
        Box::pin(async move { answer })
    }

    fn remove_network<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<()>> {
        let answer = self.answer(|state| drop(state.networks.remove(id)));
        Box::pin(async move { answer })
    }

    fn containers(&self) -> BoxFuture<'_, Result<Vec<Holding>>> {
        let holding = |(id, (service, _, _)): (&String, &(i64, i64, bool))| Holding {
            id: id.clone(),
            service: Some(*service),
            name: id.clone(),
        };
        let answer = self.answer(|state| state.containers.iter().map(holding).collect());
        Box::pin(async move { answer })
    }

    fn networks(&self) -> BoxFuture<'_, Result<Vec<Holding>>> {
        let holding =
            |(id, name): (&String, &String)| Holding { id: id.clone(), service: None, name: name.clone() };
        let answer = self.answer(|state| state.networks.iter().map(holding).collect());
        Box::pin(async move { answer })
    }

    fn subnets(&self) -> BoxFuture<'_, Result<Vec<Subnet>>> {
        let answer = self.answer(|_| vec!["172.30.0.0/24".parse().unwrap()]);
        Box::pin(async move { answer })
    }

    fn preflight<'a>(&'a self, _: Driver, parent: &'a str) -> BoxFuture<'a, Result<()>> {
        Box::pin(async move { Err(Error::conflict(format!("this machine has no interface `{parent}`"))) })
    }

    fn logs<'a>(&'a self, _: &'a Service, _: u32, _: i64) -> BoxFuture<'a, Result<Vec<LogLine>>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn every_container(&self) -> BoxFuture<'_, Result<Vec<Container>>> {
        let answer = self.answer(|state| {
            let own = state.containers.keys().map(|id| Container {
                id: id.clone(),
                name: id.clone(),
                ours: true,
                ..Container::default()
            });
            own.chain(state.strangers.iter().cloned()).collect()
        });
        Box::pin(async move { answer })
    }

    fn container_of<'a>(&'a self, it: &'a Service) -> BoxFuture<'a, Result<Option<String>>> {
        let id = it.id;
        let answer = self.answer(|state| {
            state.containers.iter().find(|(_, (service, _, _))| *service == id).map(|(id, _)| id.clone())
        });
        Box::pin(async move { answer })
    }

    fn output<'a>(
        &'a self,
        _: &'a str,
        since: i64,
        until: i64,
    ) -> BoxFuture<'a, Result<BoxStream<'static, Result<Piece>>>> {
        let answer = self.answer(|state| {
            state.asked.push((since, until));
            futures_util::stream::iter(state.wrote.clone().into_iter().map(Ok)).boxed()
        });
        Box::pin(async move { answer })
    }

    fn usage<'a>(&'a self, _: &'a Service) -> BoxFuture<'a, Result<Option<Usage>>> {
        Box::pin(async { Ok(None) })
    }

    fn ping(&self) -> BoxFuture<'_, Result<String>> {
        let answer = self.answer(|_| "fake".to_owned());
        Box::pin(async move { answer })
    }
}
