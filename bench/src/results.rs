//! What was measured, as tables for people.

use std::fmt::Write;

use crate::{
    load::{Figures, Load},
    samples::Samples,
};

/// Something measured that has a limit, or has none.
#[derive(Clone, Debug)]
pub struct Row {
    /// What.
    pub what: String,
    /// How much, in words.
    pub value: String,
    /// Samples and spread.
    pub samples: String,
    /// The limit in words, and whether it is kept.
    pub limit: Option<(String, bool)>,
}

impl Row {
    /// Without a limit.
    pub fn new(what: &str, value: String, samples: String) -> Self {
        Self {
            what: what.to_owned(),
            value,
            samples,
            limit: None,
        }
    }

    /// With one.
    #[must_use]
    pub fn limited(mut self, limit: &str, kept: bool) -> Self {
        self.limit = Some((limit.to_owned(), kept));
        self
    }

    /// Whether it is within its limit.
    pub fn is_good(&self) -> bool {
        self.limit.as_ref().is_none_or(|(_, kept)| *kept)
    }
}

/// The rows as a table of this name.
pub fn table(name: &str, rows: &[Row]) -> String {
    let cells = rows.iter().map(|row| {
        let (limit, verdict) = match &row.limit {
            None => (String::new(), ""),
            Some((limit, true)) => (limit.clone(), "pass"),
            Some((limit, false)) => (limit.clone(), "FAIL"),
        };
        [
            row.what.clone(),
            row.value.clone(),
            limit,
            verdict.to_owned(),
            row.samples.clone(),
        ]
    });
    aligned(&[name, "measured", "limit", "", "samples"], cells.collect())
}

/// `text` with `part`, which begins with a heading of its own, as its last part, in place of what was there
/// under that heading.
pub fn with_part(text: &str, part: &str) -> String {
    let heading = part.lines().next().unwrap_or_default();
    let before = text.split_once(&format!("{heading}\n"));
    let before = before.map_or(text, |(before, _)| before).trim_end();
    format!("{before}\n\n{part}")
}

/// The part of `text` that begins with this heading, where there is one.
pub fn part<'a>(text: &'a str, heading: &str) -> Option<&'a str> {
    text.find(&format!("{heading}\n")).map(|at| &text[at..])
}

/// Loads as a table, the subjects of each below each other.
pub fn comparison(figures: &[Figures]) -> String {
    let cells = figures.iter().map(|figures| {
        let ((per_second, speed, decimals), (each, cost)) = match figures.load {
            Load::Down(_) | Load::Up(_) => ((1e9, "GB/s", 2), ("s/GB", 2)),
            _ => ((1.0, "/s", 0), ("us", 1)),
        };
        [
            figures.load.name(),
            figures.subject.to_owned(),
            spread(&figures.per_second, per_second, decimals, speed),
            spread(&figures.cpu_micros, 1.0, cost, each),
            spread(&figures.cpu_micros_of_all, 1.0, cost, each),
        ]
    });
    let head = [
        "load",
        "",
        "speed",
        "CPU of the proxy, each",
        "CPU of the machine, each",
    ];
    aligned(&head, cells.collect())
}

/// The median, and in brackets the lowest and the highest, in units of `unit`.
pub fn spread(samples: &Samples, unit: f64, decimals: usize, name: &str) -> String {
    if samples.count() == 0 {
        return "-".to_owned();
    }
    let [min, median, max] =
        [samples.min(), samples.median(), samples.max()].map(|value| value / unit);
    format!("{median:.decimals$} {name} ({min:.decimals$} - {max:.decimals$})")
}

/// A table whose columns are as wide as their widest cell.
pub fn aligned<const N: usize>(head: &[&str; N], rows: Vec<[String; N]>) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].len());
        cells.chain([head[column].len()]).max().unwrap_or_default()
    };
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: [&str; N]| {
        let mut line = "|".to_owned();
        for (cell, width) in cells.iter().zip(widths) {
            write!(line, " {cell:<width$} |").expect("a string takes everything");
        }
        line + "\n"
    };
    let rule = widths.map(|width| "-".repeat(width));
    let mut table = line(*head);
    table += &line(std::array::from_fn(|column| rule[column].as_str()));
    for row in &rows {
        table += &line(std::array::from_fn(|column| row[column].as_str()));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other() {
        let rows = vec![
            ["a".to_owned(), "1".to_owned()],
            ["bcd".to_owned(), "10".to_owned()],
        ];
        let table = aligned(&["x", "y"], rows);
        assert_eq!(
            table,
            "| x   | y  |\n| --- | -- |\n| a   | 1  |\n| bcd | 10 |\n"
        );
    }

    #[test]
    fn the_last_part_is_replaced_alone() {
        let first = with_part("# Results\n\n| a |\n", "## Lab\n\none\n");
        assert_eq!(first, "# Results\n\n| a |\n\n## Lab\n\none\n");
        let second = with_part(&first, "## Lab\n\ntwo\n");
        assert_eq!(second, "# Results\n\n| a |\n\n## Lab\n\ntwo\n");
        assert_eq!(part(&second, "## Lab"), Some("## Lab\n\ntwo\n"));
        assert_eq!(part("# Results\n", "## Lab"), None);
    }

    #[test]
    fn a_row_over_its_limit_is_not_good() {
        let row = Row::new("start", "30 ms".to_owned(), String::new());
        assert!(row.is_good());
        assert!(!row.limited("20 ms", false).is_good());
    }
}
