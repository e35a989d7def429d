//! Weather made to order: what goes wrong on a cluster, as verbs of the [`World`].
//!
//! All of it is real: a full file system says ENOSPC, a frozen process does not run, and a cut network
//! carries nothing and refuses nothing. What works on containers alone is asked for as
//! [`Need::Containers`](crate::cluster::Need). The network to the login node is a [`Wire`](crate::wire::Wire).

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::cluster::{NODES, Order};
use crate::ssh::Remote;
use crate::world::World;

mod container;

pub use container::Container;

/// What a user's programs are called, for [`World::kills`]: extended regular expressions for pgrep(1).
pub mod program {
    /// The proxy of a job; not the one that keeps a localhost.
    pub const PROXY: &str = "hpc-proxy .*--verbose";
    /// The IDE.
    pub const IDE: &str = "ide-stand-in .*--(host|socket-path)";
}

/// Neither frames for the old address nor ours get through: an address change is not told to anybody,
/// as nothing is sent at all (tc-bfifo(8)).
const CUT: &str = "tc qdisc replace dev eth0 root pfifo limit 0 &&
    cat /sys/class/net/eth0/address >/run/address &&
    ip link set dev eth0 address 02:00:00:00:00:01";
const MEND: &str = "ip link set dev eth0 address $(cat /run/address) && tc qdisc del dev eth0 root";

/// Below this much nothing more is written; it is what one page of tmpfs(5) holds.
const FILL: &str = "head -c 1G /dev/zero >/home/filler 2>/dev/null; : >>/home/filler;
    ! head -c 4096 /dev/zero >/home/last 2>/dev/null; rm /home/last";

/// On a mount of its own, as one that is written to cannot be made read-only; whoever opens a file by its
/// name from now on is refused (EROFS).
const READ_ONLY: &str = "mount --bind /home/USER /home/USER && mount -o remount,bind,ro /home/USER";

/// A copy, made anew every so often, lies over the directory, as a host with cached attributes sees it
/// (nfs(5), `acregmin`): each file by itself is whole.
const LATE: &str = "mkdir -p /run/late /run/homes && mount --bind /home /run/homes &&
    mount -t tmpfs -o mode=700,uid=$(id -u USER),gid=$(id -g USER) late /run/late &&
    mount --bind /run/late /home/USER/.hpc-proxy";
const REFRESH: &str = "cd /run/homes/USER/.hpc-proxy && while [ -d /run/late ]; do
      for it in /run/late/*; do [ -e \"${it##*/}\" ] || rm -f \"$it\"; done
      for it in *; do cp -a \"$it\" /run/late/.new && mv -f /run/late/.new \"/run/late/$it\"; done
      sleep PERIOD
    done";
const AT_ONCE: &str = "umount --lazy /home/USER/.hpc-proxy /run/late /run/homes && rmdir /run/late";

