//! What should be: who has which sessions, what they serve, and what each of them has ever said.

use std::collections::BTreeSet;

use anyhow::{Result, bail};

use super::LetIn;
use crate::browser::Page;
use crate::cluster::USERS;
use crate::devserver::Running;

/// How many sessions a user has at most.
pub(super) const SEATS: usize = 2;

/// Everything.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) people: Vec<Person>,
    /// What was served by whom, now or once.
    secrets: Vec<(usize, String)>,
    /// Jobs whose programs were killed before they could tidy up.
    pub(super) untidy: BTreeSet<String>,
}

/// A user.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) name: &'static str,
    pub(super) seats: [Option<Seat>; SEATS],
    /// Whose proxy published last, where that is known.
    pub(super) published_last: Option<usize>,
    /// Whether a killed proxy may have left a port file.
    pub(super) untidy: bool,
}

/// A session.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) id: String,
    pub(super) job: String,
    pub(super) server: Option<Served>,
}

/// A dev server in it.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) running: Running,
    pub(super) text: String,
}

impl Model {
    pub(super) fn new() -> Model {
        let people = USERS.map(|name| Person {
            name,
            seats: [None, None],
            published_last: None,
            untidy: false,
        });
        Model {
            people: people.into(),
            secrets: Vec::new(),
            untidy: BTreeSet::new(),
        }
    }

    /// Every session, by its user and its place among theirs.
    pub(super) fn seats(&self) -> impl Iterator<Item = ((usize, usize), &Seat)> {
        let people = self.people.iter().enumerate();
        people.flat_map(|(who, person)| {
            let seats = person.seats.iter().enumerate();
            seats.filter_map(move |(seat, held)| Some(((who, seat), held.as_ref()?)))
        })
    }

    /// Every dev server.
    pub(super) fn servers(&self) -> impl Iterator<Item = ((usize, usize), &Seat, &Served)> {
        let seats = self.seats();
        seats.filter_map(|(at, seat)| Some((at, seat, seat.server.as_ref()?)))
    }

    pub(super) fn seat(&self, (who, seat): (usize, usize)) -> &Seat {
        let held = self.people[who].seats[seat].as_ref();
        held.expect("steps are chosen among sessions that there are")
    }

    pub(super) fn seat_mut(&mut self, (who, seat): (usize, usize)) -> &mut Seat {
        let held = self.people[who].seats[seat].as_mut();
        held.expect("steps are chosen among sessions that there are")
    }

    /// A session that is over.
    pub(super) fn leaves(&mut self, (who, seat): (usize, usize)) -> Option<Seat> {
        let person = &mut self.people[who];
        if person.published_last == Some(seat) {
            person.published_last = None;
        }
        person.seats[seat].take()
    }

    /// A text that nobody has served before.
    pub(super) fn new_secret(&mut self, who: usize) -> String {
        let number = self.secrets.len();
        let text = format!("this is secret {number} of {}", self.people[who].name);
        self.secrets.push((who, format!("{text} and no other")));
        format!("{text} and no other")
    }

    /// Whoever asked got nothing of anybody else's; nobody asks without being somebody.
    pub(super) fn lets_nobody_in(&self, asker: Option<usize>, page: &Page) -> Result<()> {
        let body = page.text();
        for (owner, secret) in &self.secrets {
            if asker != Some(*owner) && body.contains(secret) {
                let asker = asker.map_or("a stranger", |who| self.people[who].name);
                bail!(LetIn(format!("{asker} got `{secret}`: {page}")));
            }
        }
        Ok(())
    }
}
