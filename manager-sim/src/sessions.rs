//! Everybody's sessions: one at a time per user, found by user and in no other way.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    cluster::{Cluster, Ssh, SshError},
    job::JobId,
    local_end::Address,
    names::{NodeName, UserName},
    session::{
        PhaseName,
        driver::{Driver, Order, View},
    },
};

/// How long jobs may take to be cancelled when the manager ends.
const CANCEL_DEADLINE: Duration = Duration::from_secs(20);

/// What all sessions have in common: an order without node and local end.
#[derive(Clone, Debug)]
pub struct Terms {
    /// See [`Order::script`].
    pub script: crate::job::script::Script,
    /// See [`Order::kind`].
    pub kind: crate::job::script::IdeKind,
    /// See [`Order::resources`].
    pub resources: crate::job::Resources,
}

/// The sessions of all users.
#[derive(Debug)]
pub struct Sessions {
    accounts: BTreeMap<UserName, Account>,
    terms: Terms,
    drivers: TaskTracker,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Account {
    cluster: Arc<Cluster>,
    address: Address,
    current: Mutex<Option<Session>>,
}

#[derive(Clone, Debug)]
struct Session {
    view: watch::Receiver<View>,
    cancel: CancellationToken,
}

impl Sessions {
    /// For the accounts in `logins`; sockets are made in `state_dir`. A single account's tunnel
    /// begins at `local_port`, those of several at a socket each.
    ///
    /// # Errors
    /// When ssh cannot have its sockets in `state_dir`.
    pub fn new(
        logins: Vec<Ssh>,
        terms: Terms,
        state_dir: &Path,
        local_port: u16,
    ) -> Result<Self, SshError> {
        let single = logins.len() == 1;
        let account = |ssh: Ssh| {
            let user = ssh.user.clone();
            let address = if single {
                Address::Tcp(local_port)
            } else {
                Address::Unix(state_dir.join(format!("{user}.sock")))
            };
            let cluster = Cluster::new(ssh, &state_dir.join(format!("{user}.ctl")))?;
            let current = Mutex::default();
            Ok((
                user,
                Account {
                    cluster: Arc::new(cluster),
                    address,
                    current,
                },
            ))
        };
        Ok(Self {
            accounts: logins
                .into_iter()
                .map(account)
                .collect::<Result<_, SshError>>()?,
            terms,
            drivers: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Whether `user` has an account here.
    pub fn knows(&self, user: &UserName) -> bool {
        self.accounts.contains_key(user)
    }

    /// How the user's session stands, if there is or was one.
    pub fn view(&self, user: &UserName) -> Option<View> {
        let session = self.accounts.get(user)?.current().clone()?;
        let view = session.view.borrow().clone();
        Some(view)
    }

    /// How far each session is that there is or was.
    pub fn phases(&self) -> Vec<PhaseName> {
        let users = self.accounts.keys();
        users
            .filter_map(|user| Some(self.view(user)?.phase.name()))
            .collect()
    }

    /// Starts a session, unless one lives already; how it stands.
    pub fn launch(&self, user: &UserName, node: Option<NodeName>) -> Option<View> {
        let account = self.accounts.get(user)?;
        let mut current = account.current();
        if let Some(session) = &*current
            && !session.view.borrow().phase.is_over()
        {
            return Some(session.view.borrow().clone());
        }
        let (publish, view) = watch::channel(View::new(self.terms.kind));
        let cancel = CancellationToken::new();
        let Terms {
            script,
            kind,
            resources,
        } = self.terms.clone();
        let address = account.address.clone();
        let script = script.over(account.cluster.ssh().transport);
        let order = Order {
            script,
            kind,
            resources,
            node,
            address,
        };
        let cluster = Arc::clone(&account.cluster);
        let driver = Driver::new(cluster, order, publish, cancel.clone(), self.stop.clone());
        let span = tracing::info_span!("session", %user);
        self.drivers.spawn(driver.run().instrument(span));
        let session = current.insert(Session { view, cancel });
        Some(session.view.borrow().clone())
    }

    /// Asks for the end of the user's session; how it stands.
    pub fn cancel(&self, user: &UserName) -> Option<View> {
        let session = self.accounts.get(user)?.current().clone()?;
        session.cancel.cancel();
        let view = session.view.borrow().clone();
        Some(view)
    }

    /// Ends all tunnels, and the jobs too if `cancel_jobs`; whose jobs are left.
    pub async fn close(&self, cancel_jobs: bool) -> Vec<(UserName, JobId)> {
        self.drivers.close();
        if cancel_jobs {
            for user in self.accounts.keys() {
                self.cancel(user);
            }
            // Whoever cannot be cancelled in time is told of below.
            let _ = timeout(CANCEL_DEADLINE, self.drivers.wait()).await;
        }
        self.stop.cancel();
        self.drivers.wait().await;
        let left = self.accounts.keys().filter_map(|user| {
            let phase = self.view(user)?.phase;
            if phase.is_over() {
                None
            } else {
                Some((user.clone(), phase.job()?))
            }
        });
        let left = left.collect();
        for account in self.accounts.values() {
            account.cluster.close().await;
        }
        left
    }
}

impl Account {
    fn current(&self) -> std::sync::MutexGuard<'_, Option<Session>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Sessions {
    /// Gives `user` a session that stands as `view` says.
    pub(crate) fn put(&self, user: &UserName, view: watch::Receiver<View>) {
        let cancel = CancellationToken::new();
        *self.accounts[user].current() = Some(Session { view, cancel });
    }
}