/// What a host whose clock is off leaves behind: stamps, on files and in a lease. The kernel has one clock of
/// this kind for all containers (time_namespaces(7) shifts only the monotonic ones), and what is put before a
/// program's calls by the linker does not get between a static program and the kernel.
const MISDATE: &str = "cd ~/.hpc-proxy && for it in job-*.json; do
      started=$(sed 's/.*\"started\":\\([0-9]*\\).*/\\1/' \"$it\") &&
      text=$(sed \"s/\\(\\\"started\\\":\\)[0-9]*/\\1$((started + BY))/\" \"$it\") &&
      printf '%s\\n' \"$text\" >\"$it\"; done &&
    find ~/.hpc-proxy ~/sites -exec touch -d 'BY seconds' {} +";

impl World {
    /// Ends a node with all that runs on it, as a power cut does.
    ///
    /// # Errors
    /// There is no such node.
    pub async fn loses(&self, node: &str) -> Result<()> {
        self.site().loses(node).await
    }

    /// Switches a node that was lost on again.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn regains(&self, node: &str) -> Result<()> {
        self.site().regains(node).await
    }

    /// Stops everything on a node where it is: nothing ends, nothing answers.
    ///
    /// # Errors
    /// There is no such node.
    pub async fn freezes(&self, node: &str) -> Result<()> {
        self.site().freezes(node).await
    }

    /// Lets a node that was frozen go on.
    ///
    /// # Errors
    /// There is no such node.
    pub async fn thaws(&self, node: &str) -> Result<()> {
        self.site().thaws(node).await
    }

    /// Cuts a host off the network: what is sent to it or from it is lost, and nobody is told.
    ///
    /// # Errors
    /// It is no container.
    pub async fn cuts_off(&self, host: &str) -> Result<()> {
        self.operates_on(host, CUT).await
    }

    /// Connects a host that was cut off again.
    ///
    /// # Errors
    /// It was not.
    pub async fn connects_again(&self, host: &str) -> Result<()> {
        self.operates_on(host, MEND).await
    }

    /// Has a host send so many kilobits a second and no more; what it cannot send yet waits (tc-tbf(8)).
    /// Not by tc-netem(8), which many kernels lack.
    ///
    /// # Errors
    /// It is no container.
    pub async fn slows_down(&self, host: &str, kilobits: u32) -> Result<()> {
        let slow =
            format!("tc qdisc replace dev eth0 root tbf rate {kilobits}kbit burst 3000 latency 2s");
        self.operates_on(host, &slow).await
    }

    /// Has a host that was slowed down send as fast as it can.
    ///
    /// # Errors
    /// It was not.
    pub async fn speeds_up(&self, host: &str) -> Result<()> {
        self.operates_on(host, "tc qdisc del dev eth0 root").await
    }

    /// Ends the login node's sshd and every connection that it has, and starts it anew.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn restarts_sshd(&self) -> Result<()> {
        self.site().restarts_sshd().await
    }

    /// Ends Slurm's controller: its commands fail, what runs goes on.
    ///
    /// # Errors
    /// It does not end.
    pub async fn stops_the_controller(&self) -> Result<()> {
        self.site().orders(Order::ControllerDown).await
    }

    /// Starts it again.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn starts_the_controller(&self) -> Result<()> {
        self.site().orders(Order::ControllerUp).await
    }

    /// Fills the file system of the homes to its last byte.
    ///
    /// # Errors
    /// Something can be written all the same.
    pub async fn fills_the_homes(&self) -> Result<()> {
        self.site().container("login")?.runs(FILL).await.map(drop)
    }

    /// Makes room again.
    ///
    /// # Errors
    /// The login node cannot be reached.
    pub async fn makes_room(&self) -> Result<()> {
        let login = self.site().container("login")?;
        login.runs("rm /home/filler").await.map(drop)
    }

    /// Lets nobody write in a home, wherever it is mounted.
    ///
    /// # Errors
    /// The hosts are no containers.
    pub async fn makes_read_only(&self, user: &str) -> Result<()> {
        self.operates_everywhere(&READ_ONLY.replace("USER", user))
            .await
    }

    /// Lets a home that was read-only be written to.
    ///
    /// # Errors
    /// It was not.
    pub async fn makes_writable(&self, user: &str) -> Result<()> {
        let command = format!("umount --lazy /home/{user}");
        self.operates_everywhere(&command).await
    }

    /// Has the login node see what programs publish in a home as it was up to `late` ago.
    ///
    /// # Errors
    /// The hosts are no containers, or it does so already.
    pub async fn shows_leases_late(&self, user: &str, late: Duration) -> Result<()> {
        let directory = format!("install -d -m 700 -o {user} -g {user} /home/{user}/.hpc-proxy");
        let login = self.site().container("login")?;
        login.runs(&directory).await?;
        login.is_operated_on(&LATE.replace("USER", user)).await?;
        let refresh = REFRESH.replace("USER", user);
        let period = late.as_secs_f64().to_string();
        login.starts(&refresh.replace("PERIOD", &period)).await
    }

    /// Has it see them as they are.
    ///
    /// # Errors
    /// It did already.
    pub async fn shows_leases_at_once(&self, user: &str) -> Result<()> {
        // The copying stops first; it works below one of the mounts.
        let login = self.site().container("login")?;
        login.runs("pkill -f '^bash -c cd /run/homes'").await?;
        self.operates_on("login", &AT_ONCE.replace("USER", user))
            .await
    }

    /// Dates what a user's programs have published and what they serve as by a clock that is off by so many
    /// seconds.
    ///
    /// # Errors
    /// They have no session, or no dev server.
    pub async fn misdates(&self, user: &str, seconds: i64) -> Result<()> {
        let command = MISDATE.replace("BY", &seconds.to_string());
        self.user(user).on("login", &command).await.map(drop)
    }

    /// Has somebody take an address on a host before whoever wants it; what is there says `text` to whoever
    /// asks. They hold it while this lives.
    ///
    /// # Errors
    /// It is taken already.
    pub async fn gives_away(
        &self,
        host: &str,
        (ip, port): (&str, u16),
        to: &str,
        text: &str,
    ) -> Result<Remote> {
        self.user(to).serves(host, ip, port, text).await
    }

    /// Kills what a user runs on a host by its command line, as the out-of-memory killer would.
    ///
    /// # Errors
    /// They run nothing of the kind.
    pub async fn kills(&self, host: &str, user: &str, pattern: &str) -> Result<()> {
        let killed = self.site().kills(host, user, pattern).await?;
        ensure!(killed > 0, "{user} runs no `{pattern}` on {host}");
        Ok(())
    }

    async fn operates_on(&self, host: &str, command: &str) -> Result<()> {
        let container = self.site().container(host)?;
        let done = container.is_operated_on(command).await;
        done.map(drop).with_context(|| format!("on {host}"))
    }

    async fn operates_everywhere(&self, command: &str) -> Result<()> {
        for host in NODES.iter().chain(&["login"]) {
            self.operates_on(host, command).await?;
        }
        Ok(())
    }
}
