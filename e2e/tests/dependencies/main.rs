//! Every package of the lock file against deny.toml, and our own crates against the direction that their
//! dependencies must have. It asks no database: `just deny` does, where there is one.

mod rules;

use std::collections::BTreeSet;
use std::path::Path;

use cargo_metadata::semver::Version;
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use serde::Deserialize;

use rules::{Package, Rules};

#[test]
fn every_package_is_allowed() {
    let rules = Rules::parse(&read("deny.toml"));
    let broken: Vec<String> = packages()
        .iter()
        .flat_map(|package| rules.broken_by(package))
        .collect();
    assert!(
        broken.is_empty(),
        "against deny.toml:\n{}",
        broken.join("\n")
    );
}

#[test]
fn no_package_of_the_lock_file_escapes() {
    #[derive(Deserialize)]
    struct Lock {
        package: Vec<Locked>,
    }
    #[derive(Deserialize)]
    struct Locked {
        name: String,
        version: Version,
    }
    let lock: Lock = toml::from_str(&read("Cargo.lock")).unwrap();
    let locked: BTreeSet<_> = lock
        .package
        .into_iter()
        .map(|it| (it.name, it.version))
        .collect();
    let seen: BTreeSet<_> = packages()
        .into_iter()
        .map(|it| (it.name, it.version))
        .collect();
    assert_eq!(locked, seen);
}

#[test]
fn what_ships_has_neither_ssh_nor_tls_nor_another_http() {
    let metadata = metadata();
    for program in ["hpc-proxy", "manager-sim"] {
        let shipped = linked_into(program, &metadata);
        assert!(
            shipped.contains("tokio"),
            "the walk should see what is linked: {shipped:?}"
        );
        for unwanted in ["russh", "ring", "rustls", "reqwest", "axum", "hyper"] {
            assert!(!shipped.contains(unwanted), "{program} links `{unwanted}`");
        }
    }
}

#[test]
fn dependencies_between_our_crates_point_one_way() {
    let metadata = metadata();
    let ours: BTreeSet<&str> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    for package in metadata.workspace_packages() {
        let allowed: &[&str] = match package.name.as_str() {
            "manager-sim" | "fuzz" => &["hpc-proxy"],
            "hpc-proxy" => &["private-localhost"],
            // The stories run programs: a bug shared by both ends could hide from them otherwise.
            _ => &[],
        };
        for dependency in &package.dependencies {
            let name = dependency.name.as_str();
            assert!(
                !ours.contains(name) || allowed.contains(&name),
                "`{}` must not depend on `{name}`",
                package.name
            );
        }
    }
}

fn packages() -> Vec<Package> {
    let packages = metadata().packages.into_iter().map(|package| Package {
        name: package.name.to_string(),
        version: package.version,
        licence: package.license,
        source: package.source.map(|source| source.repr),
    });
    packages.collect()
}

/// Of all platforms and features. Cargo needs the network for that only if it never saw a package.
fn metadata() -> Metadata {
    MetadataCommand::new()
        .current_dir(root())
        .other_options(["--locked", "--all-features"].map(str::to_owned))
        .exec()
        .expect("`cargo metadata --locked` should work; without a network after `cargo fetch` only")
}

/// What is linked into the programs of `name`: neither build scripts' dependencies nor tests'.
fn linked_into(name: &str, metadata: &Metadata) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().expect("cargo metadata resolves");
    let root = metadata
        .packages
        .iter()
        .find(|package| package.name == name)
        .unwrap();
    let mut seen = BTreeSet::<&PackageId>::new();
    let mut waiting = vec![&root.id];
    while let Some(id) = waiting.pop() {
        if !seen.insert(id) {
            continue;
        }
        let node = resolve.nodes.iter().find(|node| node.id == *id).unwrap();
        let linked = node.deps.iter().filter(|dependency| {
            dependency
                .dep_kinds
                .iter()
                .any(|kind| kind.kind == DependencyKind::Normal)
        });
        waiting.extend(linked.map(|dependency| &dependency.pkg));
    }
    seen.iter()
        .map(|id| metadata[id].name.to_string())
        .collect()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
