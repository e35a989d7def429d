//! The IDEs that sessions may run, as they are written in the file, or the one that flags tell of.

use std::error::Error as StdError;

use serde::Deserialize;

use super::{Gathered, error::ConfigError, parse};
use crate::{
    ide::IdeConfig,
    job::script::{IdeKind, JobScript},
    names::IdeName,
};

const DEFAULT_COMMAND: &str = "code serve-web --host 0.0.0.0 --port \"$IDE_PORT\" \
    --connection-token-file \"$IDE_TOKEN_FILE\" --accept-server-license-terms";
/// A button's text.
const LONGEST_TITLE: usize = 40;

/// An `[[ide]]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct IdeSettings {
    name: String,
    title: Option<String>,
    kind: Option<String>,
    command: String,
    socket: bool,
}

/// The settings of a single one.
#[derive(Debug, Default)]
pub(super) struct Single {
    pub(super) kind: Option<String>,
    pub(super) command: Option<String>,
    pub(super) socket: Option<bool>,
}

/// What jobs have in common, whatever IDE they run.
pub(super) struct Common {
    pub(super) hpc_proxy: String,
    pub(super) private_localhost: bool,
}

impl Single {
    fn given(&self) -> Option<&'static str> {
        let given = [
            ("ide-kind", self.kind.is_some()),
            ("ide-command", self.command.is_some()),
            ("ide-socket", self.socket.is_some()),
        ];
        given
            .into_iter()
            .find_map(|(setting, is_given)| is_given.then_some(setting))
    }
}

/// All of them, in the order of the file; `single` where there is no `[[ide]]`.
pub(super) fn ides(
    several: Vec<IdeSettings>,
    single: Single,
    common: &Common,
    wrong: &mut Gathered,
) -> Vec<IdeConfig> {
    let script = |kind, ide_command, ide_socket| JobScript {
        kind,
        hpc_proxy: common.hpc_proxy.clone(),
        ide_command,
        ide_socket,
        private_localhost: common.private_localhost,
    };
    if several.is_empty() {
        let kind = single.kind.as_deref().map(|kind| parse("ide-kind", kind));
        let kind: Option<IdeKind> = wrong.ok(kind.unwrap_or(Ok(IdeKind::default())));
        let command = single.command.unwrap_or_else(|| DEFAULT_COMMAND.into());
        let ide = kind.map(|kind| IdeConfig {
            name: kind.to_string().parse().expect("a kind is a name"),
            title: match kind {
                IdeKind::Vscode => "VS Code".into(),
                IdeKind::Other => "the IDE".into(),
            },
            script: script(kind, command, single.socket.unwrap_or(false)),
        });
        return ide.into_iter().collect();
    }
    if let Some(setting) = single.given() {
        wrong.push(ConfigError::BesideIdes(setting));
    }
    let mut known: Vec<IdeConfig> = Vec::new();
    for settings in several {
        let of_ide = |setting, source: Box<dyn StdError + Send + Sync>| ConfigError::OfIde {
            setting,
            ide: settings.name.clone(),
            source,
        };
        let name: Option<IdeName> = wrong.ok(parse("ide.name", &settings.name));
        let kind = settings
            .kind
            .as_deref()
            .map_or(Ok(IdeKind::default()), str::parse);
        let kind = wrong.ok(kind.map_err(|error| of_ide("kind", error.into())));
        let title = settings
            .title
            .clone()
            .unwrap_or_else(|| settings.name.clone());
        if !is_title(&title) {
            let why = format!("`{}` is not one short line", title.escape_debug());
            wrong.push(of_ide("title", why.into()));
        }
        if settings.command.trim().is_empty() {
            wrong.push(of_ide("command", "it is empty".into()));
        }
        let Some((name, kind)) = name.zip(kind) else {
            continue;
        };
        if known.iter().any(|other| other.name == name) {
            wrong.push(ConfigError::TwoIdes(name));
            continue;
        }
        let script = script(kind, settings.command, settings.socket);
        known.push(IdeConfig {
            name,
            title,
            script,
        });
    }
    known
}

fn is_title(text: &str) -> bool {
    !text.trim().is_empty()
        && text.chars().count() <= LONGEST_TITLE
        && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Written {
        ide: Vec<IdeSettings>,
    }

    fn read(text: &str, single: Single) -> Result<Vec<IdeConfig>, Vec<String>> {
        let Written { ide } = toml::from_str(text).unwrap();
        let common = Common {
            hpc_proxy: "/opt/hpc-proxy".into(),
            private_localhost: true,
        };
        let mut wrong = Gathered::default();
        let ides = ides(ide, single, &common, &mut wrong);
        wrong
            .finish(Some(ides))
            .map_err(|errors| errors.iter().map(|error| format!("{error:#}")).collect())
    }

    #[test]
    fn without_any_there_is_vs_code() {
        let ides = read("", Single::default()).unwrap();
        assert_eq!((ides.len(), ides[0].name.as_str()), (1, "vscode"));
        assert_eq!(
            (ides[0].title.as_str(), ides[0].script.kind),
            ("VS Code", IdeKind::Vscode)
        );
        assert!(
            ides[0]
                .script
                .ide_command
                .starts_with("code serve-web --host 0.0.0.0 --port")
        );
    }

    #[test]
    fn flags_tell_of_one() {
        let single = Single {
            kind: Some("other".into()),
            command: Some("jupyter lab".into()),
            socket: None,
        };
        let [ide] = &read("", single).unwrap()[..] else {
            panic!("one is told of");
        };
        assert_eq!(
            (ide.name.as_str(), ide.script.kind),
            ("other", IdeKind::Other)
        );
        assert_eq!(ide.script.ide_command, "jupyter lab");
    }

    #[test]
    fn a_file_tells_of_several() {
        let text = r#"
            [[ide]]
            name = "code"
            title = "VS Code"
            command = "code-server"
            socket = true
            [[ide]]
            name = "rstudio"
            kind = "other"
            command = "rserver"
        "#;
        let [code, rstudio] = &read(text, Single::default()).unwrap()[..] else {
            panic!("there are two");
        };
        assert_eq!(
            (code.name.as_str(), code.title.as_str()),
            ("code", "VS Code")
        );
        assert!(code.script.ide_socket && code.script.private_localhost);
        assert_eq!(code.script.hpc_proxy, "/opt/hpc-proxy");
        assert_eq!(
            (rstudio.title.as_str(), rstudio.script.kind),
            ("rstudio", IdeKind::Other)
        );
        assert!(!rstudio.script.ide_socket);
    }

    #[test]
    fn what_is_wrong_is_told_at_once() {
        let text = r#"
            [[ide]]
            name = "a b"
            command = "x"
            [[ide]]
            name = "x"
            kind = "emacs"
            title = ""
            [[ide]]
            name = "y"
            command = "y"
            [[ide]]
            name = "y"
            command = "z"
        "#;
        let single = Single {
            command: Some("z".into()),
            ..Single::default()
        };
        let wrong = read(text, single).unwrap_err();
        for said in [
            "`ide-command` is given beside `[[ide]]`",
            "bad `ide.name`",
            "bad `kind` of the `[[ide]]` called `x`",
            "bad `title` of the `[[ide]]` called `x`",
            "bad `command` of the `[[ide]]` called `x`",
            "`[[ide]]` `y` is there twice",
        ] {
            assert!(
                wrong.iter().any(|error| error.starts_with(said)),
                "{said}: {wrong:?}"
            );
        }
        assert_eq!(wrong.len(), 6, "{wrong:?}");
    }
}
