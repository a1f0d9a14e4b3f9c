//! The events that a model was trained on, their vectors, and how events of other data relate to them.
//!
//! An event is *known* when training rows had it; *near* when its text or vector is like that of a known
//! one, as which it then counts; else *unknown*.

use std::collections::HashMap;

use super::dataset::{Dataset, Event};
use super::error::{ClassifyError, data};
use super::text::{TextModel, WIDTH, id_vector};

/// How like an event must be to a known one (cosine) to count as it.
const NEAR: f32 = 0.4;
/// The root mean square that vectors are scaled to, so that a network's start suits any source of
/// vectors.
const SPREAD: f64 = 0.75;

/// Where vectors come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// With the data.
    Given,
    /// From the templates' texts; from the ids of events that have none.
    Text,
}

/// The events of a model.
#[derive(Clone, Debug)]
pub struct EventSpace {
    /// The known events, by place.
    pub events: Vec<Event>,
    /// Where the vectors come from.
    pub source: Source,
    /// Numbers of a vector.
    pub width: usize,
    /// What vectors were multiplied by.
    pub scale: f32,
    /// The scaled vectors, one after the other.
    pub table: Vec<f32>,
    /// The weights of words.
    pub text: TextModel,
}

/// What an event of other data is to a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Relation {
    /// The known event of this place.
    Known(u32),
    /// Like the known event of this place, by this cosine.
    Near(u32, f32),
    /// Like none; with its scaled vector, if it has one.
    Unknown(Option<Vec<f32>>),
}

impl Relation {
    /// The known event that it counts as.
    pub fn place(&self) -> Option<u32> {
        match self {
            Self::Known(place) | Self::Near(place, _) => Some(*place),
            Self::Unknown(_) => None,
        }
    }
}

impl EventSpace {
    /// The space of the events that the rows of `data` have.
    pub fn fit(dataset: &Dataset) -> Result<Self, ClassifyError> {
        let mut used = vec![false; dataset.events.len()];
        for row in &dataset.rows {
            row.events.iter().for_each(|&event| used[event as usize] = true);
        }
        let events = dataset.events.iter().zip(used).filter(|(_, used)| *used);
        Self::of_events(events.map(|(event, _)| event.clone()).collect())
    }

    /// The space of these events; of several with one id, the first.
    pub fn of_events(mut events: Vec<Event>) -> Result<Self, ClassifyError> {
        // By id, so that the order of rows does not change the model.
        events.sort_by(|a, b| a.id.cmp(&b.id));
        events.dedup_by(|a, b| a.id == b.id);
        let given = events.iter().filter(|event| event.vector.is_some()).count();
        let text = TextModel::fit(events.iter().filter_map(|event| event.template.as_deref()));
        let (source, vectors) = if given == 0 {
            (Source::Text, events.iter().map(|event| text_vector(&text, event)).collect())
        } else {
            (Source::Given, given_vectors(&events)?)
        };
        events.iter_mut().for_each(|event| event.vector = None);
        Ok(Self::of_vectors(events, source, &vectors, text))
    }

    fn of_vectors(events: Vec<Event>, source: Source, vectors: &[Vec<f32>], text: TextModel) -> Self {
        let width = vectors.first().map_or(WIDTH, Vec::len);
        let squares: f64 = vectors.iter().flatten().map(|&v| f64::from(v) * f64::from(v)).sum();
        let spread = (squares / (vectors.len() * width).max(1) as f64).sqrt();
        let scale = if spread > 0.0 { (SPREAD / spread) as f32 } else { 1.0 };
        let table = vectors.iter().flatten().map(|&value| value * scale).collect();
        Self { events, source, width, scale, table, text }
    }

    /// The scaled vector of a known event.
    pub fn vector(&self, place: u32) -> &[f32] {
        &self.table[place as usize * self.width..][..self.width]
    }

    /// What each event of `dataset` is to the model.
    pub fn relate(&self, dataset: &Dataset) -> Vec<Relation> {
        let ids = self.events.iter().enumerate();
        let places: HashMap<&str, u32> = ids.map(|(at, event)| (event.id.as_str(), at as u32)).collect();
        let relate = |event: &Event| match places.get(event.id.as_str()) {
            Some(&place) => Relation::Known(place),
            None => self.nearest(event),
        };
        dataset.events.iter().map(relate).collect()
    }

