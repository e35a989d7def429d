//! `Set-Cookie`: confined to the prefix, and never one of the proxy's own.

use anyhow::{Result, ensure};

use crate::{
    row::{Met, Need, Row, story},
    stage::Stage,
};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut moves = |name: &str, from: &'static str, to: &'static [&'static str]| {
        rows.push(
            story("89, S12", name, move |stage| sets(stage, &[from], to)).needs(&[Need::Ownership]),
        );
    };
    moves(
        "a cookie of the root is confined to the prefix",
        "a=1; Path=/",
        &["a=1; Path={P}/"],
    );
    moves(
        "a cookie of a path is confined below the prefix",
        "a=1; Path=/app",
        &["a=1; Path={P}/app"],
    );
    // Without a path from the root a browser takes the directory of the request, which is below the
    // prefix (RFC 6265 section 5.1.4).
    moves(
        "a cookie without a path is confined, too",
        "a=1",
        &["a=1; Path={P}/", "a=1"],
    );
    moves(
        "a cookie with an empty path is confined, too",
        "a=1; Path=",
        &["a=1; Path={P}/", "a=1", "a=1; Path="],
    );
    moves(
        "a cookie with a relative path is confined, too",
        "a=1; Path=x",
        &["a=1; Path={P}/", "a=1", "a=1; Path=x"],
    );
    moves(
        "a path that has the prefix is not doubled",
        "a=1; Path={P}/x",
        &["a=1; Path={P}/x"],
    );
    moves(
        "the last path counts",
        "a=1; Path=/a; Path=/b",
        &["a=1; Path={P}/b", "a=1; Path={P}/a; Path={P}/b"],
    );
    moves(
        "attributes have no case",
        "a=1; PATH=/; domain=x",
        &["a=1; Path={P}/"],
    );
    moves(
        "a domain is dropped",
        "a=1; Path=/; Domain=example.org",
        &["a=1; Path={P}/"],
    );
    moves(
        "two domains are dropped",
        "a=1; Path=/; Domain=x; Domain=y",
        &["a=1; Path={P}/"],
    );
    moves(
        "commas of a date are kept",
        "a=1; Path=/; Expires=Wed, 21 Oct 2015 07:28:00 GMT",
        &["a=1; Path={P}/; Expires=Wed, 21 Oct 2015 07:28:00 GMT"],
    );
    moves(
        "unknown attributes are kept",
        "a=1; Path=/; HttpOnly; SameSite=None; Partitioned; Priority=High; X-New=\"y\"",
        &["a=1; Path={P}/; HttpOnly; SameSite=None; Partitioned; Priority=High; X-New=\"y\""],
    );
    moves(
        "Max-Age is kept",
        "a=; Path=/; Max-Age=0",
        &["a=; Path={P}/; Max-Age=0"],
    );
    moves(
        "a value with odd characters is kept",
        "a=x|y%3B\"z\"=,; Path=/",
        &["a=x|y%3B\"z\"=,; Path={P}/"],
    );
    moves(
        "a cookie without a name is kept or dropped",
        "=1; Path=/",
        &["=1; Path={P}/", ""],
    );
    moves(
        "a cookie without blanks is confined",
        "a=1;Path=/;Domain=x;HttpOnly",
        &["a=1; Path={P}/; HttpOnly"],
    );
    moves(
        "Secure is kept, even on plain HTTP",
        "a=1; Path=/; Secure",
        &["a=1; Path={P}/; Secure"],
    );
    moves(
        "the proxy's own cookie cannot be set",
        "__hpc_proxy=evil; Path=/",
        &[""],
    );
    moves(
        "the proxy's own cookie cannot be removed",
        "__hpc_proxy=; Path=/; Max-Age=0",
        &[""],
    );
    moves(
        "the proxy's own cookie cannot be set with blanks",
        " __hpc_proxy =evil; Path=/",
        &[""],
    );
    moves(
        "the proxy's own cookie cannot be set below a path",
        "__hpc_proxy=evil; Path=/x",
        &[""],
    );
    moves(
        "the proxy's TLS cookie cannot be set",
        "__Host-__hpc_proxy=evil; Secure; Path=/",
        &[""],
    );
    moves(
        "a __Host- cookie cannot be confined and is dropped",
        "__Host-a=1; Secure; Path=/",
        &[""],
    );
    moves(
        "a __host- cookie in another case is dropped, too",
        "__HOST-a=1; Secure; Path=/",
        &[""],
    );
    rows.push(
        story("89", "several cookies stay apart and in order", |stage| {
            let to = ["a=1; Path={P}/", "b=2; Path={P}/x", "a=3; Path={P}/"];
            sets_all(stage, &["a=1; Path=/", "b=2; Path=/x", "a=3; Path=/"], &to)
        })
        .needs(&[Need::Ownership]),
    );
    rows.push(
        story(
            "89, S12",
            "one bad cookie does not take the others with it",
            |stage| {
                let from = ["a=1; Path=/", "__hpc_proxy=evil", "b=2; Path=/"];
                sets_all(stage, &from, &["a=1; Path={P}/", "b=2; Path={P}/"])
            },
        )
        .needs(&[Need::Ownership]),
    );
    rows
}

/// One cookie, and the accepted forms of it; an empty form is none.
fn sets(stage: &Stage, from: &[&str], forms: &[&str]) -> Result<Met> {
    let seen = seen(stage, from)?;
    let wanted = |form: &&str| match form.is_empty() {
        true => seen.is_empty(),
        false => seen == [parts(&String::from_utf8_lossy(&stage.fill(form)))],
    };
    match forms.iter().position(wanted) {
        Some(_) if forms.len() == 1 => Ok(Met::Pass),
        Some(0) => Ok(Met::Aim),
        Some(other) => Ok(Met::Other(format!("as `{}`", forms[other]))),
        None => anyhow::bail!("`{from:?}` came as {seen:?}, wanted one of {forms:?}"),
    }
}

fn sets_all(stage: &Stage, from: &[&str], to: &[&str]) -> Result<Met> {
    let seen = seen(stage, from)?;
    let wanted: Vec<_> = to
        .iter()
        .map(|line| parts(&String::from_utf8_lossy(&stage.fill(line))))
        .collect();
    ensure!(seen == wanted, "{from:?} came as {seen:?}");
    Ok(Met::Pass)
}

fn seen(stage: &Stage, from: &[&str]) -> Result<Vec<Vec<String>>> {
    let mut client = stage.gets("/")?;
    let (mut server, _) = stage.accepts_head()?;
    let lines: String = from
        .iter()
        .map(|line| format!("Set-Cookie: {line}\r\n"))
        .collect();
    stage.sends(
        &mut server,
        format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n"),
    )?;
    let answer = client.answer("GET")?;
    ensure!(answer.head.status() == 200);
    let lines = answer.head.all("set-cookie");
    Ok(lines
        .map(|line| parts(&String::from_utf8_lossy(line)))
        .collect())
}

/// The pair as it is, and the attributes in no particular order or case of their names (RFC 6265
/// section 5.2).
fn parts(line: &str) -> Vec<String> {
    let mut parts = line.split(';').map(str::trim);
    let pair = parts.next().unwrap_or_default().to_owned();
    let mut attributes: Vec<_> = parts
        .map(|attribute| match attribute.split_once('=') {
            Some((name, value)) => format!("{}={value}", name.trim().to_lowercase()),
            None => attribute.to_lowercase(),
        })
        .collect();
    attributes.sort();
    attributes.insert(0, pair);
    attributes
}
