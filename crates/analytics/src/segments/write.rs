//! Writing: rows in, the bytes of a segment out.
//!
//! The file is: the magic word, the chunks, the packed footer, its two lengths, its checksum, the magic word
//! again. Each chunk and the footer are zstd frames; the footer has the chunks' checksums (CRC-32).

use std::collections::{BTreeMap, HashMap};

use zstd::bulk::Compressor;

use super::column::{self, Meta};
use super::numbers::pack;
use super::shape::{self, Piece, RAW, TIME, Var, pieces};
use super::wire::{Result, SegmentError, put, put_bytes, put_signed};
use super::{MOST_ROWS, MOST_TEXT};

pub(super) const MAGIC: &[u8; 8] = b"OPSLOG01";
/// Bytes of columns that are packed together.
const CHUNK: usize = 64 << 10;
/// The most shapes; lines beyond are whole variables.
const MOST_SHAPES: usize = 50_000;
const LEVEL: i32 = 3;

/// The labels of a stream.
pub type Labels = BTreeMap<String, String>;

/// One line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Microseconds since 1970.
    pub time: i64,
    /// Where its text begins among all texts.
    pub at: u32,
    /// The bytes of its text.
    pub len: u32,
    /// Which stream it belongs to.
    pub stream: u32,
    /// 0 for none, then from 1 for the quietest to 6.
    pub level: u8,
}

/// Lines that are not yet a segment.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// The lines, in the order in which they came.
    pub rows: Vec<Row>,
    /// Their texts, one after the other.
    pub text: Vec<u8>,
}

impl Rows {
    /// Adds a line.
    pub fn push(&mut self, time: i64, level: u8, stream: u32, text: &[u8]) {
        let text = &text[..text.len().min(MOST_TEXT)];
        let (at, len) = (self.text.len() as u32, text.len() as u32);
        self.text.extend_from_slice(text);
        self.rows.push(Row { time, at, len, stream, level });
    }

    /// The text of a line.
    pub fn text_of(&self, row: &Row) -> &[u8] {
        &self.text[row.at as usize..(row.at + row.len) as usize]
    }
}

/// Makes a segment of lines. `streams` are the labels that rows refer to; `name` gives the template of each
/// of the lines that it gets, one for each shape.
///
/// # Errors
/// `TooLarge` for more than a segment holds.
pub fn encode(
    rows: &Rows,
    streams: &[Labels],
    name: &mut dyn FnMut(&[&[u8]]) -> Vec<String>,
) -> Result<Vec<u8>> {
    if rows.rows.len() > MOST_ROWS || rows.text.len() > u32::MAX as usize {
        return Err(SegmentError::TooLarge("too many rows"));
    }
    if rows.rows.iter().any(|row| row.stream as usize >= streams.len()) {
        return Err(SegmentError::TooLarge("a row of a stream that is not given"));
    }
    let mut order: Vec<u32> = (0..rows.rows.len() as u32).collect();
    if !rows.rows.is_sorted_by_key(|row| row.time) {
        order.sort_by_key(|&at| rows.rows[at as usize].time);
    }
    let mut shapes = Shapes::default();
    let sequence: Vec<u64> = order.iter().map(|&at| shapes.add(rows, &rows.rows[at as usize])).collect();
    let examples: Vec<&[u8]> = shapes.list.iter().map(|shape| rows.text_of(&shape.example)).collect();
    let names = name(&examples);
    let mut writer = Writer::new()?;
    let sorted = || order.iter().map(|&at| &rows.rows[at as usize]);
    let times: Vec<u64> = sorted().map(|row| (row.time as u64) ^ (1 << 63)).collect();
    let globals = [times, sequence, sorted().map(|row| row.stream.into()).collect()];
    let mut places = Vec::new();
    for values in &globals {
        let mut data = Vec::new();
        pack(values, &mut data);
        places.push(writer.add(&data)?);
    }
    let mut footer = Footer::begin(rows, streams, &places);
    footer.shapes(&shapes, &names, rows, &mut writer)?;
    writer.finish(footer.0)
}

#[derive(Default)]
struct Shapes {
    by_hash: HashMap<u64, u32>,
    collided: HashMap<Vec<u8>, u32>,
    list: Vec<ShapeOf>,
    key: Vec<u8>,
    vars: Vec<Var>,
}

struct ShapeOf {
    /// The shape, and the level behind it.
    key: Vec<u8>,
    example: Row,
    rows: usize,
    times: Vec<i64>,
    has_time: bool,
    /// For each variable its values; where it begins is counted over all texts.
    vars: Vec<Vec<Var>>,
}

