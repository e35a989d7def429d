//! What may happen next, and how likely it is.

use std::fmt;
use std::time::Duration;

use super::dice::Dice;
use super::model::{Model, SEATS};
use crate::cluster::NODES;

/// A session: whose, and which of theirs.
pub(super) type At = (usize, usize);

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Launches(At, Option<&'static str>),
    Serves(At),
    Changes(At),
    Browses(At),
    Cancels(At),
    IsRequeued(At),
    Falls(Fault, Option<At>),
}

/// One thing that goes wrong, for a while or once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    TunnelKilled,
    SshKilled,
    LeasesDeleted(usize),
    SshdRestarted,
    ControllerDown(Duration),
    WireCut(Duration),
    NodeFrozen(&'static str, Duration),
    NodeLost(&'static str),
    ProxyKilled(At),
    IdeKilled(At),
    ManagerKilled,
    NodeCutOff(&'static str, Duration),
    NodeSlow(&'static str, Duration),
    HomesFull(Duration),
    HomeReadOnly(usize, Duration),
    PortTaken(At, Duration),
}

impl Step {
    /// The next one, by a throw of the dice.
    pub(super) fn next(dice: &mut Dice, model: &Model, containers: bool) -> Step {
        let mut all = Vec::new();
        for (who, person) in model.people.iter().enumerate() {
            let held = |seat: usize| person.seats[seat].as_ref();
            if let Some(free) = (0..SEATS).find(|seat| held(*seat).is_none()) {
                let first = free == 0 && held(1).is_none();
                let node = [None, Some(NODES[0]), Some(NODES[1])][dice.below(3) as usize];
                all.push((
                    if first { 40 } else { 8 },
                    Step::Launches((who, free), node),
                ));
            }
            for seat in (0..SEATS).filter(|seat| held(*seat).is_some()) {
                let (at, serves) = (
                    (who, seat),
                    held(seat).is_some_and(|it| it.server.is_some()),
                );
                if serves {
                    all.extend([(8, Step::Changes(at)), (6, Step::Browses(at))]);
                } else {
                    all.push((20, Step::Serves(at)));
                }
                all.extend([(5, Step::Cancels(at)), (2, Step::IsRequeued(at))]);
            }
        }
        let fault = Fault::next(dice, model, containers);
        // Whoever ends a session in the middle of it is believed as well.
        let seats: Vec<At> = model.seats().map(|(at, _)| at).collect();
        let ends = match fault {
            Some(fault) if fault.lasts() && !seats.is_empty() && dice.below(4) == 0 => {
                Some(seats[dice.below(seats.len() as u32) as usize])
            }
            _ => None,
        };
        all.extend(fault.map(|fault| (40, Step::Falls(fault, ends))));
        dice.one_of(all)
    }
}

impl Fault {
    /// None while there is nothing that could suffer.
    fn next(dice: &mut Dice, model: &Model, containers: bool) -> Option<Fault> {
        let seats: Vec<At> = model.seats().map(|(at, _)| at).collect();
        let at = *seats.get(dice.below(seats.len().max(1) as u32) as usize)?;
        let (node, moment) = (NODES[dice.below(2) as usize], dice.moment());
        let mut all = vec![
            (5, Fault::TunnelKilled),
            (3, Fault::SshKilled),
            (4, Fault::LeasesDeleted(at.0)),
            (4, Fault::SshdRestarted),
            (4, Fault::ControllerDown(moment)),
            (4, Fault::WireCut(moment)),
            (4, Fault::NodeFrozen(node, moment)),
            (2, Fault::NodeLost(node)),
            (3, Fault::ProxyKilled(at)),
            (3, Fault::IdeKilled(at)),
            (4, Fault::ManagerKilled),
        ];
        if containers {
            all.extend([
                (4, Fault::NodeCutOff(node, moment)),
                (3, Fault::NodeSlow(node, moment)),
                (3, Fault::HomesFull(moment)),
                (3, Fault::HomeReadOnly(at.0, moment)),
                (4, Fault::PortTaken(at, moment)),
            ]);
        }
        Some(dice.one_of(all))
    }

    /// How long it lasts, where that was thrown.
    pub(super) fn time(self) -> Option<Duration> {
        match self {
            Fault::ControllerDown(time)
            | Fault::WireCut(time)
            | Fault::NodeFrozen(_, time)
            | Fault::NodeCutOff(_, time)
            | Fault::NodeSlow(_, time)
            | Fault::HomesFull(time)
            | Fault::HomeReadOnly(_, time)
            | Fault::PortTaken(_, time) => Some(time),
            Fault::TunnelKilled
            | Fault::SshKilled
            | Fault::LeasesDeleted(_)
            | Fault::SshdRestarted
            | Fault::NodeLost(_)
            | Fault::ProxyKilled(_)
            | Fault::IdeKilled(_)
            | Fault::ManagerKilled => None,
        }
    }

    /// Whether there is a time at which it has begun and is not over.
    fn lasts(self) -> bool {
        !matches!(
            self,
            Fault::NodeLost(_)
                | Fault::ProxyKilled(_)
                | Fault::IdeKilled(_)
                | Fault::LeasesDeleted(_)
                // What a job cannot remove then stays: that is no fault of ours.
                | Fault::HomeReadOnly(..)
        )
    }
}

/// As told of somebody: `alice's session 1`.
struct Whose<'a>(&'a Model, At);

impl fmt::Display for Whose<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (who, seat) = self.1;
        write!(f, "{}'s session {}", self.0.people[who].name, seat + 1)
    }
}

