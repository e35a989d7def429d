//! The list of a session's dev servers: port, title, program.

use std::fmt::Write as _;

use hpc_proxy::{answer::escape, ports::Listening};

use crate::{session::PhaseName, state::State};

/// Nobody reads a longer list, and a page stays small.
const MOST_SHOWN: usize = 100;
/// Longest title that is shown, in characters.
const LONGEST_TITLE: usize = 120;

/// Servers of the session first; others of the same user on that node are reachable as well.
pub(super) fn section(
    state: &State,
    servers: Option<&[Listening]>,
    address: &dyn Fn(u16) -> Option<String>,
) -> String {
    let list = match servers {
        Some(servers) => list(servers, address),
        None if state.phase == PhaseName::Connected => {
            "<p>They cannot be listed yet; this page tries again by itself. Those that you know the \
             port of are at <code>/port/N/</code>.</p>\n"
                .to_owned()
        }
        None => "<p>They are listed here once a session is connected.</p>\n".to_owned(),
    };
    format!(
        "<section id=\"servers\" data-live aria-labelledby=\"servers-title\">\
         <h2 id=\"servers-title\">Dev servers</h2>\n{list}</section>\n"
    )
}

fn list(servers: &[Listening], address: &dyn Fn(u16) -> Option<String>) -> String {
    let (own, other): (Vec<_>, Vec<_>) = servers.iter().partition(|server| server.in_session);
    let mut html = if own.is_empty() {
        "<p>None yet. Start one in VS Code's terminal; it shows up here.</p>\n".to_owned()
    } else {
        links(&own, address)
    };
    if !other.is_empty() {
        let _ = write!(
            html,
            "<details data-key=\"elsewhere\"><summary>Outside this session, on the same node: {}</summary>\n{}</details>\n",
            other.len(),
            links(&other, address)
        );
    }
    html
}

fn links(servers: &[&Listening], address: &dyn Fn(u16) -> Option<String>) -> String {
    let item = |server: &&Listening| {
        let port = server.port;
        let title = server.title.as_deref().map(short).unwrap_or_default();
        let process = server.process.as_deref().map(escape).unwrap_or_default();
        let own = address(port).map_or_else(String::new, |address| {
            format!(
                " <a href=\"{}\">on a host of its own<span class=\"unseen\">: port {port}</span></a>",
                escape(&address)
            )
        });
        format!(
            "<li data-key=\"{port}\"><a class=\"server\" href=\"/port/{port}/\"><span class=\"port\">{port}</span> \
             {title}</a> <span class=\"program\">{process}</span>{own}</li>\n"
        )
    };
    let items: String = servers.iter().take(MOST_SHOWN).map(item).collect();
    let more = servers.len().saturating_sub(MOST_SHOWN);
    let more = match more {
        0 => String::new(),
        _ => format!("<p>And {more} more.</p>\n"),
    };
    format!("<ul class=\"servers\">\n{items}</ul>\n{more}")
}

fn short(title: &str) -> String {
    let mut short: String = title.chars().take(LONGEST_TITLE).collect();
    if short.len() < title.len() {
        short.push('\u{2026}');
    }
    escape(&short)
}
