//! The events that a model was trained on, their vectors, and how events of other data relate to them.
//!
//! An event is *known* when training rows had it; *near* when its text or vector is like that of a known
//! one, as which it then counts; else *unknown*.

use std::collections::HashMap;

use super::dataset::{Dataset, Event};
use super::detector::Stop;
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
    /// The mean of the scaled vectors, which is taken off each: vectors of words have much in common, and
    /// a network would learn slowly from what little is left.
    pub center: Vec<f32>,
    /// The scaled vectors less their mean, one after the other.
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
        let count = vectors.len().max(1) as f64;
        let mut mean = vec![0.0f64; width];
        for vector in vectors {
            mean.iter_mut().zip(vector).for_each(|(sum, &value)| *sum += f64::from(value) / count);
        }
        let off_mean = vectors.iter().flat_map(|vector| vector.iter().zip(&mean));
        let squares: f64 = off_mean.map(|(&value, mean)| (f64::from(value) - mean).powi(2)).sum();
        let spread = (squares / (count * width as f64)).sqrt();
        // What all events share to the last digits of a float is no difference between them.
        let scale = if spread > 1e-9 { (SPREAD / spread) as f32 } else { 1.0 };
        let center: Vec<f32> = mean.iter().map(|&mean| mean as f32 * scale).collect();
        let scaled = |vector: &Vec<f32>| off_center(vector, scale, &center);
        let table = vectors.iter().flat_map(scaled).collect();
        Self { events, source, width, scale, center, table, text }
    }

    /// The scaled vector of a known event, less the mean.
    pub fn vector(&self, place: u32) -> &[f32] {
        &self.table[place as usize * self.width..][..self.width]
    }

    /// What each event of `dataset` is to the model.
    ///
    /// # Errors
    /// `Cancelled` when `stop` says so.
    pub fn relate(&self, dataset: &Dataset, stop: Stop<'_>) -> Result<Vec<Relation>, ClassifyError> {
        let ids = self.events.iter().enumerate();
        let places: HashMap<&str, u32> = ids.map(|(at, event)| (event.id.as_str(), at as u32)).collect();
        // Likeness is that of whole vectors.
        let whole = self.table.chunks_exact(self.width).flat_map(|row| row.iter().zip(&self.center));
        let whole: Vec<f32> = whole.map(|(value, center)| value + center).collect();
        let texts = self.texts_of_given(dataset);
        let relate = |event: &Event| match places.get(event.id.as_str()) {
            _ if stop() => Err(ClassifyError::Cancelled),
            Some(&place) => Ok(Relation::Known(place)),
            None => Ok(self.nearest(event, &whole, &texts)),
        };
        dataset.events.iter().map(relate).collect()
    }

    /// Of a model with given vectors, the vectors of its events' texts: an event that comes with a text
    /// alone is understood by it.
    fn texts_of_given(&self, dataset: &Dataset) -> Vec<Option<Vec<f32>>> {
        let by_text = |event: &Event| event.vector.is_none() && event.template.is_some();
        if self.source == Source::Text || !dataset.events.iter().any(by_text) {
            return Vec::new();
        }
        self.events.iter().map(|event| self.text.vector(event.template.as_deref()?)).collect()
    }

    fn nearest(&self, event: &Event, whole: &[f32], texts: &[Option<Vec<f32>>]) -> Relation {
        let text = || event.template.as_deref().and_then(|text| self.text.vector(text));
        let row = |place: u32| &whole[place as usize * self.width..][..self.width];
        let given = event.vector.as_ref().filter(|vector| vector.len() == self.width);
        match (self.source, given) {
            (Source::Given, Some(vector)) => self.near(vector, |place| cosine(vector, row(place))),
            (Source::Given, None) => {
                let Some(vector) = text().filter(|_| !texts.is_empty()) else {
                    return Relation::Unknown(None);
                };
                let likeness =
                    |place: u32| texts[place as usize].as_ref().map_or(0.0, |t| cosine(&vector, t));
                match self.best(likeness) {
                    Some((place, likeness)) => Relation::Near(place, likeness),
                    None => Relation::Unknown(None),
                }
            }
            (Source::Text, _) => match text() {
                Some(vector) => self.near(&vector, |place| cosine(&vector, row(place))),
                None => Relation::Unknown(None),
            },
        }
    }

    /// The event that is most like, or else the vector itself.
    fn near(&self, vector: &[f32], likeness: impl Fn(u32) -> f32) -> Relation {
        match self.best(likeness) {
            Some((place, likeness)) => Relation::Near(place, likeness),
            None => Relation::Unknown(Some(off_center(vector, self.scale, &self.center))),
        }
    }

    fn best(&self, likeness: impl Fn(u32) -> f32) -> Option<(u32, f32)> {
        let all = (0..self.events.len() as u32).map(|place| (place, likeness(place)));
        all.max_by(|a, b| a.1.total_cmp(&b.1)).filter(|best| best.1 >= NEAR)
    }
}

