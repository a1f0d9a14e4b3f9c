//! Reading: finding rows in a segment, and giving their text back.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use zstd::bulk::Decompressor;

use super::align::{Found, align};
use super::bits::Bits;
use super::column::{self, Column, Meta, Want};
use super::numbers::unpack;
use super::query::{Pattern, Test};
use super::shape::{IP, Piece, TIME, UUID, pieces};
use super::wire::{Reader, Result, SegmentError};
use super::write::{Labels, MAGIC};
use super::{MOST_ROWS, MOST_TEXT};

/// The most bytes that a footer or a chunk unpacks to.
const MOST_PLAIN: usize = 1 << 30;
/// Bytes after the footer: its packed and plain length, its checksum, the magic word.
const TAIL: usize = 20;

/// Where the bytes of a segment come from.
pub trait Blob: Send + Sync {
    /// Reads `length` bytes from the byte `at`.
    ///
    /// # Errors
    /// Those of the place where they are, also when there are fewer.
    fn read(&self, at: u64, length: usize) -> std::io::Result<Vec<u8>>;

    /// How many bytes there are.
    fn len(&self) -> u64;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Blob for Vec<u8> {
    fn read(&self, at: u64, length: usize) -> std::io::Result<Vec<u8>> {
        let end = (at as usize).checked_add(length).filter(|&end| end <= Vec::len(self));
        let end = end.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        Ok(self[at as usize..end].to_vec())
    }

    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }
}

#[derive(Clone, Copy)]
struct Place {
    chunk: usize,
    at: usize,
    length: usize,
}

struct Shape {
    text: Vec<u8>,
    level: u8,
    template: usize,
    rows: usize,
    columns: Vec<(Meta, u8, Option<Place>)>,
}

/// A segment that was opened: what its footer says. Cheap to clone.
#[derive(Clone)]
pub struct Segment {
    inner: Arc<Inner>,
}

struct Inner {
    blob: Arc<dyn Blob>,
    rows: usize,
    plain: u64,
    times: (i64, i64),
    globals: [Place; 3],
    streams: Vec<Labels>,
    templates: Vec<String>,
    shapes: Vec<Shape>,
    /// For each chunk where it begins, its packed and its plain length, and its checksum.
    chunks: Vec<(u64, usize, usize, u32)>,
    footer: usize,
}

impl Segment {
    /// Reads the footer.
    ///
    /// # Errors
    /// `Damaged` for what is no segment, `Unread` for what cannot be read.
    pub fn open(blob: Arc<dyn Blob>) -> Result<Self> {
        let damaged = SegmentError::Damaged;
        let size = blob.len();
        if size < (MAGIC.len() + TAIL) as u64 {
            return Err(damaged("it is too short"));
        }
        let tail = blob.read(size - TAIL as u64, TAIL).map_err(SegmentError::Unread)?;
        let number = |at: usize| u32::from_le_bytes([tail[at], tail[at + 1], tail[at + 2], tail[at + 3]]);
        let (packed, plain, checksum) = (number(0) as usize, number(4) as usize, number(8));
        let room = size - (MAGIC.len() + TAIL) as u64;
        if &tail[12..] != MAGIC || packed as u64 > room || plain > MOST_PLAIN {
            return Err(damaged("its end is not that of a segment"));
        }
        let packed = blob.read(size - (TAIL + packed) as u64, packed).map_err(SegmentError::Unread)?;
        let mut unpacker = Decompressor::new().map_err(SegmentError::Unread)?;
        let footer = unzip(&mut unpacker, &packed, plain, checksum)?;
        let mut inner = parse(&footer, blob)?;
        inner.footer = plain;
        Ok(Self { inner: Arc::new(inner) })
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.inner.rows
    }

    /// The bytes of its rows' texts.
    pub fn plain_bytes(&self) -> u64 {
        self.inner.plain
    }

    /// About how many bytes of memory it takes while it is open.
    pub fn held_bytes(&self) -> usize {
        self.inner.footer * 2 + self.inner.shapes.len() * 200
    }

    /// The first and the last of its rows' times.
    pub fn times(&self) -> (i64, i64) {
        self.inner.times
    }

    /// The labels of its streams.
    pub fn streams(&self) -> &[Labels] {
        &self.inner.streams
    }

