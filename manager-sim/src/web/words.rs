//! What a scheduler says, in plain words and with the next step. Its own words stay in brackets, for
//! whoever looks them up (squeue(1), "JOB REASON CODES" and "JOB STATE CODES").

use super::session::is_all;
use crate::{session::PhaseName, state::State};

/// Why a session waits or has ended, and what follows.
pub(super) fn of(state: &State) -> Option<(String, String)> {
    let why = state.why.as_deref().filter(|why| !why.is_empty());
    match state.phase {
        PhaseName::None => Some((
            "Launch one below: it starts an IDE on the cluster, and lists the dev servers that you run \
             in it."
                .to_owned(),
            String::new(),
        )),
        PhaseName::Pending => why.and_then(waits),
        PhaseName::Ended => Some(ended(why.unwrap_or_default())),
        PhaseName::Running if is_all(state) => Some((
            format!("{} has a port proxy of its own and is not reached through this page.", state.ide_title),
            "Its log says more, as does the site.".to_owned(),
        )),
        _ => None,
    }
}

fn waits(reason: &str) -> Option<(String, String)> {
    let (what, next) = match reason {
        // The scheduler has not looked at it yet.
        "None" | "(null)" => return None,
        "Priority" => (
            "Other jobs go first.",
            "It starts by itself when it is its turn.",
        ),
        "Resources" => (
            "What it asks for is in use.",
            "It starts by itself when enough is free; a smaller session may start sooner.",
        ),
        "Dependency" | "DependencyNeverSatisfied" => (
            "It waits for another job.",
            "Cancel it if that job never ends.",
        ),
        "JobHeldUser" | "JobHeldAdmin" | "launch failed requeued held" => (
            "It is held.",
            "`scontrol release` lets it go; if it was not you who held it, ask the site.",
        ),
        "BeginTime" => (
            "It starts at a later time.",
            "After a requeue that is in a minute or two.",
        ),
        "PartitionDown" | "PartitionInactive" => (
            "The partition takes no jobs at the moment.",
            "Wait, or cancel it and choose another partition.",
        ),
        "PartitionTimeLimit" => (
            "It asks for more time than the partition allows.",
            "Cancel it, and launch one with less time.",
        ),
        "PartitionNodeLimit" => (
            "The partition does not have what it asks for.",
            "Cancel it, and launch one that asks for less.",
        ),
        _ if reason.starts_with("ReqNodeNotAvail") || reason.starts_with("Nodes required") => (
            "A node that it needs is down or reserved.",
            "Wait, or cancel it and choose another node.",
        ),
        _ if reason.starts_with("QOS") || reason.starts_with("Assoc") => (
            "You or your group use as much as is allowed.",
            "It starts when other jobs have ended; cancel those that you do not need.",
        ),
        _ => ("It waits for its turn.", "The site knows what this means."),
    };
    Some((format!("{what} (Slurm: {reason})"), next.to_owned()))
}

fn ended(why: &str) -> (String, String) {
    let known = [
        (
            "TIMEOUT",
            "It reached its time limit.",
            "Launch another; the options have a longer time.",
        ),
        ("DEADLINE", "It reached its deadline.", "Launch another."),
        (
            "OUT_OF_MEMORY",
            "It used more memory than it asked for.",
            "Launch another with more memory.",
        ),
        ("NODE_FAIL", "Its node failed.", "Launch another."),
        ("BOOT_FAIL", "Its node did not start.", "Launch another."),
        (
            "PREEMPTED",
            "It had to make room for a more important job.",
            "Launch another.",
        ),
        (
            "COMPLETED",
            "Its job came to its end.",
            "Launch another when you need one.",
        ),
        (
            "CANCELLED",
            "Its job was cancelled.",
            "Launch another when you need one.",
        ),
        (
            "FAILED",
            "Its job failed.",
            "Its log tells more; then launch another.",
        ),
    ];
    if let Some(said) = why.strip_prefix("Slurm says ")
        && let Some((_, what, next)) = known.iter().find(|(state, ..)| said.starts_with(state))
    {
        return (format!("{what} (Slurm: {said})"), (*next).to_owned());
    }
    let mut what = capital(why);
    if !what.is_empty() && !what.ends_with('.') {
        what.push('.');
    }
    let next = match why {
        "it was cancelled" | "" => "Launch another when you need one.",
        _ if why.contains("controller") => "Launch another once the site is well again.",
        _ => "Mend that, if it is yours to mend, and launch another.",
    };
    (what, next.to_owned())
}

fn capital(text: &str) -> String {
    let mut rest = text.chars();
    let first = rest.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + rest.as_str()
}
