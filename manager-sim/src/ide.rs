//! The IDEs that sessions may run: which there are, and which one is asked for.

use std::sync::Arc;

use crate::{
    front::Front,
    job::script::{IdeKind, JobScript, Script},
    names::IdeName,
    shell::HoldsNul,
    wish::{Refused, not_among},
};

/// An IDE as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdeConfig {
    /// What wishes call it.
    pub name: IdeName,
    /// What people read.
    pub title: String,
    /// What its jobs do.
    pub script: JobScript,
}

/// An IDE that a session runs.
#[derive(Debug)]
pub struct Ide {
    /// What wishes call it.
    pub name: IdeName,
    /// What people read.
    pub title: String,
    /// Whether a proxy runs beside it.
    pub kind: IdeKind,
    /// The batch script of its jobs.
    pub script: Script,
    /// Whether there are others.
    pub is_one_of_several: bool,
}

/// Those of one manager: at least one, the usual one first.
#[derive(Clone, Debug)]
pub struct Ides(Vec<Arc<Ide>>);

impl Ides {
    /// Those in `configured`; `front` is the manager's address for browsers.
    ///
    /// # Errors
    /// When a value for a script holds a NUL byte.
    ///
    /// # Panics
    /// When there is none.
    pub fn build(configured: Vec<IdeConfig>, front: &Front) -> Result<Self, HoldsNul> {
        assert!(!configured.is_empty(), "a configuration has an IDE");
        let is_one_of_several = configured.len() > 1;
        let build = |config: IdeConfig| {
            Ok(Arc::new(Ide {
                kind: config.script.kind,
                script: config.script.build(front)?,
                name: config.name,
                title: config.title,
                is_one_of_several,
            }))
        };
        configured
            .into_iter()
            .map(build)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// All, the usual one first.
    pub fn all(&self) -> &[Arc<Ide>] {
        &self.0
    }

    /// Whether there is a choice.
    pub fn are_several(&self) -> bool {
        self.0.len() > 1
    }

    /// The one of that name, or else the usual one.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn wanted(&self, name: Option<&str>) -> Result<Arc<Ide>, Refused> {
        let found = self
            .0
            .iter()
            .find(|ide| name.is_none_or(|name| ide.name.as_str() == name));
        found.cloned().ok_or_else(|| {
            let names: Vec<_> = self.0.iter().map(|ide| &ide.name).collect();
            not_among("ide", name.unwrap_or_default(), &names)
        })
    }

    /// The one of a session that was launched with that name. Where it is not configured any more, the
    /// job runs on all the same, and a proxy in it, if there is one, is found.
    pub fn of_kept(&self, name: Option<&str>) -> Arc<Ide> {
        self.wanted(name).unwrap_or_else(|_| {
            let usual = &self.0[0];
            Arc::new(Ide {
                name: usual.name.clone(),
                title: name.unwrap_or_default().to_owned(),
                kind: IdeKind::Vscode,
                script: Script::default(),
                is_one_of_several: true,
            })
        })
    }
}

#[cfg(test)]
impl Ides {
    /// VS Code, and others of these names.
    pub(crate) fn example(others: &[&str]) -> Self {
        let ide = |(name, title): (&str, &str)| {
            Arc::new(Ide {
                name: name.parse().unwrap(),
                title: title.to_owned(),
                kind: IdeKind::Vscode,
                script: Script::default(),
                is_one_of_several: !others.is_empty(),
            })
        };
        let others = others.iter().map(|name| (*name, *name));
        Self(
            [("vscode", "VS Code")]
                .into_iter()
                .chain(others)
                .map(ide)
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_the_usual_one() {
        let ides = Ides::example(&["jupyter"]);
        for (name, found) in [
            (None, "vscode"),
            (Some("vscode"), "vscode"),
            (Some("jupyter"), "jupyter"),
        ] {
            assert_eq!(ides.wanted(name).unwrap().name.as_str(), found, "{name:?}");
        }
    }

    #[test]
    fn a_refusal_names_them_all() {
        let refused = Ides::example(&["jupyter"])
            .wanted(Some("emacs"))
            .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`ide`: `emacs` is not among what this manager allows: `vscode`, `jupyter`"
        );
    }

    #[test]
    fn what_is_not_configured_any_more_keeps_its_name() {
        let ide = Ides::example(&[]).of_kept(Some("jupyter"));
        assert_eq!((ide.title.as_str(), ide.kind), ("jupyter", IdeKind::Vscode));
    }
}
