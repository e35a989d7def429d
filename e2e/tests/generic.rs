//! No dev server is treated by its name: what helps one must help all that are alike.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use e2e::compat::case::Case;

/// Known ones beside our cases, which nobody shall think of either.
const OTHERS: [&str; 23] = [
    "angular",
    "astro",
    "engine.io",
    "express",
    "gatsby",
    "gradio",
    "jupyter",
    "livereload",
    "mkdocs",
    "nuxt",
    "panel",
    "parcel",
    "rails",
    "react",
    "remix",
    "rstudio",
    "rsbuild",
    "socket.io",
    "svelte",
    "tornado",
    "vue",
    "werkzeug",
    "uvicorn",
];

/// Prints the settings with which a person may give a server a base path: a table of names, asked by name.
const EXCEPTION: &str = "proxy/src/framework.rs";

/// Names in comments, which are reasons, and in units' own tests, which are examples, do no harm.
#[test]
fn no_dev_server_is_named_in_what_ships() -> Result<()> {
    let mut names: BTreeSet<String> = OTHERS.map(str::to_owned).into();
    names.extend(Case::named(&[])?.into_iter().map(|case| case.name));
    // Not a name of its own.
    names.remove("http-server");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the workspace")?;
    let mut files = Vec::new();
    for dir in ["proxy/src", "manager-sim/src"] {
        below(&root.join(dir), &mut files)?;
    }
    assert!(
        files.len() > 50,
        "there should be more to look at: {}",
        files.len()
    );
    let mut named = Vec::new();
    for file in files {
        let place = file.strip_prefix(root)?.display().to_string();
        if place == EXCEPTION || place.ends_with("tests.rs") || place.contains("/tests/") {
            continue;
        }
        let text = std::fs::read_to_string(&file).with_context(|| place.clone())?;
        for (number, line) in code(&text) {
            let words = names
                .iter()
                .filter(|name| has_word(&line.to_lowercase(), name));
            named.extend(words.map(|name| format!("{place}:{number} names {name}")));
        }
    }
    assert!(named.is_empty(), "{}", named.join("\n"));
    Ok(())
}

#[test]
fn a_name_is_found_as_a_word_of_code() {
    let text = "// as vite does\nif agent == \"Vite/6\" {\n /* flask\n flask */ invite();\n#[cfg(test)]\nvite\n";
    let found: Vec<usize> = code(text)
        .filter(|(_, line)| has_word(&line.to_lowercase(), "vite") || has_word(line, "flask"))
        .map(|(number, _)| number)
        .collect();
    assert_eq!(found, [2]);
}

fn below(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in dir.read_dir().with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            below(&path, files)?;
        } else if path.extension().is_some_and(|it| {
            ["rs", "js", "html", "css"].contains(&it.to_str().unwrap_or_default())
        }) {
            files.push(path);
        }
    }
    Ok(())
}

/// The numbered lines without comments, up to the unit tests at a file's end.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut inside = false;
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter_map(move |(place, line)| {
            let mut rest = line.trim_start();
            if inside {
                rest = rest.split_once("*/")?.1;
                inside = false;
            }
            if let Some((before, comment)) = rest.split_once("/*") {
                inside = !comment.contains("*/");
                rest = before;
            }
            let rest = rest.split("// ").next().unwrap_or_default();
            (!rest.starts_with("//")).then_some((place + 1, rest))
        })
}

fn has_word(line: &str, word: &str) -> bool {
    let whole = |c: Option<char>| !c.is_some_and(|c| c.is_alphanumeric());
    line.match_indices(word).any(|(start, _)| {
        whole(line[..start].chars().next_back()) && whole(line[start + word.len()..].chars().next())
    })
}
