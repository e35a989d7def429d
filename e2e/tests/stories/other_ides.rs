//! IDEs other than VS Code: with a proxy beside them, or, as JupyterLab and RStudio bring one of their own,
//! without.

use anyhow::{Context, ensure};
use e2e::cluster::Cluster;
use e2e::eventually;
use e2e::story::Story;
use e2e::world::World;
use serde_json::json;

/// Every program of this user on this node, known by its home.
const PROGRAMS: &str = r#"
grep -lzx "HOME=$HOME" /proc/[0-9]*/environ 2>/dev/null |
  while read -r file; do readlink "${file%environ}exe"; done
: # some have ended by now
"#;

/// Their jobs run, and no hpc-proxy with them.
pub(crate) async fn another_ide_gets_no_proxy(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster)
        .with_another_ide("touch started; sleep 60")
        .await?;
    let alice = world.user("alice");
    alice.launches(json!({ "node": "node01" })).await?;
    alice.awaits("running").await?;
    eventually!(10, "the IDE has started", {
        alice.on("login", "ls started").await
    })?;

    let programs = alice.on("node01", PROGRAMS).await?;
    let runs = |name: &str| programs.lines().any(|path| path.ends_with(name));
    ensure!(runs("/sleep") && !runs("/hpc-proxy"), "{programs}");
    ensure!(alice.published().await?.is_empty());
    let session = alice.session().await?;
    ensure!(
        session.phase == "running" && session.proxy_port.is_none(),
        "{session:?}"
    );
    let page = alice.browser().gets("/port/5500/").await?;
    ensure!(page.status == 404, "{page}");
    world.ends_cleanly().await
}

/// What a site offers beside VS Code is a choice in the launch form and in calls. Each session opens its own.
pub(crate) async fn each_session_runs_the_ide_of_its_wish(cluster: &impl Cluster) -> Story {
    let files = "mkdir -p files && cd files && echo 'files of the second session' >index.html && exec node -e '\
        const page = require(\"node:fs\").readFileSync(\"index.html\"); \
        require(\"node:http\").createServer((_, response) => response.end(page)).listen(process.env.IDE_PORT)'";
    let world = World::on(cluster).with_a_choice_of_ides(files).await?;
    let alice = world.user("alice");
    let form = alice.browser().gets("/").await?;
    form.sees("IDE code").sees("IDE files");

    let usual = alice.opens_vscode().await?;
    let refused = alice.launches_another(json!({ "ide": "emacs" })).await;
    let refused = format!("{:#}", refused.err().context("there is no such IDE")?);
    ensure!(
        refused.contains("`emacs`") && refused.contains("`code`, `files`"),
        "{refused}"
    );
    let launched = alice.launches_another(json!({ "ide": "files" })).await?;
    alice.chooses(&launched).await?;
    let other = alice.awaits("connected").await?;

    for (session, text) in [
        (&usual, "IDE of alice"),
        (&other, "files of the second session"),
    ] {
        let path = session.ide.as_deref().context("it has an IDE")?;
        let path = format!("/s/{}{path}", session.id()?);
        eventually!(20, text, { alice.browser().gets(&path).await?.shows(text) })?;
    }
    let page = alice.browser().gets("/").await?;
    page.sees("Open IDE code").sees("Open IDE files");
    world.ends_cleanly().await
}
