//! Everybody's sessions, several per user: found by user and name, and in no other way.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hpc_proxy::{auth::NoRandom, socket::Activity};
use jiff::Timestamp;
use thiserror::Error;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    cluster::{Cluster, Gate, Ssh, SshError},
    ide::{Ide, Ides},
    job::{self, JobId, Log, Resources, Watch, Whose},
    local_end::Address,
    names::{ClusterName, HostName, UserName},
    session::{
        PhaseName,
        driver::{Driver, Order, Reins, Start, View},
        id::SessionId,
        record::{Record, Stage},
    },
    store::{Store, Table},
    wish::{Limits, Refused, Wish, not_among},
};

/// How long jobs may take to be cancelled when the manager ends.
const CANCEL_DEADLINE: Duration = Duration::from_secs(12);
/// How many sessions that have ended are shown to a user, and for how long.
const MOST_ENDED: usize = 8;
const ENDED_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// What all sessions have in common.
#[derive(Clone, Debug)]
pub struct Terms {
    /// What sessions may run.
    pub ides: Ides,
    /// What a job asks for, unless its user says otherwise.
    pub resources: Resources,
    /// What users may ask for.
    pub limits: Limits,
    /// How many a user may have at a time.
    pub max_sessions: usize,
    /// How long nothing may go through one before it is cancelled, if that is bounded.
    pub idle_timeout: Option<Duration>,
}

/// Why there is no new session.
#[derive(Debug, Error)]
pub enum LaunchError {
    /// Whoever asks has no account here.
    #[error("no account for `{0}`")]
    UnknownUser(UserName),
    /// So many are too many.
    #[error("{0} sessions are as many as a user may have at a time")]
    TooMany(usize),
    /// What is asked for is not allowed.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// No name for it.
    #[error(transparent)]
    NoRandom(#[from] NoRandom),
}

/// The sessions of all users.
#[derive(Debug)]
pub struct Sessions {
    accounts: BTreeMap<UserName, Account>,
    /// Who asks squeue for all users of a cluster, each by the account that does.
    watches: Vec<Arc<Watch>>,
    terms: Terms,
    place: Place,
    store: Arc<Store>,
    drivers: TaskTracker,
    stop: CancellationToken,
}

/// Where tunnels begin.
#[derive(Debug)]
struct Place {
    state_dir: PathBuf,
    /// For the only user's first session.
    local_port: Option<u16>,
}

/// An account on a cluster, and who asks squeue about it.
type Way = (Arc<Cluster>, Arc<Watch>);

#[derive(Debug)]
struct Account {
    /// The first is the usual one.
    clusters: Vec<(Option<ClusterName>, Way)>,
    /// The oldest first.
    sessions: Mutex<Vec<Session>>,
}

#[derive(Clone, Debug)]
struct Session {
    record: Record,
    ide: Arc<Ide>,
    address: Address,
    view: watch::Receiver<View>,
    activity: Arc<Activity>,
    looked: Arc<Notify>,
    cancel: CancellationToken,
}

/// A session as it stands.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which it is.
    pub id: SessionId,
    /// Where, if clusters have names.
    pub cluster: Option<ClusterName>,
    /// What was asked for.
    pub wish: Wish,
    /// What it runs.
    pub ide: Arc<Ide>,
    /// Since when it is there.
    pub created: Timestamp,
    /// How it stands.
    pub view: View,
    /// When it was last used.
    pub activity: Arc<Activity>,
}

