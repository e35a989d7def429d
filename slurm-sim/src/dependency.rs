//! `--dependency`: which other jobs a job waits for, and whether it still has to.

use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::job::{Exit, Job, State};

/// When a dependency lets its job go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// The others have started.
    After,
    /// The others have ended.
    AfterAny,
    /// The others have ended well.
    AfterOk,
    /// The others have ended badly.
    AfterNotOk,
    /// No other job of this name and user is ahead.
    Singleton,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::After => "after",
            Self::AfterAny => "afterany",
            Self::AfterOk => "afterok",
            Self::AfterNotOk => "afternotok",
            Self::Singleton => "singleton",
        }
    }
}

/// One dependency on one other job (on none for a singleton).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) kind: Kind,
    pub(crate) on: u32,
    /// It is one of several of which any suffices (`?`).
    pub(crate) any: bool,
}

/// Where a dependency stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Satisfied,
    Waiting,
    Never,
}

/// Reads `afterok:1:2,afterany:3`; `None` if it is not a dependency list.
pub(crate) fn parse(text: &str) -> Option<Vec<Dependency>> {
    let mut all = Vec::new();
    let any = text.contains('?');
    if any && text.contains(',') {
        return None;
    }
    for word in text.split([',', '?']) {
        let mut parts = word.split(':');
        let kind = match parts.next()?.to_ascii_lowercase().as_str() {
            "after" => Kind::After,
            "afterany" => Kind::AfterAny,
            "afterok" => Kind::AfterOk,
            "afternotok" => Kind::AfterNotOk,
            "singleton" => {
                all.push(Dependency {
                    kind: Kind::Singleton,
                    on: 0,
                    any,
                });
                if parts.next().is_some() {
                    return None;
                }
                continue;
            }
            _ => return None,
        };
        let ids = parts
            .map(|id| id.parse().ok())
            .collect::<Option<Vec<u32>>>()?;
        if ids.is_empty() {
            return None;
        }
        all.extend(ids.into_iter().map(|on| Dependency { kind, on, any }));
    }
    Some(all)
}

/// As squeue's `%E` has it: what is still waited for, and what can never be.
pub(crate) fn show(job: &Job, cluster: &Cluster) -> String {
    let any = job.request.dependency.iter().any(|each| each.any);
    let left: Vec<String> = job
        .request
        .dependency
        .iter()
        .filter_map(|each| {
            let word = match judge_one(each, job, cluster) {
                Verdict::Satisfied => return None,
                Verdict::Waiting => "unfulfilled",
                Verdict::Never => "failed",
            };
            Some(match each.kind {
                Kind::Singleton => format!("singleton({word})"),
                _ => format!("{}:{}({word})", each.kind.name(), each.on),
            })
        })
        .collect();
    // It is over, or was let go: nothing is left of it.
    if left.is_empty() || !matches!(job.state, State::Pending | State::Cancelled) {
        return "(null)".into();
    }
    left.join(if any { "?" } else { "," })
}

/// Whether `job` may go. A job that is not known (any more) is no obstacle.
pub(crate) fn judge(job: &Job, cluster: &Cluster) -> Verdict {
    let all = &job.request.dependency;
    let verdicts = all.iter().map(|each| judge_one(each, job, cluster));
    let sum = if all.iter().any(|each| each.any) {
        verdicts.min()
    } else {
        verdicts.max()
    };
    sum.unwrap_or(Verdict::Satisfied)
}

fn judge_one(dependency: &Dependency, job: &Job, cluster: &Cluster) -> Verdict {
    let jobs = cluster.jobs.values();
    jobs.filter(|other| concerns(dependency, job, other))
        .map(|other| verdict(dependency.kind, other))
        .max()
        .unwrap_or(Verdict::Satisfied)
}

fn concerns(dependency: &Dependency, job: &Job, other: &Job) -> bool {
    match dependency.kind {
        Kind::Singleton => other.id < job.id && other.name == job.name && other.user == job.user,
        _ => {
            other.id == dependency.on
                || other
                    .array
                    .as_ref()
                    .is_some_and(|array| array.job == dependency.on)
        }
    }
}

fn verdict(kind: Kind, other: &Job) -> Verdict {
    let ended_well = other.state == State::Completed && other.exit == Exit::default();
    let wait_until = |done: bool| {
        if done {
            Verdict::Satisfied
        } else {
            Verdict::Waiting
        }
    };
    match kind {
        Kind::After => wait_until(other.started.is_some() || other.is_finished()),
        Kind::AfterAny | Kind::Singleton => wait_until(other.is_finished()),
        Kind::AfterOk | Kind::AfterNotOk if !other.is_finished() => Verdict::Waiting,
        Kind::AfterOk if ended_well => Verdict::Satisfied,
        Kind::AfterNotOk if !ended_well => Verdict::Satisfied,
        Kind::AfterOk | Kind::AfterNotOk => Verdict::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Knobs;
    use crate::job::tests::job;

    fn among(job: Job) -> Cluster {
        let mut cluster = Cluster::new(vec![], vec![], Knobs::default());
        cluster.jobs.insert(job.id, job);
        cluster
    }

    #[test]
    fn reads_lists_and_refuses_nonsense() {
        assert_eq!(parse("afterok:1:2,afterany:3").unwrap().len(), 3);
        assert_eq!(parse("singleton").unwrap()[0].kind, Kind::Singleton);
        for bad in [
            "",
            "afterok",
            "afterok:x",
            "before:1",
            "singleton:1",
            "after:1,after:2?after:3",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_unknown_job_is_no_obstacle() {
        let mut waiting = job(2);
        waiting.request.dependency = parse("afterok:99999").unwrap();
        assert_eq!(judge(&waiting, &among(job(1))), Verdict::Satisfied);
    }

    #[test]
    fn waits_then_goes_or_never_will() {
        let mut first = job(1);
        let mut second = job(2);
        for (kind, well, badly) in [
            ("afterok", Verdict::Satisfied, Verdict::Never),
            ("afternotok", Verdict::Never, Verdict::Satisfied),
            ("afterany", Verdict::Satisfied, Verdict::Satisfied),
        ] {
            second.request.dependency = parse(&format!("{kind}:1")).unwrap();
            first.state = State::Running;
            assert_eq!(
                judge(&second, &among(first.clone())),
                Verdict::Waiting,
                "{kind}"
            );
            first.state = State::Completed;
            assert_eq!(judge(&second, &among(first.clone())), well, "{kind}");
            first.state = State::Failed;
            assert_eq!(judge(&second, &among(first.clone())), badly, "{kind}");
        }
    }
}
