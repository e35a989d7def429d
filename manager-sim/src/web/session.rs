//! One session as a person sees it: how far it is, why, and what can be done.

use std::fmt::Write as _;

use hpc_proxy::answer::escape;

use super::words;
use crate::{problem::in_words, session::PhaseName, state::State};

/// The steps of a launch, and how many of them are done in each phase.
const STEPS: [&str; 5] = [
    "Submit",
    "Wait for a turn",
    "Start",
    "Open the tunnel",
    "Ready",
];

/// The session that serves this browser.
pub(super) fn selected(state: &State) -> String {
    format!(
        "<section id=\"session\" data-live data-phase=\"{}\" aria-labelledby=\"session-title\">\
         <h2 id=\"session-title\">{}</h2>\n{}</section>\n",
        state.phase,
        title(state),
        body(state, true)
    )
}

/// The sessions that do not serve this browser: those that live, and those that have ended.
pub(super) fn others(selected: &State, sessions: &[State]) -> String {
    let others = sessions.iter().filter(|it| it.id != selected.id);
    let (alive, over): (Vec<_>, Vec<_>) = others.partition(|it| it.is_alive());
    let items = |all: &[&State]| all.iter().map(|it| item(it)).collect::<String>();
    let mut html = "<section id=\"others\" data-live aria-label=\"Other sessions\">".to_owned();
    if !alive.is_empty() {
        let _ = write!(html, "<h2>Other sessions</h2>\n{}", items(&alive));
    }
    if !over.is_empty() {
        let _ = write!(
            html,
            "<h2 data-key=\"ended\">Ended before</h2>\n<details data-key=\"over\"><summary>{} ended</summary>\n{}</details>",
            match over.len() {
                1 => "1 session".to_owned(),
                more => format!("{more} sessions"),
            },
            items(&over)
        );
    }
    html + "</section>\n"
}

fn item(state: &State) -> String {
    let id = state.id.as_ref().map(ToString::to_string);
    format!(
        "<article data-key=\"{}\" data-phase=\"{}\"><h3>{}</h3>\n{}</article>\n",
        id.unwrap_or_default(),
        state.phase,
        title(state),
        body(state, false)
    )
}

fn title(state: &State) -> String {
    let place = match (&state.job, &state.node) {
        (Some(job), Some(node)) => format!("Job {job} on {node}"),
        (Some(job), None) => format!("Job {job}"),
        _ if state.phase == PhaseName::None => "No session yet".to_owned(),
        _ => "Session without a job".to_owned(),
    };
    escape(&place)
}

fn body(state: &State, is_selected: bool) -> String {
    // One voice is enough: others change without being read out.
    let role = if is_selected { " role=\"status\"" } else { "" };
    let said = words::of(state).map_or_else(String::new, |(what, next)| {
        format!("<p class=\"why\">{} {}</p>\n", escape(&what), escape(&next))
    });
    let trouble = state.trouble.as_ref().map_or_else(String::new, |trouble| {
        let trouble = escape(trouble);
        if state.phase == PhaseName::Ended {
            return format!("<p class=\"trouble\"><strong>Its last words:</strong> {trouble}</p>\n");
        }
        format!(
            "<p class=\"trouble\"><strong>Trouble:</strong> {trouble}. The manager tries again by itself; your \
             job is not touched.</p>\n"
        )
    });
    format!(
        "<div{role}><p class=\"phase\">{}</p>\n{said}{trouble}</div>\n{}{}{}{}",
        if is_all(state) {
            "Your session runs."
        } else {
            in_words(state.phase)
        },
        progress(state),
        facts(state),
        actions(state, is_selected),
        log(state)
    )
}

/// Whether it is as far as it gets: its IDE is not reached through here.
pub(super) fn is_all(state: &State) -> bool {
    state.phase == PhaseName::Running && !state.has_proxy
}

