//! The whole plan to look at: a cluster on this machine, two users, their dev servers.
//!
//! It does for them what stories do, prints a sign-in link for each, and on Ctrl-C leaves nothing
//! behind. `./dev demo` runs it.

use anyhow::{Context, Result};
use e2e::cluster::Embedded;
use e2e::devserver::{BrowserSync, LiveServer, Running};
use e2e::user::User;
use e2e::world::World;
use tokio::signal::unix::{SignalKind, signal};

/// The manager's own default.
const MANAGER_PORT: u16 = 8080;

#[tokio::main]
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it speaks to a person"
)]
async fn main() -> Result<()> {
    // Before anything is started: an early Ctrl-C must end in good order, too.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(stop);

    eprintln!("starting a cluster, a manager and two users' sessions ...");
    let stage = tokio::select! {
        stage = Stage::set() => stage?,
        () = &mut stop => return Ok(()),
    };
    println!("{}", stage.playbill().await?);
    stop.await;
    eprintln!("ending ...");
    stage.world.ends_cleanly().await
}

struct Stage {
    world: World,
    // Held for their terminals.
    hers: Running,
    hers_too: Running,
    his: Running,
}

impl Stage {
    async fn set() -> Result<Stage> {
        let world = World::on(&Embedded)
            .listening_on(MANAGER_PORT)
            .with_familiar_ports()
            .quiet()
            .await?;
        let (hers, hers_too, his) = {
            let (alice, bob) = (world.user("alice"), world.user("bob"));
            let alice_works = async {
                alice.opens_vscode().on("node01").await?;
                tokio::try_join!(
                    alice.runs(LiveServer::on(5500).showing("This is alice's page.")),
                    alice.runs(BrowserSync::on(3000).showing("This is alice's other page.")),
                )
            };
            let bob_works = async {
                bob.opens_vscode().on("node01").await?;
                bob.runs(LiveServer::on(5600).showing("This is bob's page."))
                    .await
            };
            let ((hers, hers_too), his) = tokio::try_join!(alice_works, bob_works)?;
            (hers, hers_too, his)
        };
        Ok(Stage {
            world,
            hers,
            hers_too,
            his,
        })
    }

    async fn playbill(&self) -> Result<String> {
        let (alice, bob) = (self.world.user("alice"), self.world.user("bob"));
        let alices = [
            ("Live Server", &self.hers),
            ("browser-sync", &self.hers_too),
        ];
        let bobs = [("Live Server", &self.his)];
        Ok(format!(
            "\n\
             alice and bob each have VS Code in a job on node01, and dev servers in its terminal.\n\
             Their sign-in links, each good for one browser (take a private window for the second):\n\n\
             {}\n{}\n\
             Save one of the files and watch its page under /port/ change by itself.\n\
             To this machine alice and bob are one user, you; on a cluster each has an account, and\n\
             neither reaches the other's servers.\n\
             Ctrl-C ends everything and leaves nothing behind.\n",
            self.act(&alice, &alices).await?,
            self.act(&bob, &bobs).await?,
        ))
    }

    async fn act(&self, user: &User<'_>, servers: &[(&str, &Running)]) -> Result<String> {
        let link = self.world.manager().another_link(user.name()).await?;
        let home = user.on("login", "echo ~").await.context("where home is")?;
        let mut act = format!("  {}  {link}\n", user.name());
        for (name, server) in servers {
            let address = user.browser().address_of(&server.path(""));
            let file = format!("{}/{}", home.trim(), server.file("index.html"));
            act += &format!("      {name}  {address}\n      shows  {file}\n");
        }
        Ok(act)
    }
}
