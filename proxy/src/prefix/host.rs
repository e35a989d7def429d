//! A host as a browser compares it: <https://url.spec.whatwg.org/#host-parsing>.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

/// Names are ASCII: an international one is compared in its ASCII form alone, in which browsers
/// state it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Host {
    Name(String),
    V4(Ipv4Addr),
    V6(Ipv6Addr),
}

impl Host {
    /// Nothing for what is no host, or one that no browser states so.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(inside) = text.strip_prefix('[') {
            return inside.strip_suffix(']')?.parse().ok().map(Self::V6);
        }
        let name = decode(text)?.to_ascii_lowercase();
        let forbidden =
            |byte: u8| byte <= b' ' || byte == 0x7f || b"#%/:<>?@[\\]^|".contains(&byte);
        if name.is_empty() || name.bytes().any(forbidden) {
            return None;
        }
        let parts: Vec<&str> = name.strip_suffix('.').unwrap_or(&name).split('.').collect();
        let last = parts.last().copied().unwrap_or_default();
        let is_numeric = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
        if is_numeric || v4_part(last).is_some() {
            return v4(&parts).map(Self::V4);
        }
        // Such a label may be no encoding of anything, and then the URL is none.
        let encoded = name.contains("xn--") && name.contains("localhost");
        (!encoded).then_some(Self::Name(name))
    }

    /// The machine that the server itself runs on, in the server's own eyes. Some servers write the
    /// address they listen on, which may stand for all of them.
    pub(super) fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                name == "localhost" || name.ends_with(".localhost")
            }
            Self::V4(address) => address.is_loopback() || address.is_unspecified(),
            Self::V6(address) => address.is_loopback() || address.is_unspecified(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => address.fmt(f),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// Percent-decoded ASCII.
fn decode(text: &str) -> Option<String> {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        decoded.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 3)?;
        let plain = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        let byte = u8::from_str_radix(digits, 16).ok().filter(|_| plain)?;
        decoded.push(char::from(byte));
        rest = &rest[at + 3..];
    }
    decoded.push_str(rest);
    decoded.is_ascii().then_some(decoded)
}

/// `127.0.0.1`, also as `127.1`, `0x7f.1` or `2130706433`.
fn v4(parts: &[&str]) -> Option<Ipv4Addr> {
    let numbers = parts
        .iter()
        .map(|part| v4_part(part))
        .collect::<Option<Vec<u64>>>()?;
    let (last, first) = numbers.split_last()?;
    let rest = u32::try_from(first.len()).ok().filter(|rest| *rest < 4)?;
    if first.iter().any(|number| *number > 255) || *last >= 256_u64.pow(4 - rest) {
        return None;
    }
    let high = first
        .iter()
        .zip([24, 16, 8])
        .map(|(number, shift)| number << shift);
    u32::try_from(high.sum::<u64>() + last)
        .ok()
        .map(Ipv4Addr::from)
}

/// A number: decimal, octal after `0`, hexadecimal after `0x`.
fn v4_part(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        None => (text, 10),
    };
    match digits {
        "" => (radix != 10).then_some(0),
        _ if !digits
            .bytes()
            .all(|digit| char::from(digit).is_digit(radix)) =>
        {
            None
        }
        // Too large for any address.
        _ => Some(u64::from_str_radix(digits, radix).unwrap_or(u64::MAX)),
    }
}