impl Sessions {
    /// For the accounts in `logins`, with the sessions that `store` has kept; sockets are made in
    /// `state_dir`. The tunnel of a single user's session begins at `local_port`, all others at a
    /// socket each.
    ///
    /// # Errors
    /// When ssh cannot have its sockets in `state_dir`, or the system has no random bytes.
    pub fn new(
        logins: Vec<Ssh>,
        terms: Terms,
        state_dir: &Path,
        local_port: u16,
        store: Arc<Store>,
    ) -> Result<Self, SshError> {
        clear(state_dir);
        // The same words of another ssh configuration may lead to another cluster.
        let key = |watcher: &Ssh| {
            (
                watcher.login.clone(),
                watcher.config.clone(),
                watcher.key.clone(),
            )
        };
        // The clients of a killed manager remove their sockets late: never the ones of this start.
        let start = SessionId::random()?;
        let mut accounts: BTreeMap<UserName, Account> = BTreeMap::new();
        let mut gates: BTreeMap<HostName, Arc<Gate>> = BTreeMap::new();
        let mut watches = BTreeMap::new();
        for ssh in logins {
            let account = accounts.entry(ssh.user.clone()).or_insert_with(|| Account {
                clusters: Vec::new(),
                sessions: Mutex::default(),
            });
            let (name, number) = (ssh.cluster.clone(), account.clusters.len());
            let start = &start.as_str()[..4];
            let control = format!("{}-{start}{number}.ctl", ssh.user);
            let gate = Arc::clone(gates.entry(ssh.login.host.clone()).or_default());
            let watcher = ssh.watcher();
            let cluster = Cluster::new(ssh, &state_dir.join(control), gate)?;
            let cluster = Arc::new(cluster);
            let watch = match watcher {
                None => Arc::new(Watch::new(Arc::clone(&cluster), Whose::Own)),
                Some(watcher) => match watches.get(&key(&watcher)) {
                    Some(watch) => Arc::clone(watch),
                    None => {
                        // No user is called that.
                        let control = format!("@squeue-{start}{}.ctl", watches.len());
                        let gate = gates.entry(watcher.login.host.clone()).or_default();
                        let account = key(&watcher);
                        let asks =
                            Cluster::new(watcher, &state_dir.join(control), Arc::clone(gate))?;
                        let watch = Arc::new(Watch::new(Arc::new(asks), Whose::Everybodys));
                        watches.insert(account, Arc::clone(&watch));
                        watch
                    }
                },
            };
            account.clusters.push((name, (cluster, watch)));
        }
        let place = Place {
            state_dir: state_dir.to_owned(),
            local_port: (accounts.len() == 1).then_some(local_port),
        };
        let sessions = Self {
            accounts,
            watches: watches.into_values().collect(),
            terms,
            place,
            store,
            drivers: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        sessions.load();
        Ok(sessions)
    }

    /// Takes up what was kept.
    fn load(&self) {
        let mut records: Vec<(String, Record)> = self.store.kept(Table::Sessions);
        records.sort_by_key(|(_, record)| record.created);
        for (_, record) in records {
            let Some(account) = self.accounts.get(&record.user) else {
                continue;
            };
            let Some(way) = account.way(record.cluster.as_ref()) else {
                tracing::warn!(session = %record.id, "the cluster of a session is not configured");
                continue;
            };
            let mut sessions = account.sessions();
            let view = View::kept(&record.stage);
            let ide = self.terms.ides.of_kept(record.wish.ide.as_deref());
            self.begin(&mut sessions, way, record, ide, view, Start::Kept);
        }
        for account in self.accounts.values() {
            self.forget(&mut account.sessions());
        }
    }

    /// Adds a session, with a driver unless it is over.
    fn begin(
        &self,
        sessions: &mut Vec<Session>,
        way: Way,
        record: Record,
        ide: Arc<Ide>,
        view: View,
        start: Start,
    ) {
        let over = view.phase.is_over();
        let address = self.place.address(sessions, &record.id);
        let (publish, seen) = watch::channel(view);
        let session = Session {
            record: record.clone(),
            ide: Arc::clone(&ide),
            address: address.clone(),
            view: seen,
            activity: Arc::default(),
            looked: Arc::default(),
            cancel: CancellationToken::new(),
        };
        let reins = Reins {
            view: publish,
            activity: Arc::clone(&session.activity),
            looked: Arc::clone(&session.looked),
            cancel: session.cancel.clone(),
            stop: self.stop.clone(),
        };
        if record.wants_end {
            session.cancel.cancel();
        }
        sessions.push(session);
        if over {
            return;
        }
        let span = tracing::info_span!("session", user = %record.user, session = %record.id);
        let order = Order {
            record,
            start,
            kind: ide.kind,
            address,
            idle_timeout: self.terms.idle_timeout,
        };
        let driver = Driver::new(way, Arc::clone(&self.store), order, reins);
        self.drivers.spawn(driver.run().instrument(span));
    }

    /// Drops what has ended long ago, or before many others.
    fn forget(&self, sessions: &mut Vec<Session>) {
        let now = Timestamp::now();
        let is_over = |session: &Session| session.view.borrow().phase.is_over();
        let mut ended = sessions.iter().filter(|session| is_over(session)).count();
        sessions.retain(|session| {
            if !is_over(session) {
                return true;
            }
            let age = now.duration_since(session.record.created);
            let old = Duration::try_from(age).is_ok_and(|age| age > ENDED_FOR);
            let keep = !old && ended <= MOST_ENDED;
            if !keep {
                ended -= 1;
                drop(
                    self.store
                        .remove(Table::Sessions, session.record.id.as_str()),
                );
            }
            keep
        });
    }

    /// Whether `user` has an account here.
    pub fn knows(&self, user: &UserName) -> bool {
        self.accounts.contains_key(user)
    }

    /// The user, where there is one alone.
    pub fn only_user(&self) -> Option<UserName> {
        let mut all = self.accounts.keys();
        let first = all.next();
        first.filter(|_| all.next().is_none()).cloned()
    }

    /// What all have in common.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The clusters among which `user` may choose.
    pub fn clusters(&self, user: &UserName) -> Vec<ClusterName> {
        let clusters = self.accounts.get(user).map(|account| &account.clusters);
        let names = clusters.into_iter().flatten().map(|(name, _)| name.clone());
        names.flatten().collect()
    }

    /// The user wants to know how their sessions stand: Slurm is asked sooner than otherwise.
    pub fn look(&self, user: &UserName) {
        if let Some(account) = self.accounts.get(user) {
            let sessions = account.sessions();
            sessions
                .iter()
                .for_each(|session| session.looked.notify_one());
        }
    }

    /// The user's sessions that there are or were, the newest first.
    pub fn list(&self, user: &UserName) -> Vec<Seen> {
        let Some(account) = self.accounts.get(user) else {
            return Vec::new();
        };
        account.sessions().iter().rev().map(Session::seen).collect()
    }

    /// The user's session of that name.
    pub fn find(&self, user: &UserName, id: &SessionId) -> Option<Seen> {
        let account = self.accounts.get(user)?;
        let sessions = account.sessions();
        let found = sessions.iter().find(|session| session.record.id == *id)?;
        Some(found.seen())
    }

    /// The session that serves the user: the one of their `choice` while it lives, else the newest
    /// that does, else the newest.
    pub fn selected(&self, user: &UserName, choice: Option<&SessionId>) -> Option<Seen> {
        let all = self.list(user);
        living(&all, choice).or_else(|| all.first()).cloned()
    }

    /// The user's session whose job it is.
    pub fn of_job(&self, user: &UserName, is_it: impl Fn(JobId) -> bool) -> Option<Seen> {
        let all = self.list(user);
        let mut of_job = all
            .iter()
            .filter(|seen| seen.view.phase.job().is_some_and(&is_it));
        let lives = of_job.clone().find(|seen| !seen.view.phase.is_over());
        lives.or_else(|| of_job.next()).cloned()
    }

    /// How far each session is that there is or was.
    pub fn phases(&self) -> Vec<PhaseName> {
        let users = self.accounts.keys();
        users
            .flat_map(|user| self.list(user))
            .map(|seen| seen.view.phase.name())
            .collect()
    }

    /// Starts a session, or only one if none lives, unless it is to be `another`; that it started, or that lives.
    ///
    /// # Errors
    /// See [`LaunchError`].
    pub fn launch(
        &self,
        user: &UserName,
        mut wish: Wish,
        choice: Option<&SessionId>,
        another: bool,
    ) -> Result<SessionId, LaunchError> {
        let account = self.accounts.get(user);
        let account = account.ok_or_else(|| LaunchError::UnknownUser(user.clone()))?;
        let mut sessions = account.sessions();
        let all: Vec<Seen> = sessions.iter().rev().map(Session::seen).collect();
        if let Some(seen) = living(&all, choice).filter(|_| !another) {
            return Ok(seen.id.clone());
        }
        let terms = &self.terms;
        // A form sends what was left empty.
        let ide = wish.ide.filter(|name| !name.is_empty());
        let ide = terms.ides.wanted(ide.as_deref())?;
        // Another may be the usual one when this one is taken up again.
        wish.ide = Some(ide.name.to_string());
        let resources = wish.resources(&terms.resources, &terms.limits)?;
        let node = wish.wanted_node()?;
        let (name, way) = account.wanted(wish.cluster.as_ref(), &self.clusters(user))?;
        self.forget(&mut sessions);
        let alive = |session: &&Session| !session.view.borrow().phase.is_over();
        if sessions.iter().filter(alive).count() >= terms.max_sessions {
            return Err(LaunchError::TooMany(terms.max_sessions));
        }
        let id = SessionId::random()?;
        let record = Record {
            id: id.clone(),
            user: user.clone(),
            cluster: name,
            wish,
            created: Timestamp::now(),
            stage: Stage::Asked,
            wants_end: false,
        };
        let start = Start::New {
            script: ide.script.over(way.0.ssh().transport),
            resources: Box::new(resources),
            node,
        };
        self.begin(&mut sessions, way, record, ide, View::of_new(), start);
        Ok(id)
    }

    /// Asks for the end of the user's session; whether there is such a one.
    pub fn cancel(&self, user: &UserName, id: &SessionId) -> bool {
        let Some(account) = self.accounts.get(user) else {
            return false;
        };
        let sessions = account.sessions();
        let found = sessions.iter().find(|session| session.record.id == *id);
        found.is_some_and(|session| {
            session.cancel.cancel();
            true
        })
    }

    /// What a session's job has printed, `most_bytes` of it, from a byte on or else the end; nothing before
    /// there is a job.
    ///
    /// # Errors
    /// When the login node cannot be reached.
    pub async fn log(
        &self,
        user: &UserName,
        seen: &Seen,
        from: Option<u64>,
        most_bytes: usize,
    ) -> Result<Option<Log>, SshError> {
        let account = self.accounts.get(user);
        let way = account.and_then(|account| account.way(seen.cluster.as_ref()));
        match way.zip(seen.view.phase.job()) {
            Some(((cluster, _), job)) => Ok(Some(job::log(&cluster, job, from, most_bytes).await?)),
            None => Ok(None),
        }
    }

    /// Ends all tunnels, and the jobs too if `cancel_jobs`; whose jobs are left.
    pub async fn close(&self, cancel_jobs: bool) -> Vec<(UserName, JobId)> {
        self.drivers.close();
        let all = || {
            let users = self.accounts.keys();
            users.flat_map(|user| self.list(user).into_iter().map(move |seen| (user, seen)))
        };
        if cancel_jobs {
            for (user, seen) in all() {
                self.cancel(user, &seen.id);
            }
            // Whoever cannot be cancelled in time is told of below.
            let _ = timeout(CANCEL_DEADLINE, self.drivers.wait()).await;
        }
        self.stop.cancel();
        self.drivers.wait().await;
        let left = all().filter(|(_, seen)| !seen.view.phase.is_over());
        let left = left.filter_map(|(user, seen)| Some((user.clone(), seen.view.phase.job()?)));
        let left = left.collect();
        for account in self.accounts.values() {
            for (_, (cluster, _)) in &account.clusters {
                cluster.close().await;
            }
        }
        for watch in &self.watches {
            watch.cluster().close().await;
        }
        self.store.settled().await;
        left
    }
}

impl Place {
    /// Where a session's tunnel begins.
    fn address(&self, sessions: &[Session], id: &SessionId) -> Address {
        let taken = |session: &Session| {
            matches!(session.address, Address::Tcp(_)) && !session.view.borrow().phase.is_over()
        };
        match self.local_port {
            Some(port) if !sessions.iter().any(taken) => Address::Tcp(port),
            _ => Address::Unix(self.state_dir.join(format!("tunnel-{id}.sock"))),
        }
    }
}

impl Account {
    fn sessions(&self) -> MutexGuard<'_, Vec<Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cluster by that name; the usual one for what is older than the names.
    fn way(&self, name: Option<&ClusterName>) -> Option<Way> {
        let mut all = self.clusters.iter();
        let found = all.find(|(found, _)| name.is_none() || found.as_ref() == name);
        found.map(|(_, way)| way.clone())
    }

