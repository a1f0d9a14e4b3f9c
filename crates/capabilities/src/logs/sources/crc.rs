//! CRC-64 as COS states it in `x-cos-hash-crc64ecma` (ECMA-182's polynomial, reflected, as xz uses it).

const TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xc96c_5795_d787_0f42 } else { value >> 1 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
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
        self.0 = bytes.iter().fold(self.0, |crc, byte| TABLE[(crc as u8 ^ byte) as usize] ^ crc >> 8);
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
    }
}
