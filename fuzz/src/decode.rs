//! Coded bodies, unpacked.

use hpc_proxy::decode::{BadCoding, Decoder};

use crate::pieces::parted;

/// What one step may bring out: what is meant, and a block that is not broken off.
const MOST_AT_ONCE_BYTES: usize = 512 * 1024;
/// A bomb goes off for longer; this much of it is looked at.
const MOST_BYTES: usize = 4 << 20;

/// Any bytes as a body in each coding that is known.
///
/// # Panics
/// When the pieces matter, when a step brings out too much or none brings the body to an end, and when what
/// is coded right is unpacked wrong.
pub fn decode(data: &[u8]) {
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let whole = unpacked(coding, &[data]);
        let pieces = unpacked(coding, &parted(data));
        // Where it is broken, it may be seen after more or less of what came before.
        match (&whole, &pieces) {
            (Ok(one), Ok(other)) => assert!(one == other, "{coding}: pieces unpack otherwise"),
            (Err(one), Err(other)) => {
                let same = one.len().min(other.len());
                assert!(one[..same] == other[..same], "{coding}: other bytes before");
            }
            _ => panic!(
                "{coding}: {} whole, {} in pieces",
                whole.is_ok(),
                pieces.is_ok()
            ),
        }
    }
    for (coding, coded) in [
        ("gzip", gzip_of(data)),
        ("deflate", deflate_of(data)),
        ("zstd", zstd_of(data)),
    ] {
        for pieces in [vec![&coded[..]], parted(&coded)] {
            let same = unpacked(coding, &pieces).is_ok_and(|found| found == data);
            assert!(same, "{coding}: not what was coded");
        }
        let cut = &coded[..coded.len() / 2];
        let (Ok(found) | Err(found)) = unpacked(coding, &[cut]);
        assert!(
            data.starts_with(&found),
            "{coding}: not what was coded before the cut"
        );
    }
}

/// All that comes out, or what came before it broke.
fn unpacked(coding: &str, pieces: &[&[u8]]) -> Result<Vec<u8>, Vec<u8>> {
    let mut decoder = Decoder::of(coding.as_bytes()).expect("it is known");
    let mut all = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        loop {
            let mut out = Vec::new();
            match decoder.step(rest, &mut out) {
                Err(BadCoding) => return Err(all),
                Ok(taken) => {
                    assert!(taken <= rest.len(), "{coding}: more taken than there is");
                    assert!(
                        out.len() <= MOST_AT_ONCE_BYTES,
                        "{coding}: {} at once",
                        out.len()
                    );
                    all.extend_from_slice(&out);
                    rest = &rest[taken..];
                    if (taken == 0 && out.is_empty()) || all.len() > MOST_BYTES {
                        assert!(
                            rest.is_empty() || all.len() > MOST_BYTES,
                            "{coding}: it stands"
                        );
                        break;
                    }
                }
            }
        }
        if all.len() > MOST_BYTES {
            all.truncate(MOST_BYTES);
            break;
        }
    }
    Ok(all)
}

/// Deflate with nothing but stored blocks (RFC 1951 section 3.2.4).
fn stored(data: &[u8]) -> Vec<u8> {
    let mut coded = Vec::new();
    for block in data.chunks(500) {
        let length = block.len() as u16;
        coded.push(0);
        coded.extend_from_slice(&length.to_le_bytes());
        coded.extend_from_slice(&(!length).to_le_bytes());
        coded.extend_from_slice(block);
    }
    coded.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    coded
}

/// RFC 1952.
fn gzip_of(data: &[u8]) -> Vec<u8> {
    let crc = !data.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    });
    let mut coded = b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec();
    coded.append(&mut stored(data));
    coded.extend_from_slice(&crc.to_le_bytes());
    coded.extend_from_slice(&(data.len() as u32).to_le_bytes());
    coded
}

/// RFC 1950.
fn deflate_of(data: &[u8]) -> Vec<u8> {
    let (mut a, mut b) = (1_u32, 0_u32);
    for byte in data {
        a = (a + u32::from(*byte)) % 65521;
        b = (b + a) % 65521;
    }
    let mut coded = b"\x78\x01".to_vec();
    coded.append(&mut stored(data));
    coded.extend_from_slice(&(b << 16 | a).to_be_bytes());
    coded
}

/// RFC 8878: a frame of raw blocks, of unknown size.
fn zstd_of(data: &[u8]) -> Vec<u8> {
    let mut coded = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x20];
    for block in data.chunks(500) {
        coded.extend_from_slice(&((block.len() as u32) << 3).to_le_bytes()[..3]);
        coded.extend_from_slice(block);
    }
    coded.extend_from_slice(&[1, 0, 0]);
    coded
}
