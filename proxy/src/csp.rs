//! Content security policies (<https://www.w3.org/TR/CSP3/>), loosened by what a page under a prefix
//! needs, and by no more: the shim's file, the import map, and ports of the user's that it names itself.

use crate::prefix::Prefixer;

/// A policy, or several with commas between them, as the browser gets it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Loosened {
    pub(crate) policy: String,
    /// What a script must carry to run.
    pub(crate) nonce: Option<String>,
}

/// The field `policies` of a document that gets the import map with this `hash`.
pub(crate) fn loosened(policies: &str, prefixer: &Prefixer, hash: Option<&str>) -> Loosened {
    let nonce = policies
        .split([',', ';', ' ', '\t'])
        .find_map(nonce)
        .map(str::to_owned);
    let loosen = |policy: &str| {
        let moved = sources(policy, prefixer).unwrap_or_else(|| policy.to_owned());
        with_workers(&with_scripts(&moved, hash, nonce.as_deref()))
    };
    let all: Vec<String> = policies.split(',').map(loosen).collect();
    Loosened {
        policy: all.join(","),
        nonce,
    }
}

/// A policy whose own origins and URLs are those that the browser sees; nothing where it has none.
pub(crate) fn sources(policy: &str, prefixer: &Prefixer) -> Option<String> {
    let mut changed = false;
    let mut moved = |directive: &str| {
        let mut words = directive.split_ascii_whitespace();
        let name = words.next().unwrap_or_default();
        let reports = name.eq_ignore_ascii_case("report-uri");
        if !reports && !is_fetch(name) {
            return directive.to_owned();
        }
        let mut out = vec![name.to_owned()];
        let mut itself = false;
        for word in words {
            let to = if reports {
                prefixer.url(word).into_owned()
            } else {
                source(word, prefixer).unwrap_or_else(|| word.to_owned())
            };
            if to == word {
                out.push(to);
                continue;
            }
            changed = true;
            itself |= to == SELF;
            if to != SELF {
                out.push(to);
            }
        }
        if itself && !out.iter().any(|word| word.eq_ignore_ascii_case(SELF)) {
            out.push(SELF.to_owned());
        }
        if out.len() == 1 || !changed {
            return directive.to_owned();
        }
        format!(" {}", out.join(" "))
    };
    let directives: Vec<String> = policy.split(';').map(&mut moved).collect();
    changed.then(|| directives.join(";").trim_start().to_owned())
}

const SELF: &str = "'self'";

/// Directives that hold origins to load from or to go to.
fn is_fetch(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.ends_with("-src")
        || [
            "script-src-elem",
            "script-src-attr",
            "style-src-elem",
            "form-action",
            "base-uri",
            "frame-ancestors",
        ]
        .contains(&name.as_str())
}

/// What the browser sees of a source of this user's: the front itself, or another port's name.
fn source(word: &str, prefixer: &Prefixer) -> Option<String> {
    if word.starts_with('\'') || word.ends_with(':') || word.contains('*') {
        return None;
    }
    // A source may leave its scheme away.
    let url = if word.contains("://") {
        word.to_owned()
    } else {
        format!("http://{word}")
    };
    let moved = prefixer.url(&url);
    if moved == url {
        return None;
    }
    let authority = moved
        .split_once("//")
        .map(|(_, rest)| rest.split('/').next().unwrap_or_default());
    Some(match authority {
        Some(authority) if authority != prefixer.front => authority.to_owned(),
        _ => SELF.to_owned(),
    })
}

fn nonce(source: &str) -> Option<&str> {
    source.strip_prefix("'nonce-")?.strip_suffix('\'')
}

/// Lets the shim and the import map run.
fn with_scripts(policy: &str, hash: Option<&str>, page_nonce: Option<&str>) -> String {
    let directive = |wanted: &str| {
        policy.split(';').position(|directive| {
            let name = directive
                .split_ascii_whitespace()
                .next()
                .unwrap_or_default();
            name.eq_ignore_ascii_case(wanted)
        })
    };
    let ruling = ["script-src-elem", "script-src", "default-src"]
        .into_iter()
        .find_map(|name| Some((name, directive(name)?)));
    let Some((name, at)) = ruling else {
        return policy.to_owned();
    };
    let mut directives: Vec<String> = policy.split(';').map(str::to_owned).collect();
    let mut sources: Vec<&str> = directives[at].split_ascii_whitespace().skip(1).collect();
    let has = |sources: &[&str], wanted: &str| {
        sources
            .iter()
            .any(|source| source.eq_ignore_ascii_case(wanted))
    };
    // The nonce lets both in.
    if page_nonce.is_some_and(|own| sources.iter().any(|source| nonce(source) == Some(own))) {
        return policy.to_owned();
    }
    let is_hash = |source: &&str| {
        ["'sha256-", "'sha384-", "'sha512-", "'nonce-"]
            .iter()
            .any(|kind| source.to_ascii_lowercase().starts_with(kind))
    };
    let strict = has(&sources, "'strict-dynamic'");
    let inline = has(&sources, "'unsafe-inline'") && !strict && !sources.iter().any(is_hash);
    let any = has(&sources, "*") && !strict;
    let mut added = Vec::new();
    if !any && !has(&sources, SELF) {
        added.push(SELF);
    }
    // Beside a hash, `'unsafe-inline'` would count no more.
    if !inline && let Some(hash) = hash {
        added.push(hash);
    }
    if added.is_empty() {
        return policy.to_owned();
    }
    // Next to anything else it would count for nothing.
    sources.retain(|source| !source.eq_ignore_ascii_case("'none'"));
    sources.extend(added);
    let written = |name: &str| format!("{name} {}", sources.join(" "));
    if name == "default-src" {
        let written = written("script-src");
        directives.push(format!(" {written}"));
        if directives[directives.len() - 2].trim().is_empty() {
            directives.swap_remove(directives.len() - 2);
        }
    } else {
        let lead = if directives[at].starts_with(' ') {
            " "
        } else {
            ""
        };
        let written = written(name);
        directives[at] = format!("{lead}{written}");
    }
    directives.join(";")
}

