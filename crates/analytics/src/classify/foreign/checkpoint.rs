//! PyTorch checkpoints of the first LogRobust server: its 20 tensors, or ours with attention.
//!
//! The server never trained its attention and never saved it, so a checkpoint without attention means
//! the plain mean over time, and its head has nothing between its two layers.

use std::collections::BTreeMap;

use super::npy::{Numbers, decode};
use super::pickle::{Value, kind};
use super::storage::{Container, open, refuse};
use crate::classify::error::ClassifyError;
use crate::recurrent::classifier::{Classifier, ClassifierShape};

/// Hidden units of a checkpoint, at most.
const MAX_HIDDEN: usize = 4096;

/// A named tensor: its sizes and its numbers, the last index running fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// The sizes.
    pub shape: Vec<usize>,
    /// The numbers.
    pub values: Vec<f32>,
}

/// Reads the tensors of a `state_dict` in either of PyTorch's containers. Nothing is executed.
pub fn read_tensors(bytes: &[u8]) -> Result<BTreeMap<String, NamedTensor>, ClassifyError> {
    let container = open(bytes)?;
    let Value::Dict(pairs) = container.pickle.root() else {
        let found = kind(container.pickle.root());
        return Err(refuse(format!("it holds {found}, expected a dictionary of tensors")));
    };
    let mut tensors = BTreeMap::new();
    for &(key, value) in pairs {
        let Value::Text(name) = container.pickle.get(key) else {
            return Err(refuse("a tensor's name is no text"));
        };
        let tensor = tensor(&container, container.pickle.get(value))
            .map_err(|problem| refuse(format!("tensor `{name}`: {problem}")))?;
        tensors.insert(name.clone(), tensor);
    }
    Ok(tensors)
}

fn tensor(container: &Container<'_>, value: &Value) -> Result<NamedTensor, String> {
    let Value::Tensor(storage, first, shape, strides) = value else {
        return Err(format!("it is {}, expected a tensor", kind(value)));
    };
    let Value::Storage(known, key, items) = container.pickle.get(*storage) else {
        return Err("it has no storage".to_owned());
    };
    let raw = container.storages.get(key).ok_or_else(|| format!("its storage {key} is not in the file"))?;
    let dtype = if known.width() == 8 { "<f8" } else { "<f4" };
    let Numbers::Real(all) = decode(dtype, raw, (*items).min(raw.len() / known.width()))? else {
        return Err("its storage holds no floats".to_owned());
    };
    let count = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
    let count = count.filter(|&count| count <= all.len() && shape.len() == strides.len());
    let count = count.ok_or_else(|| format!("its shape {shape:?} does not fit {} numbers", all.len()))?;
    let mut values = Vec::with_capacity(count);
    for index in 0..count {
        let (mut rest, mut place) = (index, Some(*first));
        for (&size, &stride) in shape.iter().zip(strides).rev() {
            let step = (rest % size).checked_mul(stride);
            place = place.zip(step).and_then(|(place, step)| place.checked_add(step));
            rest /= size;
        }
        let number = place.and_then(|place| all.get(place));
        let number = *number.ok_or("it reaches beyond its storage")? as f32;
        if !number.is_finite() {
            return Err("it holds a number that is not finite".to_owned());
        }
        values.push(number);
    }
    Ok(NamedTensor { shape: shape.clone(), values })
}

/// The network of named tensors, and its parameters. Sizes are taken from the tensors.
pub fn network(tensors: &BTreeMap<String, NamedTensor>) -> Result<(Classifier, Vec<f32>), ClassifyError> {
    let shape = shape_of(tensors)?;
    let net = Classifier::new(shape);
    let mut parameters = vec![0.0; net.layout().len()];
    for tensor in net.layout().tensors() {
        let found = tensors.get(&tensor.name);
        let found = found.ok_or_else(|| refuse(format!("tensor `{}` is missing", tensor.name)))?;
        if found.shape != tensor.shape() {
            let (name, found, wanted) = (&tensor.name, &found.shape, tensor.shape());
            return Err(refuse(format!("tensor `{name}` has the shape {found:?}, expected {wanted:?}")));
        }
        net.layout().write(tensor, &mut parameters, &found.values);
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
