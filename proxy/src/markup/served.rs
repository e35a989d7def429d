//! The shim's file as it goes over the wire: packed for whoever takes gzip.

use std::{io::Write, sync::LazyLock};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use super::SHIM;
use crate::http1::{fields::Fields, name::Name};

static PACKED: LazyLock<Bytes> = LazyLock::new(|| {
    let mut packer = GzEncoder::new(Vec::new(), Compression::best());
    let packed = packer
        .write_all(SHIM.as_bytes())
        .and_then(|()| packer.finish());
    packed.expect("a vector takes all").into()
});

/// The file, and whether it is packed by gzip, for a request with these fields.
pub(crate) fn shim_for(fields: &Fields) -> (Bytes, bool) {
    if takes_gzip(fields) {
        (PACKED.clone(), true)
    } else {
        (Bytes::from_static(SHIM.as_bytes()), false)
    }
}

/// RFC 9110 section 12.5.3. A weight of nought, however it is written, refuses.
fn takes_gzip(fields: &Fields) -> bool {
    fields.elements(Name::AcceptEncoding).any(|element| {
        let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let named = parts
            .next()
            .is_some_and(|coding| coding.eq_ignore_ascii_case(b"gzip"));
        let refused = |weight: &[u8]| {
            let number = weight
                .strip_prefix(b"q=")
                .or_else(|| weight.strip_prefix(b"Q="));
            number.is_some_and(|number| number.iter().all(|byte| b"0.".contains(byte)))
        };
        named && !parts.any(refused)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn the_shim_is_packed_for_those_who_take_it() {
        for (said, packed) in [
            (&["gzip, deflate, br"][..], true),
            (&["br", "x;q=0, GZIP ; q=0.5"], true),
            (&["gzip;q=0.001"], true),
            (&["gzip;q=0"], false),
            (&["br, gzip; Q=0.000"], false),
            (&["br"], false),
            (&["*"], false),
            (&["xgzip"], false),
            (&[], false),
        ] {
            let mut fields = Fields::new();
            for value in said {
                fields.push(Name::AcceptEncoding, value.as_bytes());
            }
            let (body, is_packed) = shim_for(&fields);
            assert_eq!(is_packed, packed, "{said:?}");
            let mut text = String::new();
            if packed {
                GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
            } else {
                text = String::from_utf8(body.to_vec()).unwrap();
            }
            assert_eq!(text, SHIM);
        }
    }

    // Each first page of a browser waits for it.
    #[test]
    fn the_packed_shim_is_small() {
        assert!(PACKED.len() < 14 * 1024, "{} bytes", PACKED.len());
    }
}