impl Step {
    /// As a line for a person.
    pub(super) fn told(self, model: &Model) -> String {
        let of = |at| Whose(model, at);
        match self {
            Step::Launches(at, node) => {
                let on = node.map(|node| format!(" on {node}")).unwrap_or_default();
                format!("{} is launched{on}", of(at))
            }
            Step::Serves(at) => format!("{} gets a dev server", of(at)),
            Step::Changes(at) => format!("{}: a page changes and reloads", of(at)),
            Step::Browses(at) => format!("{} is browsed", of(at)),
            Step::Cancels(at) => format!("{} is cancelled", of(at)),
            Step::IsRequeued(at) => format!("{} is requeued", of(at)),
            Step::Falls(fault, ends) => {
                let ends = ends.map(|at| format!(", and {} is cancelled meanwhile", of(at)));
                format!("{}{}", fault.told(model), ends.unwrap_or_default())
            }
        }
    }
}

impl Fault {
    fn told(self, model: &Model) -> String {
        let of = |at| Whose(model, at);
        let name = |who: usize| model.people[who].name;
        match self {
            Fault::TunnelKilled => "every tunnel's ssh is killed".to_owned(),
            Fault::SshKilled => "every ssh of the manager's is killed".to_owned(),
            Fault::LeasesDeleted(who) => format!("{} deletes what is published", name(who)),
            Fault::SshdRestarted => "the sshd restarts".to_owned(),
            Fault::ControllerDown(time) => format!("the controller is down for {time:?}"),
            Fault::WireCut(time) => format!("alice is cut off for {time:?}"),
            Fault::NodeFrozen(node, time) => format!("{node} freezes for {time:?}"),
            Fault::NodeLost(node) => format!("{node} is lost and comes back"),
            Fault::ProxyKilled(at) => format!("the proxy of {} is killed", of(at)),
            Fault::IdeKilled(at) => format!("the IDE of {} is killed", of(at)),
            Fault::ManagerKilled => "the manager is killed and comes back".to_owned(),
            Fault::NodeCutOff(node, time) => format!("{node} is cut off for {time:?}"),
            Fault::NodeSlow(node, time) => format!("{node} is slow for {time:?}"),
            Fault::HomesFull(time) => format!("the homes are full for {time:?}"),
            Fault::PortTaken(at, time) => {
                format!("a port at {} is somebody else's for {time:?}", of(at))
            }
            Fault::HomeReadOnly(who, time) => {
                format!("{}'s home is read-only for {time:?}", name(who))
            }
        }
    }
}
