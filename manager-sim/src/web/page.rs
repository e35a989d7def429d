//! The two pages of a user: that of their sessions, and that of their dev servers.

use hpc_proxy::answer::escape;
use jiff::Timestamp;

use super::{Live, Page, document, form};
use crate::{
    names::{ClusterName, UserName},
    sessions::Terms,
    sign_in::sign_out_form,
};

const WITHOUT_KEY: &str = "<p class=\"note\">The buttons do nothing here: this program does not say \
    whether a person opens the page, as all current browsers do.</p>\n";
/// What a person is asked before a job is cancelled; the script shows it.
const CONFIRM: &str = "<dialog id=\"confirm\" aria-labelledby=\"confirm-title\" aria-describedby=\"confirm-text\">\
    <h2 id=\"confirm-title\">Cancel this session?</h2><p id=\"confirm-text\">Its job ends, and with it \
    the IDE and all dev servers. What is not saved is lost.</p>\
    <form method=\"dialog\" class=\"actions\"><button value=\"keep\" autofocus>Keep it</button> \
    <button value=\"cancel\" class=\"danger\">Cancel the session</button></form></dialog>\n";

/// What a user's pages show.
#[derive(Debug)]
pub struct Shown<'a> {
    /// Whose they are.
    pub user: &'a UserName,
    /// Whether they sign out here: who is known by a front signs out there.
    pub signs_out: bool,
    /// Shows of a page's scripts that they are its own; without it they can do nothing.
    pub key: Option<&'a str>,
    /// How the sessions stand.
    pub live: Live<'a>,
    /// What may be asked for.
    pub terms: &'a Terms,
    /// The clusters to choose from.
    pub clusters: &'a [ClusterName],
}

/// The page of the sessions. `address` is that of a port on a host of its own, where there are such.
pub fn page(shown: &Shown<'_>, address: &dyn Fn(u16) -> Option<String>) -> Page {
    let title = format!("{}'s sessions", shown.user);
    let body = [
        shown.live.html(address),
        form::launch(shown.terms, shown.clusters),
        CONFIRM.to_owned(),
    ];
    framed(shown, &title, &body.concat())
}

/// The page of the selected session's dev servers.
pub fn ports(shown: &Shown<'_>, address: &dyn Fn(u16) -> Option<String>) -> Page {
    let title = format!("{}'s dev servers", shown.user);
    framed(shown, &title, &shown.live.servers(address))
}

fn framed(shown: &Shown<'_>, title: &str, parts: &str) -> Page {
    let head = format!(
        "{}<script src=\"/assets/manager.js\" defer></script>\
         <noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>",
        shown.key.map_or_else(String::new, |key| format!(
            "<meta name=\"hpc-manager-page\" content=\"{}\">",
            escape(key)
        )),
    );
    let body = format!(
        "<header><h1>{}</h1><nav aria-label=\"Pages\"><a href=\"/\">Sessions</a> \
         <a href=\"/port/\">Dev servers</a></nav>{}</header>\n\
         <main data-now=\"{}\">{}<p id=\"connection\" role=\"status\"></p>\n{parts}</main>",
        escape(title),
        if shown.signs_out {
            sign_out_form(shown.key)
        } else {
            String::new()
        },
        Timestamp::now().as_second(),
        if shown.key.is_some() { "" } else { WITHOUT_KEY },
    );
    document(title, &head, &body)
}
