//! A real code-server as the IDE of a session, behind the manager: from the link on the page through a
//! terminal in the workbench to a dev server's page that reloads. `just code-server` installs it and
//! tells this story; no other run does.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use e2e::chromium::Chromium;
use e2e::cluster::Embedded;
use e2e::devserver::{DevServer as _, LiveServer};
use e2e::story::{Story, tell};
use e2e::user::User;
use e2e::world::World;
use e2e::{binaries, eventually};
use fantoccini::key::Key;
use serde_json::json;

/// For the workbench on a busy machine: some megabytes of scripts, and a server that starts.
const WORKBENCH_SECONDS: u64 = 60;

/// Where code-server keeps a user's settings, below home.
const SETTINGS: &str = ".local/share/code-server/User";

/// What a terminal shows.
const TERMINAL: &str = ".terminal-wrapper.active .xterm-rows";

const HAS_TERMINAL: &str =
    "return document.activeElement?.classList.contains('xterm-helper-textarea')";

/// As docs/site-guide.md says, but for what a test has no use for.
fn command(entry: &Path) -> String {
    format!(
        "exec node '{}' --auth none --socket \"$IDE_SOCKET\" --disable-telemetry \
         --disable-update-check --disable-workspace-trust \"$HOME\"",
        entry.display()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs code-server, which nothing else does: ./dev code-server"]
async fn a_terminal_of_code_server_starts_live_server() -> Story {
    tell(story()).await
}

async fn story() -> Story {
    let command = command(&binaries::code_server()?);
    let world = World::on(&Embedded).with_ide_on_socket(&command).await?;
    let alice = world.user("alice");
    // A page of its own would take the focus away whenever it comes.
    let no_greeting = r#"{ "workbench.startupEditor": "none" }"#;
    let settings = format!("mkdir -p {SETTINGS} && echo '{no_greeting}' >{SETTINGS}/settings.json");
    alice.on("login", &settings).await?;
    alice.launches(json!({})).await?;
    let session = alice.awaits("connected").await?;
    ensure!(session.ide.as_deref() == Some("/code/"), "{session:?}");

    let chromium = Chromium::start(world.dir()).await?;
    let link = world.manager().another_link("alice").await?;
    chromium.goes_to(&link).await?;
    let told = in_the_browser(&world, &alice, &chromium).await;
    chromium.shows_why(told).await?;
    chromium.closes().await?;
    world.ends_cleanly().await
}

async fn in_the_browser(world: &World, alice: &User<'_>, chromium: &Chromium) -> Result<()> {
    chromium.clicks("a.ide").await?;
    eventually!(WORKBENCH_SECONDS, "the workbench is there", {
        chromium.text_of(".monaco-workbench .statusbar").await
    })?;
    opens_a_terminal(chromium).await?;

    let live = LiveServer::on(5500).showing("version 0");
    alice.copies(live.site()).await?;
    let port = world.port(5500)?;
    // In the background, so that the terminal takes more commands.
    let command = live.command(world.site().tools(), port);
    enters(chromium, &format!("cd; {command} &")).await?;
    eventually!(30, "Live Server serves", {
        let shown = chromium.text_of(TERMINAL).await?;
        ensure!(shown.contains("Ready for changes"), "it says `{shown}`");
        Ok(())
    })?;

    let ide = chromium.opens_another_window().await?;
    let address = format!("/port/{port}/");
    chromium
        .goes_to(&alice.browser().address_of(&address))
        .await?;
    chromium.awaits_text(10, "#message", "version 0").await?;
    chromium.awaits_text(10, "#script", "has run").await?;
    chromium.runs("window.notReloaded = true").await?;

    // The page does not tell when its WebSocket is open: who is not heard saves once more.
    let file = format!("{}/index.html", live.site().dir());
    let mut versions = 1..;
    eventually!(30, "the page changes", {
        let version = versions.next().context("endless")?;
        let save = format!("sed -i 's/version [0-9]*/version {version}/' {file}");
        let page = chromium.turns_to(&ide).await?;
        enters(chromium, &save).await?;
        chromium.turns_to(&page).await?;
        let text = format!("version {version}");
        chromium.awaits_text(3, "#message", &text).await
    })?;
    let mark = chromium.runs("return window.notReloaded === undefined");
    ensure!(mark.await? == true, "the page was changed but not reloaded");
    Ok(())
}

/// By the command palette, once the workbench listens to keys.
async fn opens_a_terminal(chromium: &Chromium) -> Result<()> {
    eventually!(40, "a terminal has the focus", {
        chromium.presses(Key::F1).await?;
        enters(chromium, "Terminal: Create New Terminal").await?;
        eventually!(10, "it has it", {
            ensure!(chromium.runs(HAS_TERMINAL).await? == true, "not yet");
            Ok(())
        })
    })?;
    // Not before the shell listens.
    eventually!(20, "a prompt", {
        let shown = chromium.text_of(TERMINAL).await?;
        ensure!(!shown.trim().is_empty(), "nothing yet");
        Ok(())
    })
}

async fn enters(chromium: &Chromium, line: &str) -> Result<()> {
    chromium.types(line).await?;
    chromium.presses(Key::Enter).await
}