    fn nearest(&self, event: &Event) -> Relation {
        let vector = match self.source {
            Source::Given => event.vector.clone().filter(|vector| vector.len() == self.width),
            Source::Text => event.template.as_deref().and_then(|text| self.text.vector(text)),
        };
        let Some(vector) = vector else { return Relation::Unknown(None) };
        let scaled: Vec<f32> = vector.iter().map(|value| value * self.scale).collect();
        let likeness = |place: u32| (place, cosine(&scaled, self.vector(place)));
        let best = (0..self.events.len() as u32).map(likeness).max_by(|a, b| a.1.total_cmp(&b.1));
        match best {
            Some((place, likeness)) if likeness >= NEAR => Relation::Near(place, likeness),
            _ => Relation::Unknown(Some(scaled)),
        }
    }
}

fn text_vector(text: &TextModel, event: &Event) -> Vec<f32> {
    let vector = event.template.as_deref().and_then(|template| text.vector(template));
    vector.unwrap_or_else(|| id_vector(&event.id))
}

fn given_vectors(events: &[Event]) -> Result<Vec<Vec<f32>>, ClassifyError> {
    let mut width = None;
    let mut vectors = Vec::with_capacity(events.len());
    for event in events {
        let Some(vector) = &event.vector else {
            return Err(data(format!("event {} has no vector, but others have", event.id)));
        };
        let expected = *width.get_or_insert(vector.len());
        if vector.len() != expected || expected == 0 {
            let (id, found) = (&event.id, vector.len());
            return Err(data(format!(
                "the vector of event {id} has {found} numbers, others have {expected}"
            )));
        }
        if vector.iter().any(|value| !value.is_finite()) {
            return Err(data(format!("the vector of event {} holds a number that is not finite", event.id)));
        }
        vectors.push(vector.clone());
    }
    Ok(vectors)
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f32>();
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms > 0.0 { dot(a, b) / norms } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::{EventSpace, Relation, Source};
    use crate::classify::dataset::{Builder, Dataset, Row};

    /// Its name, its template, its vector.
    type Given<'a> = (&'a str, Option<&'a str>, Option<Vec<f32>>);

    fn dataset(ids: &[Given]) -> Dataset {
        let mut builder = Builder::default();
        for (id, template, vector) in ids {
            let place = builder.event(id);
            let event = &mut builder.dataset.events[place as usize];
            event.template = template.map(str::to_owned);
            event.vector = vector.clone();
            builder.row(Row { events: vec![place], anomalous: Some(false), weight: 1.0 }).unwrap();
        }
        builder.dataset
    }

    #[test]
    fn an_event_is_known_by_id_near_by_text_or_unknown() {
        let space = EventSpace::fit(&dataset(&[
            ("1", Some("Receiving block from host"), None),
            ("2", Some("Disk failure on volume"), None),
        ]))
        .unwrap();
        assert_eq!(space.source, Source::Text);
        let relations = space.relate(&dataset(&[
            ("2", None, None),
            ("90", Some("receiving blocks from a host"), None),
            ("91", Some("qqq"), None),
        ]));
        assert_eq!(relations[0], Relation::Known(1));
        assert!(matches!(relations[1], Relation::Near(0, likeness) if likeness > 0.5));
        assert_eq!(relations[2], Relation::Unknown(None));
    }

    #[test]
    fn given_vectors_are_used_and_checked() {
        let vector = |x: f32| Some(vec![x, 1.0, 0.0]);
        let space =
            EventSpace::fit(&dataset(&[("a", None, vector(1.0)), ("b", None, vector(-1.0))])).unwrap();
        assert_eq!((space.source, space.width), (Source::Given, 3));
        let relations =
            space.relate(&dataset(&[("c", None, vector(0.9)), ("d", None, Some(vec![0.0, 0.0, 5.0]))]));
        assert!(matches!(relations[0], Relation::Near(0, _)));
        assert!(matches!(&relations[1], Relation::Unknown(Some(v)) if v.len() == 3));
        for (wrong, part) in [(None, "event b has no vector"), (Some(vec![1.0]), "event b has 1 numbers")] {
            let error =
                EventSpace::fit(&dataset(&[("a", None, vector(1.0)), ("b", None, wrong)])).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
