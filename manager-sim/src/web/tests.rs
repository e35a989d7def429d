use hpc_proxy::ports::Listening;

use super::*;
use crate::{ide::Ides, session::PhaseName, sessions::Terms, state::State};

fn server(port: u16, process: &str, in_session: bool) -> Listening {
    let (address, process) = ("127.0.0.1".to_owned(), Some(process.to_owned()));
    Listening {
        port,
        address,
        process,
        pid: Some(1),
        in_session,
        title: Some("My page".to_owned()),
        ..Listening::default()
    }
}

fn terms() -> Terms {
    Terms {
        ides: Ides::example(&["jupyter"]),
        resources: crate::job::Resources::plain("4:00:00".parse().unwrap()),
        limits: crate::wish::Limits {
            partitions: vec!["gpu".parse().unwrap()],
            options: vec!["constraint".parse().unwrap()],
            ..crate::wish::Limits::default()
        },
        max_sessions: 4,
        idle_timeout: None,
    }
}

fn render(state: &State, servers: Option<&[Listening]>) -> String {
    render_all(state, std::slice::from_ref(state), servers)
}

fn render_all(selected: &State, sessions: &[State], servers: Option<&[Listening]>) -> String {
    let address = |port| Some(format!("http://{port}--7.localhost/"));
    let shown = Shown {
        user: &"alice".parse().unwrap(),
        signs_out: true,
        key: Some("ab"),
        live: Live {
            selected,
            sessions,
            servers,
        },
        terms: &terms(),
        clusters: &[],
    };
    page(&shown, &address).1
}

#[test]
fn several_sessions_are_told_apart() {
    let state = |id: &str, job: &str| State {
        id: Some(id.parse().unwrap()),
        phase: PhaseName::Connected,
        job: Some(job.into()),
        ide: Some("/code/?tkn=ab".into()),
        seconds_left: Some(3700),
        seconds_idle: Some(30),
        ..State::default()
    };
    let (mut first, mut second) = (state("aaaaaaaa", "7"), state("bbbbbbbb", "8"));
    first.ide_title = "VS Code".into();
    second.ide_title = "Jupyter & co".into();
    second.has_choice = true;
    let html = render_all(&second, &[second.clone(), first], None);
    for (id, shown) in [("aaaaaaaa", 1), ("bbbbbbbb", 0)] {
        let links = html.matches(&format!("href=\"/s/{id}/\"")).count();
        assert_eq!(links, shown, "{html}");
        for link in [
            format!("href=\"/s/{id}/code/?tkn=ab\""),
            format!("data-log=\"/log/{id}\""),
            format!("data-path=\"/api/v1/sessions/{id}\""),
        ] {
            assert_eq!(html.matches(&link).count(), 1, "{link}: {html}");
        }
    }
    assert!(html.contains("<dt>Time left</dt><dd>1 h 01 min</dd>") && !html.contains("Idle for"));
    assert!(
        html.contains("<option value=\"gpu\">gpu</option>")
            && html.contains("name=\"options.constraint\"")
    );
    assert!(
        html.contains("<option value=\"vscode\">VS Code</option>"),
        "{html}"
    );
    assert!(
        html.contains("Open VS Code<span") && html.contains("Open Jupyter &amp; co<span"),
        "{html}"
    );
    assert!(
        html.contains("<dt>IDE</dt><dd>Jupyter &amp; co</dd>"),
        "{html}"
    );
}

#[test]
fn a_connected_session_shows_its_servers_and_its_ide() {
    let state = State {
        id: Some("aaaaaaaa".parse().unwrap()),
        phase: PhaseName::Connected,
        job: Some("7".into()),
        ide: Some("/code/?tkn=ab".into()),
        ..State::default()
    };
    let html = render(
        &state,
        Some(&[server(5500, "node", true), server(3000, "vite", false)]),
    );
    assert!(html.contains("href=\"/port/5500/\"><span class=\"port\">5500</span> My page</a>"));
    assert!(html.contains(">node</span>"));
    assert!(html.contains("href=\"http://5500--7.localhost/\""));
    assert!(html.contains("href=\"/s/aaaaaaaa/code/?tkn=ab\""));
    assert!(html.contains(">Cancel<span"));
    assert!(html.find("/port/5500/") < html.find("Outside this session"));
    assert!(html.find("Outside this session") < html.find("/port/3000/"));
}

#[test]
fn an_ended_session_can_be_launched_again() {
    for phase in [PhaseName::None, PhaseName::Ended] {
        let html = render(
            &State {
                phase,
                ..State::default()
            },
            None,
        );
        assert!(
            html.contains(">Launch<") && !html.contains("data-method"),
            "{phase:?}"
        );
    }
}

