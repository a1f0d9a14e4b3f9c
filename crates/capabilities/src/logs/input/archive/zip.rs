//! zip (APPNOTE 6.3), by its local headers, so that it need not be there as a whole.

use std::io::{self, BufRead, BufReader, Read};

use flate2::{Decompress, FlushDecompress, Status};

use super::{Archive, damaged, skip};

const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
/// What may follow the last member: the directory, or the records at its end.
const AFTER: [u32; 4] = [0x0201_4b50, 0x0605_4b50, 0x0606_4b50, 0x0806_4b50];
/// The most bytes of a member that are unpacked only to find where it ends.
const MOST_SKIPPED: u64 = 4 << 30;

/// A zip archive.
pub(in crate::logs::input) struct Zip<R> {
    inner: BufReader<R>,
    member: Option<Member>,
}

struct Member {
    /// How its bytes are read; none for what is not read.
    way: Way,
    /// Packed bytes that are left, where it is said how many there are.
    left: Option<u64>,
    crc: crc32fast::Hasher,
    stated: u32,
    descriptor: bool,
    /// Whether sizes behind it have eight bytes.
    wide: bool,
    ended: bool,
    /// Whether what stands behind it was read.
    passed: bool,
}

enum Way {
    Stored,
    Deflated(Box<Decompress>),
    Refused(&'static str),
}

impl<R: Read> Zip<R> {
    /// Of this stream.
    pub fn new(inner: R) -> Self {
        Self { inner: BufReader::with_capacity(64 << 10, inner), member: None }
    }

    fn bytes<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn number(&mut self) -> io::Result<u32> {
        self.bytes().map(u32::from_le_bytes)
    }

    /// Goes past what is left of the member.
    fn finish(&mut self) -> io::Result<()> {
        let (mut sink, mut skipped) = (Vec::new(), 0);
        while let Some(member) = self.member.as_mut().filter(|member| !member.ended) {
            match (member.left, &member.way) {
                (Some(left), _) => {
                    skip(&mut self.inner, left)?;
                    (member.left, member.ended) = (Some(0), true);
                }
                (None, Way::Refused(what)) => return Err(damaged(what)),
                (None, _) => {
                    sink.resize(64 << 10, 0);
                    skipped += self.step(&mut sink)? as u64;
                    if skipped > MOST_SKIPPED {
                        return Err(damaged("a member that is left out does not end"));
                    }
                }
            }
        }
        self.after()?;
        self.member = None;
        Ok(())
    }

    /// Goes past what stands behind the member that ended; answers the checksum that it states, once.
    fn after(&mut self) -> io::Result<Option<u32>> {
        let Some(member) = self.member.as_mut().filter(|member| !member.passed) else { return Ok(None) };
        member.passed = true;
        let (left, stated, descriptor, wide) =
            (member.left.unwrap_or(0), member.stated, member.descriptor, member.wide);
        // A deflated stream may end before the bytes that are said to be its own.
        skip(&mut self.inner, left)?;
        if !descriptor {
            return Ok(Some(stated));
        }
        let first = self.number()?;
        let stated = if first == DESCRIPTOR { self.number()? } else { first };
        if wide { self.bytes::<16>().map(drop) } else { self.bytes::<8>().map(drop) }?;
        Ok(Some(stated))
    }

    /// Some bytes of the member; none at its end, or when more is needed.
    fn step(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(member) = &mut self.member else { return Ok(0) };
        let none_left = member.left == Some(0);
        let input = if none_left { &[][..] } else { self.inner.fill_buf()? };
        if input.is_empty() && !none_left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let most = usize::try_from(member.left.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        let input = &input[..input.len().min(most)];
        let (used, given) = match &mut member.way {
            Way::Stored => {
                let given = input.len().min(out.len());
                out[..given].copy_from_slice(&input[..given]);
                member.ended = none_left;
                (given, given)
            }
            Way::Deflated(unpack) => {
                let (before_in, before_out) = (unpack.total_in(), unpack.total_out());
                let status = unpack
                    .decompress(input, out, FlushDecompress::None)
                    .map_err(|_| damaged("a member is damaged"))?;
                let (used, given) = (unpack.total_in() - before_in, unpack.total_out() - before_out);
                member.ended = status == Status::StreamEnd;
                if none_left && given == 0 && !member.ended {
                    return Err(damaged("a member ends too soon"));
                }
                (used as usize, given as usize)
            }
            Way::Refused(what) => return Err(damaged(what)),
        };
        self.inner.consume(used);
        if let Some(left) = &mut member.left {
            *left -= used as u64;
        }
        member.crc.update(&out[..given]);
        Ok(given)
    }
}

impl<R: Read + Send> Archive for Zip<R> {
    fn advance(&mut self) -> io::Result<Option<String>> {
        self.finish()?;
        let mark = self.number()?;
        if AFTER.contains(&mark) {
            return Ok(None);
        }
        if mark != LOCAL {
            return Err(damaged("where a member should begin there is something else"));
        }
        let head: [u8; 26] = self.bytes()?;
        let short = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let long = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (flags, method, stated) = (short(2), short(4), long(10));
        let mut name = vec![0; short(22).into()];
        self.inner.read_exact(&mut name)?;
        let mut extra = vec![0; short(24).into()];
        self.inner.read_exact(&mut extra)?;
        let wide = field(&extra, 1);
        let descriptor = flags & 8 != 0;
        let packed = match wide {
            Some(sizes) if long(14) == u32::MAX && sizes.len() >= 16 => {
                u64::from_le_bytes(sizes[8..16].try_into().unwrap_or_default())
            }
            _ => long(14).into(),
        };
        let known = !descriptor || packed > 0;
        let way = match method {
            _ if flags & 1 != 0 => Way::Refused("a member is encrypted"),
            0 if known => Way::Stored,
            0 => Way::Refused("a stored member does not say where it ends"),
            8 => Way::Deflated(Box::new(Decompress::new(false))),
            _ => Way::Refused("a member is packed in a way that is not read; deflate is"),
        };
        self.member = Some(Member {
            way,
            left: known.then_some(packed),
            crc: crc32fast::Hasher::new(),
            stated,
            descriptor,
            wide: wide.is_some(),
            ended: false,
            passed: false,
        });
        Ok(Some(String::from_utf8_lossy(&name).into_owned()))
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.member.as_ref().is_some_and(|member| !member.ended) && !buffer.is_empty() {
            let given = self.step(buffer)?;
            if given > 0 {
                return Ok(given);
            }
        }
        let stated = self.after()?;
        let own = self.member.as_ref().map(|member| member.crc.clone().finalize());
        if stated.is_some() && stated != own {
            return Err(damaged("a member has another checksum than it says"));
        }
        Ok(0)
    }
}

/// An extra field by its number.
fn field(mut extra: &[u8], wanted: u16) -> Option<&[u8]> {
    while let [a, b, c, d, rest @ ..] = extra {
        let length = usize::from(u16::from_le_bytes([*c, *d]));
        let value = rest.get(..length)?;
        if u16::from_le_bytes([*a, *b]) == wanted {
            return Some(value);
        }
        extra = &rest[length..];
    }
    None
}
