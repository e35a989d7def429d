//! The manager's own page, rendered on this side, and its two assets. The page can be read without
//! scripts; its buttons need them, since only a script can send [`crate::origin::PAGE_FIELD`].

use bytes::Bytes;
use hpc_proxy::{answer::escape, ports::Listening};
use http::{
    HeaderMap, HeaderValue, Response,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
    },
};

use crate::{names::UserName, problem::in_words, sign_in::sign_out_form, state::State};

const SCRIPT: &str = include_str!("web/manager.js");
const STYLE: &str = include_str!("web/manager.css");
const WITHOUT_KEY: &str = "<p class=\"fact\">The buttons do nothing here: this program does not say \
    whether a person opens the page, as all current browsers do.</p>\n";

/// A page or asset: its media type and text.
pub type Page = (&'static str, String);

/// An asset by its path.
pub fn asset(path: &str) -> Option<Page> {
    match path {
        "/assets/manager.js" => Some(("text/javascript; charset=utf-8", SCRIPT.to_owned())),
        "/assets/manager.css" => Some(("text/css; charset=utf-8", STYLE.to_owned())),
        _ => None,
    }
}

/// The user's page. `servers` is nothing where they cannot be listed now; `address` is that of a port
/// on a host of its own, where there are such. Who is known by a front signs out there. `key` shows of
/// the page's scripts that they are its own; without it they can do nothing.
pub fn page(
    user: &UserName,
    signs_out: bool,
    key: Option<&str>,
    state: &State,
    servers: Option<&[Listening]>,
    address: impl Fn(u16) -> Option<String>,
) -> Page {
    let list = |servers| list(servers, &address);
    let body = [session(state), servers.map(list).unwrap_or_default()].concat();
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">{mark}<title>{user}'s session</title>\
         <link rel=\"stylesheet\" href=\"/assets/manager.css\">\
         <script src=\"/assets/manager.js\" defer></script>\
         <noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript></head>\n\
         <body><h1>{user}'s session</h1>\n<main id=\"state\" data-phase=\"{phase}\">{body}</main>\
         {note}{sign_out}</body></html>\n",
        phase = state.phase,
        mark = key.map_or_else(String::new, |key| format!(
            "<meta name=\"hpc-manager-page\" content=\"{}\">",
            escape(key)
        )),
        note = if key.is_some() { "" } else { WITHOUT_KEY },
        sign_out = if signs_out {
            sign_out_form(key)
        } else {
            String::new()
        },
    );
    ("text/html; charset=utf-8", html)
}

fn session(state: &State) -> String {
    let mut html = format!("<p class=\"phase\">{}</p>\n", in_words(state.phase));
    let facts = [
        ("Job", state.job.clone()),
        ("Node", state.node.clone()),
        ("Slurm", state.reason.clone()),
    ];
    for (name, fact) in facts {
        if let Some(fact) = fact {
            html += &format!("<p class=\"fact\">{name}: {}</p>\n", escape(&fact));
        }
    }
    if let Some(ide) = &state.ide {
        html += &format!(
            "<p><a class=\"ide\" href=\"{}\">Open VS Code</a></p>\n",
            escape(ide)
        );
    }
    let (method, label) = if state.is_alive() {
        ("DELETE", "Cancel")
    } else {
        ("POST", "Launch")
    };
    html + &format!("<p><button data-method=\"{method}\">{label}</button></p>\n")
}

/// Servers of the session first; others of the same user on that node are reachable as well.
fn list(servers: &[Listening], address: &dyn Fn(u16) -> Option<String>) -> String {
    let (own, other): (Vec<_>, Vec<_>) = servers.iter().partition(|server| server.in_session);
    let mut html = "<h2>Dev servers</h2>\n".to_owned();
    if own.is_empty() {
        html += "<p>None yet. Start one in VS Code's terminal; it shows up here.</p>\n";
    }
    html += &links(&own, address);
    if !other.is_empty() {
        html += &format!(
            "<details><summary>Outside this session, on the same node</summary>\n{}</details>\n",
            links(&other, address)
        );
    }
    html
}

