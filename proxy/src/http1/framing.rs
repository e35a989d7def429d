//! Where a message ends (RFC 9112 section 6): one answer or none.

use thiserror::Error;

use super::{
    fields::Fields,
    head::{RequestHead, ResponseHead, Version},
    name::Name,
};

/// How a body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body, and nothing says how long it is.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// It ends with the connection: responses only.
    UntilClose,
}

/// Why it cannot be told where a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadFraming {
    /// Both `Content-Length` and `Transfer-Encoding`.
    #[error("both `Content-Length` and `Transfer-Encoding`")]
    Both,
    /// Several lengths, or something that is none.
    #[error("`Content-Length` is not one decimal number")]
    Length,
    /// `Transfer-Encoding` is not exactly `chunked`.
    #[error("`Transfer-Encoding` is not exactly `chunked`")]
    Coding,
    /// A coding that is not implemented.
    #[error("a transfer coding that is not implemented")]
    UnknownCoding,
}

/// The framing of a request's body.
///
/// # Errors
/// When it is ambiguous. Nothing of such a request may go on, and nothing that follows it on its
/// connection may be taken for a request.
pub fn of_request(head: &RequestHead) -> Result<Framing, BadFraming> {
    of_fields(&head.fields, head.version)
}

/// The framing of a response's body, for a request of `method`.
///
/// # Errors
/// When it is ambiguous.
pub fn of_response(head: &ResponseHead, method: &[u8]) -> Result<Framing, BadFraming> {
    let stated = of_fields(&head.fields, head.version)?;
    if method == b"HEAD" || matches!(head.status, 100..=199 | 204 | 304) {
        return Ok(Framing::None);
    }
    Ok(match stated {
        Framing::None => Framing::UntilClose,
        stated => stated,
    })
}

fn of_fields(fields: &Fields, version: Version) -> Result<Framing, BadFraming> {
    let chunked = chunked(fields, version)?;
    let length = length(fields)?;
    match (chunked, length) {
        (true, Some(_)) => Err(BadFraming::Both),
        (true, None) => Ok(Framing::Chunked),
        (false, Some(length)) => Ok(Framing::Length(length)),
        (false, None) => Ok(Framing::None),
    }
}

fn chunked(fields: &Fields, version: Version) -> Result<bool, BadFraming> {
    let mut lines = fields.all(Name::TransferEncoding);
    let Some(coding) = lines.next() else {
        return Ok(false);
    };
    if lines.next().is_some() || version == Version::Http10 {
        return Err(BadFraming::Coding);
    }
    if coding.eq_ignore_ascii_case(b"chunked") {
        Ok(true)
    } else if super::fields::is_token(coding) {
        Err(BadFraming::UnknownCoding)
    } else {
        Err(BadFraming::Coding)
    }
}

/// One field with decimal digits and no leading zero: what every reader reads alike.
fn length(fields: &Fields) -> Result<Option<u64>, BadFraming> {
    let mut lines = fields.all(Name::ContentLength);
    let Some(digits) = lines.next() else {
        return Ok(None);
    };
    let plain =
        digits.iter().all(u8::is_ascii_digit) && (digits.len() == 1 || !digits.starts_with(b"0"));
    if lines.next().is_some() || !plain {
        return Err(BadFraming::Length);
    }
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .map(Some)
        .ok_or(BadFraming::Length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(Name, &str)]) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in lines {
            fields.push(*name, value.as_bytes());
        }
        fields
    }

    use Name::{ContentLength as Cl, TransferEncoding as Te};

    // Behaviours 54 to 58.
    #[test]
    fn a_request_has_one_framing_or_is_refused() {
        let of = |lines: &[(Name, &str)]| of_fields(&fields(lines), Version::Http11);
        assert_eq!(of(&[]), Ok(Framing::None));
        assert_eq!(of(&[(Cl, "0")]), Ok(Framing::Length(0)));
        assert_eq!(
            of(&[(Cl, "18446744073709551615")]),
            Ok(Framing::Length(u64::MAX))
        );
        assert_eq!(of(&[(Te, "CHUNKED")]), Ok(Framing::Chunked));
        assert_eq!(of(&[(Cl, "5"), (Te, "chunked")]), Err(BadFraming::Both));
        assert_eq!(of(&[(Cl, "5"), (Cl, "5")]), Err(BadFraming::Length));
        for length in [
            "5, 5",
            "",
            "+5",
            "-1",
            "0x5",
            "5_0",
            "05",
            "00",
            "5 5",
            "18446744073709551616",
            "100000000000000000000",
        ] {
            assert_eq!(of(&[(Cl, length)]), Err(BadFraming::Length), "{length}");
        }
        for coding in [
            "gzip, chunked",
            ",chunked",
            "chunked,",
            "chunked, chunked",
            "\"chunked\"",
            "",
        ] {
            assert_eq!(of(&[(Te, coding)]), Err(BadFraming::Coding), "{coding}");
        }
        for coding in ["xchunked", "gzip", "identity"] {
            assert_eq!(
                of(&[(Te, coding)]),
                Err(BadFraming::UnknownCoding),
                "{coding}"
            );
        }
        assert_eq!(
            of(&[(Te, "chunked"), (Te, "chunked")]),
            Err(BadFraming::Coding)
        );
        let old = of_fields(&fields(&[(Te, "chunked")]), Version::Http10);
        assert_eq!(old, Err(BadFraming::Coding));
    }

    // Behaviours 75 and 76.
    #[test]
    fn some_responses_have_no_body_whatever_they_say() {
        let of = |status, method: &[u8], lines: &[(Name, &str)]| {
            let mut head = ResponseHead::default();
            (head.status, head.fields) = (status, fields(lines));
            of_response(&head, method)
        };
        assert_eq!(of(200, b"HEAD", &[(Cl, "9")]), Ok(Framing::None));
        assert_eq!(of(204, b"GET", &[]), Ok(Framing::None));
        assert_eq!(of(304, b"GET", &[(Cl, "9")]), Ok(Framing::None));
        assert_eq!(of(200, b"GET", &[]), Ok(Framing::UntilClose));
        assert_eq!(of(200, b"GET", &[(Te, "chunked")]), Ok(Framing::Chunked));
        assert_eq!(
            of(200, b"GET", &[(Cl, "1"), (Cl, "2")]),
            Err(BadFraming::Length)
        );
    }
}
