//! Saving a model: safetensors for the numbers, one JSON text in its header for everything else.
//!
//! The bytes are a function of the model alone: no time, host or run is in them, and maps are ordered.
//! Reading checks every size before it is used, since the file may come from anywhere.

use std::collections::{BTreeMap, HashMap};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::counts::CountRow;
use super::dataset::{Event, MAX_EVENTS};
use super::detector::{Detector, Method, Network};
use super::error::{ClassifyError, file};
use super::forest::{Forest, Node};
use super::linear::Linear;
use super::model::{Model, Provenance};
use super::nearest::{Nearest, Normals};
use super::space::{EventSpace, Source};
use super::text::TextModel;
use crate::recurrent::classifier::{Classifier, ClassifierShape};
use crate::recurrent::train::Epoch;

/// The version of the format.
pub const VERSION: u32 = 2;
/// The header's key.
const KEY: &str = "opsroom";
/// Bytes of a model, at most. Read, it takes about three times as many.
pub const MAX_BYTES: usize = 1 << 29;
/// Parameters of a network that is read, at most.
const MAX_PARAMETERS: usize = MAX_BYTES / size_of::<f32>();
/// Units of a network that is read, at most.
const MAX_HIDDEN: usize = 4096;
/// Layers of a network that is read, at most.
const MAX_LAYERS: usize = 64;
/// Lists of one kind (normal sequences, neighbours) that are read, at most.
const MAX_LISTS: usize = 100_000;
/// Trees that are read, at most.
const MAX_TREES: usize = 10_000;

#[derive(serde::Serialize, serde::Deserialize)]
struct Header {
    version: u32,
    method: Method,
    training_share: f64,
    expected_share: f64,
    space: Option<SpaceHeader>,
    network: Option<NetworkHeader>,
    provenance: Provenance,
    history: Vec<Epoch>,
}

