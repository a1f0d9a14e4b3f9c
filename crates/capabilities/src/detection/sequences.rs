//! Sessions that come as sequences of event ids, one a line.

use std::collections::HashMap;

use opsroom_analytics::features::{GroupBuilder, Grouping};
use opsroom_core::{Error, Result};

use super::model::{Detected, Options};
use super::report::{Judged, Names, report};
use super::run::{Request, learn};
use crate::logs::input::{Limits, LogReader, ReadLog, Source, Watch, read_batches};
use crate::logs::shown::shown;

/// Distinct event ids that are told apart; what comes after is one event.
const MAX_EVENTS: usize = 60_000;

/// Says which of the sequences are abnormal.
pub(super) fn detect(request: Request, watch: &Watch) -> Result<Detected> {
    let Request { sources, train, options, limits } = request;
    refuse_grouping(&options)?;
    let mut events = Events::default();
    let learnt = match train.is_empty() {
        true => None,
        false => Some(events.read(train, limits.clone(), watch)?),
    };
    let (mut log, builder) = events.read(sources, limits, watch)?;
    let names = Names::events(events.names);
    let groups = builder.finish();
    let learnt = learnt.map(|(log, builder)| (log, builder.finish()));
    let detector = learn(&options, &groups, learnt.as_ref().map(|(_, groups)| groups))?;
    let judged = Judged {
        detector: &detector,
        groups: &groups,
        names: &names,
        grouping: "sequences".to_owned(),
        session_pattern: None,
        learnt_from: learnt.as_ref().map(|(log, _)| log),
        times: None,
    };
    report(&judged, &mut log, &options, watch)
}

fn refuse_grouping(options: &Options) -> Result<()> {
    if options.session.is_some() || options.window.is_some() {
        return Err(Error::invalid(
            "of sequences each line is a session: a session pattern or a window does not apply to them",
        ));
    }
    Ok(())
}

/// Event ids by their numbers, over all logs of a run.
#[derive(Default)]
struct Events {
    numbers: HashMap<Vec<u8>, u32>,
    names: Vec<String>,
}

impl Events {
    fn read(
        &mut self,
        sources: Vec<Source>,
        limits: Limits,
        watch: &Watch,
    ) -> Result<(ReadLog, GroupBuilder)> {
        let mut builder = GroupBuilder::new(Grouping::Session);
        let reader = LogReader::new(sources, limits, watch.clone());
        let log = read_batches(
            reader,
            |_| {},
            |batch| {
                for (number, line) in batch.lines() {
                    let key = number.to_string();
                    // An empty line is a session without events, and as such abnormal or not.
                    builder.open(number, key.as_bytes());
                    let ids = line.split(u8::is_ascii_whitespace).filter(|id| !id.is_empty());
                    for id in ids {
                        builder.push(number, self.number(id), None, false, Some(key.as_bytes()));
                    }
                }
                Ok(())
            },
        )?;
        Ok((log, builder))
    }

    fn number(&mut self, id: &[u8]) -> u32 {
        if let Some(&number) = self.numbers.get(id) {
            return number;
        }
        if self.names.len() > MAX_EVENTS {
            return MAX_EVENTS as u32;
        }
        let number = self.names.len() as u32;
        self.numbers.insert(id.to_vec(), number);
        self.names.push(match self.names.len() {
            MAX_EVENTS => "any other event".to_owned(),
            _ => format!("event {}", shown(id, 60)),
        });
        number
    }
}
