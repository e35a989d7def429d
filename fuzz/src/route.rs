//! Request targets.

use hpc_proxy::route::{self, Route, RouteError, To};

/// One request target: whatever it is, it leads where it plainly says, or nowhere.
///
/// # Panics
/// When the proxy reads it in another way.
pub fn route(data: &[u8]) {
    let read = route::parse(data);
    let Ok(target) = std::str::from_utf8(data) else {
        assert!(matches!(read, Err(RouteError::Malformed)), "{read:?}");
        return;
    };
    if !target.starts_with('/') || target.contains('#') || target.contains("%00") {
        assert_eq!(read, Err(RouteError::Malformed));
        return;
    }
    let (path, query) = match target.split_once('?') {
        Some((path, _)) => (path, &target[path.len()..]),
        None => (target, ""),
    };
    let words: Vec<&str> = path.splitn(4, '/').collect();
    match (words.as_slice(), &read) {
        (["", "_hpc-proxy", ..], Ok(Route::Own(rest))) => {
            assert_eq!(format!("/_hpc-proxy/{rest}"), target);
        }
        (["", ""] | ["", "port"] | ["", "port", ""], read) => assert_eq!(read, &Ok(Route::Index)),
        (["", root @ ("port" | "sock"), segment, below @ ..], Ok(Route::Below(to, rest))) => {
            assert!(!below.is_empty(), "{rest}");
            assert_eq!(format!("/{root}/{segment}{rest}"), target);
            check_to(root, segment, *to);
        }
        (["", root @ ("port" | "sock"), segment], Ok(Route::Bare(to, rest))) => {
            assert_eq!(*rest, query);
            check_to(root, segment, *to);
        }
        (["", "absport", segment, ..], Ok(Route::Whole(port))) => {
            assert_eq!(port.to_string(), *segment);
            assert_ne!(port.get(), 0);
        }
        (["", "port" | "absport", segment, ..], Err(RouteError::BadPort(bad))) => {
            assert_eq!(segment, bad);
            let canonical = segment
                .parse::<u16>()
                .is_ok_and(|port| port.to_string() == *segment);
            assert!(!canonical || *segment == "0", "refused {segment}");
        }
        (["", "sock", segment, ..], Err(RouteError::BadSocket(bad))) => {
            assert_eq!(segment, bad);
            assert!(!is_name(segment), "refused {segment}");
        }
        (words, Err(RouteError::NoSuchPath)) => {
            let segment = words.get(2).is_some_and(|segment| !segment.is_empty());
            let known = matches!(words[1], "port" | "sock" | "absport") && segment;
            let own = words[1] == "_hpc-proxy" && words.len() > 2;
            assert!(!known && !own, "refused {target}");
        }
        _ => panic!("{target} led to {read:?}"),
    }
}

fn check_to(root: &str, segment: &str, to: To<'_>) {
    match to {
        To::Port(port) => {
            assert_eq!((root, port.to_string().as_str()), ("port", segment));
            assert_ne!(port.get(), 0);
        }
        To::Socket(name) => {
            assert_eq!((root, name.as_str()), ("sock", segment));
            assert!(is_name(segment), "{segment}");
        }
    }
}

/// Whether it names one file in one directory.
fn is_name(segment: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    !segment.is_empty()
        && segment.len() <= 64
        && segment.chars().all(plain)
        && !segment.starts_with(['.', '-'])
}
