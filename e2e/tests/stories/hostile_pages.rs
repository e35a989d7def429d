//! Pages that try to act as the user, in a real browser that is signed in: one of a dev server below the
//! manager's own origin, and one of another site. The pages are in `fixtures/hostile`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::binaries;
use e2e::child::{Child, Lifeline};
use e2e::chromium::Chromium;
use e2e::cluster::Cluster;
use e2e::devserver::Hostile;
use e2e::story::Story;
use e2e::user::User;
use e2e::world::World;
use serde_json::{Value, json};

const START: Duration = Duration::from_secs(30);

/// What a dev server's page tries, and what comes of it.
const OF_A_DEV_SERVER: &[(&str, &str)] = &[
    ("reads the session", "403 not-our-page"),
    ("reads the ports", "403 not-our-page"),
    ("reads what is no path yet", "403 not-our-page"),
    ("reads by another spelling", "403 not-our-page"),
    ("reads below a path of its own", "200 of its own"),
    ("reads with a query", "403 not-our-page"),
    ("launches", "403 not-our-page"),
    ("launches with the manager's referrer", "403 not-our-page"),
    ("launches without a referrer", "403 not-our-page"),
    ("launches by a beacon", "unseen"),
    ("launches by a form", "refused"),
    ("cancels", "403 not-our-page"),
    ("cancels with an empty key", "403 not-our-page"),
    ("cancels with a guessed key", "403 not-our-page"),
    ("cancels by another method's name", "403 not-our-page"),
    ("cancels the old way", "403 not-our-page"),
    ("cancels as it unloads", "403 not-our-page"),
    ("asks what is allowed", "403 not-our-page"),
    ("reads the page", "403 not-our-page"),
    ("reads the page as a person would", "403 refused"),
    ("reads the page by navigating", "TypeError"),
    ("reads the page without seeing it", "403 not-our-page"),
    ("reads the page's head", "403"),
    ("reads the page from the cache", "TypeError"),
    ("reads the page the old way", "403 not-our-page"),
    ("frames the page", "refused"),
    ("frames the page in a sandbox", "refused"),
    ("shows the page as an object", "nothing"),
    ("embeds the page", "nothing"),
    ("frames the session", "refused"),
    ("runs the session as a script", "nothing"),
    ("shows the session as a picture", "nothing"),
    ("opens the page in a window", "cut off"),
    ("opens a window and sends it there", "cut off"),
    ("opens a named window twice", "cut off"),
    ("opens the session in a window", "cut off"),
    ("opens the way out in a window", "cut off"),
    ("stays behind in another window", "cut off"),
    ("opens it from an isolated window", "isolated, cut off"),
    ("signs out", "403 foreign-page"),
    ("signs out by a form", "refused"),
    ("reads the way out", "403 not-our-page"),
    ("signs in by a token", "403 foreign-page"),
    ("signs in by another's link", "403 not-our-page"),
    ("signs in by another's link in a frame", "refused"),
    ("signs in by another's link in a picture", "nothing"),
    ("signs in by another's link in a window", "cut off"),
    ("reads the cookie", ""),
    ("writes the cookie", "403 not-our-page"),
    ("writes a nearer cookie", "403 not-our-page"),
    ("writes another's cookie", "401 several-users"),
    ("writes another's cookie for itself", "401 several-users"),
    ("has its server set the cookie", ""),
    ("has its server join windows", "null"),
    ("serves the whole origin", "SecurityError"),
    ("serves the origin by the manager's script", "TypeError"),
    ("serves the page in place of its own", "refused, cut off"),
    ("serves the session in place of its own", "refused, cut off"),
    ("runs the manager's script as a worker", "refused"),
    ("runs the manager's script as a shared worker", "refused"),
    ("reads the page in a worker", "403"),
    ("reads the session in a worker", "403"),
    ("asks for a ticket", "403 not-our-page"),
    ("asks for a ticket to another's session", "403 not-our-page"),
    ("connects to the manager", "refused"),
    ("connects to the session", "refused"),
    ("listens to the session", "refused"),
    ("reads another's dev server", "TypeError"),
    ("runs another's dev server as a script", "nothing"),
    ("connects to another's dev server", "refused"),
    ("looks into the manager's storage", ""),
];

/// What a page of another site tries, and what comes of it.
const OF_ANOTHER_SITE: &[(&str, &str)] = &[
    ("reads the session", "TypeError"),
    ("reads the page", "TypeError"),
    ("asks for the session unseen", "TypeError"),
    ("launches", "TypeError"),
    ("launches with the field", "TypeError"),
    ("cancels", "TypeError"),
    ("launches by a form", "unseen"),
    ("launches by a beacon", "unseen"),
    ("signs out", "TypeError"),
    ("signs out by a form", "unseen"),
    ("frames the page", "unseen"),
    ("runs the session as a script", "nothing"),
    ("runs the manager's script", "nothing"),
    ("opens the page", "cut off"),
    ("connects to the session", "refused"),
    ("connects to the IDE", "refused"),
    ("connects to a dev server", "refused"),
    ("reads a dev server", "TypeError"),
    ("asks a dev server unseen", "TypeError"),
    ("posts to a dev server", "TypeError"),
    ("puts to a dev server", "TypeError"),
    ("deletes at a dev server", "TypeError"),
    ("posts a form to a dev server", "unseen"),
    ("runs a dev server's script", "nothing"),
    ("shows a dev server's picture", "nothing"),
    ("styles itself by a dev server", "nothing"),
    ("frames a dev server", "unseen"),
    ("opens a dev server", "SecurityError"),
];