    /// Its templates.
    pub fn templates(&self) -> &[String] {
        &self.inner.templates
    }

    /// The rows that meet a condition, among those with times within `range` (microseconds; its end is not
    /// included).
    ///
    /// # Errors
    /// `Damaged` or `Unread` when what must be looked at cannot be.
    pub fn find(&self, test: &Test, range: Range<i64>) -> Result<Hits> {
        let mut hits = Hits {
            segment: self.clone(),
            found: Vec::new(),
            chunks: RefCell::default(),
            unpacker: RefCell::default(),
            times: OnceCell::new(),
            places: OnceCell::new(),
            streams: OnceCell::new(),
        };
        let (first, last) = self.inner.times;
        if self.inner.rows == 0 || last < range.start || first >= range.end {
            return Ok(hits);
        }
        let streams = |test: &Test| -> Option<Vec<bool>> {
            let Test::Label(label) = test else { return None };
            Some(self.inner.streams.iter().map(|labels| label.holds(labels)).collect())
        };
        for at in 0..self.inner.shapes.len() {
            let shape = ShapeRows::new(&hits, at);
            let rows = shape.eval(test, &streams)?;
            if !matches!(rows, Which::None) {
                hits.found.push((at, rows));
            }
        }
        if first < range.start || last >= range.end {
            hits.keep_between(range)?;
        }
        Ok(hits)
    }
}

fn unzip(unpacker: &mut Decompressor<'_>, packed: &[u8], plain: usize, checksum: u32) -> Result<Vec<u8>> {
    if crc32fast::hash(packed) != checksum {
        return Err(SegmentError::Damaged("a part has another checksum than it says"));
    }
    let bytes =
        unpacker.decompress(packed, plain).map_err(|_| SegmentError::Damaged("a part cannot be unpacked"))?;
    if bytes.len() != plain {
        return Err(SegmentError::Damaged("a part has another length than it says"));
    }
    Ok(bytes)
}

fn parse(footer: &[u8], blob: Arc<dyn Blob>) -> Result<Inner> {
    let damaged = SegmentError::Damaged;
    let mut reader = Reader(footer);
    let rows = reader.count(MOST_ROWS)?;
    let plain = reader.number()?;
    let times = (reader.signed()?, reader.signed()?);
    let globals = [place(&mut reader)?, place(&mut reader)?, place(&mut reader)?];
    let label = |reader: &mut Reader<'_>| Ok((reader.text()?, reader.text()?));
    let stream = |reader: &mut Reader<'_>| {
        let labels = reader.count(reader.0.len())?;
        (0..labels).map(|_| label(reader)).collect::<Result<Labels>>()
    };
    let number = reader.count(footer.len())?;
    let streams = (0..number).map(|_| stream(&mut reader)).collect::<Result<Vec<_>>>()?;
    let number = reader.count(footer.len())?;
    let templates = (0..number).map(|_| reader.text()).collect::<Result<Vec<_>>>()?;
    let number = reader.count(footer.len())?;
    let mut shapes = Vec::new();
    for _ in 0..number {
        let shape = shape(&mut reader)?;
        if shape.template >= templates.len() {
            return Err(damaged("a shape of a template that is not there"));
        }
        shapes.push(shape);
    }
    if shapes.iter().map(|shape| shape.rows).sum::<usize>() != rows {
        return Err(damaged("its shapes have more or fewer rows than it has"));
    }
    let mut chunks = Vec::new();
    let mut at = MAGIC.len() as u64;
    for _ in 0..reader.count(footer.len())? {
        let (packed, plain) = (reader.count(MOST_PLAIN)?, reader.count(MOST_PLAIN)?);
        let checksum = reader.take(4)?;
        let checksum = u32::from_le_bytes([checksum[0], checksum[1], checksum[2], checksum[3]]);
        chunks.push((at, packed, plain, checksum));
        at += packed as u64;
    }
    if at > blob.len() {
        return Err(damaged("its chunks are longer than it is"));
    }
    Ok(Inner { blob, rows, plain, times, globals, streams, templates, shapes, chunks, footer: 0 })
}