/// The part of a header that every version has.
#[derive(serde::Deserialize)]
struct Version {
    version: u64,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct SpaceHeader {
    events: Vec<Event>,
    source: Source,
    width: usize,
    scale: f32,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct NetworkHeader {
    shape: ClassifierShape,
    max_length: usize,
}

fn refuse(problem: impl Into<String>) -> ClassifyError {
    file("model", problem)
}

/// The named arrays of a model, by their little-endian bytes.
#[derive(Default)]
struct Arrays(BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl Arrays {
    fn put<const N: usize>(
        &mut self,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
        items: impl Iterator<Item = [u8; N]>,
    ) {
        self.0.insert(name.to_owned(), (dtype, shape.to_vec(), items.flatten().collect()));
    }

    fn floats(&mut self, name: &str, shape: &[usize], items: &[f32]) {
        self.put(name, Dtype::F32, shape, items.iter().map(|v| v.to_le_bytes()));
    }

    fn doubles(&mut self, name: &str, items: impl ExactSizeIterator<Item = f64>) {
        self.put(name, Dtype::F64, &[items.len()], items.map(f64::to_le_bytes));
    }

    fn numbers(&mut self, name: &str, items: &[u32]) {
        self.put(name, Dtype::U32, &[items.len()], items.iter().map(|v| v.to_le_bytes()));
    }

    fn hashes(&mut self, name: &str, items: impl ExactSizeIterator<Item = u64>) {
        self.put(name, Dtype::U64, &[items.len()], items.map(u64::to_le_bytes));
    }

    /// Lists of different lengths: all items, and where each list ends.
    fn lists(&mut self, name: &str, lists: impl Iterator<Item = Vec<u32>>) {
        let (mut items, mut ends) = (Vec::new(), Vec::new());
        for list in lists {
            items.extend(list);
            ends.push(items.len() as u32);
        }
        self.numbers(&format!("{name}.items"), &items);
        self.numbers(&format!("{name}.ends"), &ends);
    }
}

impl Model {
    /// The model as a file's content.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ClassifyError> {
        let mut arrays = Arrays::default();
        if let Some(space) = &self.space {
            arrays.floats("space.table", &[space.events.len(), space.width], &space.table);
            arrays.floats("space.center", &[space.width], &space.center);
            arrays.hashes("space.parts", space.text.weights().keys().copied());
            let weights: Vec<f32> = space.text.weights().values().copied().collect();
            arrays.floats("space.part_weights", &[weights.len()], &weights);
        }
        arrays.lists("normals", self.normals.sequences().iter().cloned());
        arrays.hashes("seen", self.seen.iter().copied());
        put_detector(&self.detector, &mut arrays);
        let header = Header {
            version: VERSION,
            method: self.detector.method(),
            training_share: self.training_share,
            expected_share: self.expected_share,
            space: self.space.as_ref().map(|space| SpaceHeader {
                events: space.events.clone(),
                source: space.source,
                width: space.width,
                scale: space.scale,
            }),
            network: match &self.detector {
                Detector::Network(network) => {
                    Some(NetworkHeader { shape: network.net.shape(), max_length: network.max_length })
                }
                _ => None,
            },
            provenance: self.provenance.clone(),
            history: self.history.clone(),
        };
        let header = serde_json::to_string(&header).map_err(|error| refuse(error.to_string()))?;
        let mut views = Vec::new();
        for (name, (dtype, shape, bytes)) in &arrays.0 {
            let view = TensorView::new(*dtype, shape.clone(), bytes);
            views.push((name.as_str(), view.map_err(|error| refuse(error.to_string()))?));
        }
        // One entry alone: a map of several would come out in a different order each time.
        let header = HashMap::from([(KEY.to_owned(), header)]);
        let bytes = safetensors::serialize(views, Some(header)).map_err(|error| refuse(error.to_string()))?;
        match bytes.len() {
            0..=MAX_BYTES => Ok(bytes),
            size => Err(refuse(format!("it has {size} bytes, and one of more than {MAX_BYTES} is not read"))),
        }
    }

    /// The model of a file's content.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ClassifyError> {
        if bytes.len() > MAX_BYTES {
            return Err(refuse(format!("it has {} bytes, at most {MAX_BYTES} are read", bytes.len())));
        }
        let (_, metadata) = SafeTensors::read_metadata(bytes)
            .map_err(|error| refuse(format!("it is not a safetensors file: {error}")))?;
        let header = metadata.metadata().as_ref().and_then(|map| map.get(KEY));
        let header = header.ok_or_else(|| refuse("its header does not say that it is one of ours"))?;
        let version = serde_json::from_str::<Version>(header);
        let Version { version } = version.map_err(|_| refuse("its header has no version"))?;
        if version != u64::from(VERSION) {
            return Err(refuse(format!("its format is version {version}, this program reads {VERSION}")));
        }
        let header: Header =
            serde_json::from_str(header).map_err(|error| refuse(format!("its header: {error}")))?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| refuse(error.to_string()))?;
        let file = File { tensors };
        let space = header.space.map(|space| file.space(space)).transpose()?;
        let known = space.as_ref().map_or(0, |space| space.events.len());
        let share = |share: f64| (share > 0.0 && share < 1.0).then_some(share);
        let shares = share(header.training_share).zip(share(header.expected_share));
        let (training_share, expected_share) =
            shares.ok_or_else(|| refuse("a share of anomalies is not in (0, 1)"))?;
        let normals = file.lists("normals", known)?;
        let mut seen: Vec<u64> = file.items("seen", Dtype::U64, u64::from_le_bytes)?;
        seen.sort_unstable();
        let width = space.as_ref().map(|space| space.width);
        let detector = file.detector(header.method, header.network, width, known)?;
        let (provenance, history) = (header.provenance, header.history);
        let normals = Normals::of(normals);
        Ok(Self { detector, space, training_share, expected_share, normals, seen, provenance, history })
    }
}

fn put_detector(detector: &Detector, arrays: &mut Arrays) {
    match detector {
        Detector::Network(network) => {
            let layout = network.net.layout();
            for tensor in layout.tensors() {
                arrays.floats(&tensor.name, &tensor.shape(), &layout.read(tensor, &network.parameters));
            }
        }
        Detector::Tree(forest) => {
            let nodes: Vec<&Node> = forest.trees.iter().flatten().collect();
            let (mut events, mut sides, mut ends) = (Vec::new(), Vec::new(), Vec::new());
            for node in &nodes {
                events.push(node.event);
                sides.extend([node.sides.0, node.sides.1]);
            }
            forest.trees.iter().for_each(|tree| ends.push(ends.last().unwrap_or(&0) + tree.len() as u32));
            arrays.numbers("tree.events", &events);
            arrays.numbers("tree.sides", &sides);
            arrays.numbers("tree.ends", &ends);
            let numbers = |of: fn(&Node) -> f32| nodes.iter().map(|node| of(node)).collect::<Vec<f32>>();
            arrays.floats("tree.cuts", &[nodes.len()], &numbers(|node| node.cut));
            arrays.floats("tree.shares", &[nodes.len()], &numbers(|node| node.share));
        }
        Detector::Linear(linear) => {
            arrays.doubles("linear.coefficients", linear.coefficients.iter().copied());
        }
        Detector::Nearest(nearest) => {
            let rows = &nearest.rows;
            arrays.lists("nearest", rows.iter().map(|r| r.counts.iter().flat_map(|c| [c.0, c.1]).collect()));
            arrays
                .numbers("nearest.labels", &rows.iter().map(|r| u32::from(r.anomalous)).collect::<Vec<_>>());
            arrays.doubles("nearest.weights", rows.iter().map(|r| r.weight));
        }
    }
}