fn off_center(vector: &[f32], scale: f32, center: &[f32]) -> Vec<f32> {
    vector.iter().zip(center).map(|(value, center)| value * scale - center).collect()
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
    use crate::classify::error::ClassifyError;

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
        let others = dataset(&[
            ("2", None, None),
            ("90", Some("receiving blocks from a host"), None),
            ("91", Some("qqq"), None),
        ]);
        let relations = space.relate(&others, &|| false).unwrap();
        assert_eq!(space.relate(&others, &|| true), Err(ClassifyError::Cancelled));
        assert_eq!(relations[0], Relation::Known(1));
        assert!(matches!(relations[1], Relation::Near(0, likeness) if likeness > 0.5));
        assert_eq!(relations[2], Relation::Unknown(None));
    }

    #[test]
    fn vectors_lie_around_zero_however_much_they_share() {
        let vector = |x: f32| Some(vec![100.0 + x, 100.0, 100.0 - x]);
        let events = [("a", None, vector(1.0)), ("b", None, vector(-1.0)), ("c", None, vector(0.5))];
        let space = EventSpace::fit(&dataset(&events)).unwrap();
        let mean = |lane: usize| (0..3).map(|place| space.vector(place)[lane]).sum::<f32>() / 3.0;
        assert!((0..3).all(|lane| mean(lane).abs() < 1e-3), "{:?}", space.table);
        let squares: f32 = space.table.iter().map(|value| value * value).sum();
        assert!((squares / 9.0 - 0.75f32.powi(2)).abs() < 1e-3);
        // One event alone differs from nothing.
        let alone = EventSpace::fit(&dataset(&events[..1])).unwrap();
        assert!(alone.table.iter().all(|value| value.abs() < 1e-3));
    }

    #[test]
    fn an_event_with_a_text_alone_is_understood_beside_given_vectors() {
        let vector = |x: f32| Some(vec![x, 1.0]);
        let space = EventSpace::fit(&dataset(&[
            ("1", Some("Receiving block from host"), vector(1.0)),
            ("2", Some("Disk failure on volume"), vector(-1.0)),
        ]))
        .unwrap();
        let others =
            [("90", Some("disk failures on a volume"), None), ("91", Some("qqq"), None), ("92", None, None)];
        let relations = space.relate(&dataset(&others), &|| false).unwrap();
        assert!(matches!(relations[0], Relation::Near(1, _)), "{relations:?}");
        assert_eq!(relations[1..], [Relation::Unknown(None), Relation::Unknown(None)]);
    }

    #[test]
    fn given_vectors_are_used_and_checked() {
        let vector = |x: f32| Some(vec![x, 1.0, 0.0]);
        let space =
            EventSpace::fit(&dataset(&[("a", None, vector(1.0)), ("b", None, vector(-1.0))])).unwrap();
        assert_eq!((space.source, space.width), (Source::Given, 3));
        let others = [("c", None, vector(0.9)), ("d", None, Some(vec![0.0, 0.0, 5.0]))];
        let relations = space.relate(&dataset(&others), &|| false).unwrap();
        assert!(matches!(relations[0], Relation::Near(0, _)));
        assert!(matches!(&relations[1], Relation::Unknown(Some(v)) if v.len() == 3));
        for (wrong, part) in [(None, "event b has no vector"), (Some(vec![1.0]), "event b has 1 numbers")] {
            let error =
                EventSpace::fit(&dataset(&[("a", None, vector(1.0)), ("b", None, wrong)])).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
