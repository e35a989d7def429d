//! Weather: Slurm does not answer, or answers what it should not.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use e2e::cluster::Cluster;
use e2e::devserver::LiveServer;
use e2e::eventually;
use e2e::processes;
use e2e::story::Story;
use e2e::user::{Session, User};
use e2e::world::World;
use serde_json::json;

/// While the controller is down, what runs goes on, and whoever launches is told. Then all is as before.
pub(crate) async fn the_controller_is_down(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let before = alice.opens_vscode().await?;
    let live = alice
        .runs(LiveServer::on(5500).showing("still here"))
        .await?;
    let mut socket = alice.browser().connects(&live.path("/ws")).await?;

    world.stops_the_controller().await?;
    bob.launches(json!({})).await?;
    let refused = bob.awaits("ended").await?;
    ensure!(refused.job.is_none(), "there is a job: {refused:?}");
    let words = "Slurm&#39;s controller does not answer sbatch";
    ensure!(
        refused.reason.as_deref()
            == Some("Slurm's controller does not answer sbatch; the site may be at work on it"),
        "{refused:?}"
    );
    bob.browser().gets("/").await?.sees(words).sees("Launch");

    let told = |now: &Session| {
        let reason = now.reason.as_deref().unwrap_or_default();
        reason.contains("controller does not answer squeue")
    };
    let now = alice.awaits_session("alice is told", told).await?;
    ensure!(now.phase == "connected", "{now:?}");
    serves(&alice, &live.path("")).await?;
    // One goes as well as one stays.
    let silent = tokio::time::timeout(std::time::Duration::from_millis(200), async {
        while socket.next().await.is_ok() {}
    });
    ensure!(silent.await.is_err(), "the WebSocket was closed");

    world.starts_the_controller().await?;
    let his = bob.opens_vscode().await?;
    let well = |now: &Session| now.phase == "connected" && now.reason.is_none();
    let after = alice.awaits_session("no trouble is left", well).await?;
    ensure!(after.job()? == before.job()?, "another job: {after:?}");
    let queue = alice.on("login", "squeue -h -t all -o '%i %u %T'").await?;
    let mut jobs: Vec<&str> = queue.lines().collect();
    jobs.sort_unstable();
    let wanted = [
        format!("{} alice RUNNING", before.job()?),
        format!("{} bob RUNNING", his.job()?),
    ];
    ensure!(jobs == wanted, "lost or doubled: {queue}");
    world.ends_cleanly().await
}

