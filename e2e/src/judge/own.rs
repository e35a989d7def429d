//! Our own manager, or the program that `E2E_MANAGER` names, as a foreign one.

use std::collections::BTreeMap;

use anyhow::Result;

use super::foreign::Foreign;
use crate::cluster::NODES;
use crate::world::World;

/// The manager of a world in which both users have opened VS Code, by no more than what a person says of any.
///
/// # Errors
/// Their sessions do not start.
pub async fn as_foreign(world: &World) -> Result<Foreign> {
    let mut settings = BTreeMap::new();
    settings.insert(
        "E2E_MANAGER".to_owned(),
        world.manager().origin().to_owned(),
    );
    let live_server = world.site().tools().live_server.clone();
    settings.insert("E2E_LIVE_SERVER".to_owned(), live_server);
    for name in ["alice", "bob"] {
        let user = world.user(name);
        user.opens_vscode().on(NODES[0]).await?;
        let variable = format!("E2E_MANAGER_{}", name.to_uppercase());
        let config = world.site().ssh_config().display();
        let run = format!("ssh -F '{config}' -S none -- {name}@{}", NODES[0]);
        settings.insert(format!("{variable}_RUN"), run);
        let cookie = format!("Cookie: {}", user.browser().cookie()?);
        settings.insert(variable, cookie);
    }
    Foreign::told_by(|name| settings.get(name).cloned())
}
