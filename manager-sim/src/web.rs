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

use crate::{
    names::{ClusterName, UserName},
    problem::in_words,
    sessions::Terms,
    sign_in::sign_out_form,
    state::State,
};

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

/// What the user's page shows.
#[derive(Debug)]
pub struct Shown<'a> {
    /// Whose it is.
    pub user: &'a UserName,
    /// Whether they sign out here: who is known by a front signs out there.
    pub signs_out: bool,
    /// Shows of the page's scripts that they are its own; without it they can do nothing.
    pub key: Option<&'a str>,
    /// The session that serves this browser.
    pub selected: &'a State,
    /// All of them, the newest first.
    pub sessions: &'a [State],
    /// The selected one's servers; nothing where they cannot be listed now.
    pub servers: Option<&'a [Listening]>,
    /// What may be asked for.
    pub terms: &'a Terms,
    /// The clusters to choose from.
    pub clusters: &'a [ClusterName],
}

/// The user's page. `address` is that of a port on a host of its own, where there are such.
pub fn page(shown: &Shown<'_>, address: impl Fn(u16) -> Option<String>) -> Page {
    let Shown {
        user,
        selected,
        key,
        ..
    } = shown;
    let list = |servers| list(servers, &address);
    let body = [
        session(selected),
        shown.servers.map(list).unwrap_or_default(),
        others(shown),
    ]
    .concat();
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">{mark}<title>{user}'s session</title>\
         <link rel=\"stylesheet\" href=\"/assets/manager.css\">\
         <script src=\"/assets/manager.js\" defer></script>\
         <noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript></head>\n\
         <body><h1>{user}'s session</h1>\n<main id=\"state\" data-phase=\"{phase}\">{body}</main>\
         {form}{note}{sign_out}</body></html>\n",
        phase = selected.phase,
        form = launch_form(shown.terms, shown.clusters),
        mark = key.map_or_else(String::new, |key| format!(
            "<meta name=\"hpc-manager-page\" content=\"{}\">",
            escape(key)
        )),
        note = if key.is_some() { "" } else { WITHOUT_KEY },
        sign_out = if shown.signs_out {
            sign_out_form(*key)
        } else {
            String::new()
        },
    );
    ("text/html; charset=utf-8", html)
}

fn session(state: &State) -> String {
    format!(
        "<p class=\"phase\">{}</p>\n{}{}",
        in_words(state.phase),
        facts(state),
        actions(state)
    )
}

fn facts(state: &State) -> String {
    let cluster = state.cluster.as_ref().map(ToString::to_string);
    let facts = [
        ("Cluster", cluster),
        ("Job", state.job.clone()),
        ("Node", state.node.clone()),
        ("Slurm", state.reason.clone()),
        ("Time left", state.seconds_left.map(span)),
        (
            "Idle for",
            state.seconds_idle.filter(|idle| *idle >= 60).map(span),
        ),
    ];
    let shown = facts.into_iter().filter_map(|(name, fact)| {
        let fact = fact?;
        Some(format!("<p class=\"fact\">{name}: {}</p>\n", escape(&fact)))
    });
    shown.collect()
}

/// Hours and minutes: a page that is looked at each second changes once a minute.
fn span(seconds: u64) -> String {
    let minutes = seconds / 60;
    format!("{} h {:02} min", minutes / 60, minutes % 60)
}

fn actions(state: &State) -> String {
    let (mut html, mut links) = (String::new(), Vec::new());
    // Named, so that it is this one's even where another serves the browser.
    let named = state
        .id
        .as_ref()
        .map_or_else(String::new, |id| format!("/s/{id}"));
    if let Some(ide) = &state.ide {
        let ide = escape(&format!("{named}{ide}"));
        links.push(format!("<a class=\"ide\" href=\"{ide}\">Open VS Code</a>"));
    }
    if let Some(id) = &state.id {
        let path = format!("/api/v1/sessions/{id}");
        if state.job.is_some() {
            links.push(format!("<a href=\"/log/{id}\">Log</a>"));
        }
        if state.is_alive() {
            links.push(format!(
                "<button data-method=\"DELETE\" data-path=\"{path}\">Cancel</button>"
            ));
        }
    }
    if !links.is_empty() {
        html = format!("<p>{}</p>\n", links.join(" "));
    }
    html
}

/// The sessions that do not serve this browser.
fn others(shown: &Shown<'_>) -> String {
    let others = shown
        .sessions
        .iter()
        .filter(|it| it.id != shown.selected.id);
    let item = |state: &State| {
        let choose = match &state.id {
            Some(id) if state.is_alive() => {
                format!(" <a href=\"/s/{id}/\">Show its dev servers</a>")
            }
            _ => String::new(),
        };
        format!(
            "<li data-phase=\"{}\">{}{choose}\n{}{}</li>\n",
            state.phase,
            in_words(state.phase),
            facts(state),
            actions(state)
        )
    };
    let items: String = others.map(item).collect();
    if items.is_empty() {
        items
    } else {
        format!("<h2>Other sessions</h2>\n<ul>\n{items}</ul>\n")
    }
}

