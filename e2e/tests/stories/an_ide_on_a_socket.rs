//! An IDE that asks nobody who they are, on a Unix socket instead of a port.

use anyhow::{Context, ensure};
use e2e::cluster::{Cluster, Need};
use e2e::eventually;
use e2e::story::Story;
use e2e::world::World;

/// Prints what became of a connection to the socket.
fn connects_to(socket: &str) -> String {
    format!(
        "node -e 'const socket = require(\"net\").connect(\"{socket}\"); \
         const tell = (text) => {{ console.log(text); socket.destroy(); }}; \
         socket.on(\"connect\", () => tell(\"connected\")).on(\"error\", (error) => tell(error.code))'"
    )
}

/// The manager's users have it as any other; another user of the node cannot connect.
pub(crate) async fn only_its_user_connects_to_it(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).with_its_ide_on_a_socket().await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let session = alice.opens_vscode().on("node01").await?;
    ensure!(session.ide.as_deref() == Some("/code/"), "{session:?}");

    let told = alice
        .types("echo \"$IDE_SOCKET ${IDE_PORT-no port}\"")
        .await?;
    let told = told.first().context("a line")?;
    let socket = told.strip_suffix(" no port").context("it has a port")?;
    let connects = connects_to(socket);
    ensure!(alice.on("node01", &connects).await?.trim() == "connected");
    if cluster.meets(Need::SeveralUids) {
        let refused = bob.on("node01", &connects).await?;
        ensure!(refused.trim() == "EACCES", "{refused}");
    }

    alice.cancels().await?;
    eventually!(20, "the socket is gone", {
        alice.on("node01", &format!("[ ! -e '{socket}' ]")).await
    })?;
    world.ends_cleanly().await
}
