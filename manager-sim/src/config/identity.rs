//! How people are known, as it is written in the configuration.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Gathered, error::ConfigError, parse};
use crate::auth::{header::TrustedHeader, network::Network};

/// The file of tokens, where none is named: in the manager's directory.
const TOKEN_FILE: &str = "tokens.toml";

/// The ways to be known that the manager takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// One-time links.
    pub links: bool,
    /// A field of a front's.
    pub header: Option<TrustedHeader>,
    /// Access tokens of this file.
    pub token_file: Option<PathBuf>,
}

/// `[trusted-header]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HeaderSettings {
    name: String,
    from: Vec<String>,
}

/// The names of the ways.
const LINK: &str = "link";
const HEADER: &str = "header";
const TOKENS: &str = "tokens";

/// Reads them; without any, links are taken.
pub(super) fn identity(
    ways: Option<&[String]>,
    header: Option<HeaderSettings>,
    token_file: Option<PathBuf>,
    state_dir: &Path,
    wrong: &mut Gathered,
) -> Identity {
    let link = [LINK.to_owned()];
    let ways = ways.unwrap_or(&link);
    let has = |name: &str| ways.iter().any(|way| way == name);
    for way in ways {
        if ![LINK, HEADER, TOKENS].contains(&way.as_str()) {
            wrong.push(ConfigError::Setting {
                setting: "identity",
                source: format!("`{}` is no way to sign in", way.escape_debug()).into(),
            });
        }
    }
    if ways.is_empty() {
        wrong.push(ConfigError::NoIdentity);
    }
    let unused = |setting, way| ConfigError::Unused { setting, way };
    let header = match (has(HEADER), header) {
        (true, Some(settings)) => trusted(settings, wrong),
        (true, None) => {
            wrong.push(ConfigError::NoHeader);
            None
        }
        (false, Some(_)) => {
            wrong.push(unused("trusted-header", HEADER));
            None
        }
        (false, None) => None,
    };
    let token_file = match (has(TOKENS), token_file) {
        (true, file) => wrong.ok(token_path(file, state_dir)),
        (false, Some(_)) => {
            wrong.push(unused("token-file", TOKENS));
            None
        }
        (false, None) => None,
    };
    Identity {
        links: has(LINK),
        header,
        token_file,
    }
}

/// Where the tokens are.
pub(super) fn token_path(file: Option<PathBuf>, state_dir: &Path) -> Result<PathBuf, ConfigError> {
    let file = file.unwrap_or_else(|| state_dir.join(TOKEN_FILE));
    if file.is_absolute() {
        Ok(file)
    } else {
        Err(ConfigError::Setting {
            setting: "token-file",
            source: format!("`{}` is not absolute", file.display()).into(),
        })
    }
}

fn trusted(settings: HeaderSettings, wrong: &mut Gathered) -> Option<TrustedHeader> {
    let mut from = Vec::new();
    let mut all_good = true;
    for text in &settings.from {
        let network = wrong.ok(parse::<Network>("trusted-header.from", text));
        all_good &= network.is_some();
        from.extend(network);
    }
    let header = TrustedHeader::new(&settings.name, from);
    // That nobody is left may be because of what was told already.
    let header = header.map_err(|error| ConfigError::Setting {
        setting: if error.is_of_name() {
            "trusted-header.name"
        } else {
            "trusted-header.from"
        },
        source: error.into(),
    });
    if all_good {
        wrong.ok(header)
    } else {
        header.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(
        ways: Option<&[&str]>,
        header: Option<(&str, &[&str])>,
        token_file: Option<&str>,
    ) -> Result<Identity, Vec<String>> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let ways: Option<Vec<String>> = ways.map(owned);
        let header = header.map(|(name, from)| HeaderSettings {
            name: name.to_owned(),
            from: owned(from),
        });
        let mut wrong = Gathered::default();
        let file = token_file.map(PathBuf::from);
        let identity = identity(ways.as_deref(), header, file, Path::new("/s"), &mut wrong);
        let read = wrong.finish(Some(identity));
        read.map_err(|errors| {
            let told = errors.iter().map(|error| hpc_proxy::text::chain(error));
            told.collect()
        })
    }

    #[test]
    fn without_a_word_there_are_links() {
        let identity = read(None, None, None).unwrap();
        assert!(identity.links && identity.header.is_none() && identity.token_file.is_none());
    }

    #[test]
    fn ways_are_taken_together() {
        let header = Some(("Remote-User", &["10.0.0.5", "unix"][..]));
        let identity = read(Some(&["header", "tokens"]), header, None).unwrap();
        assert!(!identity.links);
        assert_eq!(identity.header.unwrap().from().len(), 2);
        assert_eq!(identity.token_file, Some("/s/tokens.toml".into()));
        let named = read(Some(&["tokens"]), None, Some("/t")).unwrap();
        assert_eq!(named.token_file, Some("/t".into()));
    }

    #[test]
    fn half_a_way_is_an_error() {
        let header = ("Remote-User", &["10.0.0.5"][..]);
        let says = |ways: &[&str], header, file| read(Some(ways), header, file).unwrap_err();
        assert_eq!(says(&[], None, None), ["`identity` is empty"]);
        assert!(says(&["saml"], None, None)[0].contains("`saml` is no way"));
        assert!(says(&["header"], None, None)[0].contains("no `[trusted-header]`"));
        assert!(says(&["link"], Some(header), None)[0].contains("`trusted-header` is given"));
        assert!(says(&["link"], None, Some("/t"))[0].contains("`token-file` is given"));
        assert!(says(&["tokens"], None, Some("t"))[0].contains("`t` is not absolute"));
        let bad_from = ("Remote-User", &["10.0.0.5/24", "x"][..]);
        assert_eq!(says(&["header"], Some(bad_from), None).len(), 2);
        let nobody = ("Remote-User", &[][..]);
        assert!(says(&["header"], Some(nobody), None)[0].starts_with("bad `trusted-header.from`"));
        let host = ("Host", &["10.0.0.5"][..]);
        assert!(says(&["header"], Some(host), None)[0].starts_with("bad `trusted-header.name`"));
    }
}