/// What a new session is to have; what is left empty is as usual.
fn launch_form(terms: &Terms, clusters: &[ClusterName]) -> String {
    let (usual, limits) = (&terms.resources, &terms.limits);
    let text = |name: &str, label: &str, usual: Option<String>| {
        let usual = usual.unwrap_or_default();
        format!(
            "<label>{label} <input name=\"{name}\" placeholder=\"{}\"></label>\n",
            escape(&usual)
        )
    };
    let choice = |name: &str, label: &str, all: Vec<String>| {
        let option = |it: &String| format!("<option>{}</option>", escape(it));
        let all: String = all.iter().map(option).collect();
        format!(
            "<label>{label} <select name=\"{name}\"><option value=\"\">as usual</option>{all}</select></label>\n"
        )
    };
    let names = |all: &[crate::names::PartitionName]| all.iter().map(ToString::to_string).collect();
    let mut fields = String::new();
    if clusters.len() > 1 {
        let all = clusters.iter().map(ToString::to_string).collect();
        fields += &choice("cluster", "Cluster", all);
    }
    fields += &if limits.partitions.is_empty() {
        let usual = usual.partition.as_ref().map(ToString::to_string);
        text("partition", "Partition", usual)
    } else {
        choice("partition", "Partition", names(&limits.partitions))
    };
    fields += &text("time", "Time", Some(usual.time.to_string()));
    fields += &format!(
        "<label>Processors <input name=\"cpus\" type=\"number\" min=\"1\"{} placeholder=\"{}\"></label>\n",
        limits
            .cpus
            .map_or_else(String::new, |most| format!(" max=\"{most}\"")),
        usual.cpus
    );
    fields += &text(
        "mem",
        "Memory",
        usual.memory.as_ref().map(ToString::to_string),
    );
    fields += &text("gres", "GPUs and the like", None);
    fields += &text("account", "Account", None);
    fields += &text("node", "Node", None);
    for name in &limits.options {
        fields += &text(&format!("options.{name}"), &format!("--{name}"), None);
    }
    format!(
        "<form id=\"launch\"><h2>New session</h2>\n<details><summary>Options</summary>\n{fields}</details>\n\
         <p><button>Launch</button> <output role=\"alert\"></output></p></form>\n"
    )
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
    use crate::{job::script::Script, session::PhaseName};

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

    fn terms() -> Terms {
        Terms {
            script: Script::default(),
            kind: crate::job::script::IdeKind::Vscode,
            resources: crate::job::Resources::plain("4:00:00".parse().unwrap()),
            limits: crate::wish::Limits {
                partitions: vec!["gpu".parse().unwrap()],
                options: vec!["constraint".parse().unwrap()],
                ..crate::wish::Limits::default()
            },
            max_sessions: 4,
            idle_timeout: None,
        }
    }

    fn render(state: &State, servers: Option<&[Listening]>) -> String {
        render_all(state, std::slice::from_ref(state), servers)
    }

    fn render_all(selected: &State, sessions: &[State], servers: Option<&[Listening]>) -> String {
        let address = |port| Some(format!("http://{port}--7.localhost/"));
        let shown = Shown {
            user: &"alice".parse().unwrap(),
            signs_out: true,
            key: Some("ab"),
            selected,
            sessions,
            servers,
            terms: &terms(),
            clusters: &[],
        };
        page(&shown, address).1
    }

    #[test]
    fn several_sessions_are_told_apart() {
        let state = |id: &str, job: &str| State {
            id: Some(id.parse().unwrap()),
            phase: PhaseName::Connected,
            job: Some(job.into()),
            ide: Some("/code/?tkn=ab".into()),
            seconds_left: Some(3700),
            seconds_idle: Some(30),
            ..State::default()
        };
        let (first, second) = (state("aaaaaaaa", "7"), state("bbbbbbbb", "8"));
        let html = render_all(&second, &[second.clone(), first], None);
        for (id, shown) in [("aaaaaaaa", 1), ("bbbbbbbb", 0)] {
            let links = html.matches(&format!("href=\"/s/{id}/\"")).count();
            assert_eq!(links, shown, "{html}");
            for link in [
                format!("href=\"/s/{id}/code/?tkn=ab\""),
                format!("href=\"/log/{id}\""),
                format!("data-path=\"/api/v1/sessions/{id}\""),
            ] {
                assert_eq!(html.matches(&link).count(), 1, "{link}: {html}");
            }
        }
        assert!(html.contains("Time left: 1 h 01 min") && !html.contains("Idle for"));
        assert!(
            html.contains("<option>gpu</option>") && html.contains("name=\"options.constraint\"")
        );
    }

    #[test]
    fn a_connected_session_shows_its_servers_and_its_ide() {
        let state = State {
            id: Some("aaaaaaaa".parse().unwrap()),
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
        assert!(html.contains("href=\"/s/aaaaaaaa/code/?tkn=ab\""));
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
