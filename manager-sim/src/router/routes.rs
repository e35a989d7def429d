//! Every route of the API, in one table: nothing is served below `/api/` that is not in it, and
//! `openapi.json` documents each.

use crate::problem::Problem;

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// Tells this document.
    Document,
    /// Tells of sessions and dev servers whenever they change.
    Events,
    /// Lists the dev servers of the browser's session.
    Ports,
    /// Tells how the browser's session stands.
    Selected,
    /// Launches a session if none lives.
    LaunchOne,
    /// Cancels the browser's session.
    CancelSelected,
    /// Lists the sessions.
    List,
    /// Launches another session.
    Launch,
    /// Tells how a session stands.
    Show,
    /// Cancels a session.
    Cancel,
    /// Shows what a session's job has printed.
    Log,
}

/// A path, where `{id}` stands for a segment, and its methods. `HEAD` goes with `GET` (RFC 9110 section
/// 9.3.2).
#[derive(Debug)]
pub struct Route {
    /// The path.
    pub path: &'static str,
    /// What each method does.
    pub methods: &'static [(&'static str, Endpoint)],
    /// The methods as `Allow` has them.
    pub allow: &'static str,
}

/// All routes.
pub const ROUTES: [Route; 7] = [
    Route {
        path: "/api/v1/events",
        methods: &[("GET", Endpoint::Events)],
        allow: "GET, HEAD",
    },
    Route {
        path: "/api/v1/openapi.json",
        methods: &[("GET", Endpoint::Document)],
        allow: "GET, HEAD",
    },
    Route {
        path: "/api/v1/ports",
        methods: &[("GET", Endpoint::Ports)],
        allow: "GET, HEAD",
    },
    Route {
        path: "/api/v1/session",
        methods: &[
            ("GET", Endpoint::Selected),
            ("POST", Endpoint::LaunchOne),
            ("DELETE", Endpoint::CancelSelected),
        ],
        allow: "GET, HEAD, POST, DELETE",
    },
    Route {
        path: "/api/v1/sessions",
        methods: &[("GET", Endpoint::List), ("POST", Endpoint::Launch)],
        allow: "GET, HEAD, POST",
    },
    Route {
        path: "/api/v1/sessions/{id}",
        methods: &[("GET", Endpoint::Show), ("DELETE", Endpoint::Cancel)],
        allow: "GET, HEAD, DELETE",
    },
    Route {
        path: "/api/v1/sessions/{id}/log",
        methods: &[("GET", Endpoint::Log)],
        allow: "GET, HEAD",
    },
];

/// The route that `path` takes, and the session that it names, if it names one.
pub fn find(path: &str) -> Option<(&'static Route, &str)> {
    ROUTES
        .iter()
        .find_map(|route| Some((route, named(route.path, path)?)))
}

impl Route {
    /// What `method` does here.
    ///
    /// # Errors
    /// When the route does not take it.
    pub fn endpoint(&self, method: &[u8]) -> Result<Endpoint, Problem> {
        let method = if method == b"HEAD" { b"GET" } else { method };
        let mut all = self.methods.iter();
        let found = all.find(|(name, _)| name.as_bytes() == method);
        let allowed = self.allow;
        found.map_or(Err(Problem::Method { allowed }), |(_, endpoint)| {
            Ok(*endpoint)
        })
    }
}

fn named<'a>(template: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, after)) = template.split_once("{id}") else {
        return (template == path).then_some("");
    };
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_takes_one_route() {
        let found = |path| find(path).map(|(route, id)| (route.path, id));
        let of = "/api/v1/sessions/{id}";
        assert_eq!(found("/api/v1/sessions/abc"), Some((of, "abc")));
        let log = "/api/v1/sessions/{id}/log";
        assert_eq!(found("/api/v1/sessions/abc/log"), Some((log, "abc")));
        assert_eq!(found("/api/v1/session").unwrap(), ("/api/v1/session", ""));
        for path in [
            "/api",
            "/api/v1",
            "/api/v1/sessions/",
            "/api/v1/sessions//log",
            "/api/v1/sessions/a/b",
            "/api/v1/session/",
            "/api/v1/sessionsx",
        ] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn allow_names_the_methods() {
        for route in &ROUTES {
            let mut methods: Vec<_> = route.methods.iter().map(|(name, _)| *name).collect();
            methods.insert(1, "HEAD");
            assert_eq!(methods.join(", "), route.allow, "{}", route.path);
        }
    }
}