    /// The cluster that is wished for, or else the usual one.
    fn wanted(
        &self,
        name: Option<&ClusterName>,
        all: &[ClusterName],
    ) -> Result<(Option<ClusterName>, Way), Refused> {
        let mut clusters = self.clusters.iter();
        let found = clusters.find(|(found, _)| name.is_none() || found.as_ref() == name);
        let found = found.cloned();
        let named = name.map(ClusterName::as_str).unwrap_or_default();
        found.ok_or_else(|| not_among("cluster", named, all))
    }
}

impl Session {
    fn seen(&self) -> Seen {
        let record = &self.record;
        Seen {
            id: record.id.clone(),
            cluster: record.cluster.clone(),
            wish: record.wish.clone(),
            ide: Arc::clone(&self.ide),
            created: record.created,
            view: self.view.borrow().clone(),
            activity: Arc::clone(&self.activity),
        }
    }
}

/// The one of `choice` while it lives, else the newest that does.
fn living<'a>(all: &'a [Seen], choice: Option<&SessionId>) -> Option<&'a Seen> {
    let lives = |seen: &&Seen| !seen.view.phase.is_over();
    let chosen = all
        .iter()
        .filter(lives)
        .find(|seen| Some(&seen.id) == choice);
    chosen.or_else(|| all.iter().find(lives))
}

/// Removes the sockets that a killed manager left. Nobody else's are there: the directory is ours
/// alone, and its lock is held.
fn clear(state_dir: &Path) {
    let entries = std::fs::read_dir(state_dir).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.ends_with(".ctl") || (name.starts_with("tunnel-") && name.ends_with(".sock")) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
impl Sessions {
    /// Gives `user` a session that stands as `view` says.
    pub(crate) fn put(&self, user: &UserName, view: watch::Receiver<View>) -> SessionId {
        let id = SessionId::random().expect("random bytes");
        let record = Record {
            id: id.clone(),
            user: user.clone(),
            cluster: None,
            wish: Wish::default(),
            created: Timestamp::now(),
            stage: Stage::Asked,
            wants_end: false,
        };
        self.accounts[user].sessions().push(Session {
            ide: self.terms.ides.of_kept(None),
            record,
            address: Address::Tcp(0),
            view,
            activity: Arc::default(),
            looked: Arc::default(),
            cancel: CancellationToken::new(),
        });
        id
    }
}