fn place(reader: &mut Reader<'_>) -> Result<Place> {
    Ok(Place {
        chunk: reader.count(MOST_PLAIN)?,
        at: reader.count(MOST_PLAIN)?,
        length: reader.count(MOST_PLAIN)?,
    })
}

fn shape(reader: &mut Reader<'_>) -> Result<Shape> {
    let text = reader.bytes()?.to_vec();
    let level = reader.byte()?;
    let template = reader.count(MOST_PLAIN)?;
    let rows = reader.count(MOST_ROWS)?;
    let mut columns = Vec::new();
    for piece in pieces(&text) {
        let Piece::Var(mark, _) = piece else { continue };
        let meta = Meta::read(reader)?;
        let place = if meta.has_data() { Some(place(reader)?) } else { None };
        columns.push((meta, mark, place));
    }
    Ok(Shape { text, level, template, rows, columns })
}

/// Which rows of a shape.
enum Which {
    None,
    All,
    Some(Bits),
}

impl Which {
    fn of(bits: Bits) -> Self {
        match bits.count() {
            0 => Which::None,
            all if all == bits.len() => Which::All,
            _ => Which::Some(bits),
        }
    }

    fn not(self) -> Self {
        match self {
            Which::None => Which::All,
            Which::All => Which::None,
            Which::Some(mut bits) => {
                bits.flip();
                Which::Some(bits)
            }
        }
    }

    fn and(self, other: Which) -> Self {
        match (self, other) {
            (Which::None, _) | (_, Which::None) => Which::None,
            (Which::All, other) | (other, Which::All) => other,
            (Which::Some(mut a), Which::Some(b)) => {
                a.and(&b);
                Which::of(a)
            }
        }
    }

    fn or(self, other: Which) -> Self {
        self.not().and(other.not()).not()
    }

    fn count(&self, all: usize) -> usize {
        match self {
            Which::None => 0,
            Which::All => all,
            Which::Some(bits) => bits.count(),
        }
    }

    fn has(&self, at: usize) -> bool {
        match self {
            Which::None => false,
            Which::All => true,
            Which::Some(bits) => bits.has(at),
        }
    }
}

/// The rows that were found.
pub struct Hits {
    segment: Segment,
    /// Shapes with the rows of theirs that were found.
    found: Vec<(usize, Which)>,
    chunks: RefCell<HashMap<usize, Rc<Vec<u8>>>>,
    unpacker: RefCell<Option<Decompressor<'static>>>,
    times: OnceCell<Vec<i64>>,
    /// For each shape, which rows of the segment are its own.
    places: OnceCell<Vec<Vec<u32>>>,
    streams: OnceCell<Vec<u64>>,
}

impl Hits {
    /// How many rows were found.
    pub fn count(&self) -> usize {
        self.found.iter().map(|(shape, rows)| rows.count(self.segment.inner.shapes[*shape].rows)).sum()
    }

    /// How many rows of each template (by its place in the segment's list) and level were found.
    pub fn by_template(&self) -> Vec<(usize, u8, usize)> {
        let counted = self.found.iter().map(|(at, rows)| {
            let shape = &self.segment.inner.shapes[*at];
            (shape.template, shape.level, rows.count(shape.rows))
        });
        counted.collect()
    }

    /// The rows that were found, by their place in the segment, which is the order of their times.
    ///
    /// # Errors
    /// `Damaged` or `Unread`.
    pub fn rows(&self) -> Result<Vec<u32>> {
        let mut rows = Vec::with_capacity(self.count());
        for (shape, which) in &self.found {
            let own = &self.places()?[*shape];
            rows.extend(own.iter().enumerate().filter(|(at, _)| which.has(*at)).map(|(_, row)| *row));
        }
        rows.sort_unstable();
        Ok(rows)
    }

    /// For every row that was found: its place in the segment, its template and its level.
    ///
    /// # Errors
    /// `Damaged` or `Unread`.
    pub fn templates(&self) -> Result<Vec<(u32, usize, u8)>> {
        let mut rows = Vec::with_capacity(self.count());
        for (shape, which) in &self.found {
            let Shape { template, level, .. } = self.segment.inner.shapes[*shape];
            let own = &self.places()?[*shape];
            let found = own.iter().enumerate().filter(|(at, _)| which.has(*at));
            rows.extend(found.map(|(_, row)| (*row, template, level)));
        }
        rows.sort_unstable();
        Ok(rows)
    }

