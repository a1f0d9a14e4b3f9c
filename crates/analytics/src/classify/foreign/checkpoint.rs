//! PyTorch checkpoints of the first LogRobust server: its 20 tensors, or ours with attention.
//!
//! The server never trained its attention and never saved it, so a checkpoint without attention means
//! the plain mean over time, and its head has nothing between its two layers.

use std::collections::BTreeMap;

use super::npy::{Cell, Cells};
use super::pickle::{Tensor, Value, kind};
use super::storage::{Container, open, refuse};
use crate::classify::error::ClassifyError;
use crate::recurrent::classifier::{Classifier, ClassifierShape};

/// Hidden units of a checkpoint, at most.
const MAX_HIDDEN: usize = 4096;
/// Layers of a checkpoint, at most.
const MAX_LAYERS: usize = 64;

/// A named tensor: its sizes and its numbers, the last index running fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// The sizes.
    pub shape: Vec<usize>,
    /// The numbers.
    pub values: Vec<f32>,
}

/// Reads the tensors of a `state_dict` in either of PyTorch's containers. Nothing is executed.
///
/// All tensors together have no more numbers than the file has room for: a file in which many name one
/// storage is refused, which PyTorch does not write for a network.
pub fn read_tensors(bytes: &[u8]) -> Result<BTreeMap<String, NamedTensor>, ClassifyError> {
    let container = open(bytes)?;
    let Value::Dict(pairs) = container.pickle.root() else {
        let found = kind(container.pickle.root());
        return Err(refuse(format!("it holds {found}, expected a dictionary of tensors")));
    };
    let mut tensors = BTreeMap::new();
    let mut left = bytes.len() / size_of::<f32>();
    for &(key, value) in pairs {
        let Value::Text(name) = container.pickle.get(key) else {
            return Err(refuse("a tensor's name is no text"));
        };
        let tensor = tensor(&container, container.pickle.get(value), &mut left)
            .map_err(|problem| refuse(format!("tensor `{name}`: {problem}")))?;
        tensors.insert(name.clone(), tensor);
    }
    Ok(tensors)
}

/// A tensor of a file that has room for `left` more numbers.
fn tensor(container: &Container<'_>, value: &Value, left: &mut usize) -> Result<NamedTensor, String> {
    let Value::Tensor(tensor) = value else {
        return Err(format!("it is {}, expected a tensor", kind(value)));
    };
    let Tensor { storage, first, shape, strides } = &**tensor;
    let Value::Storage(storage) = container.pickle.get(*storage) else {
        return Err("it has no storage".to_owned());
    };
    let key = &storage.key;
    let raw = container.storages.get(key).ok_or_else(|| format!("its storage {key} is not in the file"))?;
    let width = storage.of.width();
    let items = storage.items.min(raw.len() / width);
    let cells = Cells::of(if width == 8 { "<f8" } else { "<f4" }, raw, items)?;
    let count = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let count = count.filter(|&count| count <= items && shape.len() == strides.len());
    let count = count.ok_or_else(|| format!("its shape {shape:?} does not fit {items} numbers"))?;
    let rest = left.checked_sub(count);
    *left = rest.ok_or("with those before it, it has more numbers than the file: they share a storage")?;
    let mut values = Vec::with_capacity(count);
    for index in 0..count {
        let (mut rest, mut place) = (index, Some(*first));
        for (&size, &stride) in shape.iter().zip(strides).rev() {
            let step = (rest % size).checked_mul(stride);
            place = place.zip(step).and_then(|(place, step)| place.checked_add(step));
            rest /= size;
        }
        let place = place.filter(|&place| place < items).ok_or("it reaches beyond its storage")?;
        match cells.cell(place)? {
            Cell::Real(number) if (number as f32).is_finite() => values.push(number as f32),
            _ => return Err("it holds a number that is not finite".to_owned()),
        }
    }
    Ok(NamedTensor { shape: shape.clone(), values })
}