// S25: a process or a scheduler may call itself anything.
#[test]
fn foreign_words_cannot_become_markup() {
    let state = State {
        id: Some("aaaaaaaa".parse().unwrap()),
        phase: PhaseName::Ended,
        job: Some("<i>".into()),
        node: Some("<u>".into()),
        why: Some("<script>\"'&".into()),
        trouble: Some("<b onload=x>".into()),
        ..State::default()
    };
    let html = render(&state, Some(&[server(1, "<img onerror=x>", true)]));
    assert!(
        html.contains("&lt;script&gt;") && html.contains("&lt;img"),
        "{html}"
    );
    for tag in ["<img", "<i>", "<u>", "<b ", "<script>"] {
        assert!(!html.contains(tag), "{tag}: {html}");
    }
}

#[test]
fn whoever_waits_is_told_how_far_it_is_and_why() {
    let state = |phase, why: &str| State {
        id: Some("aaaaaaaa".parse().unwrap()),
        phase,
        job: Some("7".into()),
        why: Some(why.into()),
        created: Some("2026-01-02T03:04:05Z".parse().unwrap()),
        ..State::default()
    };
    for (phase, why, said) in [
        (
            PhaseName::Pending,
            "Priority",
            "Other jobs go first. (Slurm: Priority)",
        ),
        (
            PhaseName::Pending,
            "Resources",
            "What it asks for is in use.",
        ),
        (
            PhaseName::Pending,
            "QOSMaxCpuPerUserLimit",
            "as much as is allowed",
        ),
        (PhaseName::Pending, "SomeNewWord", "(Slurm: SomeNewWord)"),
        (
            PhaseName::Ended,
            "Slurm says TIMEOUT",
            "It reached its time limit.",
        ),
        (
            PhaseName::Ended,
            "Slurm says OUT_OF_MEMORY (None)",
            "with more memory",
        ),
        (
            PhaseName::Ended,
            "it was cancelled",
            "It was cancelled. Launch another",
        ),
        (
            PhaseName::Ended,
            "nothing was submitted: no disk",
            "Nothing was submitted: no disk.",
        ),
    ] {
        let html = render(&state(phase, why), None);
        assert!(html.contains(said), "{why}: {html}");
    }
    let html = render(&state(PhaseName::Pending, "None"), None);
    for part in [
        "<progress max=\"4\" value=\"1\"",
        "<li aria-current=\"step\">Wait for a turn</li>",
        "data-since=\"1767323045\"",
    ] {
        assert!(html.contains(part), "{part}: {html}");
    }
    assert!(!html.contains("class=\"why\""), "{html}");
}

// A network is not Slurm.
#[test]
fn trouble_is_told_apart_from_what_slurm_says() {
    let state = State {
        id: Some("aaaaaaaa".parse().unwrap()),
        phase: PhaseName::Running,
        trouble: Some("ssh to `login` is cut off".into()),
        ..State::default()
    };
    let html = render(&state, None);
    let told = html.split_once("class=\"trouble\"").unwrap().1;
    let told = told.split_once("</p>").unwrap().0;
    assert!(
        told.contains("ssh to `login` is cut off. The manager tries again"),
        "{told}"
    );
    assert!(!html.contains("Slurm"), "{html}");
}

#[test]
fn every_field_has_a_label_a_hint_and_a_place_for_its_error() {
    let html = form::launch(&terms(), &[]);
    for name in [
        "partition",
        "time",
        "cpus",
        "mem",
        "gres",
        "account",
        "node",
        "options.constraint",
    ] {
        for part in [
            format!("<label for=\"field-{name}\">"),
            format!(
                "id=\"field-{name}\" name=\"{name}\" aria-describedby=\"hint-{name} error-{name}\""
            ),
            format!("id=\"hint-{name}\""),
            format!("id=\"error-{name}\""),
        ] {
            assert_eq!(html.matches(&part).count(), 1, "{part}: {html}");
        }
    }
    assert!(html.contains("Usually 4:00:00."), "{html}");
}

// A lab's page stays small, whatever its user runs.
#[test]
fn long_lists_and_titles_are_cut() {
    let many: Vec<_> = (2000..2400)
        .map(|port| server(port, "node", true))
        .collect();
    let state = State {
        phase: PhaseName::Connected,
        ..State::default()
    };
    let html = render(&state, Some(&many));
    assert!(
        html.contains("And 300 more.") && html.len() < 64 * 1024,
        "{}",
        html.len()
    );
    let mut long = server(5500, "node", true);
    long.title = Some("\u{e9}".repeat(5000));
    let html = render(&state, Some(&[long]));
    assert!(
        html.contains("\u{e9}\u{2026}</a>") && html.len() < 16 * 1024,
        "{}",
        html.len()
    );
}

#[test]
fn the_page_of_ports_shows_them_alone() {
    let selected = State::default();
    let shown = Shown {
        user: &"alice".parse().unwrap(),
        signs_out: false,
        key: Some("ab"),
        live: Live {
            selected: &selected,
            sessions: &[],
            servers: Some(&[server(5500, "node", true)]),
        },
        terms: &terms(),
        clusters: &[],
    };
    let html = ports(&shown, &|_| None).1;
    assert!(
        html.contains("href=\"/port/5500/\"") && !html.contains("id=\"launch\""),
        "{html}"
    );
}
