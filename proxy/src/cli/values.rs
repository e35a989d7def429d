//! Values of flags that are more than a number or a path: each is read once, and is right from
//! then on.

use std::{
    ops::RangeInclusive,
    path::{self, PathBuf},
    time::Duration,
};

use hpc_proxy::{
    hostname::{Domain, NotADomain},
    http1::target::is_host,
    rewrite::Prefix,
    route::{RouteError, SocketName, TargetPort},
    server::{Rewrite, Rewriting},
};

/// Bytes that the path of a Unix socket may have: `sun_path` of unix(7), less its NUL.
const MAX_SOCKET_PATH_BYTES: usize = 107;
/// Upgrades that are never passed on: a second HTTP inside the first runs past every check.
const NEVER_UPGRADED: [&str; 3] = ["h2", "h2c", "http"];

/// Where the proxy listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    /// On the TCP port that `--bind` and `--port` name.
    Tcp,
    /// On a Unix socket at this absolute path.
    Unix(PathBuf),
}

/// A domain, or none.
#[derive(Clone, Debug)]
pub(super) struct Suffix(pub(super) Option<Domain>);

/// A domain; nothing where the text is empty.
pub(super) fn domain(text: &str) -> Result<Suffix, NotADomain> {
    let domain = (!text.is_empty()).then(|| text.parse());
    domain.transpose().map(Suffix)
}

/// `http://HOST` or `https://HOST`, with a path or without, but without a slash at its end; or
/// nothing.
pub(super) fn public_url(text: &str) -> Result<String, String> {
    let url = text.trim_end_matches('/');
    let rest = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"));
    let sound = rest.is_some_and(|rest| {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        is_host(authority.as_bytes()) && (path.is_empty() || Prefix::parse(path).is_some())
    });
    if text.is_empty() || sound {
        Ok(url.to_owned())
    } else {
        Err(format!("`{text}` is not http:// or https:// with a host"))
    }
}

/// The name of a server on a Unix socket.
pub(super) fn socket_name(text: &str) -> Result<String, RouteError> {
    let name = SocketName::new(text);
    let name = name.ok_or_else(|| RouteError::BadSocket(text.to_owned()))?;
    Ok(name.as_str().to_owned())
}

/// `tcp` or `unix:PATH`.
pub(super) fn listen(text: &str) -> Result<Listen, String> {
    if text == "tcp" {
        return Ok(Listen::Tcp);
    }
    let path = text
        .strip_prefix("unix:")
        .filter(|path| !path.is_empty())
        .ok_or_else(|| format!("`{text}` is neither `tcp` nor `unix:PATH`"))?;
    let path = path::absolute(path).map_err(|error| format!("`{path}`: {error}"))?;
    let bytes = path.as_os_str().len();
    if bytes > MAX_SOCKET_PATH_BYTES {
        return Err(format!(
            "`{}` has {bytes} bytes; the path of a Unix socket may have {MAX_SOCKET_PATH_BYTES}",
            path.display()
        ));
    }
    if path.file_name().is_none() {
        return Err(format!("`{}` names no file", path.display()));
    }
    Ok(Listen::Unix(path))
}

/// A protocol name as `Upgrade` carries it (RFC 9110 section 7.8), in lowercase.
pub(super) fn upgrade(text: &str) -> Result<String, String> {
    let protocol = text.to_ascii_lowercase();
    let (name, version) = match protocol.split_once('/') {
        Some((name, version)) => (name, Some(version)),
        None => (protocol.as_str(), None),
    };
    if !is_token(name) || !version.is_none_or(is_token) {
        return Err(format!("`{text}` is not the name of a protocol"));
    }
    if NEVER_UPGRADED.contains(&name) {
        return Err(format!(
            "`{text}` is never passed on: a second HTTP inside the first runs past every check"
        ));
    }
    Ok(protocol)
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// How pages are rewritten: those of one server, or of all that are not named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rewritten {
    port: Option<TargetPort>,
    how: Rewriting,
}

/// `auto`, `urls`, `off`, or one of them for a server: `5173=urls`.
pub(super) fn rewrite(text: &str) -> Result<Rewritten, String> {
    let (port, how) = match text.split_once('=') {
        Some((port, how)) => (Some(port), how),
        None => (None, text),
    };
    let how = match how {
        "auto" => Rewriting::Auto,
        "urls" => Rewriting::Urls,
        "off" => Rewriting::Off,
        _ => return Err(format!("`{how}` is none of `auto`, `urls` and `off`")),
    };
    let port = port.map(str::parse).transpose();
    let port = port.map_err(|error: RouteError| error.to_string())?;
    Ok(Rewritten { port, how })
}