/// Lets the shim run first in a worker, where a directive of their own says what may.
fn with_workers(policy: &str) -> String {
    let named = |wanted: &'static str| {
        policy.split(';').find(|directive| {
            let name = directive.split_ascii_whitespace().next();
            name.is_some_and(|name| name.eq_ignore_ascii_case(wanted))
        })
    };
    let mut ruling = ["worker-src", "child-src"].into_iter().filter_map(named);
    let Some(directive) = ruling.next() else {
        return policy.to_owned();
    };
    let mut sources = directive.split_ascii_whitespace().skip(1);
    // With `'none'` there are none.
    let is_open = |source: &str| {
        ["*", SELF, "'none'"]
            .iter()
            .any(|it| source.eq_ignore_ascii_case(it))
    };
    if sources.any(is_open) {
        return policy.to_owned();
    }
    policy.replacen(directive, &format!("{} {SELF}", directive.trim_end()), 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prefix::Siblings;

    #[test]
    fn a_policy_is_loosened_by_one_hash_and_its_own_origin() {
        for (before, after) in [
            ("img-src 'self'", "img-src 'self'"),
            ("script-src 'self'", "script-src 'self' 'H'"),
            (
                "default-src 'self'; img-src *",
                "default-src 'self'; img-src *; script-src 'self' 'H'",
            ),
            (
                "default-src 'self';",
                "default-src 'self'; script-src 'self' 'H'",
            ),
            ("script-src 'none'", "script-src 'self' 'H'"),
            ("script-src", "script-src 'self' 'H'"),
            (
                "script-src 'self' 'unsafe-inline'",
                "script-src 'self' 'unsafe-inline'",
            ),
            (
                "script-src 'unsafe-inline'",
                "script-src 'unsafe-inline' 'self'",
            ),
            (
                "script-src 'unsafe-inline' 'sha256-x'",
                "script-src 'unsafe-inline' 'sha256-x' 'self' 'H'",
            ),
            ("script-src *", "script-src * 'H'"),
            (
                "script-src *; worker-src blob:; child-src x",
                "script-src * 'H'; worker-src blob: 'self'; child-src x",
            ),
            ("child-src blob:", "child-src blob: 'self'"),
            ("worker-src 'none'", "worker-src 'none'"),
            (
                "script-src 'self'; script-src-elem https://cdn.example.org",
                "script-src 'self'; script-src-elem https://cdn.example.org 'self' 'H'",
            ),
            (
                "SCRIPT-SRC 'self', script-src 'self' 'H'",
                "script-src 'self' 'H', script-src 'self' 'H' 'H'",
            ),
        ] {
            let told = loosened(before, &Prefixer::example(), Some("'H'"));
            assert_eq!(told.policy, after, "{before}");
            assert_eq!(told.nonce, None);
            assert!(!after.contains("'unsafe-inline'") || before.contains("'unsafe-inline'"));
        }
    }

    #[test]
    fn a_nonce_is_all_that_is_needed() {
        let policy = "script-src 'nonce-abc' 'strict-dynamic'; object-src 'none'";
        let told = loosened(policy, &Prefixer::example(), Some("'H'"));
        assert_eq!(
            (told.policy.as_str(), told.nonce.as_deref()),
            (policy, Some("abc"))
        );
    }

    #[test]
    fn origins_of_the_server_are_those_that_the_browser_sees() {
        for (before, after) in [
            (
                "connect-src ws://localhost:5173 https://api.example.org",
                Some("connect-src https://api.example.org 'self'"),
            ),
            (
                "connect-src 'self' localhost:8000",
                Some("connect-src 'self'"),
            ),
            (
                "img-src data: *; report-uri /csp",
                Some("img-src data: *; report-uri /port/5173/csp"),
            ),
            ("connect-src ws: https://example.org", None),
            ("sandbox allow-scripts", None),
        ] {
            assert_eq!(
                sources(before, &Prefixer::example()).as_deref(),
                after,
                "{before}"
            );
        }
        let named = Prefixer {
            prefix: String::new(),
            siblings: Siblings::Host {
                before: String::new(),
                after: "--s.example.org".into(),
            },
            front: "5173--s.example.org".into(),
            ..Prefixer::example()
        };
        assert_eq!(
            sources("connect-src ws://localhost:8000", &named).as_deref(),
            Some("connect-src 8000--s.example.org")
        );
    }
}