impl Shapes {
    fn add(&mut self, rows: &Rows, row: &Row) -> u64 {
        let (mut key, mut vars) = (std::mem::take(&mut self.key), std::mem::take(&mut self.vars));
        shape::cut(rows.text_of(row), &mut key, &mut vars);
        key.push(row.level);
        let mut at = self.find(&key);
        if at.is_none() && self.list.len() >= MOST_SHAPES {
            vars.clear();
            vars.push(Var { at: 0, len: row.len, time: 0 });
            key.clear();
            key.extend_from_slice(&[RAW, row.level]);
            at = self.find(&key);
        }
        let at = at.unwrap_or_else(|| self.insert(&key, row, vars.len()));
        let found = &mut self.list[at as usize];
        found.rows += 1;
        if found.has_time {
            found.times.push(row.time);
        }
        for (column, var) in found.vars.iter_mut().zip(&vars) {
            column.push(Var { at: row.at + var.at, ..*var });
        }
        (self.key, self.vars) = (key, vars);
        at.into()
    }

    fn find(&self, key: &[u8]) -> Option<u32> {
        let at = *self.by_hash.get(&hash(key))?;
        if self.list[at as usize].key == key { Some(at) } else { self.collided.get(key).copied() }
    }

    fn insert(&mut self, key: &[u8], row: &Row, vars: usize) -> u32 {
        let at = self.list.len() as u32;
        if self.by_hash.try_insert_or_tell(hash(key), at) {
            self.collided.insert(key.to_vec(), at);
        }
        let has_time = key.contains(&TIME);
        self.list.push(ShapeOf {
            key: key.to_vec(),
            example: *row,
            rows: 0,
            times: Vec::new(),
            has_time,
            vars: vec![Vec::new(); vars],
        });
        at
    }
}

trait TryInsert {
    /// Inserts unless there is such a key; answers whether there was.
    fn try_insert_or_tell(&mut self, key: u64, value: u32) -> bool;
}

impl TryInsert for HashMap<u64, u32> {
    fn try_insert_or_tell(&mut self, key: u64, value: u32) -> bool {
        *self.entry(key).or_insert(value) != value
    }
}

/// A 64-bit hash, eight bytes at a time; what it finds is compared too.
fn hash(bytes: &[u8]) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = bytes.len() as u64 ^ K;
    let mut chunks = bytes.chunks_exact(8);
    let mut mix = |word: u64| {
        let product = u128::from(state ^ word).wrapping_mul(u128::from(K));
        state = (product as u64) ^ (product >> 64) as u64;
    };
    for chunk in &mut chunks {
        mix(u64::from_le_bytes(chunk.try_into().expect("chunks of eight")));
    }
    let mut tail = [0u8; 8];
    tail[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    mix(u64::from_le_bytes(tail));
    state
}

/// Where a column stands: its chunk, where it begins in it, its length.
type Place = (usize, usize, usize);

struct Writer {
    packer: Compressor<'static>,
    out: Vec<u8>,
    /// Columns that wait for their chunk.
    pending: Vec<u8>,
    /// For each chunk its packed and its plain length, and the checksum of what is packed.
    chunks: Vec<(usize, usize, u32)>,
}

impl Writer {
    fn new() -> Result<Self> {
        let packer = Compressor::new(LEVEL).map_err(SegmentError::Packing)?;
        Ok(Self { packer, out: MAGIC.to_vec(), pending: Vec::new(), chunks: Vec::new() })
    }

    fn add(&mut self, data: &[u8]) -> Result<Place> {
        if data.len() >= CHUNK {
            self.flush()?;
            let place = (self.chunks.len(), 0, data.len());
            self.chunk(data)?;
            return Ok(place);
        }
        let place = (self.chunks.len(), self.pending.len(), data.len());
        self.pending.extend_from_slice(data);
        if self.pending.len() >= CHUNK {
            self.flush()?;
        }
        Ok(place)
    }

    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        self.chunk(&pending)
    }

    fn chunk(&mut self, data: &[u8]) -> Result<()> {
        let packed = self.packer.compress(data).map_err(SegmentError::Packing)?;
        self.chunks.push((packed.len(), data.len(), crc32fast::hash(&packed)));
        self.out.extend_from_slice(&packed);
        Ok(())
    }

    fn finish(mut self, mut footer: Vec<u8>) -> Result<Vec<u8>> {
        self.flush()?;
        put(&mut footer, self.chunks.len() as u64);
        for (packed, plain, checksum) in &self.chunks {
            put(&mut footer, *packed as u64);
            put(&mut footer, *plain as u64);
            footer.extend_from_slice(&checksum.to_le_bytes());
        }
        let packed = self.packer.compress(&footer).map_err(SegmentError::Packing)?;
        self.out.extend_from_slice(&packed);
        self.out.extend_from_slice(&(packed.len() as u32).to_le_bytes());
        self.out.extend_from_slice(&(footer.len() as u32).to_le_bytes());
        self.out.extend_from_slice(&crc32fast::hash(&packed).to_le_bytes());
        self.out.extend_from_slice(MAGIC);
        Ok(self.out)
    }
}

