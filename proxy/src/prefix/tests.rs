use std::{
    io::{Seek, Write},
    process::Command,
};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use url::{Host as UrlHost, Url};

use super::*;

#[derive(Deserialize)]
struct Group {
    name: String,
    view: Stated,
    url: Vec<(String, String)>,
    srcset: Vec<(String, String)>,
    unprefix: Vec<(String, String)>,
}

/// As the tag of the shim states it.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Stated {
    prefix: String,
    siblings: String,
    port: Option<u16>,
    front: String,
    secure: bool,
}

impl Stated {
    fn prefixer(&self) -> Prefixer {
        let (before, after) = self.siblings.split_once("{}").unwrap();
        let siblings = match before.strip_prefix("//") {
            Some(before) => Siblings::Host {
                before: before.into(),
                after: after.into(),
            },
            None => Siblings::Path(before.into()),
        };
        Prefixer {
            prefix: self.prefix.clone(),
            siblings,
            port: self.port,
            front: self.front.clone(),
            secure: self.secure,
        }
    }
}

fn corpus() -> Vec<Group> {
    serde_json::from_str(include_str!("../../tests/prefix_corpus.json")).unwrap()
}

// Behaviour 87.
#[test]
fn what_a_server_wrote_becomes_what_a_browser_must_ask_for() {
    for group in corpus() {
        let prefixer = group.view.prefixer();
        for (written, moved) in &group.url {
            assert_eq!(prefixer.url(written), *moved, "{written} {}", group.name);
            assert_eq!(prefixer.url(moved), *moved, "again: {moved} {}", group.name);
        }
        for (written, moved) in &group.srcset {
            assert_eq!(prefixer.srcset(written), *moved, "{written} {}", group.name);
            assert_eq!(
                prefixer.srcset(moved),
                *moved,
                "again: {moved} {}",
                group.name
            );
        }
        for (moved, written) in &group.unprefix {
            assert_eq!(prefixer.unprefix(moved), *written, "{moved} {}", group.name);
        }
    }
}

#[test]
fn what_stays_is_not_copied() {
    let prefixer = corpus()[0].view.prefixer();
    for written in ["x", "/user/x/port/5173/x", "https://example.org/", "\t#f "] {
        assert!(
            matches!(prefixer.url(written), Cow::Borrowed(_)),
            "{written}"
        );
    }
}

/// The `url` crate takes a third slash for an empty host; the Standard and browsers skip it.
fn join(base: &Url, written: &str) -> Option<Url> {
    let text = reference::clean(written);
    let host = text.trim_start_matches(['/', '\\']);
    if text.len() - host.len() > 2 {
        base.join(&format!("//{host}")).ok()
    } else {
        base.join(written).ok()
    }
}

/// What a URL means to the server's own page, told by a parser that is not ours.
#[derive(Debug, PartialEq)]
enum Meaning {
    /// Not a URL, or one of somebody else.
    Foreign,
    /// What was moved before.
    Moved,
    Own(String),
    Port(u16, String),
}

fn meaning(view: &Prefixer, written: &str) -> Meaning {
    let scheme = if view.secure { "https" } else { "http" };
    let page = Url::parse(&format!("{scheme}://{}/dir/page", view.front)).unwrap();
    let Some(url) = join(&page, written) else {
        return Meaning::Foreign;
    };
    if !["http", "https", "ws", "wss"].contains(&url.scheme()) {
        return Meaning::Foreign;
    }
    let safe = ["https", "wss"].contains(&url.scheme());
    let front = Url::parse(&format!(
        "{}://{}/",
        if safe { "https" } else { "http" },
        view.front
    ))
    .unwrap();
    let usual = if view.secure { 443 } else { 80 };
    let front_port = front.port().filter(|port| *port != usual);
    let rest = url[url::Position::BeforePath..].to_owned();
    // Said with an authority, or as a bare path?
    let bare = {
        let elsewhere = Url::parse(&format!("{scheme}://elsewhere.example/dir/page")).unwrap();
        join(&elsewhere, written).unwrap().host_str() == Some("elsewhere.example")
    };
    let below = |path: &str, rest: &str| {
        rest.strip_prefix(path)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
    };
    if url.host_str() == front.host_str() && url.port() == front_port {
        if below(&view.prefix, &rest) {
            return Meaning::Moved;
        }
        if let Siblings::Path(siblings) = &view.siblings
            && !bare
            && (1..=u16::MAX).any(|port| below(&format!("{siblings}{port}"), &rest))
        {
            return Meaning::Moved;
        }
        return Meaning::Own(rest);
    }
    if let Siblings::Host { before, after } = &view.siblings {
        let authority = &url[url::Position::BeforeHost..url::Position::AfterPort];
        if let Some(number) = authority
            .strip_prefix(before.as_str())
            .and_then(|x| x.strip_suffix(after.as_str()))
            && number
                .parse()
                .is_ok_and(|port: u16| port.to_string() == number && port > 0)
        {
            return Meaning::Moved;
        }
    }
    let loopback = match url.host().unwrap() {
        UrlHost::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost" || name.ends_with(".localhost")
        }
        UrlHost::Ipv4(address) => address.is_loopback() || address.is_unspecified(),
        UrlHost::Ipv6(address) => address.is_loopback() || address.is_unspecified(),
    };
    if !loopback && url.host_str() != front.host_str() {
        return Meaning::Foreign;
    }
    if url.port_or_known_default() == view.port {
        return Meaning::Own(rest);
    }
    match url.port() {
        None | Some(0) => Meaning::Foreign,
        Some(port) => Meaning::Port(port, rest),
    }
}