/// The network of named tensors, and its parameters. Sizes are taken from the tensors.
pub fn network(tensors: &BTreeMap<String, NamedTensor>) -> Result<(Classifier, Vec<f32>), ClassifyError> {
    let shape = shape_of(tensors)?;
    let net = Classifier::new(shape);
    // All shapes are those of tensors that are there before room for the parameters is taken.
    for tensor in net.layout().tensors() {
        let found = tensors.get(&tensor.name);
        let found = found.ok_or_else(|| refuse(format!("tensor `{}` is missing", tensor.name)))?;
        if found.shape != tensor.shape() {
            let (name, found, wanted) = (&tensor.name, &found.shape, tensor.shape());
            return Err(refuse(format!("tensor `{name}` has the shape {found:?}, expected {wanted:?}")));
        }
    }
    let mut parameters = vec![0.0; net.layout().len()];
    for tensor in net.layout().tensors() {
        net.layout().write(tensor, &mut parameters, &tensors[&tensor.name].values);
    }
    let known = |name: &String| net.layout().tensors().iter().any(|tensor| tensor.name == *name);
    if let Some(name) = tensors.keys().find(|name| !known(name)) {
        return Err(refuse(format!("tensor `{name}` is not one of the network's")));
    }
    Ok((net, parameters))
}

fn shape_of(tensors: &BTreeMap<String, NamedTensor>) -> Result<ClassifierShape, ClassifyError> {
    let sizes = |name: &str| {
        let tensor = tensors.get(name).ok_or_else(|| refuse(format!("tensor `{name}` is missing")))?;
        match tensor.shape[..] {
            [outputs, inputs] if outputs > 0 && inputs > 0 => Ok((outputs, inputs)),
            _ => Err(refuse(format!("tensor `{name}` has the shape {:?}, expected two sizes", tensor.shape))),
        }
    };
    let (gates, input) = sizes("lstm.weight_ih_l0")?;
    let (classes, _) = sizes("fc2.weight")?;
    let hidden = gates / 4;
    if hidden == 0 || hidden > MAX_HIDDEN {
        return Err(refuse(format!("it has {hidden} hidden units, expected 1 to {MAX_HIDDEN}")));
    }
    let is_layer = |layer: &usize| tensors.contains_key(&format!("lstm.weight_ih_l{layer}"));
    let layers = (0..tensors.len()).take_while(is_layer).count();
    if layers > MAX_LAYERS {
        return Err(refuse(format!("it has {layers} layers, expected 1 to {MAX_LAYERS}")));
    }
    let attention = tensors.contains_key("attention.weight");
    Ok(ClassifierShape { input, hidden, layers, classes, attention, slope: 1.0 })
}

#[cfg(test)]
mod tests {
    use super::{network, read_tensors};
    use crate::recurrent::score::Scorer;

    const ZIP: &[u8] = include_bytes!("testdata/checkpoint.pt");
    const LEGACY: &[u8] = include_bytes!("testdata/checkpoint_legacy.pt");