    /// The time of every row of the segment.
    ///
    /// # Errors
    /// `Damaged` or `Unread`.
    pub fn times(&self) -> Result<&[i64]> {
        if self.times.get().is_none() {
            let values = self.global(0)?;
            let times = values.into_iter().map(|v| (v ^ (1 << 63)) as i64).collect();
            let _set_already = self.times.set(times);
        }
        Ok(self.times.get().map_or(&[], Vec::as_slice))
    }

    /// The stream of every row of the segment.
    ///
    /// # Errors
    /// `Damaged` or `Unread`.
    pub fn streams(&self) -> Result<&[u64]> {
        if self.streams.get().is_none() {
            let values = self.global(2)?;
            if values.iter().any(|&at| at >= self.segment.inner.streams.len() as u64) {
                return Err(SegmentError::Damaged("a row of a stream that is not there"));
            }
            let _set_already = self.streams.set(values);
        }
        Ok(self.streams.get().map_or(&[], Vec::as_slice))
    }

    /// Gives the text, the level and the template of each of these rows (places in the segment) to `give`,
    /// in whatever order is quick.
    ///
    /// # Errors
    /// `Damaged` or `Unread`.
    pub fn texts(&self, rows: &[u32], mut give: impl FnMut(u32, u8, usize, &[u8])) -> Result<()> {
        let mut wanted = rows.to_vec();
        wanted.sort_unstable();
        let mut text = Vec::new();
        for at in 0..self.segment.inner.shapes.len() {
            let own = &self.places()?[at];
            let found: Vec<(usize, u32)> = if wanted.len() * 8 < own.len() {
                wanted.iter().filter_map(|row| Some((own.binary_search(row).ok()?, *row))).collect()
            } else {
                let meant = |row: &u32| wanted.binary_search(row).is_ok();
                own.iter().copied().enumerate().filter(|(_, row)| meant(row)).collect()
            };
            if found.is_empty() {
                continue;
            }
            let shape = ShapeRows::new(self, at);
            for (place, row) in found {
                text.clear();
                shape.write(place, &mut text)?;
                let own = &self.segment.inner.shapes[at];
                give(row, own.level, own.template, &text);
            }
        }
        Ok(())
    }

    fn keep_between(&mut self, range: Range<i64>) -> Result<()> {
        let times = self.times()?;
        let first = times.partition_point(|&time| time < range.start) as u32;
        let last = times.partition_point(|&time| time < range.end) as u32;
        let mut kept = Vec::new();
        for (shape, which) in std::mem::take(&mut self.found) {
            let own = &self.places()?[shape];
            let mut bits = Bits::none(own.len());
            let (from, to) =
                (own.partition_point(|&row| row < first), own.partition_point(|&row| row < last));
            (from..to).for_each(|at| bits.set(at));
            match which.and(Which::of(bits)) {
                Which::None => {}
                which => kept.push((shape, which)),
            }
        }
        self.found = kept;
        Ok(())
    }

    fn places(&self) -> Result<&Vec<Vec<u32>>> {
        if self.places.get().is_none() {
            let shapes = &self.segment.inner.shapes;
            let mut places: Vec<Vec<u32>> = shapes.iter().map(|s| Vec::with_capacity(s.rows)).collect();
            for (row, shape) in self.global(1)?.into_iter().enumerate() {
                let places = places.get_mut(shape as usize);
                places.ok_or(SegmentError::Damaged("a row of a shape that is not there"))?.push(row as u32);
            }
            if places.iter().zip(shapes).any(|(places, shape)| places.len() != shape.rows) {
                return Err(SegmentError::Damaged("a shape has more or fewer rows than it says"));
            }
            let _set_already = self.places.set(places);
        }
        self.places.get().ok_or(SegmentError::Damaged("its rows are not known"))
    }

    fn global(&self, which: usize) -> Result<Vec<u64>> {
        let place = self.segment.inner.globals[which];
        let chunk = self.chunk(place.chunk)?;
        unpack(&mut Reader(slice(&chunk, place)?), self.segment.inner.rows)
    }