/// Whether it leads to a place that depends on the directory of the page.
fn is_relative(view: &Prefixer, written: &str) -> bool {
    let scheme = if view.secure { "https" } else { "http" };
    let below = |top: &str| {
        let deep = format!("{scheme}://elsewhere.example/{top}/{}page", "d/".repeat(20));
        join(&Url::parse(&deep).unwrap(), written)
    };
    below("a") != below("b")
}

/// Where a browser on the page goes for `url`.
fn goes_to(view: &Prefixer, url: &str) -> Option<Url> {
    let scheme = if view.secure { "https" } else { "http" };
    let page = format!("{scheme}://{}{}/dir/page", view.front, view.prefix);
    join(&Url::parse(&page).unwrap(), url)
}

fn view() -> impl Strategy<Value = Prefixer> {
    (0..corpus().len()).prop_map(|at| corpus()[at].view.prefixer())
}

/// Whether a directory looks like a drive. The `url` crate lets no `..` leave one, whatever the scheme;
/// the Standard and browsers keep that for `file:`.
fn has_drive(written: &str) -> bool {
    let text = reference::clean(written);
    let places = text.split(['/', '\\', '?', '#']).enumerate();
    places.filter(|place| *place != (0, "x:")).any(|(_, name)| {
        let mut from_end = name.chars().rev();
        matches!(from_end.next(), Some(':' | '|'))
            && from_end
                .next()
                .is_some_and(|letter| letter.is_ascii_alphabetic())
            && matches!(from_end.next(), None | Some(':'))
    })
}

/// Pieces of which each joint is a case.
fn written() -> impl Strategy<Value = String> {
    let scheme = prop::sample::select(vec![
        "", "", "", "http:", "https:", "ws:", "wss:", "hTTp:", "ftp:", "data:", "x:", " \u{1}",
        "\thttp:", "ht\ntps:",
    ]);
    let slashes = prop::sample::select(vec![
        "", "/", "/", "//", "//", "//", "\\", "/\\", "///", "/\t/",
    ]);
    let user = prop::sample::select(vec!["", "", "", "", "u@", "u:p@", "a@b@", "@"]);
    let host = prop::sample::select(vec![
        "hpc.example.org",
        "HPC.Example.org",
        "localhost",
        "LocalHost",
        "a.localhost",
        "localhost.",
        "127.0.0.1",
        "127.1",
        "0x7f.0.0.1",
        "0177.1",
        "2130706433",
        "128.1",
        "127.0.0.0.1",
        "0.0.0.0",
        "[::1]",
        "[0::1]",
        "[::]",
        "[::2]",
        "[::1",
        "5173--s1.apps.example.org",
        "8000--s1.apps.example.org",
        "5173.localhost",
        "8000.localhost",
        "example.org",
        "%6cocalhost",
        "local%20host",
        "localhost%2f",
        "",
        "x",
        "..",
        "user",
        "port",
        "localhost.example.org",
        "x^y",
        "a b",
        "1.",
        "0x",
        "09",
    ]);
    let port = prop::sample::select(vec![
        "", "", ":8080", ":5173", ":8000", ":40000", ":80", ":443", ":", ":0", ":05173", ":65536",
        ":8x",
    ]);
    let part = prop::sample::select(vec![
        "",
        "/",
        "/",
        "//",
        "\\",
        "/.",
        "/..",
        "/%2e",
        "/.%2E",
        "..",
        "/x",
        "x",
        "/user/x",
        "/port",
        "/5173",
        "/8000",
        "/80000",
        "/user/x/port/5173",
        "/user/x/port/8000",
        "/port/5173",
        "/port/8000",
        "?",
        "#",
        "?a=/b",
        "#/c",
        " ",
        "\n",
        "é",
        "%2F",
        ":",
        "@",
        ",",
    ]);
    let path = prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat());
    prop_oneof![
        8 => (scheme, slashes, user, host, port, path.clone())
            .prop_map(|(a, b, c, d, e, f)| format!("{a}{b}{c}{d}{e}{f}")),
        4 => path,
        1 => any::<String>(),
    ]
    .prop_filter("a drive", |written| !has_drive(written))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_moved_url_leads_to_what_was_meant(view in view(), written in written()) {
        let moved = view.url(&written);
        let expected = match meaning(&view, &written) {
            // An IDNA form of a name is not looked for.
            Meaning::Foreign => {
                prop_assert_eq!(&*moved, &*written);
                return Ok(());
            }
            _ if !written.is_ascii() && *moved == *written => return Ok(()),
            Meaning::Moved => goes_to(&view, &written),
            Meaning::Own(rest) => {
                // What is relative is left to the browser.
                if *moved == *written && !view.prefix.is_empty() {
                    prop_assert!(is_relative(&view, &written), "{:?} stays", written);
                    return Ok(());
                }
                goes_to(&view, &format!("//{}{}{rest}", view.front, view.prefix))
            }
            Meaning::Port(port, rest) => match &view.siblings {
                Siblings::Path(below) => goes_to(&view, &format!("//{}{below}{port}{rest}", view.front)),
                Siblings::Host { before, after } => goes_to(&view, &format!("//{before}{port}{after}{rest}")),
            },
        };
        let (expected, got) = (expected.unwrap(), goes_to(&view, &moved).unwrap());
        prop_assert_eq!(
            &got[url::Position::BeforeHost..], &expected[url::Position::BeforeHost..], "{:?} -> {:?}", written, moved
        );
        let safe = ["https", "wss"].contains(&got.scheme());
        prop_assert!(safe == view.secure || *moved == *written, "{:?} -> {:?}", written, moved);
    }

    #[test]
    fn a_url_is_moved_once(view in view(), written in written()) {
        let once = view.url(&written);
        prop_assert_eq!(view.url(&once), once.clone());
    }

    #[test]
    fn a_url_read_back_may_be_written_again(view in view(), written in written()) {
        let moved = view.url(&written);
        let back = view.unprefix(&moved).into_owned();
        // Whatever scheme it had, it gets that of the page.
        let place = |text: &str| {
            let url = goes_to(&view, text)?;
            let is_socket = url.scheme().starts_with("ws");
            Some((is_socket, url[url::Position::BeforeUsername..].to_owned()))
        };
        prop_assert_eq!(place(&view.url(&back)), place(&moved));
    }

    #[test]
    fn a_list_keeps_all_but_its_urls(view in view(), list in "[ ,/a:x()\t]{0,30}") {
        let moved = view.srcset(&list);
        let without = moved.replace(&view.prefix, "");
        if !view.prefix.is_empty() {
            prop_assert_eq!(without, list.replace(&view.prefix, ""));
        }
        prop_assert_eq!(view.srcset(&moved), moved.clone());
    }
}

