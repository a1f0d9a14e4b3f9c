//! A restricted reader of pickles: plain data, numpy arrays and PyTorch tensors, nothing else.
//!
//! Values lie in an arena and refer to each other by number, as the pickle's memo does, so a value that
//! is named a million times takes its room once. What an instruction takes is charged before it is taken,
//! against an allowance of [`GROWTH`] bytes for each byte of the file and of [`MAX_MEMORY`] in all.

use std::collections::HashMap;

use super::npy::{Cell, Cells};
use super::opcodes::Input;
use crate::classify::error::{ClassifyError, file};

/// Bytes of a pickle, at most.
pub const MAX_BYTES: usize = 256 << 20;
/// Bytes of memory that values may take for each byte of the file: a list of one-byte values needs some 50.
const GROWTH: usize = 64;
/// Bytes of memory that values may take, at most.
const MAX_MEMORY: usize = 1 << 30;
/// Arguments of a call and parts of a state, at most; those that are known have fewer.
const MAX_ARGUMENTS: usize = 16;
/// Sizes of an array or a tensor, at most.
const MAX_SIZES: usize = 32;
/// Bytes of the names of numpy's types and of storages, at most.
const MAX_NAME: usize = 64;

/// The place of a value in its [`Pickle`].
pub type At = usize;

/// A value of a pickle.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Python's `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A list or a tuple.
    List(Vec<At>),
    /// A dictionary, as pairs in their order.
    Dict(Vec<(At, At)>),
    /// One of the names that are known.
    Known(Known),
    /// A numpy type, as `<f8`.
    Dtype(String),
    /// A numpy array: type, shape, whether by columns, and the bytes or items.
    Array(Box<Array>),
    /// A PyTorch storage.
    Storage(Box<Storage>),
    /// A PyTorch tensor.
    Tensor(Box<Tensor>),
}

impl Value {
    /// Bytes that it takes beside the place in the arena.
    fn heap(&self) -> usize {
        match self {
            Self::Text(text) | Self::Dtype(text) => text.len(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(items) => items.len() * size_of::<At>(),
            Self::Dict(pairs) => pairs.len() * size_of::<(At, At)>(),
            Self::Array(array) => size_of::<Array>() + array.dtype.len() + 8 * array.shape.len(),
            Self::Storage(storage) => size_of::<Storage>() + storage.key.len(),
            Self::Tensor(tensor) => size_of::<Tensor>() + 8 * (tensor.shape.len() + tensor.strides.len()),
            Self::None | Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Known(_) => 0,
        }
    }
}

/// A PyTorch storage as pickled.
#[derive(Clone, Debug, PartialEq)]
pub struct Storage {
    /// The type of its numbers.
    pub of: Known,
    /// Its name in the file.
    pub key: String,
    /// How many numbers it has.
    pub items: usize,
}

/// A PyTorch tensor as pickled.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The place of its [`Value::Storage`].
    pub storage: At,
    /// Its first number there.
    pub first: usize,
    /// The sizes.
    pub shape: Vec<usize>,
    /// Numbers from one index to the next, by size.
    pub strides: Vec<usize>,
}

/// A numpy array as pickled; empty until its state is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Array {
    /// The type, as `<f8`.
    pub dtype: String,
    /// The sizes.
    pub shape: Vec<usize>,
    /// Whether the first index runs fastest.
    pub fortran: bool,
    /// The raw numbers, at the place of a [`Value::Bytes`].
    pub data: Option<At>,
}

