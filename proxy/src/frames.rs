//! Where the frames of a WebSocket end (RFC 6455 section 5.2), as far as that is needed to put one more between
//! two of them.

/// A close frame of a server that goes away: code 1001 (section 7.4.1).
pub(crate) const GOING_AWAY: [u8; 4] = [0x88, 2, 0x03, 0xE9];

const CLOSE: u8 = 8;
/// Of the second byte.
const MASKED: u8 = 0x80;
const TWO_MORE: u8 = 126;
const EIGHT_MORE: u8 = 127;

/// How far a server's frames have come. One word, as there are many pipes: what is awaited in four bits, a number in the
/// rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frames(u64);

/// What is awaited: bytes of a payload, of which there may be none, so that it is a frame's first byte ...
const PAYLOAD: u64 = 0;
/// ... its second byte, or this and so many bytes of the length.
const SECOND: u64 = 1;
const TAG_BITS: u32 = 4;

impl Frames {
    /// At the beginning.
    pub(crate) const NONE: Self = Self(0);
    /// Frames that are not followed, or no frames.
    pub(crate) const LOST: Self = Self(u64::MAX);

    fn new(tag: u64, number: u64) -> Self {
        match number.leading_zeros() >= TAG_BITS {
            true => Self(number << TAG_BITS | tag),
            false => Self::LOST,
        }
    }

    /// The tag, and the number.
    fn parts(self) -> (u64, u64) {
        (self.0 & ((1 << TAG_BITS) - 1), self.0 >> TAG_BITS)
    }

    /// These bytes went by.
    pub(crate) fn pass(&mut self, mut bytes: &[u8]) {
        while *self != Self::LOST
            && let Some((first, rest)) = bytes.split_first()
        {
            let (tag, number) = self.parts();
            bytes = rest;
            *self = match (tag, number) {
                (PAYLOAD, 0) if first & 0xF == CLOSE => Self::LOST,
                (PAYLOAD, 0) => Self::new(SECOND, 0),
                (PAYLOAD, left) => {
                    let more = rest
                        .len()
                        .min(usize::try_from(left - 1).unwrap_or(usize::MAX));
                    bytes = &rest[more..];
                    Self::new(PAYLOAD, left - 1 - more as u64)
                }
                (SECOND, _) => match *first {
                    TWO_MORE => Self::new(SECOND + 2, 0),
                    EIGHT_MORE => Self::new(SECOND + 8, 0),
                    length if length & MASKED == 0 => Self::new(PAYLOAD, length.into()),
                    _ => Self::LOST,
                },
                (tag, number) => {
                    let number = number << 8 | u64::from(*first);
                    match tag - 1 {
                        SECOND => Self::new(PAYLOAD, number),
                        tag => Self::new(tag, number),
                    }
                }
            };
        }
    }

    /// So many bytes went by unseen.
    pub(crate) fn pass_unseen(&mut self, count: usize) {
        let (tag, left) = self.parts();
        *self = match left.checked_sub(count as u64) {
            Some(left) if tag == PAYLOAD => Self::new(PAYLOAD, left),
            _ => Self::LOST,
        };
    }

    /// Whether a frame of ours may follow.
    pub(crate) fn are_between(self) -> bool {
        self == Self::NONE
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio_tungstenite::tungstenite::protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    };

    use super::*;

    fn frame(length: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let frame = Frame::message(vec![7; length], OpCode::Data(Data::Binary), true);
        frame.format(&mut bytes).unwrap();
        bytes
    }

    fn lengths() -> impl Strategy<Value = Vec<usize>> {
        let length = prop_oneof![Just(0), 1..200usize, 60_000..70_000usize];
        prop::collection::vec(length, 0..6)
    }

    proptest! {
        #[test]
        fn a_frame_ends_where_the_next_begins(lengths in lengths(), cuts in prop::collection::vec(1..70_000usize, 1..9)) {
            let (mut bytes, mut ends) = (Vec::new(), vec![0]);
            for length in lengths {
                bytes.extend(frame(length));
                ends.push(bytes.len());
            }
            let (mut frames, mut at) = (Frames::NONE, 0);
            for cut in cuts.iter().cycle() {
                prop_assert_eq!(frames.are_between(), ends.contains(&at), "{}", at);
                let to = bytes.len().min(at + cut);
                if at == to {
                    break;
                }
                frames.pass(&bytes[at..to]);
                at = to;
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut frames = Frames::NONE;
            frames.pass(&bytes);
        }
    }

    #[test]
    fn what_is_not_seen_is_followed_within_a_payload_alone() {
        let bytes = frame(1000);
        let mut frames = Frames::NONE;
        frames.pass(&bytes[..100]);
        let mut inside = frames;
        inside.pass_unseen(bytes.len() - 100);
        assert!(inside.are_between());
        frames.pass_unseen(bytes.len());
        assert_eq!(frames, Frames::LOST);
    }

    #[test]
    fn nothing_follows_a_close() {
        let mut frames = Frames::NONE;
        frames.pass(&GOING_AWAY);
        assert!(!frames.are_between());
    }
}
