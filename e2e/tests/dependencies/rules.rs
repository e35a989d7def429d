//! The rules of deny.toml that can be judged from a package's name, version, licence and source alone.

use cargo_metadata::semver::{Version, VersionReq};
use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

/// What is judged of a package. One without a source is our own.
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) licence: Option<String>,
    pub(crate) source: Option<String>,
}

/// The part of deny.toml that needs no database.
#[derive(Deserialize)]
pub(crate) struct Rules {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<LicenseException>,
}

#[derive(Deserialize)]
struct LicenseException {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    /// As cargo-deny writes it: `name`, `name:requirement` or `name@version`.
    #[serde(rename = "crate")]
    spec: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

impl Rules {
    pub(crate) fn parse(text: &str) -> Self {
        toml::from_str(text).expect("deny.toml should have the sections that are enforced here")
    }

    /// A line for each rule that `package` breaks.
    pub(crate) fn broken_by(&self, package: &Package) -> Vec<String> {
        let mut broken = Vec::new();
        let mut says = |what: String| {
            broken.push(format!("{} {}: {what}", package.name, package.version));
        };
        let licence = package.licence.as_deref().unwrap_or_default();
        if !self.allows_licence(&package.name, licence) {
            says(format!("its licence is `{licence}`"));
        }
        for ban in self.bans.deny.iter().filter(|ban| ban.holds_for(package)) {
            says(format!("banned: {}", ban.reason));
        }
        if let Some(source) = &package.source {
            let registry = source.strip_prefix("registry+").unwrap_or_default();
            if !self
                .sources
                .allow_registry
                .iter()
                .any(|allowed| allowed == registry)
            {
                says(format!("it comes from `{source}`"));
            }
        }
        broken
    }

    fn allows_licence(&self, name: &str, licence: &str) -> bool {
        let special = self
            .licenses
            .exceptions
            .iter()
            .filter(|exception| exception.name == name);
        let allowed: Vec<Licensee> = special
            .flat_map(|exception| &exception.allow)
            .chain(&self.licenses.allow)
            .map(|licence| Licensee::parse(licence).expect("an allowed licence has an SPDX name"))
            .collect();
        // Some packages still write `MIT/Apache-2.0`.
        Expression::parse_mode(licence, ParseMode::LAX).is_ok_and(|expression| {
            expression.evaluate(|wanted| allowed.iter().any(|licence| licence.satisfies(wanted)))
        })
    }
}

impl Ban {
    fn holds_for(&self, package: &Package) -> bool {
        let (name, versions) = match self.spec.split_once([':', '@']) {
            None => (self.spec.as_str(), VersionReq::STAR),
            Some((name, versions)) => {
                let exactly = if self.spec.contains('@') { "=" } else { "" };
                let versions = format!("{exactly}{versions}");
                (
                    name,
                    VersionReq::parse(&versions).expect("a ban names versions as Cargo does"),
                )
            }
        };
        name == package.name && versions.matches(&package.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
    [licenses]
    allow = ["MIT", "Apache-2.0"]
    exceptions = [{ crate = "odd", allow = ["MPL-2.0"] }]
    [bans]
    deny = [
      { crate = "never", reason = "not wanted" },
      { crate = "old:>=1.2, <1.4.1", reason = "RUSTSEC-0000-0000" },
      { crate = "exact@2.0.0", reason = "yanked" },
    ]
    [sources]
    allow-registry = ["https://example.org/index"]
"#;

    #[test]
    fn a_licence_must_be_allowed_for_everyone_or_for_that_package() {
        let broken =
            |name, licence| broken_by(name, "1.0.0", licence, "registry+https://example.org/index");
        for fine in [
            "MIT",
            "MIT OR GPL-3.0-only",
            "MIT/Apache-2.0",
            "(MIT OR Zlib) AND Apache-2.0",
        ] {
            assert_eq!(broken("plain", fine), [""; 0], "{fine}");
        }
        for wrong in [
            "GPL-3.0-only",
            "MIT AND GPL-3.0-only",
            "MPL-2.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert_eq!(
                broken("plain", wrong),
                [format!("plain 1.0.0: its licence is `{wrong}`")]
            );
        }
        assert_eq!(broken("odd", "MPL-2.0"), [""; 0]);
        assert_eq!(broken("plain", "no such thing").len(), 1);
        assert_eq!(broken("plain", "").len(), 1);
    }

    #[test]
    fn a_ban_holds_for_the_versions_that_it_names() {
        let broken =
            |name, version| broken_by(name, version, "MIT", "registry+https://example.org/index");
        assert_eq!(
            broken("never", "7.0.0"),
            ["never 7.0.0: banned: not wanted"]
        );
        assert_eq!(
            broken("old", "1.4.0"),
            ["old 1.4.0: banned: RUSTSEC-0000-0000"]
        );
        assert_eq!(broken("exact", "2.0.0").len(), 1);
        for (name, version) in [
            ("old", "1.1.9"),
            ("old", "1.4.1"),
            ("exact", "2.0.1"),
            ("older", "1.3.0"),
        ] {
            assert_eq!(broken(name, version), [""; 0], "{name} {version}");
        }
    }

    #[test]
    fn a_package_comes_from_an_allowed_registry() {
        let broken = |source| broken_by("plain", "1.0.0", "MIT", source);
        for wrong in [
            "registry+https://example.com/index",
            "git+https://example.org/index",
        ] {
            assert_eq!(
                broken(wrong),
                [format!("plain 1.0.0: it comes from `{wrong}`")]
            );
        }
    }

    fn broken_by(name: &str, version: &str, licence: &str, source: &str) -> Vec<String> {
        let package = Package {
            name: name.to_owned(),
            version: version.parse().unwrap(),
            licence: Some(licence.to_owned()),
            source: Some(source.to_owned()),
        };
        Rules::parse(RULES).broken_by(&package)
    }
}
