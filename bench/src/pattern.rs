//! Bytes that show where they belong: sent anywhere, checked at the speed of a comparison.
//!
//! The byte at an offset is the byte of a fixed noise at that offset modulo a prime, so that a part
//! that is lost, doubled or put elsewhere by any multiple of a buffer's size does not fit.

use anyhow::{Result, ensure};

use crate::noise::Noise;

/// The length of the noise: the largest prime below 64 KiB.
const PERIOD: usize = 65_521;

/// The longest part that is handed out at once.
pub const MAX_PART: usize = 64 * 1024;

/// The noise, long enough for a part from any offset.
#[derive(Debug)]
pub struct Pattern(Vec<u8>);

impl Pattern {
    /// The same at every start.
    #[expect(
        clippy::new_without_default,
        reason = "a quarter of a megabyte is not a default"
    )]
    pub fn new() -> Self {
        let mut noise = Noise::new(0);
        let mut noise: Vec<u8> = std::iter::repeat_with(|| noise.number().to_le_bytes()[3])
            .take(PERIOD)
            .collect();
        noise.extend_from_within(..);
        noise.extend_from_within(..MAX_PART - PERIOD);
        Self(noise)
    }

    /// What belongs at `offset`, at most `length` bytes of it and at most [`MAX_PART`].
    pub fn part(&self, offset: u64, length: u64) -> &[u8] {
        let start = usize::try_from(offset % PERIOD as u64).expect("below the period");
        let length = usize::try_from(length).map_or(MAX_PART, |length| length.min(MAX_PART));
        &self.0[start..start + length]
    }
}

/// Follows a stream that should be the pattern from its beginning.
#[derive(Debug)]
pub struct Checker<'a> {
    pattern: &'a Pattern,
    offset: u64,
}

impl<'a> Checker<'a> {
    /// At offset 0.
    pub fn new(pattern: &'a Pattern) -> Self {
        Self { pattern, offset: 0 }
    }

    /// How many bytes have been right.
    pub fn bytes(&self) -> u64 {
        self.offset
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// They are not those that belong here.
    pub fn take(&mut self, bytes: &[u8]) -> Result<()> {
        for part in bytes.chunks(MAX_PART) {
            let wanted = self.pattern.part(self.offset, part.len() as u64);
            ensure!(
                part == wanted,
                "other bytes than were sent, after `{}`",
                self.offset
            );
            self.offset += part.len() as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_in_parts_of_any_size_is_right() {
        let pattern = Pattern::new();
        let mut checker = Checker::new(&pattern);
        let mut offset = 0;
        for length in [1, 65_521, 65_536, 7, 16_384, 65_535] {
            checker.take(pattern.part(offset, length)).unwrap();
            offset += length;
        }
        assert_eq!(checker.bytes(), offset);
    }

    #[test]
    fn a_part_lost_doubled_or_moved_is_noticed() {
        let pattern = Pattern::new();
        for wrong in [1_u64, 4096, 65_536, 16 * 65_536] {
            let mut checker = Checker::new(&pattern);
            checker.take(pattern.part(0, 4096)).unwrap();
            checker.take(pattern.part(4096 + wrong, 4096)).unwrap_err();
        }
    }
}
