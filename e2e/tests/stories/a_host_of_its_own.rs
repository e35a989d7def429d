//! Dev servers with a host and so an origin of their own: `N--JOB.localhost`.

use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::browser::Browser;
use e2e::chromium::Chromium;
use e2e::cluster::Cluster;
use e2e::devserver::{LiveServer, page};
use e2e::eventually;
use e2e::story::Story;
use e2e::world::World;

/// The dev servers notice a change within a quarter of a second.
const SOON: Duration = Duration::from_secs(10);

/// By its address alone: the sign-in at the manager is enough, paths are the server's own, and
/// live reload works.
pub(crate) async fn a_dev_server_has_a_host_of_its_own(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    let session = alice.opens_vscode().await?;
    let live = alice
        .runs(LiveServer::on(5500).showing("before").logging())
        .await?;
    let address = alice.own_address_of(&live).await?;
    let label = format!("//{}--{}.localhost:", live.port(), session.job()?);
    ensure!(address.contains(&label), "`{address}` is not at `{label}`");

    let there = alice.browser().at(&address)?;
    there.gets("/").await?.sees("before");
    there.gets("/css/site.css").await?.is_of_type("text/css");
    let mut socket = there.connects("//ws").await?;
    socket.awaits(SOON, |text| text == "connected").await?;
    alice
        .saves(&live.file("index.html"), &page("after")?)
        .await?;
    socket.awaits(SOON, |text| text == "reload").await?;
    there.gets("/").await?.sees("after").lacks("before");

    // Neither what opens the host nor how the browser got there is the dev server's business.
    let heard = live.terminal.lines.so_far().join("\n");
    ensure!(heard.contains("GET"), "it tells of no request: {heard}");
    for secret in ["ticket", "hpc_manager", "_hpc-proxy"] {
        ensure!(!heard.contains(secret), "the dev server heard of {secret}");
    }
    world.ends_cleanly().await
}

/// Neither another user, nor a stranger, nor another site, nor whoever finds a used ticket.
pub(crate) async fn nobody_else_gets_to_that_host(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    alice.opens_vscode().await?;
    bob.opens_vscode().await?;
    let live = alice
        .runs(LiveServer::on(5500).showing("alice has this page"))
        .await?;
    let address = alice.own_address_of(&live).await?;
    let refuses = |page: &e2e::browser::Page, status| {
        page.has_status(status).lacks("alice has this page");
    };

    refuses(&bob.browser().at(&address)?.gets("/").await?, 403);
    refuses(&world.stranger()?.at(&address)?.gets("/").await?, 401);

    let steps = alice.browser().at(&address)?.step_by_step()?;
    let to = |page: &e2e::browser::Page| {
        let to = page.header("location").context("sent nowhere")?;
        anyhow::Ok(to.to_owned())
    };
    let open = to(&steps.gets("/").await?)?;
    let enter = to(&steps.opens(&open).await?)?;
    let another_port = |url: &str| url.replacen(&live.port().to_string(), "4999", 1);
    let (other, elsewhere) = (another_port(&address), another_port(&enter));
    let stranger = Browser::new(&other)?.step_by_step()?;
    refuses(&stranger.opens(&elsewhere).await?, 403);
    steps.opens(&enter).await?.has_status(303);
    refuses(&stranger.opens(&enter).await?, 403);
    steps.gets("/").await?.sees("alice has this page");

    let another_session = address.replacen("--", "--9", 1);
    for origin in [
        world.manager().origin(),
        another_session.trim_end_matches('/'),
        "http://evil.example",
        "null",
    ] {
        let refused = steps.connects_for(origin, "//ws").await.err();
        let why = refused.with_context(|| format!("a page of {origin} may connect"))?;
        ensure!(format!("{why:#}").contains("403"), "{origin}: {why:#}");
    }
    world.ends_cleanly().await
}

/// In a real browser: it is handed over, the page reloads by itself, and what it tries against the
/// manager fails. Another port of the same user it can connect to, but not read.
pub(crate) async fn a_page_on_a_host_of_its_own_is_alone(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    alice.opens_vscode().await?;
    let (live, chromium) = tokio::join!(
        alice.runs(LiveServer::on(5500).showing("version 0")),
        Chromium::start(world.dir()),
    );
    let (live, chromium) = (live?, chromium?);
    let address = alice.own_address_of(&live).await?;

    chromium
        .goes_to(&world.manager().another_link("alice").await?)
        .await?;
    chromium.goes_to(&address).await?;
    chromium.awaits_text(10, "#message", "version 0").await?;
    chromium.awaits_text(10, "#script", "has run").await?;
    let origin = address.trim_end_matches('/');
    let shown = chromium
        .runs("return location.href + document.cookie")
        .await?;
    ensure!(shown == address, "it is at {shown}, not {address}");

    let manager = world.manager().origin();
    let tries = format!(
        r#"
        const tries = {{
            "the manager's API": fetch("{manager}/api/v1/session", {{ credentials: "include" }}),
            "a cancel": fetch("{manager}/api/v1/session", {{
                method: "DELETE", credentials: "include", headers: {{ "X-Hpc-Manager": "1" }},
            }}),
            "a path of the manager": fetch("/api/v1/session").then(answer => {{
                if (answer.status !== 404) throw 0;
                throw Error();
            }}),
            "a ticket": fetch("{manager}/_hpc-proxy/open?name=1&to=/", {{ credentials: "include" }}),
        }};
        // What the page says of this machine's ports is moved to the user's own ones, and never gets there.
        const got = answer => !answer || answer.url.startsWith("{manager}");
        return Promise.all(Object.entries(tries).map(
            ([what, done]) => done.then(answer => got(answer) && what, error => error ? null : what),
        )).then(done => done.filter(what => what).join());
        "#
    );
    let succeeded = chromium.runs(&tries).await?;
    ensure!(succeeded == "", "the page has reached {succeeded}");
    alice.awaits("connected").await?;

    let other = alice
        .runs(LiveServer::on(5501).showing("the other"))
        .await?;
    let across = format!(
        r#"
        const across = "/_hpc-proxy/port/{other}/";
        const socket = new Promise(done => {{
            const socket = new WebSocket("ws://" + location.host + across + "ws");
            socket.onmessage = message => done(message.data);
            socket.onerror = () => done("refused");
        }});
        const script = new Promise(done => {{
            const tag = document.createElement("script");
            tag.onload = () => done("run");
            tag.onerror = () => done("refused");
            tag.src = across + "js/site.js";
            document.head.append(tag);
        }});
        const read = fetch(across).then(answer => answer.status);
        return Promise.all([socket, script, read]).then(done => done.join());
        "#,
        other = other.port(),
    );
    let done = chromium.runs(&across).await?;
    ensure!(done == "connected,run,403", "across ports: {done}");

    chromium.runs("window.notReloaded = true").await?;
    // The page does not tell when its WebSocket is open: who is not heard saves once more.
    let mut versions = 1..;
    eventually!(30, "the page in Chromium changes", {
        let text = format!("version {}", versions.next().context("endless")?);
        alice.saves(&live.file("index.html"), &page(&text)?).await?;
        chromium.awaits_text(3, "#message", &text).await
    })?;
    let mark = chromium
        .runs("return window.notReloaded === undefined")
        .await?;
    ensure!(mark == true, "the page was changed but not reloaded");
    let shown = chromium.runs("return location.origin").await?;
    ensure!(shown == origin, "it has gone to {shown}");
    chromium.closes().await?;
    world.ends_cleanly().await
}