    fn chunk(&self, at: usize) -> Result<Rc<Vec<u8>>> {
        if let Some(chunk) = self.chunks.borrow().get(&at) {
            return Ok(chunk.clone());
        }
        let chunks = &self.segment.inner.chunks;
        let &(from, packed, plain, checksum) =
            chunks.get(at).ok_or(SegmentError::Damaged("a column in no chunk"))?;
        let bytes = self.segment.inner.blob.read(from, packed).map_err(SegmentError::Unread)?;
        let mut unpacker = self.unpacker.borrow_mut();
        let unpacker = match &mut *unpacker {
            Some(unpacker) => unpacker,
            none => none.insert(Decompressor::new().map_err(SegmentError::Unread)?),
        };
        let chunk = Rc::new(unzip(unpacker, &bytes, plain, checksum)?);
        self.chunks.borrow_mut().insert(at, chunk.clone());
        Ok(chunk)
    }
}

fn slice(chunk: &[u8], place: Place) -> Result<&[u8]> {
    let end = place.at.checked_add(place.length);
    end.and_then(|end| chunk.get(place.at..end)).ok_or(SegmentError::Damaged("a column outside its chunk"))
}

/// One shape's rows, and their columns as far as they were needed.
pub struct ShapeRows<'a> {
    hits: &'a Hits,
    at: usize,
    shape: &'a Shape,
    pieces: OnceCell<Vec<Piece<'a>>>,
    columns: RefCell<Vec<Option<Rc<Column>>>>,
}

type Streams<'a> = &'a dyn Fn(&Test) -> Option<Vec<bool>>;

impl<'a> ShapeRows<'a> {
    fn new(hits: &'a Hits, at: usize) -> Self {
        let shape = &hits.segment.inner.shapes[at];
        let columns = RefCell::new(vec![None; shape.columns.len()]);
        Self { hits, at, shape, pieces: OnceCell::new(), columns }
    }

    fn eval(&self, test: &Test, streams: Streams<'_>) -> Result<Which> {
        let either = |yes: bool| if yes { Which::All } else { Which::None };
        Ok(match test {
            Test::Level(mask) => either(mask >> self.shape.level.min(6) & 1 == 1),
            Test::Template(name) => either(self.hits.segment.inner.templates[self.shape.template] == *name),
            Test::Label(_) => self.labelled(&streams(test).unwrap_or_default())?,
            Test::Text(needle) => self.containing(needle)?,
            Test::Matches(pattern) => self.matching(pattern)?,
            Test::Not(test) => self.eval(test, streams)?.not(),
            Test::Any(tests) => {
                let mut rows = Which::None;
                for test in tests {
                    rows = rows.or(self.eval(test, streams)?);
                    if matches!(rows, Which::All) {
                        break;
                    }
                }
                rows
            }
            Test::All(tests) => {
                let mut rows = Which::All;
                // What is cheap to tell comes first.
                let cheap = |test: &&Test| matches!(test, Test::Level(_) | Test::Template(_));
                for test in tests.iter().filter(cheap).chain(tests.iter().filter(|test| !cheap(test))) {
                    if matches!(rows, Which::None) {
                        break;
                    }
                    rows = rows.and(self.eval(test, streams)?);
                }
                rows
            }
        })
    }

    fn labelled(&self, meant: &[bool]) -> Result<Which> {
        if meant.iter().all(|&yes| yes) {
            return Ok(Which::All);
        }
        if !meant.contains(&true) {
            return Ok(Which::None);
        }
        let (streams, own) = (self.hits.streams()?, &self.hits.places()?[self.at]);
        let mut bits = Bits::none(own.len());
        for (at, row) in own.iter().enumerate() {
            if meant[streams[*row as usize] as usize] {
                bits.set(at);
            }
        }
        Ok(Which::of(bits))
    }

