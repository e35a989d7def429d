//! The whole table against our own proxy, and proof that its rows can fail.

use std::{
    env,
    path::{Path, PathBuf},
};

use conformance::{Kind, Options, Report, Verdict, run};

#[test]
fn every_row_of_ours_passes() {
    let report = play(Kind::HpcProxy, hpc_proxy(), &[]);
    let failed = report.failed().count();
    assert_eq!(failed, 0, "{failed} rows failed:\n{}", only_failed(&report));
}

// A thread that forwards bytes is no proxy, and must not be mistaken for one.
#[test]
fn rows_fail_against_a_forwarder_of_bytes() {
    let rows = ["B33.5", "B34.1", "C55.1", "D74.6", "D82.1", "D87.1"];
    let report = play(Kind::PassThrough, PathBuf::new(), &rows);
    assert_eq!(fails(&report), rows, "{report}");
}

// nginx is a good proxy and another one: what it does differently is seen, what it does alike passes.
#[test]
fn rows_tell_nginx_from_ours() {
    let Some(nginx) = in_path("nginx") else {
        println!("skipped: needs: nginx");
        return;
    };
    let (different, alike) = (
        ["A6.1", "A9.1", "B34.1", "D87.1"],
        ["A1.1", "C55.1", "C63.1"],
    );
    let report = play(Kind::Nginx, nginx, &[different.as_slice(), &alike].concat());
    assert_eq!(fails(&report), different, "{report}");
}

fn play(kind: Kind, program: PathBuf, only: &[&str]) -> Report {
    let options = Options {
        kind,
        program,
        only: only.iter().map(ToString::to_string).collect(),
        is_slow: false,
        helper: Some(env!("CARGO_BIN_EXE_conformance").into()),
    };
    run(&options).unwrap()
}

/// The ids of the rows that failed, in the table's order.
fn fails(report: &Report) -> Vec<&str> {
    report.failed().map(|line| line.id.as_str()).collect()
}

/// The table without the rows that tell nothing.
fn only_failed(report: &Report) -> Report {
    let told = |verdict: &Verdict| matches!(verdict, Verdict::Fail(_) | Verdict::Skip(_));
    let lines = report
        .lines
        .iter()
        .filter(|line| told(&line.verdict))
        .cloned();
    Report {
        lines: lines.collect(),
        elapsed: report.elapsed,
    }
}

/// `HPC_PROXY_BIN`, else the workspace's own: Cargo puts tests one directory below its programs.
fn hpc_proxy() -> PathBuf {
    if let Some(program) = env::var_os("HPC_PROXY_BIN") {
        return std::path::absolute(program).unwrap();
    }
    let here = env::current_exe().unwrap();
    let program = here.ancestors().nth(2).unwrap().join("hpc-proxy");
    assert!(
        program.exists(),
        "`{}` is not built\nhint: cargo build --workspace --bins",
        program.display()
    );
    program
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let mut places = env::split_paths(&path).chain([Path::new("/usr/sbin").into()]);
    places.find_map(|place| Some(place.join(name)).filter(|program| program.exists()))
}
