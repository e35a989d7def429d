//! All verdicts as a table for people.

use std::fmt::{self, Write as _};

use super::front::Front;
use super::judge::{Check, Verdict};

/// Cases by fronts.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// The columns.
    pub fronts: Vec<Front>,
    /// The rows.
    pub rows: Vec<Row>,
}

/// One case behind each of the fronts.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub case: String,
    /// As many as there are fronts.
    pub verdicts: Vec<Verdict>,
}

impl Matrix {
    /// Whether nothing is bad anywhere.
    pub fn is_good(&self) -> bool {
        self.rows
            .iter()
            .all(|row| row.verdicts.iter().all(Verdict::is_good))
    }

    /// A line for each bad check: which, and why.
    pub fn complaints(&self) -> String {
        let mut lines = String::new();
        for row in &self.rows {
            for (front, verdict) in self.fronts.iter().zip(&row.verdicts) {
                for (check, letter) in verdict.checks.iter().zip(Verdict::LETTERS) {
                    if let Check::Bad(why) = check {
                        let _ = writeln!(lines, "{} {front} ({letter}): {why}", row.case);
                    }
                }
                if !verdict.is_good() {
                    for error in &verdict.errors {
                        let _ = writeln!(lines, "    the page: {error}");
                    }
                }
            }
        }
        lines
    }
}

impl fmt::Display for Matrix {
    /// A Markdown table; its last row counts what is wholly good.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| {:<20} |", "")?;
        for front in &self.fronts {
            write!(f, " {front:<9} |")?;
        }
        write!(f, "\n|{}|", "-".repeat(22))?;
        for _ in &self.fronts {
            write!(f, "{}|", "-".repeat(11))?;
        }
        for row in &self.rows {
            write!(f, "\n| {:<20} |", row.case)?;
            for verdict in &row.verdicts {
                write!(f, " {verdict:<9} |")?;
            }
        }
        write!(f, "\n| {:<20} |", "**works**")?;
        for column in 0..self.fronts.len() {
            let good = self
                .rows
                .iter()
                .filter(|row| row.verdicts[column].is_good())
                .count();
            write!(f, " {:<9} |", format!("{good}/{}", self.rows.len()))?;
        }
        writeln!(f)
    }
}
