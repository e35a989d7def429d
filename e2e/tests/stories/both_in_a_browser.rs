//! Two people, each in a browser of their own, do all of it by the manager's page: they launch, see their
//! own dev server appear, open it, and see what they save.

use anyhow::{Context, Result, ensure};
use e2e::chromium::Chromium;
use e2e::cluster::Cluster;
use e2e::devserver::{LiveServer, Running, page};
use e2e::eventually;
use e2e::story::Story;
use e2e::user::User;
use e2e::world::World;

const LAUNCH: &str = "const form = document.querySelector('form#launch');
if (!form) return 'no form';
form.elements.node.value = 'node01';
form.requestSubmit();
return 'asked'";

/// On one node and, where it has several users, on the same port.
pub(crate) async fn both_work_by_the_managers_page(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let (hers, his) = tokio::try_join!(launches(&world, &alice), launches(&world, &bob))?;
    let (hers_runs, his_runs) = tokio::try_join!(opens(&hers, &alice), opens(&his, &bob))?;

    // Each is told of their own alone.
    for (browser, other) in [(&hers, "bob"), (&his, "alice")] {
        let text = browser.text_of("body").await?;
        ensure!(!text.contains(other), "{other}'s page: {text}");
    }
    tokio::try_join!(
        reloads(&hers, &alice, &hers_runs),
        reloads(&his, &bob, &his_runs)
    )?;
    hers.closes().await?;
    his.closes().await?;
    world.ends_cleanly().await
}

/// Signs a browser in and launches by the page's form.
async fn launches(world: &World, user: &User<'_>) -> Result<Chromium> {
    let dir = world.dir().join(format!("{}-browser", user.name()));
    std::fs::create_dir(&dir)?;
    let chromium = Chromium::start(&dir).await?;
    let link = world.manager().another_link(user.name()).await?;
    chromium.goes_to(&link).await?;
    let asked = chromium.runs(LAUNCH).await?;
    ensure!(asked == "asked", "{asked}");
    chromium
        .awaits_text(40, "main", "Open VS Code")
        .await
        .context("the session is ready")?;
    let session = user.awaits("connected").await?;
    ensure!(session.node()? == "node01", "{session:?}");
    let ide = session.ide.as_deref().context("it has an IDE")?;
    user.browser().gets(ide).await?.has_status(200);
    Ok(chromium)
}

/// Starts a dev server in the IDE's terminal, and follows the link to it that the page shows then.
async fn opens(chromium: &Chromium, user: &User<'_>) -> Result<Running> {
    let text = format!("{}'s page", user.name());
    let live = user.runs(LiveServer::on(5500).showing(&text)).await?;
    let link = format!(
        "const link = document.querySelector('a[href=\"/port/{}/\"]');
         if (link) link.click();
         return link !== null",
        live.port()
    );
    eventually!(20, "the page shows the dev server", {
        let found = chromium.runs(&link).await?;
        ensure!(found == true, "{}", chromium.text_of("body").await?);
        Ok(())
    })?;
    chromium.awaits_text(10, "#message", &text).await?;
    Ok(live)
}

/// Live Server's page shows what was saved, with nobody touching it.
async fn reloads(chromium: &Chromium, user: &User<'_>, live: &Running) -> Result<()> {
    let mut versions = 1..;
    // The page does not tell when its WebSocket is open: who is not heard saves once more.
    eventually!(30, "the page changes by itself", {
        let version = versions.next().context("endless")?;
        let text = format!("version {version} of {}", user.name());
        user.saves(&live.file("index.html"), &page(&text)?).await?;
        chromium.awaits_text(3, "#message", &text).await
    })?;
    Ok(())
}
