//! CRC-64 as COS states it in `x-cos-hash-crc64ecma` (ECMA-182's polynomial, reflected, as xz uses it).

/// For each place of eight bytes that are taken at once, what a byte there adds (M. E. Kounavis and
/// F. L. Berry, "A Systematic Approach to Building High Performance Software-based CRC Generators", 2005).
const TABLES: [[u64; 256]; 8] = {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xc96c_5795_d787_0f42 } else { value >> 1 };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut place = 1;
    while place < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before: u64 = tables[place - 1][byte];
            tables[place][byte] = tables[0][(before & 0xff) as usize] ^ before >> 8;
            byte += 1;
        }
        place += 1;
    }
    tables
};

/// The checksum of what was added.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crc64(u64);

impl Default for Crc64 {
    fn default() -> Self {
        Self(u64::MAX)
    }
}

impl Crc64 {
    /// Adds bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        let mut eights = bytes.chunks_exact(8);
        for eight in &mut eights {
            let word = self.0 ^ u64::from_le_bytes(eight.try_into().expect("eight of them"));
            let added = |place: usize| TABLES[7 - place][(word >> (8 * place) & 0xff) as usize];
            self.0 = (0..8).fold(0, |crc, place| crc ^ added(place));
        }
        let one = |crc: u64, byte: &u8| TABLES[0][(crc as u8 ^ byte) as usize] ^ crc >> 8;
        self.0 = eights.remainder().iter().fold(self.0, one);
    }

    /// The checksum.
    pub fn value(self) -> u64 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_is_that_of_the_catalogue() {
        let mut crc = Crc64::default();
        crc.add(b"12345");
        crc.add(b"6789");
        assert_eq!(crc.value(), 0x995d_c9bb_df19_39fa);
        assert_eq!(Crc64::default().value(), 0);
        let text: Vec<u8> = (0..1_000u32).map(|n| (n * 7 / 4) as u8).collect();
        let (mut whole, mut single) = (Crc64::default(), Crc64::default());
        whole.add(&text);
        text.chunks(1).for_each(|byte| single.add(byte));
        assert_eq!(whole, single);
    }
}
