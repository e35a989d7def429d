//! Sessions as lines for a person.

use hpc_proxy::text::is_unprintable;

use super::Session;

/// A line for each session, below what its columns are; a column that nobody has is not there.
pub(super) fn table(sessions: &[Session]) -> String {
    let head = ["SESSION", "PHASE", "JOB", "NODE", "CLUSTER", "LEFT", "WHY"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(sessions.iter().map(row));
    let is_kept =
        |column: &usize| *column < 2 || rows[1..].iter().any(|row| !row[*column].is_empty());
    let kept: Vec<usize> = (0..head.len()).filter(is_kept).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let line = |row: &[String; 7]| {
        let cells = kept.iter().map(|column| {
            let width = width(*column).unwrap_or_default();
            format!("{:width$}", row[*column])
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        format!("{}\n", line.trim_end())
    };
    rows.iter().map(line).collect()
}

fn row(session: &Session) -> [String; 7] {
    let cell = |text: &Option<String>| {
        let text = text.as_deref().unwrap_or_default();
        // Slurm's words may hold anything (S24).
        text.replace(is_unprintable, "\u{fffd}")
    };
    let left = session.seconds_left.map(clock);
    [
        cell(&session.id),
        session.phase.replace(is_unprintable, "\u{fffd}"),
        cell(&session.job),
        cell(&session.node),
        cell(&session.cluster),
        left.unwrap_or_default(),
        cell(&session.reason),
    ]
}

/// As Slurm writes times, without the seconds: `1-02:03`.
fn clock(seconds: u64) -> String {
    let (minutes, hours) = (seconds / 60 % 60, seconds / 3600 % 24);
    match seconds / 86400 {
        0 => format!("{hours}:{minutes:02}"),
        days => format!("{days}-{hours:02}:{minutes:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let session = |id: &str, job: Option<&str>, reason: Option<&str>| Session {
            id: Some(id.to_owned()),
            phase: "pending".to_owned(),
            job: job.map(str::to_owned),
            node: None,
            reason: reason.map(str::to_owned),
            ide: None,
            has_proxy: true,
            cluster: None,
            seconds_left: Some(93_784),
        };
        let sessions = [
            session("aaaaaaaa", Some("7"), Some("Res\u{1b}[31mources")),
            session("bbbbbbbb", None, None),
        ];
        let expected = "SESSION   PHASE    JOB  LEFT     WHY\n\
                        aaaaaaaa  pending  7    1-02:03  Res\u{fffd}[31mources\n\
                        bbbbbbbb  pending       1-02:03\n";
        assert_eq!(table(&sessions), expected);
        assert_eq!(table(&[]), "SESSION  PHASE\n");
    }
}