/// A file whose arrays are taken out one by one.
struct File<'a> {
    tensors: SafeTensors<'a>,
}

impl File<'_> {
    fn items<T, const N: usize>(
        &self,
        name: &str,
        dtype: Dtype,
        of: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, ClassifyError> {
        let tensor = self.tensors.tensor(name).map_err(|_| refuse(format!("it has no array `{name}`")))?;
        if tensor.dtype() != dtype {
            return Err(refuse(format!("array `{name}` has type {:?}, expected {dtype:?}", tensor.dtype())));
        }
        let (chunks, _) = tensor.data().as_chunks::<N>();
        Ok(chunks.iter().map(|chunk| of(*chunk)).collect())
    }

    fn floats(&self, name: &str, count: usize) -> Result<Vec<f32>, ClassifyError> {
        let items = self.items(name, Dtype::F32, f32::from_le_bytes)?;
        if items.len() != count || items.iter().any(|value| !value.is_finite()) {
            let found = items.len();
            return Err(refuse(format!("array `{name}` has {found} numbers, expected {count} finite ones")));
        }
        Ok(items)
    }

    /// Lists of places below `known`.
    fn lists(&self, name: &str, known: usize) -> Result<Vec<Vec<u32>>, ClassifyError> {
        let lists = self.raw_lists(name)?;
        if lists.iter().flatten().any(|&place| place as usize >= known) {
            return Err(refuse(format!("array `{name}.items` names an event beyond the {known} there are")));
        }
        Ok(lists)
    }

    fn raw_lists(&self, name: &str) -> Result<Vec<Vec<u32>>, ClassifyError> {
        let items = self.items(&format!("{name}.items"), Dtype::U32, u32::from_le_bytes)?;
        let ends = self.items(&format!("{name}.ends"), Dtype::U32, u32::from_le_bytes)?;
        if ends.len() > MAX_LISTS {
            return Err(refuse(format!("array `{name}.ends` has {} lists, at most {MAX_LISTS}", ends.len())));
        }
        let (mut lists, mut start) = (Vec::with_capacity(ends.len()), 0);
        for end in ends {
            let list = items.get(start..end as usize);
            lists.push(list.ok_or_else(|| refuse(format!("array `{name}.ends` does not rise")))?.to_vec());
            start = end as usize;
        }
        Ok(lists)
    }

    fn space(&self, header: SpaceHeader) -> Result<EventSpace, ClassifyError> {
        let SpaceHeader { events, source, width, scale } = header;
        if events.len() > MAX_EVENTS {
            return Err(refuse(format!("it knows {} events, at most {MAX_EVENTS}", events.len())));
        }
        let count = events.len().checked_mul(width).filter(|_| width > 0 && scale.is_finite());
        let count = count.ok_or_else(|| refuse("its vectors have no sensible size"))?;
        let table = self.floats("space.table", count)?;
        let center = self.floats("space.center", width)?;
        let parts = self.items("space.parts", Dtype::U64, u64::from_le_bytes)?;
        let weights = self.floats("space.part_weights", parts.len())?;
        let text = TextModel::of_weights(parts.into_iter().zip(weights).collect());
        Ok(EventSpace { events, source, width, scale, center, table, text })
    }

    fn detector(
        &self,
        method: Method,
        network: Option<NetworkHeader>,
        width: Option<usize>,
        known: usize,
    ) -> Result<Detector, ClassifyError> {
        Ok(match method {
            Method::Network => {
                let header = network.ok_or_else(|| refuse("its header does not describe its network"))?;
                Detector::Network(self.network(header, width)?)
            }
            Method::Tree => Detector::Tree(self.forest()?),
            Method::Linear => {
                let coefficients = self.items("linear.coefficients", Dtype::F64, f64::from_le_bytes)?;
                if coefficients.len() != 2 * known + 2 || coefficients.iter().any(|c| !c.is_finite()) {
                    let found = coefficients.len();
                    return Err(refuse(format!("it has {found} coefficients for {known} events")));
                }
                Detector::Linear(Linear { coefficients })
            }
            Method::Nearest => Detector::Nearest(self.nearest()?),
        })
    }

    fn network(&self, header: NetworkHeader, width: Option<usize>) -> Result<Network, ClassifyError> {
        let ClassifierShape { input, hidden, layers, classes, slope, .. } = header.shape;
        let sizes = [input, hidden, layers, header.max_length];
        let fits = hidden <= MAX_HIDDEN && layers <= MAX_LAYERS && input <= MAX_PARAMETERS / 8;
        if sizes.contains(&0) || classes != 2 || !slope.is_finite() || !fits {
            return Err(refuse(format!("its network has impossible sizes: {:?}", header.shape)));
        }
        if width.is_some_and(|width| width != input) {
            return Err(refuse(format!("its network reads {input} numbers, its vectors have {width:?}")));
        }
        let net = Classifier::new(header.shape);
        // The arrays are there, and of these sizes, before room for the parameters is taken.
        for tensor in net.layout().tensors() {
            let found = self.tensors.tensor(&tensor.name).ok().map(|found| found.data().len());
            if found != Some(size_of::<f32>() * tensor.shape().iter().product::<usize>()) {
                let (name, wanted) = (&tensor.name, tensor.shape());
                return Err(refuse(format!("array `{name}` is not there with the sizes {wanted:?}")));
            }
        }
        let mut parameters = vec![0.0; net.layout().len()];
        for tensor in net.layout().tensors() {
            let values = self.floats(&tensor.name, tensor.shape().iter().product())?;
            net.layout().write(tensor, &mut parameters, &values);
        }
        Ok(Network { net, parameters, max_length: header.max_length })
    }

    fn forest(&self) -> Result<Forest, ClassifyError> {
        let events = self.items("tree.events", Dtype::U32, u32::from_le_bytes)?;
        let sides = self.items("tree.sides", Dtype::U32, u32::from_le_bytes)?;
        let cuts = self.floats("tree.cuts", events.len())?;
        let shares = self.floats("tree.shares", events.len())?;
        let ends = self.items("tree.ends", Dtype::U32, u32::from_le_bytes)?;
        if sides.len() != 2 * events.len() {
            return Err(refuse("its trees have nodes without sides"));
        }
        let node = |at: usize| Node {
            event: events[at],
            cut: cuts[at],
            sides: (sides[2 * at], sides[2 * at + 1]),
            share: shares[at],
        };
        if ends.len() > MAX_TREES {
            return Err(refuse(format!("it has {} trees, at most {MAX_TREES}", ends.len())));
        }
        let (mut trees, mut start) = (Vec::new(), 0);
        for end in ends {
            let end = end as usize;
            if end < start || end > events.len() {
                return Err(refuse("array `tree.ends` does not rise"));
            }
            let tree: Vec<Node> = (start..end).map(node).collect();
            // Sides lie after their node, so that every walk down a tree ends.
            let falls = |(at, node): (usize, &Node)| {
                let later = |side: u32| side as usize > at && (side as usize) < tree.len();
                node.sides == (0, 0) || (later(node.sides.0) && later(node.sides.1))
            };
            if !tree.iter().enumerate().all(falls) {
                return Err(refuse("a tree has a side that does not lie after its node"));
            }
            trees.push(tree);
            start = end;
        }
        Ok(Forest { trees })
    }

    fn nearest(&self) -> Result<Nearest, ClassifyError> {
        let lists = self.raw_lists("nearest")?;
        let labels = self.items("nearest.labels", Dtype::U32, u32::from_le_bytes)?;
        let weights = self.items("nearest.weights", Dtype::F64, f64::from_le_bytes)?;
        if labels.len() != lists.len() || weights.len() != lists.len() {
            return Err(refuse("its neighbours lack labels or weights"));
        }
        let row = |(list, (label, weight)): (Vec<u32>, (u32, f64))| CountRow {
            counts: list.as_chunks::<2>().0.iter().map(|pair| (pair[0], pair[1])).collect(),
            anomalous: label != 0,
            weight,
        };
        Ok(Nearest { rows: lists.into_iter().zip(labels.into_iter().zip(weights)).map(row).collect() })
    }
}