/// The names that a pickle may use, and what they stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// `numpy...multiarray._reconstruct`: an array, empty at first.
    Reconstruct,
    /// `numpy...numeric._frombuffer`: an array, whole.
    FromBuffer,
    /// `numpy...multiarray.scalar`: one number.
    Scalar,
    /// `numpy.ndarray`, only ever an argument.
    Ndarray,
    /// `numpy.dtype`.
    Dtype,
    /// `_codecs.encode`: bytes, as old protocols write them.
    Encode,
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`.
    Tensor,
    /// `torch._utils._rebuild_parameter`.
    Parameter,
    /// `torch.FloatStorage`.
    Floats,
    /// `torch.DoubleStorage`.
    Doubles,
}

impl Known {
    /// The bytes of a number in a storage of this type.
    pub fn width(self) -> usize {
        if self == Self::Doubles { 8 } else { 4 }
    }

    fn of(module: &str, name: &str) -> Option<Self> {
        let numpy = matches!(module, "numpy.core.multiarray" | "numpy._core.multiarray");
        match (module, name) {
            (_, "_reconstruct") if numpy => Some(Self::Reconstruct),
            (_, "scalar") if numpy => Some(Self::Scalar),
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Some(Self::FromBuffer),
            ("numpy", "ndarray") => Some(Self::Ndarray),
            ("numpy", "dtype") => Some(Self::Dtype),
            ("_codecs", "encode") => Some(Self::Encode),
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::Tensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::Parameter),
            ("torch", "FloatStorage") => Some(Self::Floats),
            ("torch", "DoubleStorage") => Some(Self::Doubles),
            _ => None,
        }
    }
}

/// A pickle that was read: its values, and the one that it stands for.
#[derive(Debug)]
pub struct Pickle {
    values: Vec<Value>,
    root: At,
}

impl Pickle {
    /// Reads the pickle at the start of `bytes`; returns it and how many bytes it took.
    pub fn read(bytes: &[u8]) -> Result<(Self, usize), ClassifyError> {
        if bytes.len() > MAX_BYTES {
            return Err(refuse(format!("it has {} bytes, at most {MAX_BYTES} are read", bytes.len())));
        }
        let room = (GROWTH * bytes.len() + (1 << 16)).min(MAX_MEMORY);
        let mut machine = Machine { room, left: room, ..Machine::default() };
        let mut input = Input::new(bytes);
        loop {
            let opcode = input.byte()?;
            if opcode == b'.' {
                let root = machine.pop()?;
                return Ok((Self { values: machine.values, root }, input.position()));
            }
            machine.step(opcode, &mut input)?;
        }
    }

    /// The value that the pickle stands for.
    pub fn root(&self) -> &Value {
        &self.values[self.root]
    }

    /// All values, in the order they were read.
    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.values.iter()
    }

    /// The value at a place.
    pub fn get(&self, at: At) -> &Value {
        &self.values[at]
    }
}

/// A refusal of a pickle.
pub(super) fn refuse(problem: impl Into<String>) -> ClassifyError {
    file("pickle", problem)
}

/// Python's machine, less everything that runs code.
#[derive(Default)]
pub(super) struct Machine {
    values: Vec<Value>,
    stack: Vec<At>,
    marks: Vec<usize>,
    memo: HashMap<usize, At>,
    /// Bytes that it may take, and what is left of them.
    room: usize,
    left: usize,
}

impl Machine {
    /// Takes bytes off the allowance. They are not given back: what is dropped was still worked on.
    fn charge(&mut self, bytes: usize) -> Result<(), ClassifyError> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or_else(|| {
            refuse(format!("its values take more than the {} bytes that a file of its size may", self.room))
        })?;
        Ok(())
    }

    pub(super) fn push(&mut self, value: Value) -> Result<(), ClassifyError> {
        self.charge(size_of::<Value>() + size_of::<At>() + value.heap())?;
        self.stack.push(self.values.len());
        self.values.push(value);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Result<At, ClassifyError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(refuse("an instruction takes a value that is not there"));
        }
        Ok(self.stack.pop().expect("the stack is higher than its floor"))
    }

    pub(super) fn top(&self) -> Result<At, ClassifyError> {
        self.stack.last().copied().ok_or_else(|| refuse("an instruction needs a value that is not there"))
    }

    pub(super) fn mark(&mut self) -> Result<(), ClassifyError> {
        self.charge(size_of::<usize>())?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    pub(super) fn pop_mark(&mut self) -> Result<Vec<At>, ClassifyError> {
        let mark = self.marks.pop().ok_or_else(|| refuse("an instruction needs a mark that is not there"))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    pub(super) fn duplicate(&mut self) -> Result<(), ClassifyError> {
        let top = self.top()?;
        self.charge(size_of::<At>())?;
        self.stack.push(top);
        Ok(())
    }

    /// Remembers the top value under `key`, or the next free one.
    pub(super) fn remember(&mut self, key: Option<usize>) -> Result<(), ClassifyError> {
        let key = key.unwrap_or(self.memo.len());
        let top = self.top()?;
        // An entry, the room that a table of them keeps free, and the smaller table that it grew from.
        self.charge(5 * size_of::<(usize, At)>())?;
        self.memo.insert(key, top);
        Ok(())
    }

    pub(super) fn recall(&mut self, key: usize) -> Result<(), ClassifyError> {
        let at = *self.memo.get(&key).ok_or_else(|| refuse(format!("memo {key} was never set")))?;
        self.charge(size_of::<At>())?;
        self.stack.push(at);
        Ok(())
    }

    pub(super) fn text(&self, at: At) -> Result<&str, ClassifyError> {
        match &self.values[at] {
            Value::Text(text) => Ok(text),
            other => Err(refuse(format!("text was expected, found {}", kind(other)))),
        }
    }

    pub(super) fn append(&mut self, items: &[At]) -> Result<(), ClassifyError> {
        let top = self.top()?;
        self.charge(2 * size_of_val(items))?;
        match &mut self.values[top] {
            Value::List(list) => list.extend_from_slice(items),
            other => return Err(refuse(format!("items are appended to {}", kind(other)))),
        }
        Ok(())
    }

    pub(super) fn set_items(&mut self, items: &[At]) -> Result<(), ClassifyError> {
        let top = self.top()?;
        self.charge(2 * size_of_val(items))?;
        match &mut self.values[top] {
            Value::Dict(pairs) if items.len().is_multiple_of(2) => {
                pairs.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
            }
            other => return Err(refuse(format!("pairs are set in {}", kind(other)))),
        }
        Ok(())
    }

    /// Pushes the meaning of a name, or refuses it.
    pub(super) fn global(&mut self, module: &str, name: &str) -> Result<(), ClassifyError> {
        match Known::of(module, name) {
            Some(known) => self.push(Value::Known(known)),
            None => Err(refuse(format!(
                "it asks for `{module}.{name}`, which is neither numpy's nor PyTorch's way to write an \
                 array; nothing was executed"
            ))),
        }
    }

    pub(super) fn reduce(&mut self) -> Result<(), ClassifyError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::List(arguments) = &self.values[arguments] else {
            return Err(refuse("a call has no tuple of arguments"));
        };
        if arguments.len() > MAX_ARGUMENTS {
            return Err(refuse(format!(
                "a call has {} arguments, no known one has as many",
                arguments.len()
            )));
        }
        let arguments = arguments.clone();
        let Value::Known(function) = self.values[function] else {
            return Err(refuse("something is called that is no known function; nothing was executed"));
        };
        let value = self.call(function, &arguments)?;
        self.push(value)
    }

    /// What a known function would return.
    fn call(&self, function: Known, arguments: &[At]) -> Result<Value, ClassifyError> {
        let argument = |at: usize| arguments.get(at).map(|&at| &self.values[at]);
        let value = match (function, argument(0), argument(1)) {
            (Known::Reconstruct, Some(Value::Known(Known::Ndarray)), _) => Value::Array(Box::default()),
            (Known::FromBuffer, Some(Value::Bytes(_)), Some(Value::Dtype(dtype))) => {
                let shape = self.sizes(*arguments.get(2).ok_or_else(|| refuse("an array has no sizes"))?)?;
                let fortran = argument(3) == Some(&Value::Text("F".to_owned()));
                let dtype = dtype.clone();
                Value::Array(Box::new(Array { dtype, shape, fortran, data: Some(arguments[0]) }))
            }
            (Known::Dtype, Some(Value::Text(name)), _) if name.len() <= MAX_NAME => {
                Value::Dtype(name.clone())
            }
            (Known::Encode, Some(Value::Text(text)), _) => {
                // A text that is named again and again becomes other bytes each time.
                if text.len() > self.left {
                    return Err(refuse("its values take more memory than a file of its size may"));
                }
                Value::Bytes(latin1(text)?)
            }
            (Known::Scalar, Some(Value::Dtype(name)), Some(Value::Bytes(bytes))) => scalar(name, bytes)?,
            (Known::OrderedDict, None, _) => Value::Dict(Vec::new()),
            (Known::Parameter, Some(tensor @ Value::Tensor(..)), _) => tensor.clone(),
            (Known::Tensor, Some(Value::Storage(..)), Some(Value::Int(first))) => {
                let (Some(&sizes), Some(&strides)) = (arguments.get(2), arguments.get(3)) else {
                    return Err(refuse("a tensor has no sizes"));
                };
                let first = usize::try_from(*first).map_err(|_| refuse("a tensor starts below zero"))?;
                let (shape, strides) = (self.sizes(sizes)?, self.sizes(strides)?);
                Value::Tensor(Box::new(Tensor { storage: arguments[0], first, shape, strides }))
            }
            _ => return Err(refuse(format!("{function:?} is called with arguments that it does not have"))),
        };
        Ok(value)
    }

    fn sizes(&self, at: At) -> Result<Vec<usize>, ClassifyError> {
        let Value::List(items) = &self.values[at] else {
            return Err(refuse("sizes were expected"));
        };
        if items.len() > MAX_SIZES {
            return Err(refuse(format!("there are {} sizes, at most {MAX_SIZES} can be", items.len())));
        }
        let size = |&at: &At| match self.values[at] {
            Value::Int(size) => usize::try_from(size).map_err(|_| refuse("a size is below zero")),
            _ => Err(refuse("a size is no whole number")),
        };
        items.iter().map(size).collect()
    }

    /// Sets the state of the value below the top: of arrays and types; other states are left alone.
    pub(super) fn build(&mut self) -> Result<(), ClassifyError> {
        let (state, target) = (self.pop()?, self.top()?);
        let parts = match &self.values[state] {
            Value::List(parts) if parts.len() <= MAX_ARGUMENTS => parts.clone(),
            _ => Vec::new(),
        };
        let part = |at: usize| parts.get(at).map(|&at| &self.values[at]);
        match (&self.values[target], part(1), part(2)) {
            (Value::Array(_), Some(Value::List(_)), Some(Value::Dtype(dtype))) => {
                let (dtype, fortran) = (dtype.clone(), part(3) == Some(&Value::Bool(true)));
                let Some(Value::Bytes(_)) = part(4) else {
                    return Err(refuse(format!("an array of type {dtype} holds objects, expected numbers")));
                };
                let shape = self.sizes(parts[1])?;
                let array = Box::new(Array { dtype, shape, fortran, data: Some(parts[4]) });
                self.charge(array.dtype.len() + 8 * array.shape.len())?;
                self.values[target] = Value::Array(array);
            }
            (Value::Dtype(name), Some(Value::Text(order)), _) if order.len() <= 1 => {
                let name = format!("{order}{}", name.trim_start_matches(['<', '>', '|', '=']));
                self.values[target] = Value::Dtype(name);
            }
            (Value::Dict(_), ..) => {}
            (other, ..) => return Err(refuse(format!("a state is set on {}", kind(other)))),
        }
        Ok(())
    }

    /// A PyTorch storage, named by a tuple of its type, key and size.
    pub(super) fn persistent(&mut self) -> Result<(), ClassifyError> {
        let at = self.pop()?;
        let parts = match &self.values[at] {
            Value::List(parts) if parts.len() <= MAX_ARGUMENTS => parts.clone(),
            _ => Vec::new(),
        };
        let part = |at: usize| parts.get(at).map(|&at| &self.values[at]);
        let storage = match (part(0), part(1), part(2), part(4)) {
            (
                Some(Value::Text(word)),
                Some(Value::Known(kind @ (Known::Floats | Known::Doubles))),
                Some(Value::Text(key)),
                Some(Value::Int(items)),
            ) if word == "storage" && *items >= 0 && key.len() <= MAX_NAME => {
                Value::Storage(Box::new(Storage { of: *kind, key: key.clone(), items: *items as usize }))
            }
            _ => return Err(refuse("a storage is not one of floats or doubles")),
        };
        self.push(storage)
    }
}

/// The words for a kind of value.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::None => "nothing",
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => "a number",
        Value::Text(_) => "text",
        Value::Bytes(_) => "bytes",
        Value::List(_) => "a list",
        Value::Dict(_) => "a dictionary",
        Value::Known(_) => "a name",
        Value::Dtype(_) => "a numpy type",
        Value::Array(_) => "an array",
        Value::Storage(..) | Value::Tensor(..) => "a tensor",
    }
}

fn latin1(text: &str) -> Result<Vec<u8>, ClassifyError> {
    let byte = |c: char| u8::try_from(u32::from(c)).map_err(|_| refuse("bytes hold a letter beyond Latin-1"));
    text.chars().map(byte).collect()
}

fn scalar(dtype: &str, bytes: &[u8]) -> Result<Value, ClassifyError> {
    let cell = Cells::of(dtype, bytes, 1).and_then(|cells| cells.cell(0)).map_err(refuse)?;
    Ok(match cell {
        Cell::Whole(item) => Value::Int(item),
        Cell::Real(item) => Value::Float(item),
        Cell::Text(item) => Value::Text(item.into_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::{Pickle, Value};
    use crate::classify::foreign::vectors::read_event_vectors;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// `{1: [0.5, -2], "E2": [1.0, 3.25]}`, protocol 4.
    const LISTS: &str = "80049534000000000000007d94284b015d9428473fe00000000000004afeffffff658c024532945d9428473f\
        f000000000000047400a00000000000065752e";
    /// `{7: numpy.array([0.5, -1.5])}`: protocol 2, protocol 4 with 32 bits, protocol 5 with a numpy key.
    const ARRAYS: [&str; 3] = [
        "80027d71004b07636e756d70792e5f636f72652e6d756c746961727261790a5f7265636f6e7374727563740a7101636e756d70790a\
         6e6461727261790a71024b00857103635f636f646563730a656e636f64650a7104580100000062710558060000006c6174696e3171\
         0686710752710887710952710a284b014b0285710b636e756d70790a64747970650a710c58020000006638710d898887710e52710f\
         284b0358010000003c71104e4e4e4affffffff4affffffff4b00747111628968045813000000000000000000c3a03f000000000000\
         c3b8c2bf7112680686711352711474711562732e",
        "80049596000000000000007d944b078c166e756d70792e5f636f72652e6d756c74696172726179948c0c5f7265636f6e7374727563\
         749493948c056e756d7079948c076e6461727261799493944b0085944301629487945294284b014b02859468048c05647479706594\
         93948c02663494898887945294284b038c013c944e4e4e4affffffff4affffffff4b007494628943080000003f0000c0bf94749462\
         732e",
        "800595de000000000000007d948c166e756d70792e5f636f72652e6d756c74696172726179948c067363616c61729493948c056e75\
         6d7079948c0564747970659493948c02693894898887945294284b038c013c944e4e4e4affffffff4affffffff4b00749462430807\
         0000000000000094869452948c136e756d70792e5f636f72652e6e756d65726963948c0b5f66726f6d627566666572949394289610\
         00000000000000000000000000e03f000000000000f8bf9468068c02663894898887945294284b03680a4e4e4e4affffffff4affff\
         ffff4b007494624b0285948c01439474945294732e",
    ];
    /// `{1: <an object that runs "true" when it is loaded>}`, protocol 4.
    const EVIL: &str = "80049524000000000000007d944b018c05706f736978948c0673797374656d9493948c0474727565948594529473\
        2e";
    /// `{7: numpy.array([None, 1])}`.
    const OBJECTS: &str = "80049592000000000000007d944b078c166e756d70792e5f636f72652e6d756c74696172726179948c0c5f726\
        5636f6e7374727563749493948c056e756d7079948c076e6461727261799493944b0085944301629487945294284b014b0285946804\
        8c0564747970659493948c024f3894898887945294284b038c017c944e4e4e4affffffff4affffffff4b3f749462895d94284e4b016\
        5749462732e";

    #[test]
    fn vectors_are_read_from_lists_and_arrays_of_every_protocol() {
        let vectors = read_event_vectors(&bytes(LISTS)).unwrap();
        assert_eq!((&vectors["1"], &vectors["E2"]), (&vec![0.5, -2.0], &vec![1.0, 3.25]));
        for array in ARRAYS {
            assert_eq!(read_event_vectors(&bytes(array)).unwrap()["7"], [0.5, -1.5]);
        }
        assert_eq!(read_event_vectors(b"(dp0\nI1\n(lp1\nF0.5\naI2\nas.").unwrap()["1"], [0.5, 2.0]);
    }

    #[test]
    fn a_pickle_that_would_run_a_command_is_refused_by_name() {
        let error = read_event_vectors(&bytes(EVIL)).unwrap_err().to_string();
        assert!(error.contains("`posix.system`") && error.contains("nothing was executed"), "{error}");
        let error =
            read_event_vectors(b"(dp0\nI1\ncposix\nsystem\np1\n(Vtrue\np2\ntp3\nRp4\ns.").unwrap_err();
        assert!(error.to_string().contains("`posix.system`"), "{error}");
    }

    #[test]
    fn instructions_that_make_instances_are_refused() {
        for pickle in [
            &b"\x80\x04\x8c\x01a\x81."[..],
            b"\x80\x02i__main__\nX\n.",
            b"\x80\x02\x82\x01.",
            b"\x80\x05\x97.",
        ] {
            let error = Pickle::read(pickle).unwrap_err().to_string();
            assert!(error.contains("nothing was executed"), "{error}");
        }
    }

    #[test]
    fn objects_in_arrays_ragged_vectors_and_other_shapes_are_refused() {
        let error = read_event_vectors(&bytes(OBJECTS)).unwrap_err().to_string();
        assert!(error.contains("objects, expected numbers"), "{error}");
        for (pickle, part) in [
            (&b"(dI1\n(lF1\nasI2\n(lF1\naF2\nas."[..], "event 2 has 2 numbers"),
            (b"(dI1\n(lFnan\nas.", "not finite"),
            (b"(dI1\nF1\ns.", "expected a list"),
            (b"(l.", "expected a dictionary"),
            (b"(d.", "no vectors"),
        ] {
            let error = read_event_vectors(pickle).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn cut_and_senseless_pickles_are_refused_at_every_byte() {
        for whole in ARRAYS.iter().chain([&LISTS]).map(|hex| bytes(hex)) {
            for end in 0..whole.len() - 1 {
                assert!(Pickle::read(&whole[..end]).is_err());
            }
            for at in 0..whole.len() {
                let mut changed = whole.clone();
                changed[at] ^= 0x55;
                // Any answer will do, as long as there is one.
                let _ = read_event_vectors(&changed);
            }
        }
        for pickle in
            [&b"."[..], b"0.", b"e.", b"(e.", b"h\x07.", b"\x85.", b"NR.", b"Nb.", b"]]]]].", b"(((1."]
        {
            let _ = Pickle::read(pickle);
        }
    }

    /// Refused for the memory it would take, and not for its sense.
    fn refused_for_its_memory(pickle: &[u8]) {
        let error = Pickle::read(pickle).unwrap_err().to_string();
        assert!(error.contains("more") && error.contains("a file of its size may"), "{error}");
    }

    #[test]
    fn an_attack_that_encodes_one_long_text_again_and_again_is_refused() {
        // A text of a megabyte in the memo; each further call of ten bytes would copy it.
        let mut pickle = b"\x80\x02c_codecs\nencode\nq\x00X\x00\x00\x10\x00".to_vec();
        pickle.extend(vec![b'a'; 1 << 20]);
        pickle.extend(b"q\x01\x85q\x020");
        pickle.extend(b"h\x00h\x02R0".repeat(1000));
        pickle.push(b'.');
        refused_for_its_memory(&pickle);
    }

    #[test]
    fn an_attack_that_fills_the_memo_by_one_byte_an_entry_is_refused() {
        let mut pickle = b"\x80\x04N".to_vec();
        pickle.extend(vec![0x94; 1 << 20]);
        pickle.push(b'.');
        refused_for_its_memory(&pickle);
    }

    #[test]
    fn an_attack_that_doubles_a_list_or_sizes_is_refused() {
        // Ten thousand numbers; each tensor of 20 bytes would keep them twice as its sizes.
        let mut pickle = b"\x80\x02(".to_vec();
        pickle.extend(b"K\x01".repeat(10_000));
        pickle.extend(b"tq\x00");
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n");
        pickle.extend(b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000N");
        pickle.extend(b"K\x01tQK\x00h\x00h\x00tR.");
        let error = Pickle::read(&pickle).unwrap_err().to_string();
        assert!(error.contains("10000 sizes"), "{error}");
        // A call with ten thousand arguments would copy them for nothing.
        let mut pickle = b"\x80\x02ccollections\nOrderedDict\n(".to_vec();
        pickle.extend(b"N".repeat(10_000));
        pickle.extend(b"tR.");
        let error = Pickle::read(&pickle).unwrap_err().to_string();
        assert!(error.contains("10000 arguments"), "{error}");
    }

    #[test]
    fn a_list_that_holds_itself_many_times_takes_its_room_once() {
        // l = [l, l]: memo 0 is the list, appended twice to itself.
        let (pickle, _) = Pickle::read(b"\x80\x02]q\x00(h\x00h\x00e.").unwrap();
        assert_eq!(pickle.root(), &Value::List(vec![0, 0]));
    }
}
