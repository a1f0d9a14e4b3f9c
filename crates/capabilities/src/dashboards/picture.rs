//! Pictures as pixels: how large one is, what changed between two, and a picture of that.

use std::io::Cursor;

use opsroom_core::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most bytes that a picture takes unpacked.
const MOST_BYTES: usize = 100 << 20;
/// By how much a channel must differ: edges of letters are drawn a little differently now and then.
const TOLERANCE: u8 = 8;

/// What changed since the capture before of the same page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The capture before.
    pub since: String,
    /// How many pixels changed.
    pub pixels: u64,
    /// Their share of all, from 0 to 1.
    pub share: f64,
    /// The smallest rectangle that holds them: left, top, width and height; null when nothing changed.
    pub area: Option<[u32; 4]>,
}

/// The pixels of a picture: red, green and blue of each, row by row.
pub struct Pixels {
    /// How wide it is.
    pub width: u32,
    /// How high it is.
    pub height: u32,
    data: Vec<u8>,
}

impl Pixels {
    /// The colour of a pixel.
    pub fn at(&self, x: u32, y: u32) -> [u8; 3] {
        let at = (y as usize * self.width as usize + x as usize) * 3;
        [self.data[at], self.data[at + 1], self.data[at + 2]]
    }
}

/// Unpacks a PNG of 8 bits a channel.
///
/// # Errors
/// `Invalid` for what is none, or is too large.
pub fn unpack(bytes: &[u8]) -> Result<Pixels> {
    let wrong =
        |error: png::DecodingError| Error::invalid("the picture is no PNG that can be read").because(error);
    let limits = png::Limits { bytes: MOST_BYTES };
    let mut reader = png::Decoder::new_with_limits(Cursor::new(bytes), limits).read_info().map_err(wrong)?;
    let size = reader.output_buffer_size().filter(|size| *size <= MOST_BYTES);
    let mut data = vec![0; size.ok_or_else(|| Error::invalid("the picture is too large"))?];
    let frame = reader.next_frame(&mut data).map_err(wrong)?;
    data.truncate(frame.buffer_size());
    if frame.bit_depth != png::BitDepth::Eight {
        return Err(Error::invalid("the picture has not 8 bits a channel"));
    }
    let data = match frame.color_type {
        png::ColorType::Rgb => data,
        png::ColorType::Rgba => data.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect(),
        png::ColorType::Grayscale => data.iter().flat_map(|p| [*p; 3]).collect(),
        png::ColorType::GrayscaleAlpha => data.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect(),
        png::ColorType::Indexed => return Err(Error::invalid("the picture has a palette")),
    };
    Ok(Pixels { width: frame.width, height: frame.height, data })
}

/// What changed from one picture to the next.
///
/// # Errors
/// `Invalid` for what is no PNG.
pub fn compare(since: &str, before: &[u8], after: &[u8]) -> Result<Change> {
    let (before, after) = (unpack(before)?, unpack(after)?);
    let all = u64::from(after.width) * u64::from(after.height);
    let (mut pixels, mut area) = (0, None::<[u32; 4]>);
    for (x, y) in differences(&before, &after) {
        pixels += 1;
        // Left, top, right and bottom until the end.
        let [left, top, right, bottom] = area.unwrap_or([x, y, x, y]);
        area = Some([left.min(x), top.min(y), right.max(x), bottom.max(y)]);
    }
    let area = area.map(|[left, top, right, bottom]| [left, top, right - left + 1, bottom - top + 1]);
    let share = if all == 0 { 0.0 } else { (pixels as f64 / all as f64 * 1e6).round() / 1e6 };
    Ok(Change { since: since.to_owned(), pixels, share, area })
}

