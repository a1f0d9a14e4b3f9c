//! What happens in the room, for whoever listens: a bus within the process with a short memory, so that
//! a listener that lost its connection can resume after the last event it saw.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::broadcast;

use crate::clock::Clock;

/// How many events are remembered for those who resume.
const MEMORY: usize = 4096;

/// Something that happened.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Its number since the server started.
    pub id: u64,
    /// What kind of thing happened: `job.progress`, `job.ended`, `schedule.ran`, ...
    pub topic: String,
    /// The team whose event it is; only its members see it.
    pub team: String,
    /// What it is about, such as a job's id.
    pub subject: String,
    /// When, RFC 3339.
    pub time: String,
    /// The details; never a secret.
    pub data: Value,
}

/// The bus. Cheap to clone.
#[derive(Clone)]
pub struct Events {
    clock: Clock,
    sender: broadcast::Sender<Arc<Event>>,
    memory: Arc<Mutex<Memory>>,
}

struct Memory {
    next: u64,
    recent: VecDeque<Arc<Event>>,
}

impl Events {
    /// A bus on which nothing has happened.
    pub fn new(clock: Clock) -> Self {
        let memory = Memory { next: 1, recent: VecDeque::new() };
        Self { clock, sender: broadcast::channel(MEMORY).0, memory: Arc::new(Mutex::new(memory)) }
    }

    /// Tells every listener.
    pub fn publish(&self, topic: &str, team: &str, subject: &str, data: Value) {
        let time = self.clock.now().to_rfc3339();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let (topic, team, subject) = (topic.to_owned(), team.to_owned(), subject.to_owned());
        let event = Arc::new(Event { id: memory.next, topic, team, subject, time, data });
        memory.next += 1;
        if memory.recent.len() == MEMORY {
            memory.recent.pop_front();
        }
        memory.recent.push_back(event.clone());
        // Nobody may be listening, and that is fine. Sent under the lock, so that order is kept.
        let _nobody = self.sender.send(event);
    }

    /// What was remembered after the event `after` (all of it for `None` is not wanted: nothing), and
    /// what is still to come.
    pub fn listen(&self, after: Option<u64>) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.sender.subscribe();
        let missed = match after {
            Some(after) => memory.recent.iter().filter(|event| event.id > after).cloned().collect(),
            None => Vec::new(),
        };
        (missed, receiver)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::clock::Time;

    #[tokio::test]
    async fn a_listener_resumes_after_the_last_event_it_saw() {
        let events = Events::new(Clock::manual(Time(0)));
        for n in 0..3 {
            events.publish("test", "default", "x", json!({ "n": n }));
        }
        let (missed, mut live) = events.listen(Some(1));
        assert_eq!(missed.iter().map(|event| event.id).collect::<Vec<_>>(), [2, 3]);
        events.publish("test", "default", "x", json!({}));
        assert_eq!(live.recv().await.unwrap().id, 4);
    }

    #[test]
    fn the_memory_is_bounded() {
        let events = Events::new(Clock::manual(Time(0)));
        for _ in 0..MEMORY + 10 {
            events.publish("test", "default", "x", Value::Null);
        }
        assert_eq!(events.listen(Some(0)).0.len(), MEMORY);
    }
}