/// How far a launch is, and since when it goes on.
fn progress(state: &State) -> String {
    if is_all(state) {
        return String::new();
    }
    let done = match state.phase {
        PhaseName::Submitted => match state.job {
            None => 0,
            Some(_) => 1,
        },
        PhaseName::Pending => 1,
        PhaseName::Running => 2,
        PhaseName::Listening => 3,
        PhaseName::None | PhaseName::Connected | PhaseName::Cancelling | PhaseName::Ended => {
            return String::new();
        }
    };
    let step = |(number, name): (usize, &&str)| match number {
        _ if number < done => {
            format!("<li class=\"done\">{name}<span class=\"unseen\">: done</span></li>")
        }
        _ if number == done => format!("<li aria-current=\"step\">{name}</li>"),
        _ => format!("<li>{name}</li>"),
    };
    let steps: String = STEPS.iter().enumerate().map(step).collect();
    let since = state.created.map_or_else(String::new, |created| {
        format!(
            " <span>launched <time data-since=\"{}\" datetime=\"{created}\">at {} UTC</time></span>",
            created.as_second(),
            created.strftime("%H:%M:%S")
        )
    });
    format!(
        "<div class=\"launching\"><ol class=\"steps\">{steps}</ol>\n\
         <p><progress max=\"{}\" value=\"{done}\" aria-label=\"Launch\"></progress>{since}</p></div>\n",
        STEPS.len() - 1
    )
}

fn facts(state: &State) -> String {
    let cluster = state.cluster.as_ref().map(ToString::to_string);
    let facts = [
        ("Cluster", cluster),
        ("IDE", state.has_choice.then(|| state.ide_title.clone())),
        ("Job", state.job.clone()),
        ("Node", state.node.clone()),
        ("Time left", state.seconds_left.map(span)),
        (
            "Idle for",
            state.seconds_idle.filter(|idle| *idle >= 60).map(span),
        ),
    ];
    let shown = facts.into_iter().filter_map(|(name, fact)| {
        let fact = escape(&fact?);
        Some(format!(
            "<div data-key=\"{name}\"><dt>{name}</dt><dd>{fact}</dd></div>\n"
        ))
    });
    let shown: String = shown.collect();
    if shown.is_empty() {
        return shown;
    }
    format!("<dl class=\"facts\">\n{shown}</dl>\n")
}

/// Hours and minutes: a page that is looked at each second changes once a minute.
fn span(seconds: u64) -> String {
    let minutes = seconds / 60;
    format!("{} h {:02} min", minutes / 60, minutes % 60)
}

fn actions(state: &State, is_selected: bool) -> String {
    let Some(id) = &state.id else {
        return String::new();
    };
    // A name says which is meant where several sessions have the same links.
    let which = state.job.as_ref().map_or_else(String::new, |job| {
        format!("<span class=\"unseen\"> of job {}</span>", escape(job))
    });
    let mut actions = Vec::new();
    if let Some(ide) = &state.ide {
        // Named, so that it is this one's even where another serves the browser.
        let ide = escape(&format!("/s/{id}{ide}"));
        let title = escape(&state.ide_title);
        actions.push(format!(
            "<a class=\"ide button\" href=\"{ide}\">Open {title}{which}</a>"
        ));
    }
    if !is_selected && state.is_alive() {
        actions.push(format!(
            "<a class=\"button\" href=\"/s/{id}/\">Show its dev servers</a>"
        ));
    }
    if state.is_alive() && state.phase != PhaseName::Cancelling {
        actions.push(format!(
            "<button data-method=\"DELETE\" data-path=\"/api/v1/sessions/{id}\">Cancel{which}</button>"
        ));
    }
    if actions.is_empty() {
        return String::new();
    }
    format!(
        "<p class=\"actions\" data-key=\"actions\">{}</p>\n",
        actions.join(" ")
    )
}

/// The end of what the job has printed, which the script fetches when it is opened.
fn log(state: &State) -> String {
    let (Some(id), Some(job)) = (&state.id, &state.job) else {
        return String::new();
    };
    let job = escape(job);
    format!(
        "<details class=\"log\" data-key=\"log\" data-log=\"/log/{id}\"><summary>Log of job {job}</summary>\n\
         <pre data-own tabindex=\"0\" role=\"region\" aria-label=\"Log of job {job}\">Loading it takes a moment.</pre>\n\
         <p><a href=\"/log/{id}\">The log of job {job} as text</a></p></details>\n"
    )
}