/// All that was said about it; the last word counts.
pub(super) fn rewrite_of(said: &[Rewritten], base_rewrite: Option<bool>) -> Rewrite {
    let by_default = match base_rewrite {
        Some(false) => Rewriting::Off,
        _ => Rewriting::Auto,
    };
    let general = said.iter().rev().find(|one| one.port.is_none());
    let all = general.map_or(by_default, |one| one.how);
    let mut except: Vec<(TargetPort, Rewriting)> = Vec::new();
    for one in said {
        let Some(port) = one.port else { continue };
        except.retain(|(known, _)| *known != port);
        if one.how != all {
            except.push((port, one.how));
        }
    }
    Rewrite { all, except }
}

/// `8000` or `8000-8010`.
pub(super) fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err(format!("`{text}` is neither a port nor a range of ports")),
    }
}

/// `10`, `10s`, `500ms` or `2m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let milliseconds_per_unit = match unit {
        "" | "s" => 1000,
        "ms" => 1,
        "m" => 60_000,
        _ => return Err(format!("`{unit}` is not a unit; use ms, s or m")),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(milliseconds_per_unit))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("`{text}` is not a time; say for example 10s"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "s", "-1", "1h", "99999999999999999999", "1.5s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_place_to_listen_is_tcp_or_a_short_path() {
        assert_eq!(listen("tcp"), Ok(Listen::Tcp));
        assert_eq!(listen("unix:/d/s"), Ok(Listen::Unix("/d/s".into())));
        let here = path::absolute("s").unwrap();
        assert_eq!(listen("unix:s"), Ok(Listen::Unix(here)));
        let longest = format!("unix:/{}", "x".repeat(MAX_SOCKET_PATH_BYTES - 1));
        assert!(listen(&longest).is_ok());
        for bad in [
            "",
            "TCP",
            "udp",
            "unix",
            "unix:",
            "unix:/",
            "/d/s",
            &format!("{longest}x"),
        ] {
            assert!(listen(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_one_or_from_one_to_another() {
        assert_eq!(ports("80"), Ok(80..=80));
        assert_eq!(ports("8000-65535"), Ok(8000..=65535));
        for bad in [
            "", "0", "0-9", "9-8", "-", "1-", "-1", "1-2-3", "65536", "a",
        ] {
            assert!(ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rewriting_is_said_for_all_or_for_one() {
        let of = |texts: &[&str], base| {
            let said: Vec<_> = texts.iter().map(|text| rewrite(text).unwrap()).collect();
            let told = rewrite_of(&said, base);
            let except = told.except.iter().map(|(port, how)| (port.get(), *how));
            (told.all, except.collect::<Vec<_>>())
        };
        let (auto, urls, off) = (Rewriting::Auto, Rewriting::Urls, Rewriting::Off);
        assert_eq!(of(&[], None), (auto, vec![]));
        assert_eq!(of(&[], Some(false)), (off, vec![]));
        assert_eq!(of(&["auto"], Some(false)), (auto, vec![]));
        assert_eq!(of(&["urls"], Some(false)), (urls, vec![]));
        assert_eq!(of(&["80=off", "90=auto"], None), (auto, vec![(80, off)]));
        assert_eq!(
            of(&["80=off", "off", "90=auto"], None),
            (off, vec![(90, auto)])
        );
        assert_eq!(
            of(&["80=urls", "90=off"], None),
            (auto, vec![(80, urls), (90, off)])
        );
        assert_eq!(of(&["80=off", "80=auto"], Some(true)), (auto, vec![]));
        assert_eq!(of(&["80=auto", "80=urls", "urls"], None), (urls, vec![]));
        for bad in [
            "", "on", "80", "80=", "80=on", "0=off", "x=off", "=off", "Urls",
        ] {
            assert!(rewrite(bad).is_err(), "{bad}");
        }
    }

    // Behaviours 117, 118.
    #[test]
    fn a_public_url_has_a_host_and_no_slash_at_its_end() {
        for (text, url) in [
            ("", ""),
            ("https://hpc.example.org/", "https://hpc.example.org"),
            (
                "http://127.0.0.1:8080/user/x/",
                "http://127.0.0.1:8080/user/x",
            ),
        ] {
            assert_eq!(public_url(text).as_deref(), Ok(url));
        }
        for text in [
            "/user/x",
            "hpc",
            "http://",
            "ftp://a",
            "http://a b",
            "http://a/?b",
            "http://a/\"",
        ] {
            assert!(public_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn http_itself_is_no_upgrade() {
        assert_eq!(upgrade("TCP"), Ok("tcp".into()));
        assert_eq!(upgrade("foo/1.1"), Ok("foo/1.1".into()));
        for bad in [
            "h2c", "H2C", "h2", "HTTP/2.0", "h2c/1", "", "a b", "a,b", "/1", "a/", "a/b/c",
        ] {
            assert!(upgrade(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text: String) {
            let _ = (listen(&text), upgrade(&text), duration(&text), ports(&text));
            let _ = rewrite(&text);
        }
    }
}