/// The second picture, paled, with what changed in red.
///
/// # Errors
/// `Invalid` for what is no PNG.
pub fn difference(before: &[u8], after: &[u8]) -> Result<Vec<u8>> {
    let (before, after) = (unpack(before)?, unpack(after)?);
    let pale = |channel: u8| 255 - (255 - channel) / 4;
    let mut data: Vec<u8> = after.data.iter().map(|channel| pale(*channel)).collect();
    for (x, y) in differences(&before, &after) {
        let at = (y as usize * after.width as usize + x as usize) * 3;
        data[at..at + 3].copy_from_slice(&[214, 40, 40]);
    }
    let mut packed = Vec::new();
    let mut encoder = png::Encoder::new(&mut packed, after.width, after.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(Error::internal)?;
    writer.write_image_data(&data).map_err(Error::internal)?;
    writer.finish().map_err(Error::internal)?;
    Ok(packed)
}

/// The pixels of the second picture that the first has otherwise or has not.
fn differences<'a>(before: &'a Pixels, after: &'a Pixels) -> impl Iterator<Item = (u32, u32)> + 'a {
    let differs = |x, y| {
        if x >= before.width || y >= before.height {
            return true;
        }
        let (old, new) = (before.at(x, y), after.at(x, y));
        old.iter().zip(new).any(|(old, new)| old.abs_diff(new) > TOLERANCE)
    };
    (0..after.height).flat_map(move |y| (0..after.width).filter(move |x| differs(*x, y)).map(move |x| (x, y)))
}

/// The width and height that a PNG or JPEG says it has.
pub fn size(bytes: &[u8]) -> Option<(u32, u32)> {
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        let number = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        return Some((number(16)?, number(20)?));
    }
    // JPEG (ITU-T T.81): segments, of which a frame's header has the size.
    let mut at = 2;
    while bytes.starts_with(b"\xff\xd8") {
        let number = |at: usize| Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
        let marker = *bytes.get(at + 1)?;
        if (0xc0..=0xcf).contains(&marker) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            return Some((number(at + 7)?.into(), number(at + 5)?.into()));
        }
        at += 2 + usize::from(number(at + 2)?);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(width: u32, height: u32, black: &[(u32, u32)]) -> Vec<u8> {
        let mut data = vec![255; (width * height * 3) as usize];
        for (x, y) in black {
            let at = ((y * width + x) * 3) as usize;
            data[at..at + 3].fill(0);
        }
        let mut packed = Vec::new();
        let mut encoder = png::Encoder::new(&mut packed, width, height);
        encoder.set_color(png::ColorType::Rgb);
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&data).unwrap();
        writer.finish().unwrap();
        packed
    }

    #[test]
    fn what_changed_is_counted_and_framed() {
        let (before, after) = (drawn(20, 10, &[(1, 1)]), drawn(20, 10, &[(1, 1), (3, 2), (7, 8)]));
        let change = compare("x", &before, &after).unwrap();
        assert_eq!((change.pixels, change.area), (2, Some([3, 2, 5, 7])));
        assert!((change.share - 0.01).abs() < 1e-9);
        let same = compare("x", &after, &after).unwrap();
        assert_eq!((same.pixels, same.area), (0, None));
        // What was not there before has changed.
        let larger = compare("x", &before, &drawn(20, 11, &[(1, 1)])).unwrap();
        assert_eq!(larger.area, Some([0, 10, 20, 1]));
    }

    #[test]
    fn the_picture_of_a_change_shows_it_in_red() {
        let shown = difference(&drawn(4, 4, &[(0, 0)]), &drawn(4, 4, &[(0, 0), (2, 3)])).unwrap();
        let shown = unpack(&shown).unwrap();
        assert_eq!((shown.at(2, 3), shown.at(1, 1)), ([214, 40, 40], [255; 3]));
        assert_eq!(size(&drawn(7, 9, &[])), Some((7, 9)));
    }

    #[test]
    fn what_is_no_picture_is_refused_without_being_unpacked() {
        let mut bomb = drawn(4, 4, &[]);
        // It says that it is 2^31 pixels wide.
        bomb[16] = 0x7f;
        for bytes in [&b"hello"[..], &drawn(4, 4, &[])[..40], &bomb] {
            assert!(unpack(bytes).is_err());
        }
        assert_eq!(size(b"\xff\xd8\xff"), None);
    }
}