    #[test]
    fn both_containers_give_the_network_that_pytorch_saved() {
        let events =
            [0.1, -0.2, 0.3, 1.0, 0.0, 0.5, -0.7, 0.2, 0.0, 0.0, 0.0, 0.0, 0.3, 0.3, 0.3, -1.0, 1.0, -1.0];
        // What PyTorch's own forward gave for these two sequences of three rows.
        let wanted = [[-0.263_163_57, -0.531_252], [-0.256_058_1, -0.509_186_7]];
        for bytes in [ZIP, LEGACY] {
            let tensors = read_tensors(bytes).unwrap();
            assert_eq!(tensors.len(), 20);
            let (net, parameters) = network(&tensors).unwrap();
            assert!(!net.shape().attention && net.shape().layers == 2 && net.shape().hidden == 2);
            let scored = Scorer::new(&net, &parameters, &events).score(&[&[0, 1, 2], &[3, 4, 5]], false);
            for (scored, wanted) in scored.iter().zip(wanted) {
                assert!(scored.logits.iter().zip(wanted).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6));
            }
        }
        assert_eq!(read_tensors(ZIP).unwrap(), read_tensors(LEGACY).unwrap());
    }

    /// A zip whose members are stored as they are, with as much of its headers as is read.
    fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut bytes, mut directory) = (Vec::<u8>::new(), Vec::<u8>::new());
        for (name, content) in members {
            let (start, length) = ((bytes.len() as u32).to_le_bytes(), (name.len() as u16).to_le_bytes());
            let size = (content.len() as u32).to_le_bytes();
            bytes.extend(b"PK\x03\x04".iter().chain(&[0; 22]).chain(&length).chain(&[0; 2]));
            bytes.extend(name.as_bytes().iter().chain(*content));
            directory.extend(b"PK\x01\x02".iter().chain(&[0; 16]).chain(&size).chain(&size));
            directory.extend(length.iter().chain(&[0; 12]).chain(&start).chain(name.as_bytes()));
        }
        let (count, start) = ((members.len() as u16).to_le_bytes(), (bytes.len() as u32).to_le_bytes());
        bytes.extend(directory);
        bytes.extend(b"PK\x05\x06".iter().chain(&[0; 6]).chain(&count).chain(&[0; 4]).chain(&start));
        bytes.extend([0; 2]);
        bytes
    }

    #[test]
    fn an_attack_by_many_tensors_over_one_storage_is_refused() {
        let storage = vec![0; 4 << 10];
        let tensors = |count: u8| {
            let mut pickle = b"\x80\x02}(".to_vec();
            for number in 0..count {
                pickle.extend([0x8c, 1, number % 128]);
                pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage");
                pickle.extend(b"ctorch\nFloatStorage\nX\x01\x00\x00\x000NM\x00\x04tQ");
                pickle.extend(b"K\x00(M\x00\x04t(K\x01ttR");
            }
            pickle.extend(b"u.");
            read_tensors(&zip(&[("a/data.pkl", &pickle), ("a/data/0", &storage)]))
        };
        assert_eq!(tensors(1).unwrap()["\0"].shape, [1024]);
        let error = tensors(100).unwrap_err().to_string();
        assert!(error.contains("share a storage"), "{error}");
    }

    #[test]
    fn an_attack_by_names_of_layers_without_numbers_is_refused_before_room_is_taken() {
        let mut tensors = read_tensors(ZIP).unwrap();
        let empty = super::NamedTensor { shape: vec![0], values: Vec::new() };
        for layer in 2..60 {
            tensors.insert(format!("lstm.weight_ih_l{layer}"), empty.clone());
        }
        // 4096 hidden units and 60 layers would be tens of gigabytes.
        let wide = super::NamedTensor { shape: vec![4 * 4096, 1], values: vec![0.0; 4 * 4096] };
        tensors.insert("lstm.weight_ih_l0".to_owned(), wide);
        assert!(network(&tensors).unwrap_err().to_string().contains("has the shape"));
        for layer in 60..70 {
            tensors.insert(format!("lstm.weight_ih_l{layer}"), empty.clone());
        }
        assert!(network(&tensors).unwrap_err().to_string().contains("70 layers"));
    }

    #[test]
    fn missing_misshapen_and_foreign_tensors_are_named() {
        let tensors = read_tensors(ZIP).unwrap();
        let mut missing = tensors.clone();
        missing.remove("fc1.bias");
        let mut misshapen = tensors.clone();
        misshapen.get_mut("lstm.bias_hh_l1").unwrap().shape = vec![7];
        let mut foreign = tensors.clone();
        foreign.insert("conv.weight".into(), tensors["fc1.bias"].clone());
        for (tensors, name) in
            [(missing, "`fc1.bias` is missing"), (misshapen, "`lstm.bias_hh_l1`"), (foreign, "`conv.weight`")]
        {
            let error = network(&tensors).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn cut_and_changed_checkpoints_are_answered_without_a_panic() {
        for whole in [ZIP, LEGACY] {
            for end in (0..whole.len() - 1).step_by(7) {
                assert!(read_tensors(&whole[..end]).is_err());
            }
            for at in (0..whole.len()).step_by(3) {
                let mut changed = whole.to_vec();
                changed[at] ^= 0xff;
                if let Ok(tensors) = read_tensors(&changed) {
                    let _ = network(&tensors);
                }
            }
        }
    }
}