pub(crate) async fn a_dev_servers_page_is_not_the_managers(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (session, theirs) = tokio::join!(alice.opens_vscode(), bob.opens_vscode());
    let (session, theirs) = (session?, theirs?);
    let (dev, chromium) = tokio::join!(
        alice.runs(Hostile::on(5500)),
        signed_in_chromium(&world, &alice)
    );
    let (dev, chromium) = (dev?, chromium?);

    let origin = world.manager().origin();
    let link = world.manager().another_link("bob").await?;
    let cookie = bob.browser().cookie()?;
    let cookie = cookie.split_once('=').context("a cookie's value")?.1;
    let facts = json!({
        "link": link, "cookie": cookie, "job": session.job()?, "theirs": theirs.job()?,
    });
    chromium
        .goes_to(&format!("{origin}{}", dev.path("")))
        .await?;
    let report = attack(&chromium, &facts).await?;
    is_told(&report, OF_A_DEV_SERVER)?;

    // Nothing of it has worked unseen.
    let now = alice.awaits("connected").await?;
    ensure!(now.job == session.job, "{now:?}");
    bob.awaits("connected").await?;
    bob.browser()
        .step_by_step()?
        .opens(&link)
        .await?
        .has_status(303);

    // The manager's own page does.
    chromium.goes_to(origin).await?;
    chromium.awaits_text(10, "h1", "alice's session").await?;
    chromium
        .runs(
            "document.querySelector('button[data-method=DELETE]').click();
             document.querySelector('#confirm button[value=cancel]').click();",
        )
        .await?;
    let over = |phase: &str| ["cancelling", "ended"].contains(&phase);
    alice
        .awaits_session("alice's own page cancels", |now| over(&now.phase))
        .await?;
    chromium.closes().await?;
    world.ends_cleanly().await
}

pub(crate) async fn a_page_of_another_site_is_not_the_managers(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let alice = world.user("alice");
    let session = alice.opens_vscode().await?;
    let (dev, chromium, elsewhere) = tokio::join!(
        alice.runs(Hostile::on(5500)),
        signed_in_chromium(&world, &alice),
        foreign(world.dir()),
    );
    let (dev, chromium, (server, port)) = (dev?, chromium?, elsewhere?);
    let origin = world.manager().origin();
    let facts = json!({ "manager": origin, "port": dev.port() });
    // To cookies the first is the same site.
    for site in ["127.0.0.1", "foreign.localhost"] {
        chromium.goes_to(&format!("http://{site}:{port}/")).await?;
        let report = attack(&chromium, &facts).await?;
        is_told(&report, OF_ANOTHER_SITE).with_context(|| site.to_owned())?;
    }
    let arrived: Vec<String> = alice.browser().gets(&dev.path("arrived")).await?.json()?;
    ensure!(arrived == ["GET ?link", "GET ?link"], "{arrived:?}");
    let now = alice.awaits("connected").await?;
    ensure!(now.job == session.job, "{now:?}");

    // A name of another's that leads here (S15).
    let (_, at) = origin.rsplit_once(':').context("a port")?;
    for path in ["", "/api/v1/session", &dev.path("")] {
        let rebound = format!("http://rebound.localhost:{at}{path}");
        chromium.goes_to(&rebound).await?;
        chromium
            .awaits_text(10, "body", "does not go by that name")
            .await?;
    }
    chromium.closes().await?;
    server.end().await?;
    world.ends_cleanly().await
}

async fn signed_in_chromium(world: &World, user: &User<'_>) -> Result<Chromium> {
    let chromium = Chromium::start(world.dir()).await?;
    let link = world.manager().another_link(user.name()).await?;
    chromium.goes_to(&link).await?;
    Ok(chromium)
}

/// A server on this machine that nobody has to do with, and its port.
async fn foreign(dir: &Path) -> Result<(Child, u16)> {
    let server = binaries::hostile().join("server.js").display().to_string();
    let args = [server, "0".to_owned(), "foreign".to_owned()];
    let node = Path::new("node");
    let mut child = Child::start("foreign", Lifeline::Guarded, dir, node, args, &[])?;
    let line = child.next_line(START).await?;
    let port = line.strip_prefix("listens on ").context(line.clone())?;
    let port = port.parse().context("a port")?;
    Ok((child, port))
}

/// What came of each attempt, by its name.
async fn attack(chromium: &Chromium, facts: &Value) -> Result<BTreeMap<String, String>> {
    let report = chromium.runs(&format!("return attack({facts})")).await?;
    serde_json::from_value(report).context("a report")
}

fn is_told(report: &BTreeMap<String, String>, expected: &[(&str, &str)]) -> Result<()> {
    let expected: BTreeMap<String, String> = expected
        .iter()
        .map(|(name, what)| ((*name).to_owned(), (*what).to_owned()))
        .collect();
    let names = report.keys().chain(expected.keys());
    let mut differs: Vec<_> = names
        .filter(|name| report.get(*name) != expected.get(*name))
        .map(|name| {
            format!(
                "{name}: {:?}, not {:?}",
                report.get(name),
                expected.get(name)
            )
        })
        .collect();
    differs.dedup();
    ensure!(differs.is_empty(), "{}", differs.join("\n"));
    Ok(())
}
