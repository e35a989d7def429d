//! Import maps (<https://html.spec.whatwg.org/#import-maps>): the one that sends every module of the dev
//! server's root below the prefix, alone or merged into the page's own.

use serde_json::{Map, Value, json};

/// The map of a page that has none: whatever a module names from the root is below the prefix, and
/// stays if it is there already, since the longest key wins.
pub(crate) fn own(prefix: &str) -> String {
    let below = format!("{prefix}/");
    write(&json!({ "imports": { (&below): &below, "/": &below } }))
}

/// The page's own map with its URLs moved by `moved`, and with ours where `prefix` is given; nothing
/// where it is no map.
pub(super) fn merged(
    text: &[u8],
    prefix: Option<&str>,
    moved: &dyn Fn(&str) -> String,
) -> Option<String> {
    let Value::Object(mut map) = serde_json::from_slice(text).ok()? else {
        return None;
    };
    for key in ["imports", "scopes", "integrity"] {
        if !matches!(map.get(key), None | Some(Value::Object(_))) {
            return None;
        }
    }
    let take = |map: &mut Map<String, Value>, key: &str| match map.remove(key) {
        Some(Value::Object(inner)) => Some(inner),
        _ => None,
    };
    let mut imports = specifiers(take(&mut map, "imports").unwrap_or_default(), moved);
    if let Some(prefix) = prefix {
        let below = format!("{prefix}/");
        for key in [&below, "/"] {
            imports
                .entry(key)
                .or_insert_with(|| Value::String(below.clone()));
        }
    }
    map.insert("imports".into(), Value::Object(imports));
    if let Some(scopes) = take(&mut map, "scopes") {
        let mut out = Map::new();
        for (scope, inner) in scopes {
            let inner = match inner {
                Value::Object(inner) => Value::Object(specifiers(inner, moved)),
                other => other,
            };
            out.insert(moved(&scope), inner);
        }
        map.insert("scopes".into(), Value::Object(out));
    }
    if let Some(integrity) = take(&mut map, "integrity") {
        let out = integrity
            .into_iter()
            .map(|(url, value)| (moved(&url), value))
            .collect();
        map.insert("integrity".into(), Value::Object(out));
    }
    Some(write(&Value::Object(map)))
}

/// A module may name another by what is written, or by what that has become.
fn specifiers(map: Map<String, Value>, moved: &dyn Fn(&str) -> String) -> Map<String, Value> {
    let mut out = Map::new();
    for (key, value) in map {
        let value = match value {
            Value::String(url) => Value::String(moved(&url)),
            other => other,
        };
        // What names no URL is no URL, and stays.
        out.entry(moved(&key)).or_insert_with(|| value.clone());
        out.insert(key, value);
    }
    out
}

/// JSON that is right in any charset and ends no script.
fn write(map: &Value) -> String {
    let mut out = String::new();
    for character in map.to_string().chars() {
        if character.is_ascii() && character != '<' {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(url: &str) -> String {
        match url.strip_prefix('/') {
            Some(rest) if !url.starts_with("/p/") => format!("/p/{rest}"),
            _ => url.to_owned(),
        }
    }

    #[test]
    fn everything_from_the_root_is_below_the_prefix() {
        assert_eq!(own("/p"), r#"{"imports":{"/":"/p/","/p/":"/p/"}}"#);
    }

    #[test]
    fn a_pages_own_map_keeps_its_meaning() {
        let page = br#"{"imports":{"a":"/lib/a.js","b":"https://cdn.example.org/b.js","/src/":"./x/","n":null},
            "scopes":{"/s/":{"a":"/lib/\u00e4<.js"}},"integrity":{"/lib/a.js":"sha"},"later":1}"#;
        let told: Value = serde_json::from_str(&merged(page, Some("/p"), &moved).unwrap()).unwrap();
        assert_eq!(
            told,
            json!({
                "imports": {
                    "a": "/p/lib/a.js", "b": "https://cdn.example.org/b.js", "n": null,
                    "/src/": "./x/", "/p/src/": "./x/", "/": "/p/", "/p/": "/p/",
                },
                "scopes": { "/p/s/": { "a": "/p/lib/ä<.js" } },
                "integrity": { "/p/lib/a.js": "sha" },
                "later": 1,
            })
        );
        let text = merged(page, None, &moved).unwrap();
        assert!(
            text.is_ascii() && !text.contains('<') && !text.contains(r#""/":"#),
            "{text}"
        );
        for bad in [&b""[..], b"[]", b"{", b"{\"imports\":1}", b"\xff"] {
            assert_eq!(merged(bad, None, &moved), None);
        }
    }
}
