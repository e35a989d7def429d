//! The forms of a request target, and the host that a request is for (RFC 9112 section 3.2).

use std::net::Ipv6Addr;

use thiserror::Error;

use super::{
    head::{RequestHead, Version},
    name::Name,
};

/// Why it cannot be told what a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadTarget {
    /// None of the forms, or not one for the method.
    #[error("the request target is malformed")]
    Form,
    /// No `Host`, several, or something that is no host.
    #[error("`Host` is not one host")]
    Host,
}

/// The form of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`.
    Origin,
    /// `http://host/path?query`, which was made into the path and `Host`.
    Absolute,
    /// `host:port`, for `CONNECT` only.
    Authority,
    /// `*`, for `OPTIONS` only.
    Asterisk,
}

/// Checks the target and `Host`; makes an absolute target an origin-form one, and its authority
/// the `Host`.
///
/// # Errors
/// See [`BadTarget`].
pub fn settle(head: &mut RequestHead) -> Result<Form, BadTarget> {
    let sound = if head.fields.has(Name::Host) {
        head.fields.only(Name::Host).is_some_and(is_host)
    } else {
        head.version == Version::Http10
    };
    if !sound {
        return Err(BadTarget::Host);
    }
    let (method, target) = (head.method(), head.target());
    if method == b"CONNECT" {
        return if is_host(target) {
            Ok(Form::Authority)
        } else {
            Err(BadTarget::Form)
        };
    }
    if target.starts_with(b"/") {
        return Ok(Form::Origin);
    }
    if target == b"*" {
        return if method == b"OPTIONS" {
            Ok(Form::Asterisk)
        } else {
            Err(BadTarget::Form)
        };
    }
    let rest = target
        .split_at_checked(b"http://".len())
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"http://"))
        .map(|(_, rest)| rest)
        .ok_or(BadTarget::Form)?;
    let authority_end = rest
        .iter()
        .position(|byte| b"/?".contains(byte))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_end);
    if !is_host(authority) {
        return Err(BadTarget::Form);
    }
    let (authority, mut path) = (authority.to_vec(), path.to_vec());
    if !path.starts_with(b"/") {
        path.insert(0, b'/');
    }
    head.fields.set(Name::Host, &authority);
    head.set_target(&path);
    head.is_absolute = true;
    Ok(Form::Absolute)
}

/// Whether `text` is one `host` or `host:port` (RFC 3986 section 3.2): a name, or an address, in
/// brackets where it has colons. A comma is never part of it here: it would be a list.
pub fn is_host(text: &[u8]) -> bool {
    let (name, port) = match text {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else {
                return false;
            };
            let address = std::str::from_utf8(&rest[..end]);
            if !address.is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok()) {
                return false;
            }
            (&rest[..end], &rest[end + 1..])
        }
        _ => {
            let end = text
                .iter()
                .position(|byte| *byte == b':')
                .unwrap_or(text.len());
            let plain =
                |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte);
            let encoded = |part: &[u8]| {
                let digits = part.first_chunk::<2>();
                digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            };
            let mut escapes = text[..end].split(|byte| *byte == b'%').skip(1);
            if !text[..end].iter().all(plain) || !escapes.all(encoded) {
                return false;
            }
            text.split_at(end)
        }
    };
    let port_is_sound = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    !name.is_empty() && port_is_sound
}

/// The host of `host` or `host:port`, without brackets.
pub fn host_name(text: &[u8]) -> &[u8] {
    match text {
        [b'[', rest @ ..] => rest.split(|byte| *byte == b']').next().unwrap_or(rest),
        _ => text.split(|byte| *byte == b':').next().unwrap_or(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(start: &str, fields: &str) -> Result<(Form, String, String), BadTarget> {
        let mut head = RequestHead::default();
        head.read(format!("{start}\r\n{fields}\r\n").as_bytes())
            .unwrap();
        let form = settle(&mut head)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let host = head.fields.get(Name::Host).unwrap_or_default();
        Ok((form, text(head.target()), text(host)))
    }

    // Behaviours 22 to 25 and 42.
    #[test]
    fn each_method_has_its_forms() {
        let host = "Host: h\r\n";
        let of = |start| {
            settled(start, host).map(|(form, target, host)| format!("{form:?} {target} {host}"))
        };
        for (start, seen) in [
            ("GET /a?b HTTP/1.1", "Origin /a?b h"),
            ("GET //a HTTP/1.1", "Origin //a h"),
            (
                "GET HTTP://localhost:1/a?b HTTP/1.1",
                "Absolute /a?b localhost:1",
            ),
            ("GET http://[::1]:80?b HTTP/1.1", "Absolute /?b [::1]:80"),
            ("OPTIONS * HTTP/1.1", "Asterisk * h"),
            ("CONNECT a:1 HTTP/1.1", "Authority a:1 h"),
        ] {
            assert_eq!(of(start).as_deref(), Ok(seen), "{start}");
        }
        for start in [
            "GET * HTTP/1.1",
            "GET a HTTP/1.1",
            "GET https://a/ HTTP/1.1",
            "GET ftp://a/ HTTP/1.1",
            "GET http://u@a/ HTTP/1.1",
            "GET http:///a HTTP/1.1",
            "CONNECT /a HTTP/1.1",
        ] {
            assert_eq!(of(start), Err(BadTarget::Form), "{start}");
        }
        assert!(settled("GET / HTTP/1.0", "").is_ok());
    }

    // Behaviour 41.
    #[test]
    fn there_is_one_host() {
        for fields in [
            "",
            "Host:\r\n",
            "Host: a\r\nHost: a\r\n",
            "Host: a, b\r\n",
            "Host: a/b\r\n",
            "Host: a b\r\n",
            "Host: u@a\r\n",
            "Host: a:b\r\n",
            "Host: [::1\r\n",
            "Host: []\r\n",
            "Host: [:::1]\r\n",
            "Host: a%2\r\n",
            "Host: a%zz\r\n",
            "Host: [::1]x\r\n",
            "Host: :80\r\n",
        ] {
            assert_eq!(
                settled("GET / HTTP/1.1", fields),
                Err(BadTarget::Host),
                "{fields:?}"
            );
        }
        for fields in [
            "Host: a.b-c_d:65535\r\n",
            "Host: a%2Db\r\n",
            "Host: [::1]:80\r\n",
            "Host: 127.0.0.1\r\n",
        ] {
            assert!(settled("GET / HTTP/1.1", fields).is_ok(), "{fields:?}");
        }
    }
}
