//! Plays the rows: most of them side by side, those that measure time by themselves.

use std::{
    panic::{self, AssertUnwindSafe},
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::Result;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{
    report::{Line, Report, Verdict},
    row::{Met, Need, Pace, Play, Row},
    stage::{Cast, Stage},
    subject::{Kind, Subject},
    tables,
};

/// Rows are mostly waits: more of them at once than there are processors, few enough for either end's
/// backlog.
const AT_ONCE: usize = 8;

/// What to play, and against what.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which program it is.
    pub kind: Kind,
    /// The program.
    pub program: PathBuf,
    /// Rows whose id, citation or name contains this; all when empty.
    pub only: Vec<String>,
    /// Waits and sizes in full.
    pub is_slow: bool,
    /// The program that plays servers of other users: this package's own.
    pub helper: Option<PathBuf>,
}

/// The rows that `only` selects, as id, citation and name.
pub fn list(only: &[String]) -> Vec<[String; 3]> {
    let rows = tables::all()
        .into_iter()
        .filter(|row| is_selected(row, only));
    rows.map(|row| [row.id, row.cites.to_owned(), row.name])
        .collect()
}

fn is_selected(row: &Row, only: &[String]) -> bool {
    let holds = |part: &String| {
        row.id == *part
            || row.id.starts_with(&format!("{part}."))
            || part.len() == 1 && row.id.starts_with(part.as_str())
            || part.len() > 3 && row.name.contains(part.as_str())
    };
    only.is_empty() || only.iter().any(holds)
}

/// Plays the selected rows.
///
/// # Errors
/// The program does not start.
pub fn run(options: &Options) -> Result<Report> {
    raise_open_files();
    let subject = Subject {
        kind: options.kind,
        program: options.program.clone(),
    };
    let cast = Cast::new(subject, options.is_slow, options.helper.as_deref())?;
    let rows: Vec<_> = tables::all()
        .into_iter()
        .filter(|row| is_selected(row, &options.only))
        .collect();
    let started = Instant::now();
    // A row that panics is a failed row; its message is in the table.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let lines = play_all(&cast, &rows);
    panic::set_hook(hook);
    Ok(Report {
        lines,
        elapsed: started.elapsed(),
    })
}

/// Both ends of every connection are here.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // Where it may not be raised, rows with many connections tell.
    let _ = setrlimit(Resource::Nofile, raised);
}

fn play_all(cast: &Cast, rows: &[Row]) -> Vec<Line> {
    let lines: Vec<Mutex<Option<Line>>> = rows.iter().map(|_| Mutex::new(None)).collect();
    let keep = |index: usize| {
        let line = play(cast, &rows[index]);
        *lines[index].lock().unwrap_or_else(PoisonError::into_inner) = Some(line);
    };
    let of = |pace: Pace| (0..rows.len()).filter(move |index| rows[*index].pace == pace);
    let together: Vec<_> = of(Pace::Together).collect();
    let next = AtomicUsize::new(0);
    let keep = &keep;
    thread::scope(|waiting| {
        for index in of(Pace::Waits) {
            waiting.spawn(move || keep(index));
        }
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    while let Some(index) = together.get(next.fetch_add(1, Ordering::Relaxed)) {
                        keep(*index);
                    }
                });
            }
        });
        of(Pace::Alone).for_each(keep);
    });
    let lines = lines.into_iter().map(|line| line.into_inner());
    lines
        .map(|line| {
            line.unwrap_or_else(PoisonError::into_inner)
                .expect("each was played")
        })
        .collect()
}

fn play(cast: &Cast, row: &Row) -> Line {
    let started = Instant::now();
    let verdict = match row.needs.iter().find_map(|need| lacks(cast, *need)) {
        Some(why) => Verdict::Skip(why),
        None => match panic::catch_unwind(AssertUnwindSafe(|| met(cast, row))) {
            Ok(Ok(Met::Pass)) => Verdict::Pass(None),
            Ok(Ok(Met::Aim)) => Verdict::Aim,
            Ok(Ok(Met::Other(which))) => Verdict::Pass(Some(which)),
            Ok(Ok(Met::Skip(why))) => Verdict::Skip(why),
            Ok(Err(error)) => Verdict::Fail(format!("{error:#}")),
            Err(_) => Verdict::Fail("the row itself panicked".into()),
        },
    };
    Line {
        id: row.id.clone(),
        cites: row.cites,
        name: row.name.clone(),
        verdict,
        elapsed: started.elapsed(),
    }
}

fn met(cast: &Cast, row: &Row) -> Result<Met> {
    match &row.play {
        Play::Exchange(exchange) if exchange.without_auth => exchange.play(&Stage::open(cast)?),
        Play::Exchange(exchange) => exchange.play(&Stage::shared(cast)?),
        Play::Story(story) => story(&Stage::shared(cast)?),
    }
}

fn lacks(cast: &Cast, need: Need) -> Option<String> {
    if let Some(why) = cast.subject.kind.lacks(need) {
        return Some(why.into());
    }
    match need {
        Need::Root if !rustix::process::geteuid().is_root() => {
            Some("needs: several uids, that is root".into())
        }
        Need::Root if cast.public.is_none() => Some("needs: the `conformance` program".into()),
        Need::Ipv6 if std::net::TcpListener::bind("[::1]:0").is_err() => {
            Some("needs: IPv6 on loopback".into())
        }
        _ => None,
    }
}