struct Footer(Vec<u8>);

impl Footer {
    fn begin(rows: &Rows, streams: &[Labels], places: &[Place]) -> Self {
        let mut out = Vec::new();
        put(&mut out, rows.rows.len() as u64);
        put(&mut out, rows.text.len() as u64);
        put_signed(&mut out, rows.rows.iter().map(|row| row.time).min().unwrap_or(0));
        put_signed(&mut out, rows.rows.iter().map(|row| row.time).max().unwrap_or(0));
        for place in places {
            put_place(&mut out, *place);
        }
        put(&mut out, streams.len() as u64);
        for labels in streams {
            put(&mut out, labels.len() as u64);
            for (name, value) in labels {
                put_bytes(&mut out, name.as_bytes());
                put_bytes(&mut out, value.as_bytes());
            }
        }
        Self(out)
    }

    fn shapes(&mut self, shapes: &Shapes, names: &[String], rows: &Rows, writer: &mut Writer) -> Result<()> {
        let mut known: HashMap<&str, u64> = HashMap::new();
        let mut templates: Vec<&str> = Vec::new();
        let of_shape: Vec<u64> = (0..shapes.list.len())
            .map(|at| {
                let name = names.get(at).map_or("<*>", String::as_str);
                *known.entry(name).or_insert_with(|| {
                    templates.push(name);
                    templates.len() as u64 - 1
                })
            })
            .collect();
        let columns = columns(shapes, rows);
        let places = placed(&columns, writer)?;
        let mut columns = columns.iter().zip(places);
        let out = &mut self.0;
        put(out, templates.len() as u64);
        templates.iter().for_each(|template| put_bytes(out, template.as_bytes()));
        put(out, shapes.list.len() as u64);
        for (shape, template) in shapes.list.iter().zip(of_shape) {
            let (level, text) = shape.key.split_last().expect("a key ends with its level");
            put_bytes(out, text);
            out.push(*level);
            put(out, template);
            put(out, shape.rows as u64);
            for ((meta, _), place) in columns.by_ref().take(shape.vars.len()) {
                meta.write(out);
                if meta.has_data() {
                    put_place(out, place);
                }
            }
        }
        Ok(())
    }
}

/// The columns of all shapes, in their order.
fn columns(shapes: &Shapes, rows: &Rows) -> Vec<(Meta, Vec<u8>)> {
    let mut columns = Vec::new();
    for shape in &shapes.list {
        let (_, text) = shape.key.split_last().expect("a key ends with its level");
        let vars = pieces(text).into_iter().filter_map(|piece| match piece {
            Piece::Var(mark, code) => Some((mark, code)),
            Piece::Text(_) => None,
        });
        for ((mark, code), values) in vars.zip(&shape.vars) {
            let mut data = Vec::new();
            let meta = column(mark, code, values, shape, rows, &mut data);
            columns.push((meta, data));
        }
    }
    columns
}

/// Where each column stands. Columns of a kind share chunks: they compress well together, and who looks for
/// a long value unpacks no short ones.
fn placed(columns: &[(Meta, Vec<u8>)], writer: &mut Writer) -> Result<Vec<Place>> {
    let mut order: Vec<usize> = (0..columns.len()).filter(|at| columns[*at].0.has_data()).collect();
    order.sort_by_key(|at| columns[*at].0.likeness(&columns[*at].1));
    let mut places = vec![(0, 0, 0); columns.len()];
    let mut before = None;
    for at in order {
        let (meta, data) = &columns[at];
        let likeness = meta.likeness(data);
        if before.replace(likeness).is_some_and(|before| before != likeness) {
            writer.flush()?;
        }
        places[at] = writer.add(data)?;
    }
    Ok(places)
}

fn column(mark: u8, code: u8, values: &[Var], shape: &ShapeOf, rows: &Rows, out: &mut Vec<u8>) -> Meta {
    if mark == TIME {
        let times: Vec<i64> = values.iter().map(|var| var.time).collect();
        return column::encode_times(&times, &shape.times, code, out);
    }
    let text = |var: &Var| &rows.text[var.at as usize..(var.at + var.len) as usize];
    let texts: Vec<&[u8]> = values.iter().map(text).collect();
    column::encode(&texts, mark, out)
}

fn put_place(out: &mut Vec<u8>, (chunk, at, length): Place) {
    put(out, chunk as u64);
    put(out, at as u64);
    put(out, length as u64);
}