/// A question to the rule's twin, and its answer here.
#[derive(Clone, Debug, Serialize)]
struct Question {
    view: Stated,
    how: &'static str,
    text: String,
}

impl Question {
    fn answer(&self) -> String {
        let prefixer = self.view.prefixer();
        let answer = match self.how {
            "url" => prefixer.url(&self.text),
            "srcset" => prefixer.srcset(&self.text),
            _ => prefixer.unprefix(&self.text),
        };
        answer.into_owned()
    }
}

/// The answers of the rule in `shim.js`, in Node, whose URLs are those of the Standard.
fn answers_of_the_twin(questions: &[Question]) -> Vec<String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rule.js");
    let mut lines = tempfile::tempfile().unwrap();
    for question in questions {
        serde_json::to_writer(&lines, question).unwrap();
        lines.write_all(b"\n").unwrap();
    }
    lines.rewind().unwrap();
    let node = Command::new("node")
        .arg(script)
        .stdin(lines)
        .output()
        .expect("node runs");
    assert!(
        node.status.success(),
        "{}",
        String::from_utf8_lossy(&node.stderr)
    );
    let answers = String::from_utf8(node.stdout).unwrap();
    answers
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn question() -> impl Strategy<Value = Question> {
    let views: Vec<Stated> = corpus().into_iter().map(|group| group.view).collect();
    let how = prop::sample::select(vec!["url", "url", "srcset", "unprefix"]);
    let list = prop::collection::vec(
        prop_oneof![written(), "[ ,(/)a\t]{1,4}", Just(" 2x, ".to_owned())],
        1..4,
    );
    let text = prop_oneof![4 => written(), 1 => list.prop_map(|parts| parts.concat())];
    (prop::sample::select(views), how, text).prop_map(|(view, how, text)| Question {
        view,
        how,
        text,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    #[test]
    fn both_writings_of_the_rule_agree(questions in prop::collection::vec(question(), 1500)) {
        let answers = answers_of_the_twin(&questions);
        prop_assert_eq!(answers.len(), questions.len());
        for (question, answer) in questions.iter().zip(answers) {
            prop_assert_eq!(answer, question.answer(), "{:?}", question);
        }
    }
}

#[test]
fn both_writings_of_the_rule_hold_the_corpus() {
    let groups = corpus();
    let cases = groups.iter().flat_map(|group| {
        let lists = [
            ("url", &group.url),
            ("srcset", &group.srcset),
            ("unprefix", &group.unprefix),
        ];
        lists.into_iter().flat_map(move |(how, list)| {
            list.iter().map(move |(text, answer)| {
                let (view, text) = (group.view.clone(), text.clone());
                (Question { view, how, text }, answer.clone())
            })
        })
    });
    let (questions, expected): (Vec<_>, Vec<_>) = cases.unzip();
    assert_eq!(answers_of_the_twin(&questions), expected);
}