/// Has what a user keeps in `~/NAME-says` run in the stead of Slurm's own command, which it finds in `$own`.
const LIAR: &str = r#"
for name in squeue sbatch; do
  command=$(command -v $name) && own=${command%/*}/own && mkdir -p "$own" && mv "$command" "$own/$name"
  printf '#!/bin/bash\n[ ! -e ~/%s-says ] || own=%q exec bash ~/%s-says "$@"\nexec %q "$@"\n' \
    $name "$own/$name" $name "$own/$name" >"$command" && chmod 755 "$command" || exit
done
"#;

/// squeue's answers about job `$5`, one after the other, and none is true. What is a command in them
/// would leave `pwned`. Then it tells the truth.
const LIES: &str = r#"
lie=$(cat ~/lies 2>/dev/null || echo 0)
echo $((lie + 1)) >~/lies
case $lie in
0) printf '<script>alert(1)</script>\n<img src=x onerror=alert(1)>\n\e]0;t\a\e[2J\xff\xfe|||\n' ;;
1) printf '%s|CANCELLED||None\n' @other@ "${5}0" "-$5" "$5.0" "$5 "; printf '%s\n' "$5" '|||' ;;
2) printf "$5|RUNNING|%s|None\n" '-oProxyCommand=touch pwned' '$(touch pwned)' ';touch pwned;' ;;
3) printf "$5|RUNNING|%s|None\n" '<b>node01</b>' '../../etc' 'node[01-02]' '' ;;
4) yes '<script>alert(1)</script>' ;;
5) head -c 3000000 /dev/zero | tr '\0' x; printf '\e[31m<script>alert(1)</script>\n' >&2; exit 1 ;;
6) printf "$5|PENDING||<script>alert(1)</script>\e[2J"; head -c 900000 /dev/zero | tr '\0' x; echo ;;
*) exec "$own" "$@" ;;
esac
"#;
const HOW_MANY_LIES: usize = 7;

/// Neither of these is the number of a job.
const NO_JOB: [&str; 3] = [
    r"printf '<script>alert(1)</script>\e[2J\n'",
    "yes 7",
    r"head -c 3000000 /dev/zero | tr '\0' '<' >&2; exit 1",
];

/// A job that is called so is neither mistaken for a session, nor does it run anything.
const HOSTILE_NAME: &str = "1|CANCELLED||<script>$(touch ~/pwned)";

/// Whatever squeue and sbatch say, nothing of it is run or ends what runs, it gives nobody another's
/// session, and the page stays a page.
pub(crate) async fn slurm_talks_nonsense(cluster: &impl Cluster) -> Story {
    let world = World::on(cluster).await?;
    let (alice, bob) = (world.user("alice"), world.user("bob"));
    let his = bob.opens_vscode().on("node02").await?;
    world.site().administers(LIAR).await?;
    let memory = memory_kib(&world)?;

    says(&alice, "sbatch", &format!("echo {}", his.job()?)).await?;
    alice.launches_another(json!({})).await?;
    let on_his = |now: &Session| now.phase == "running" && now.job == his.job;
    let now = alice
        .awaits_session("sbatch gave her his job", on_his)
        .await?;
    ensure!(now.ide.is_none() && now.proxy_port.is_none(), "{now:?}");
    alice.browser().gets("/code/").await?.has_status(503);
    alice.cancels().await?;
    eventually!(10, "scancel refuses", {
        let now = alice.session().await?;
        let refused = now.phase == "cancelling" && now.reason.is_some();
        ensure!(refused, "{now:?}");
        is_a_page(&alice, &now).await
    })?;
    let now = bob.session().await?;
    ensure!(now.phase == "connected", "his job was hers: {now:?}");
    bob.cancels().await?;
    bob.awaits("ended").await?;
    alice.awaits("ended").await?;

    let named = format!("sbatch -J '{HOSTILE_NAME}' -o /dev/null --wrap 'exec sleep 60'");
    alice
        .on("login", &format!("rm sbatch-says; {named}"))
        .await?;
    says(&alice, "squeue", &LIES.replace("@other@", his.job()?)).await?;
    alice.launches_another(json!({})).await?;
    let mut heard = std::collections::BTreeSet::new();
    let after = eventually!(40, "the truth about her job", {
        let now = alice.session().await?;
        is_a_page(&alice, &now).await?;
        heard.extend(now.reason.clone());
        ensure!(now.phase == "connected", "{now:?}, after {heard:?}");
        Ok(now)
    })?;
    ensure!(heard.len() >= HOW_MANY_LIES - 2, "not all told: {heard:?}");
    alice
        .browser()
        .gets(after.ide.as_deref().context("no IDE")?)
        .await?
        .sees("IDE of alice");

    for nonsense in NO_JOB {
        says(&alice, "sbatch", nonsense).await?;
        let launched = alice.launches_another(json!({})).await?;
        // Whether there is a job after all, squeue is asked.
        let path = format!("/api/v1/sessions/{}", launched.id()?);
        let told = eventually!(10, "it is told", {
            let now: Session = alice.browser().gets(&path).await?.json()?;
            ensure!(now.reason.is_some() && now.job.is_none(), "{now:?}");
            Ok(now)
        })?;
        is_a_page(&alice, &told).await?;
    }

    let more = memory_kib(&world)?.saturating_sub(memory);
    ensure!(more < 32 * 1024, "the manager grew by {more} KiB");
    let pwned = alice.on("login", "find ~ -name 'pwned*'").await?;
    ensure!(pwned.is_empty() && !Path::new("pwned").exists(), "{pwned}");
    world.ends_cleanly().await
}

/// From now on `command` is what the user has in mind.
async fn says(user: &User<'_>, command: &str, script: &str) -> Result<()> {
    ensure!(!script.contains("\nEND\n"), "the script ends too early");
    let keep = format!("cat >{command}-says <<'END'\n{script}\nEND\n");
    user.on("login", &keep).await.map(drop)
}

/// The manager's page is what it always is, and what it tells of the session can be read.
async fn is_a_page(user: &User<'_>, now: &Session) -> Result<()> {
    let reason = now.reason.as_deref().unwrap_or_default();
    ensure!(reason.chars().count() < 1000, "too long to read: {reason}");
    let page = user.browser().gets("/").await?;
    let text = page.text();
    let scripts = text.matches("<script").count();
    let plain = text.chars().all(|c| c == '\n' || !c.is_control());
    let well_formed = page.status == 200
        && scripts == 1
        && plain
        && !text.contains("<img")
        && !text.contains("<b>")
        && text.trim_end().ends_with("</html>");
    ensure!(well_formed, "{scripts} scripts, {plain}: {page}");
    Ok(())
}

/// What the manager itself has in memory (proc_pid_status(5)).
fn memory_kib(world: &World) -> Result<u64> {
    let own = processes::below(world.manager().pid())
        .into_iter()
        .find(|process| {
            process
                .args
                .first()
                .is_some_and(|arg| arg.ends_with("hpc-manager"))
        })
        .context("no manager")?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", own.pid))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|value| value.split_whitespace().next());
    Ok(resident.context("no VmRSS")?.parse()?)
}

async fn serves(user: &User<'_>, path: &str) -> Result<()> {
    user.browser().gets(path).await?.shows("still here")
}