    fn containing(&self, needle: &[u8]) -> Result<Which> {
        if needle.is_empty() {
            return Ok(Which::All);
        }
        if needle.iter().all(u8::is_ascii_digit) {
            return self.containing_digits(needle);
        }
        let lists = match align(self.pieces(), needle) {
            Found::Yes => return Ok(Which::All),
            Found::If(lists) => lists,
        };
        let mut all = Which::None;
        for list in lists {
            let may = list
                .iter()
                .all(|&(var, want, from, to)| self.shape.columns[var].0.may(want, &needle[from..to]));
            if !may {
                continue;
            }
            let mut rows = Which::All;
            for (var, want, from, to) in list {
                let bits = self.column(var)?.find(want, &needle[from..to], self.shape.rows);
                rows = rows.and(Which::of(bits));
                if matches!(rows, Which::None) {
                    break;
                }
            }
            all = all.or(rows);
        }
        Ok(all)
    }

    /// Digits lie within one variable, and never in a shape's own text.
    fn containing_digits(&self, needle: &[u8]) -> Result<Which> {
        let mut all = Which::None;
        for (var, (meta, mark, _)) in self.shape.columns.iter().enumerate() {
            // So many digits are together at most in a time, an address, an id.
            let longest = match *mark {
                TIME => 6,
                IP => 3,
                UUID => 12,
                _ => usize::MAX,
            };
            if needle.len() <= longest && meta.may(Want::Contains, needle) {
                let bits = self.column(var)?.find(Want::Contains, needle, self.shape.rows);
                all = all.or(Which::of(bits));
            }
        }
        Ok(all)
    }

    fn pieces(&self) -> &[Piece<'a>] {
        self.pieces.get_or_init(|| pieces(&self.shape.text))
    }

    fn matching(&self, pattern: &Pattern) -> Result<Which> {
        let mut rows = Which::All;
        for list in &pattern.needed {
            let mut any = Which::None;
            for needle in list {
                any = any.or(self.containing(needle)?);
                if matches!(any, Which::All) {
                    break;
                }
            }
            rows = rows.and(any);
            if matches!(rows, Which::None) {
                return Ok(rows);
            }
        }
        if self.shape.columns.is_empty() {
            return Ok(if pattern.regex.is_match(&self.shape.text) { rows } else { Which::None });
        }
        let mut bits = Bits::none(self.shape.rows);
        let columns: Vec<Rc<Column>> =
            (0..self.shape.columns.len()).map(|var| self.column(var)).collect::<Result<_>>()?;
        let mut text = Vec::new();
        for at in (0..self.shape.rows).filter(|&at| rows.has(at)) {
            text.clear();
            self.write_of(&columns, at, &mut text)?;
            if pattern.regex.is_match(&text) {
                bits.set(at);
            }
        }
        Ok(Which::of(bits))
    }

    /// Appends the text of one of the shape's rows, whose columns were read.
    fn write_of(&self, columns: &[Rc<Column>], row: usize, out: &mut Vec<u8>) -> Result<()> {
        let mut columns = columns.iter();
        for piece in self.pieces() {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Var(..) => columns.next().into_iter().for_each(|column| column.write(row, out)),
            }
            if out.len() > 64 * MOST_TEXT {
                return Err(SegmentError::Damaged("a row is too long"));
            }
        }
        Ok(())
    }

    /// Appends the text of one of the shape's rows.
    fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        let mut var = 0;
        for piece in self.pieces() {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Var(..) => {
                    self.column(var)?.write(row, out);
                    var += 1;
                }
            }
            if out.len() > 64 * MOST_TEXT {
                return Err(SegmentError::Damaged("a row is too long"));
            }
        }
        Ok(())
    }

    fn column(&self, var: usize) -> Result<Rc<Column>> {
        if let Some(column) = &self.columns.borrow()[var] {
            return Ok(column.clone());
        }
        let (meta, mark, place) = &self.shape.columns[var];
        let chunk = match place {
            Some(place) => Some((self.hits.chunk(place.chunk)?, *place)),
            None => None,
        };
        let data = match &chunk {
            Some((chunk, place)) => slice(chunk, *place)?,
            None => &[],
        };
        // The times of all rows are read only for a column that is made of them.
        let rows = || {
            let (times, own) = (self.hits.times()?, &self.hits.places()?[self.at]);
            Ok(own.iter().map(|&row| times[row as usize]).collect())
        };
        let column = Rc::new(column::decode(meta, *mark, data, self.shape.rows, rows)?);
        self.columns.borrow_mut()[var] = Some(column.clone());
        Ok(column)
    }
}