fn links(servers: &[&Listening], address: &dyn Fn(u16) -> Option<String>) -> String {
    let item = |server: &&Listening| {
        let process = server.process.as_deref().map(escape).unwrap_or_default();
        let port = server.port;
        let own = address(port).map_or_else(String::new, |address| {
            format!(" <a href=\"{}\">on a host of its own</a>", escape(&address))
        });
        format!("<li><a href=\"/port/{port}/\">/port/{port}/</a> {process}{own}</li>\n")
    };
    let items: String = servers.iter().map(item).collect();
    if items.is_empty() {
        items
    } else {
        format!("<ul>\n{items}</ul>\n")
    }
}

/// A page or asset as a response that nobody keeps and no foreign page shows.
pub fn response((media_type, text): Page) -> Response<Bytes> {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
        connect-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; \
        base-uri 'none'";
    let mut response = Response::new(Bytes::from(text));
    for (name, value) in [
        (CONTENT_TYPE, media_type),
        (CACHE_CONTROL, "no-store"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        // The link to the IDE carries its token.
        (REFERRER_POLICY, "same-origin"),
    ] {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Keeps what is the manager's own from pages of other origins (Fetch, section 3.7), and, unless it only
/// `leads_on`, its window from the pages that open it, those of dev servers at its origin among them
/// (HTML, section 7.1.3).
pub fn set_apart(headers: &mut HeaderMap, leads_on: bool) {
    const SAME_ORIGIN: HeaderValue = HeaderValue::from_static("same-origin");
    headers.insert("cross-origin-resource-policy", SAME_ORIGIN);
    if !leads_on {
        headers.insert("cross-origin-opener-policy", SAME_ORIGIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::PhaseName;

    fn server(port: u16, process: &str, in_session: bool) -> Listening {
        let (address, process) = ("127.0.0.1".to_owned(), Some(process.to_owned()));
        Listening {
            port,
            address,
            process,
            pid: Some(1),
            in_session,
            ..Listening::default()
        }
    }

    fn render(state: &State, servers: Option<&[Listening]>) -> String {
        let address = |port| Some(format!("http://{port}--7.localhost/"));
        page(
            &"alice".parse().unwrap(),
            true,
            Some("ab"),
            state,
            servers,
            address,
        )
        .1
    }

    #[test]
    fn a_connected_session_shows_its_servers_and_its_ide() {
        let state = State {
            phase: PhaseName::Connected,
            job: Some("7".into()),
            ide: Some("/code/?tkn=ab".into()),
            ..State::default()
        };
        let html = render(
            &state,
            Some(&[server(5500, "node", true), server(3000, "vite", false)]),
        );
        assert!(html.contains("<a href=\"/port/5500/\">/port/5500/</a> node"));
        assert!(html.contains("href=\"http://5500--7.localhost/\""));
        assert!(html.contains("href=\"/code/?tkn=ab\""));
        assert!(html.contains(">Cancel<"));
        assert!(html.find("/port/5500/") < html.find("Outside this session"));
        assert!(html.find("Outside this session") < html.find("/port/3000/"));
    }

    #[test]
    fn an_ended_session_can_be_launched_again() {
        for phase in [PhaseName::None, PhaseName::Ended] {
            let html = render(
                &State {
                    phase,
                    ..State::default()
                },
                None,
            );
            assert!(
                html.contains(">Launch<") && !html.contains(">Cancel<"),
                "{phase:?}"
            );
        }
    }

    // S25: a process or a scheduler may call itself anything.
    #[test]
    fn foreign_words_cannot_become_markup() {
        let state = State {
            reason: Some("<script>\"'&".into()),
            ..State::default()
        };
        let html = render(&state, Some(&[server(1, "<img onerror=x>", true)]));
        assert!(
            html.contains("&lt;script&gt;") && html.contains("&lt;img"),
            "{html}"
        );
        assert!(!html.contains("<img"), "{html}");
    }
}
