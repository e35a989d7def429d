//! The manager's pages in real Chromium, in each state that they can be in: whether axe-core finds
//! anything to complain of, in light and dark, and on a narrow screen; what they say; and that they
//! change by themselves. `just screenshots` keeps a picture of each.

mod look;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use e2e::cluster::{Embedded, Order};
use e2e::devserver::{LiveServer, Running};
use e2e::devtools::DevTools;
use e2e::story::{Story, tell};
use e2e::user::User;
use e2e::world::World;
use e2e::{binaries, ports};
use look::{Complaints, Look};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_state_of_the_page_is_for_everybody() -> Story {
    tell(tour(None)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes docs/screenshots; `just screenshots` runs it, for as long as the page changes"]
async fn screenshots() -> Story {
    let kept = binaries::docs().join("screenshots");
    std::fs::create_dir_all(&kept)?;
    tell(tour(Some(&kept))).await
}

/// Alice's day, from signing in to signing out.
async fn tour(kept: Option<&Path>) -> Story {
    let world = World::on(&Embedded).taking_tokens();
    let world = if kept.is_some() {
        world.with_familiar_ports().await?
    } else {
        world.await?
    };
    let alice = world.user("alice");
    let complaints = Arc::new(Complaints::default());
    let browser = DevTools::start(world.dir()).await?;
    let window = browser.opens(Arc::clone(&complaints) as _).await?;
    let look = Look::at(&window, kept)?;
    let origin = world.manager().origin();

    window.goes_to(origin).await?;
    look.sees("sign-in", "Access token").await?;
    window.goes_to(&format!("{origin}/login?code=x~x")).await?;
    look.sees("error", "`hpc-manager link` prints a new one.")
        .await?;
    window
        .goes_to(&world.manager().another_link("alice").await?)
        .await?;
    look.sees("no-session", "No session yet").await?;
    a_wrong_field_says_so(&look).await?;

    let _servers = she_works(&alice, &look, origin).await?;
    she_has_several(&alice, &look).await?;
    the_controller_goes(&world, &look).await?;
    she_cancels(&look).await?;
    she_signs_out(&look, origin).await?;

    complaints.are_none()?;
    window.closes().await?;
    browser.closes().await?;
    world.ends_cleanly().await
}

/// What is wrong is said beside the field, which has the focus, and nothing that was typed is lost.
async fn a_wrong_field_says_so(look: &Look<'_>) -> Result<()> {
    let fill = "const form = document.getElementById('launch');
        form.elements.time.value = '2 years';
        form.elements.account.value = 'physics';
        form.requestSubmit();";
    look.window.runs(fill).await?;
    look.awaits("'#error-time'", "is not").await?;
    let now =
        "return [document.activeElement.id, document.activeElement.getAttribute('aria-invalid'),
        document.getElementById('field-account').value]";
    let now = look.window.runs(now).await?;
    ensure!(now == json!(["field-time", "true", "physics"]), "{now}");
    look.sees("form-error", "was not submitted").await?;
    look.window
        .runs("document.getElementById('launch').reset()")
        .await?;
    Ok(())
}

/// She launches by the button, and her dev servers appear without a touch.
async fn she_works(alice: &User<'_>, look: &Look<'_>, origin: &str) -> Result<Vec<Running>> {
    look.window
        .runs("document.getElementById('launch').requestSubmit()")
        .await?;
    look.awaits("'#session .phase'", "Your session is connected.")
        .await?;
    let session = alice.awaits("connected").await?;
    let ide = session.ide.as_deref().context("it has an IDE")?;
    alice.browser().gets(ide).await?.has_status(200);
    let first = alice
        .runs(LiveServer::on(5500).showing("This is alice's page."))
        .await?;
    look.awaits("'#servers'", "A site being written").await?;
    look.awaits("'#servers'", &first.port().to_string()).await?;
    look.sees("connected", "Open VS Code").await?;
    look.is_kept("connected-phone", 390, 844, false).await?;

    let open = "const log = document.querySelector('#session details[data-log]');
        log.querySelector('summary').click(); log.scrollIntoView()";
    look.window.runs(open).await?;
    look.awaits("'#session pre'", "hpc-proxy").await?;
    look.sees("log", "Log of job").await?;

    look.window.goes_to(&format!("{origin}/port/")).await?;
    look.sees("ports", "alice's dev servers").await?;
    let second = a_waiting_page_turns(alice, look, origin).await?;
    Ok(vec![first, second])
}

/// A page that is not there yet says so, and is the dev server's once it is.
async fn a_waiting_page_turns(alice: &User<'_>, look: &Look<'_>, origin: &str) -> Result<Running> {
    let port = ports::free()?;
    let address = format!("{origin}/port/{port}/?a=b#c");
    look.window.goes_to(&address).await?;
    look.sees("waiting", &format!("Nothing listens on port {port}."))
        .await?;
    look.window.runs("window.isTheFirst = true").await?;
    look.awaits("'#waited'", "Waiting for").await?;
    let stays = "return [window.isTheFirst, document.querySelector('[role=status] h1') !== null]";
    let stays = look.window.runs(stays).await?;
    ensure!(
        stays == json!([true, true]),
        "it loads while it waits: {stays}"
    );
    let server = alice
        .runs_on(LiveServer::on(port).showing("It is there."), port)
        .await?;
    look.awaits("'#message'", "It is there.").await?;
    let there = look.window.runs("return location.href").await?;
    ensure!(there == json!(address), "{there}");
    look.window.goes_to(origin).await?;
    Ok(server)
}

/// A second session waits for the first's node; the page tells how far it is and why.
async fn she_has_several(alice: &User<'_>, look: &Look<'_>) -> Result<()> {
    let first = alice.session().await?;
    let whole = json!({ "node": first.node()?, "cpus": 4 });
    let waiting = alice.launches_another(whole).await?;
    look.awaits("'#session .why, #others .why'", "Slurm: Resources")
        .await?;
    look.sees("several", "Other sessions").await?;
    look.window
        .runs(&format!("location.href = '/s/{}/'", waiting.id()?))
        .await?;
    look.awaits("'#session [aria-current=step]'", "Wait for a turn")
        .await?;
    look.sees("pending", "What it asks for is in use.").await?;
    look.window
        .runs(&format!("location.href = '/s/{}/'", first.id()?))
        .await?;
    look.awaits("'#session .phase'", "Your session is connected.")
        .await
}

/// Trouble is told, and goes by itself.
async fn the_controller_goes(world: &World, look: &Look<'_>) -> Result<()> {
    world.site().orders(Order::ControllerDown).await?;
    look.awaits("'#session .trouble'", "controller does not answer")
        .await?;
    look.sees("trouble", "tries again by itself").await?;
    world.site().orders(Order::ControllerUp).await?;
    look.awaits_end_of("'.trouble'").await
}

/// A job is cancelled after a question, by the keyboard alone.
async fn she_cancels(look: &Look<'_>) -> Result<()> {
    let window = look.window;
    window
        .runs("document.querySelector('#session button[data-method]').focus()")
        .await?;
    window.presses_enter(false).await?;
    look.awaits("'#confirm[open]'", "Cancel this session?")
        .await?;
    look.sees("confirm", "What is not saved is lost.").await?;
    window.presses("Escape", 27).await?;
    let back = "return [document.querySelector('dialog[open]') === null,
        document.activeElement.dataset.method]";
    let back = window.runs(back).await?;
    ensure!(back == json!([true, "DELETE"]), "{back}");
    window.presses_enter(false).await?;
    look.awaits("'#confirm[open]'", "Cancel this session?")
        .await?;
    window.presses("Tab", 9).await?;
    window.presses_enter(false).await?;
    look.awaits("'#others'", "Ended before").await?;
    // The one that waited has its turn, and is cancelled too.
    look.awaits("'#session .phase'", "Your session is connected.")
        .await?;
    window
        .runs(
            "document.querySelector('#session button[data-method]').click();
             document.querySelector('#confirm button[value=cancel]').click();",
        )
        .await?;
    look.awaits("'#session .why'", "It was cancelled.").await?;
    look.sees("ended", "Your session has ended.").await
}

/// Signing out in another window ends the stream of this one.
async fn she_signs_out(look: &Look<'_>, origin: &str) -> Result<()> {
    look.window.goes_to(&format!("{origin}/logout")).await?;
    look.sees("sign-out", "your sessions go on").await?;
    look.window.goes_to(origin).await?;
    look.awaits("'#session .phase'", "has ended").await?;
    let elsewhere = "const form = document.querySelector('form[action=\"/logout\"]');
        form.target = '_blank'; form.submit();";
    look.window.runs(elsewhere).await?;
    look.awaits("'h1'", "Sign in").await
}
