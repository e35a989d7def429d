//! The stories of a manager: what a person sees of `/port/N/` at its address.

use anyhow::{Context, Result, ensure};

use super::Lacks;
use super::foreign::Foreign;
use super::person::{self, Person, SOON, Story};
use super::table::Table;
use crate::browser::Browser;

/// No page of the manager's comes from there.
const ELSEWHERE: &str = "http://elsewhere.example";

/// Tells those with `only` in their names.
pub async fn judge(foreign: &Foreign, only: &str) -> Table {
    let (alice, bob) = (&foreign.alice, &foreign.bob);
    let mut table = Table::with(only);
    let story = each_sees_their_own(alice, bob);
    table
        .tells("each user's port leads to their own server", story)
        .await;
    let story = a_stranger_is_refused(foreign);
    table.tells("a stranger is refused", story).await;
    let story = person::another_users_server_is_not_shown(bob, alice);
    table
        .tells("another user's server is not shown", story)
        .await;
    for story in Story::ALL {
        table.tells(story.name(), story.is_told_of(alice)).await;
    }
    let story = a_foreign_page_gets_no_socket(alice);
    table
        .tells("a page of another site gets no WebSocket", story)
        .await;
    let story = its_secrets_stay(foreign);
    table
        .tells("its cookies do not reach a dev server", story)
        .await;
    table
}

async fn each_sees_their_own(alice: &Person, bob: &Person) -> Result<()> {
    let (hers, his) = tokio::try_join!(
        alice.serves("alice has this page"),
        bob.serves("bob has this page"),
    )?;
    let page = alice.browser.gets(&hers.path("")).await?;
    page.sees("alice has this page");
    let page = bob.browser.gets(&his.path("")).await?;
    page.sees("bob has this page");
    Ok(())
}

/// Whether it is told so or sent to sign in, it sees nothing.
async fn a_stranger_is_refused(foreign: &Foreign) -> Result<()> {
    let server = foreign.alice.serves("a secret of hers").await?;
    let own = foreign.alice.browser.gets(&server.path("")).await?;
    own.sees("a secret of hers");
    let stranger = Browser::new(&foreign.origin)?.step_by_step()?;
    for path in ["", "events", "fields"] {
        // Whatever it streams is an answer, too.
        let path = server.path(path);
        let page = tokio::time::timeout(SOON, stranger.gets(&path)).await;
        let page = page.context("it streams to a stranger")??;
        ensure!(page.status >= 300, "{page} is for a stranger");
        page.lacks("secret");
    }
    Ok(())
}

async fn a_foreign_page_gets_no_socket(alice: &Person) -> Result<()> {
    let live = crate::devserver::LiveServer::on(5500);
    let server = alice.runs(&live).await?;
    let path = server.path("/ws");
    let own = alice.browser.connects(&path).await;
    own.context("a page of the manager's own")?;
    let foreign = alice.browser.connects_for(ELSEWHERE, &path).await;
    ensure!(foreign.is_err(), "a page of {ELSEWHERE} got one");
    Ok(())
}

async fn its_secrets_stay(foreign: &Foreign) -> Result<()> {
    if foreign.secrets.is_empty() {
        return Err(Lacks("a cookie or authorization in E2E_MANAGER_ALICE or _BOB").into());
    }
    for person in [&foreign.alice, &foreign.bob] {
        let server = person.serves("a page").await?;
        let fields = person.browser.gets(&server.path("fields")).await?;
        fields.sees("ost");
        for secret in &foreign.secrets {
            let came = fields.text().contains(secret);
            ensure!(!came, "a secret of {} reached a dev server", person.name);
        }
    }
    Ok(())
}
