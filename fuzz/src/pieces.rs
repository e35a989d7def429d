//! Bytes in pieces, as a network would bring them, and the words of dictionaries.

/// Where bytes part: a number of pieces that follows from the bytes themselves, so that a failure comes
/// again.
pub(crate) fn parted(bytes: &[u8]) -> Vec<&[u8]> {
    // FNV-1a, then xorshift.
    let mut chance = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let most = 1 + bytes.len() as u64 / (1 + (chance >> 60));
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        chance |= 1;
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        // Some are empty.
        let length = (chance % (most + 1)) as usize;
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// The words of a dictionary of libFuzzer's: one on a line, `"text"`, with `\xAB` for a byte.
pub fn words(dictionary: &str) -> Vec<Vec<u8>> {
    dictionary.lines().filter_map(word).collect()
}

fn word(line: &str) -> Option<Vec<u8>> {
    let text = line.strip_prefix('"')?.strip_suffix('"')?;
    let mut parts = text.split("\\x");
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    Some(bytes)
}
