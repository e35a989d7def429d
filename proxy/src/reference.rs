//! The manual pages and completions that packages hold, kept in `packaging/`: this holds them
//! against the command line, and `just reference` writes them anew. The program itself needs neither.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;

const NAME: &str = "hpc-proxy";
/// Set by `just reference`.
const WRITE: &str = "HPC_PROXY_WRITE_REFERENCE";

#[test]
fn the_manual_and_the_completions_are_current() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging");
    let files = files();
    if std::env::var_os(WRITE).is_some() {
        for (path, text) in &files {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }
    for (path, text) in &files {
        let kept = fs::read_to_string(dir.join(path)).unwrap_or_default();
        assert!(
            kept == *text,
            "packaging/{} is not what --help says: just reference",
            path.display()
        );
    }
    for kind in ["man", "completions"] {
        for entry in dir.join(kind).read_dir().unwrap() {
            let path = Path::new(kind).join(entry.unwrap().file_name());
            assert!(
                files.contains_key(&path),
                "packaging/{} is stale",
                path.display()
            );
        }
    }
}

/// Each by its path below `packaging/`.
fn files() -> BTreeMap<PathBuf, String> {
    let mut command = Cli::command();
    let mut files = BTreeMap::new();
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut command, NAME, &mut script);
        let file = match shell {
            Shell::Zsh => format!("completions/_{NAME}"),
            _ => format!("completions/{NAME}.{shell}"),
        };
        files.insert(file.into(), String::from_utf8(script).unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    clap_mangen::generate_to(Cli::command(), dir.path()).unwrap();
    for entry in dir.path().read_dir().unwrap() {
        let entry = entry.unwrap();
        let text = fs::read_to_string(entry.path()).unwrap();
        files.insert(Path::new("man").join(entry.file_name()), text);
    }
    files
}
