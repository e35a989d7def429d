//! Drives one session: asks the scheduler, reads the lease, holds the tunnel, and publishes how it
//! stands. What follows from what is [`super::step`]'s business.

use std::{future::pending, mem, sync::Arc, time::Duration};

use hpc_proxy::{socket::Activity, text::chain};
use jiff::Timestamp;
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{Cluster, SshError},
    job::{self, Due, JobError, JobId, JobStatus, Resources, Told, Watch, script::IdeKind},
    lease::{self, Lease, LeaseError},
    local_end::{Address, LocalEnd},
    names::NodeName,
    session::{
        Action, Event, Phase, pace,
        reconcile::{Verdict, decide},
        record::{Record, Stage},
        step,
    },
    store::{OnItsWay, Store, Table},
    tunnel::{Tunnel, TunnelError},
    upstream::Upstream,
};

/// How soon a lease that is not there yet is looked for again, one command on the login node each;
/// the next time a quarter later.
const LEASE_INTERVAL: Duration = Duration::from_millis(300);
/// The job script gives a proxy 30 s to start. Who waits longer is told what is missing.
const LEASE_DEADLINE: Duration = Duration::from_secs(45);
/// A tunnel that lasted so long was a good one: failures count from zero again.
const GOOD_TUNNEL: Duration = Duration::from_secs(10);
/// How long the job's own last words are waited for.
const LAST_WORDS_DEADLINE: Duration = Duration::from_secs(5);

/// What a session is to be.
#[derive(Debug)]
pub struct Order {
    /// What is kept of it.
    pub record: Record,
    /// How it begins.
    pub start: Start,
    /// Whether a proxy runs in it.
    pub kind: IdeKind,
    /// The local end of its tunnel.
    pub address: Address,
    /// How long nothing may go through it before it is cancelled, if that is bounded.
    pub idle_timeout: Option<Duration>,
}

/// How a session begins.
#[derive(Debug)]
pub enum Start {
    /// With a job of its own.
    New {
        /// The batch script.
        script: String,
        /// What it asks of the cluster.
        resources: Box<Resources>,
        /// The node it must be on, if any.
        node: Option<NodeName>,
    },
    /// With what an earlier manager kept of it.
    Kept,
}

/// How a session stands, for everybody who waits.
#[derive(Clone, Debug)]
pub struct View {
    /// How far it is.
    pub phase: Phase,
    /// What keeps it from going on, for a person.
    pub trouble: Option<String>,
    /// The way to its proxy; there if and only if the phase is [`Phase::Connected`].
    pub upstream: Option<Upstream>,
    /// When Slurm will end it, once it runs.
    pub ends: Option<std::time::Instant>,
}

impl View {
    /// That of a new session.
    pub fn of_new() -> Self {
        Self::at(Phase::Submitting)
    }

    /// That of a session that was kept.
    pub fn kept(stage: &Stage) -> Self {
        let phase = match stage.clone() {
            Stage::Asked => Phase::Submitting,
            Stage::Submitted { job } => Phase::Submitted { job },
            Stage::Cancelling { job, why } => Phase::Cancelling { job, why },
            Stage::Ended { job, why, .. } => Phase::Ended { job, why },
        };
        Self::at(phase)
    }

    fn at(phase: Phase) -> Self {
        Self {
            phase,
            trouble: None,
            upstream: None,
            ends: None,
        }
    }
}

/// What a task of the driver brought.
enum Outcome {
    Event(Event),
    Told(Told),
    Opened(Box<Result<Tunnel, TunnelError>>),
}

/// The driver of one session.
pub struct Driver {
    cluster: Arc<Cluster>,
    watch: Arc<Watch>,
    store: Arc<Store>,
    order: Order,
    view: watch::Sender<View>,
    activity: Arc<Activity>,
    looked: Arc<Notify>,
    cancel: CancellationToken,
    stop: CancellationToken,
    tasks: JoinSet<Outcome>,
    /// The task that asks squeue; what an earlier one brings is stale.
    poll: Option<AbortHandle>,
    /// The task that the phase asks for; likewise.
    work: Option<AbortHandle>,
    opened: Option<Tunnel>,
    connected_since: Option<Instant>,
    polls_without_change: u32,
    failures: u32,
    scheduler_trouble: Option<String>,
    tunnel_trouble: Option<String>,
    /// Whether somebody or something here wanted the end.
    wants_end: bool,
}

/// How others reach a driver.
#[derive(Debug)]
pub struct Reins {
    /// Where it publishes.
    pub view: watch::Sender<View>,
    /// When the session was last used.
    pub activity: Arc<Activity>,
    /// Tells that somebody wants to know how it stands.
    pub looked: Arc<Notify>,
    /// Asks it to cancel the job.
    pub cancel: CancellationToken,
    /// Asks it to leave the job.
    pub stop: CancellationToken,
}

impl Driver {
    /// A driver that keeps its session in `store`, and has `watch` ask squeue.
    pub fn new(
        (cluster, watch): (Arc<Cluster>, Arc<Watch>),
        store: Arc<Store>,
        order: Order,
        reins: Reins,
    ) -> Self {
        let Reins {
            view,
            activity,
            looked,
            cancel,
            stop,
        } = reins;
        Self {
            cluster,
            watch,
            store,
            order,
            view,
            activity,
            looked,
            cancel,
            stop,
            tasks: JoinSet::new(),
            poll: None,
            work: None,
            opened: None,
            connected_since: None,
            polls_without_change: 0,
            failures: 0,
            scheduler_trouble: None,
            tunnel_trouble: None,
            wants_end: false,
        }
    }

    /// Runs the session to its end, or until it is to be left.
    pub async fn run(mut self) {
        let begun = match mem::replace(&mut self.order.start, Start::Kept) {
            Start::New {
                script,
                resources,
                node,
            } => self.submit(&script, &resources, node.as_ref()).await,
            Start::Kept => self.reconcile().await,
        };
        if begun {
            self.drive().await;
        }
        self.tasks.shutdown().await;
        self.add_last_words().await;
    }

    async fn drive(&mut self) {
        while !self.view.borrow().phase.is_over() {
            let (cancelling, connected) = {
                let phase = &self.view.borrow().phase;
                let cancelling = matches!(phase, Phase::Cancelling { .. });
                (cancelling, matches!(phase, Phase::Connected { .. }))
            };
            tokio::select! {
                biased;
                // Written down before the manager may end.
                () = self.cancel.cancelled(), if !cancelling => {
                    self.take(Event::CancelAsked("it was cancelled".into()));
                }
                () = self.stop.cancelled() => break,
                idle = idle(&self.activity, self.order.idle_timeout), if connected => {
                    let idle = idle.as_secs();
                    let idle = match idle % 60 {
                        0 => format!("{} min", idle / 60),
                        _ => format!("{idle} s"),
                    };
                    let why = format!("it was idle for {idle}, and this manager cancels such sessions");
                    self.take(Event::CancelAsked(why));
                }
                Some(joined) = self.tasks.join_next_with_id() => {
                    // Else it was aborted.
                    if let Ok((id, outcome)) = joined
                        && [&self.poll, &self.work]
                            .into_iter()
                            .flatten()
                            .any(|task| task.id() == id)
                    {
                        self.take_outcome(outcome);
                    }
                }
            }
        }
    }

    /// Asks sbatch, and finds out what became of that; whether it did. Neither a cancel nor a stop
    /// interrupts sbatch.
    async fn submit(
        &mut self,
        script: &str,
        resources: &Resources,
        node: Option<&NodeName>,
    ) -> bool {
        // Before there can be a job, so that none is ever there that nobody knows of.
        if let Err(error) = self.write().kept().await {
            let why = format!("nothing was submitted: {}", chain(&error));
            self.take(Event::SubmitFailed(why));
            return true;
        }
        let id = self.order.record.id.clone();
        let submit = job::submit(&self.cluster, script, &id, resources, node);
        match noting(&self.cancel, &mut self.order.record, &self.store, submit).await {
            Ok(job) => self.take(Event::Submitted(job)),
            Err(error) if is_unknown(&error) => {
                tracing::warn!(
                    error = chain(&error),
                    "sbatch did not say whether there is a job"
                );
                return self.reconcile().await;
            }
            Err(error) => self.take(Event::SubmitFailed(chain(&error))),
        }
        true
    }

    /// Looks for the job by the session's name until it is known what became of it; whether it is.
    async fn reconcile(&mut self) -> bool {
        // Whoever asked sbatch asks no more: it was this manager, before, or one that has ended.
        let start = Instant::now();
        loop {
            let id = self.order.record.id.clone();
            let find = job::find(&self.cluster, &id);
            let found = tokio::select! {
                () = self.stop.cancelled() => return false,
                found = noting(&self.cancel, &mut self.order.record, &self.store, find) => found,
            };
            let trouble = match found {
                Ok(found) => {
                    let verdict = decide(&self.order.record.stage, &found, start.elapsed());
                    tracing::info!(?verdict, "looked for the job of a session");
                    match verdict {
                        Verdict::Adopt(job) => {
                            self.take(Event::Submitted(job));
                            self.poll_after(Duration::ZERO, job);
                            return true;
                        }
                        Verdict::CancelAgain(job) => {
                            let phase = self.view.borrow().phase.clone();
                            self.wants_end = true;
                            self.act(Action::Cancel(job), &phase);
                            self.poll_after(pace::FIRST_POLL, job);
                            return true;
                        }
                        Verdict::Over(why) => {
                            self.take(Event::FoundOver(why.into()));
                            return true;
                        }
                        Verdict::LookAgain => {
                            "it is not known yet whether there is a job; squeue is asked".to_owned()
                        }
                    }
                }
                Err(error) => {
                    self.failures += 1;
                    chain(&error)
                }
            };
            self.view.send_modify(|view| view.trouble = Some(trouble));
            let pause = pace::retry(self.failures).max(pace::FIRST_RETRY * 4);
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = noting(&self.cancel, &mut self.order.record, &self.store, sleep(pause)) => {}
            }
        }
    }

    /// Writes down how far it is.
    fn write(&self) -> OnItsWay {
        write(&self.order.record, &self.store)
    }

    /// Keeps the phase, as far as the job could not tell it.
    fn keep(&mut self, phase: &Phase) {
        let stage = match phase.clone() {
            Phase::Submitting => Stage::Asked,
            Phase::Cancelling { job, why } => Stage::Cancelling { job, why },
            Phase::Ended { job, why } => Stage::Ended {
                job,
                why,
                at: Timestamp::now(),
            },
            phase => match phase.job() {
                Some(job) => Stage::Submitted { job },
                None => Stage::Asked,
            },
        };
        if stage != self.order.record.stage {
            self.order.record.stage = stage;
            // Where it gets lost, squeue still tells.
            drop(self.write());
        }
    }

    fn take_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Event(event) => self.take(event),
            Outcome::Told(Told { status, left }) => {
                let running = matches!(status, JobStatus::Running { .. });
                let left = left.filter(|_| running);
                let ends = left.and_then(|left| std::time::Instant::now().checked_add(left));
                self.view.send_modify(|view| view.ends = ends);
                self.take(Event::Polled(status));
            }
            Outcome::Opened(opened) => match *opened {
                Ok(tunnel) => {
                    self.opened = Some(tunnel);
                    self.take(Event::TunnelUp);
                }
                Err(error) => self.take(Event::TunnelLost(chain(&error))),
            },
        }
    }

    /// One step: notes, acts, publishes.
    fn take(&mut self, event: Event) {
        self.note(&event);
        let polled = matches!(event, Event::Polled(_) | Event::PollFailed(_));
        let before = self.view.borrow().phase.clone();
        let (phase, action) = step(before.clone(), event);
        let changed = phase != before;
        if changed {
            self.polls_without_change = 0;
            tell(&phase);
            self.keep(&phase);
        }
        self.act(action, &phase);
        if phase.job().is_some() && !phase.is_over() && (polled || changed) {
            self.poll_later(&phase);
        }
        // Each may be the reason of the other.
        let troubles = [&self.tunnel_trouble, &self.scheduler_trouble];
        let mut troubles: Vec<String> = troubles.into_iter().flatten().cloned().collect();
        troubles.dedup();
        let trouble = (!troubles.is_empty()).then(|| troubles.join("; "));
        let trouble = trouble.filter(|_| !phase.is_over());
        self.view.send_modify(|view| {
            view.upstream = match &phase {
                Phase::Connected { lease, .. } => view.upstream.take().or_else(|| {
                    let local_end = LocalEnd::new(self.order.address.clone(), lease.proxy.clone());
                    let activity = Arc::clone(&self.activity);
                    Some(Upstream::new(local_end, Arc::clone(lease), activity))
                }),
                _ => None,
            };
            view.phase = phase;
            view.trouble = trouble;
        });
    }

    /// Remembers what is wrong, for people and for the pace of retries.
    fn note(&mut self, event: &Event) {
        match event {
            Event::PollFailed(why) => {
                if self.scheduler_trouble.replace(why.clone()).as_ref() != Some(why) {
                    tracing::warn!(error = why, "the scheduler does not answer");
                }
            }
            Event::CancelFailed(why) => {
                tracing::warn!(error = why, "cannot cancel the job");
                self.scheduler_trouble = Some(why.clone());
                self.failures += 1;
            }
            Event::Polled(_) => self.scheduler_trouble = None,
            Event::LeaseFailed(why) | Event::TunnelLost(why) => {
                if self
                    .connected_since
                    .take()
                    .is_some_and(|since| since.elapsed() > GOOD_TUNNEL)
                {
                    self.failures = 0;
                }
                tracing::warn!(error = why, "no tunnel");
                self.tunnel_trouble = Some(why.clone());
                self.failures += 1;
            }
            Event::TunnelUp => {
                self.connected_since = Some(Instant::now());
                self.tunnel_trouble = None;
                // Nobody could use it before.
                self.activity.touch();
            }
            Event::CancelAsked(_) => {
                self.wants_end = true;
                self.tunnel_trouble = None;
                self.failures = 0;
            }
            Event::Submitted(_)
            | Event::SubmitFailed(_)
            | Event::LeaseRead(_)
            | Event::FoundOver(_)
            | Event::Cancelled => {}
        }
    }

    fn act(&mut self, action: Action, phase: &Phase) {
        let opened = self.opened.take();
        let cluster = Arc::clone(&self.cluster);
        let pause = pace::retry(self.failures);
        match action {
            Action::Nothing => {}
            Action::DropTunnel => {
                self.tunnel_trouble = None;
                self.failures = 0;
                self.replace_work(None::<std::future::Ready<_>>);
            }
            Action::ReadLease => {
                let reading = phase.job().zip(phase.node().cloned());
                let reading = reading.filter(|_| self.order.kind == IdeKind::Vscode);
                self.replace_work(reading.map(|(job, node)| async move {
                    sleep(pause).await;
                    Outcome::Event(read_lease(&cluster, job, &node).await)
                }));
            }
            Action::OpenTunnel => {
                let address = self.order.address.clone();
                self.replace_work(phase.lease().cloned().map(|lease| async move {
                    Outcome::Opened(Box::new(open_tunnel(&cluster, address, &lease).await))
                }));
            }
            Action::WatchTunnel => self.replace_work(opened.map(|mut tunnel| async move {
                Outcome::Event(Event::TunnelLost(tunnel.lost().await))
            })),
            Action::Cancel(job) => self.replace_work(Some(async move {
                sleep(pause).await;
                Outcome::Event(match job::cancel(&cluster, job).await {
                    Ok(()) => Event::Cancelled,
                    Err(error) => Event::CancelFailed(chain(&error)),
                })
            })),
        }
    }

    /// Ends what the phase asked for before, with the tunnel that it may hold.
    fn replace_work(&mut self, work: Option<impl Future<Output = Outcome> + Send + 'static>) {
        let work = work.map(|work| self.tasks.spawn(work));
        if let Some(before) = mem::replace(&mut self.work, work) {
            before.abort();
        }
    }

    fn poll_later(&mut self, phase: &Phase) {
        let Some(job) = phase.job() else { return };
        let ends = self.view.borrow().ends;
        let left = ends.map(|ends| ends.saturating_duration_since(std::time::Instant::now()));
        let pause = pace::poll(phase, self.polls_without_change, left);
        self.polls_without_change += 1;
        self.poll_after(pause, job);
    }

    fn poll_after(&mut self, pause: Duration, job: JobId) {
        let watch = Arc::clone(&self.watch);
        let now = Instant::now();
        let due = Due {
            late: now + pause,
            soon: now + pause.min(pace::LAST_POLL),
            looked: Arc::clone(&self.looked),
        };
        let poll = self.tasks.spawn(async move {
            match watch.told(job, &due).await {
                Ok(told) => Outcome::Told(told),
                Err(error) => Outcome::Event(Event::PollFailed(chain(&*error))),
            }
        });
        if let Some(before) = self.poll.replace(poll) {
            before.abort();
        }
    }

    /// A job that failed has often said why.
    async fn add_last_words(&mut self) {
        let Phase::Ended { job: Some(job), .. } = self.view.borrow().phase else {
            return;
        };
        if self.cancel.is_cancelled() || self.wants_end {
            return;
        }
        let words = timeout(LAST_WORDS_DEADLINE, job::last_words(&self.cluster, job)).await;
        let words = words.ok().and_then(Result::ok);
        if let Some(words) = words.filter(|words| !words.is_empty()) {
            if let Stage::Ended { why, .. } = &mut self.order.record.stage {
                *why = format!("{why}: {words}");
            }
            drop(self.write());
            self.view.send_modify(|view| view.trouble = Some(words));
        }
    }
}

fn write(record: &Record, store: &Store) -> OnItsWay {
    store.put(Table::Sessions, record.id.as_str(), record)
}

/// What `work` brings; meanwhile a wish to end is written down, which is acted on once it is known whether there
/// is a job, by this manager or the next.
async fn noting<T>(
    cancel: &CancellationToken,
    record: &mut Record,
    store: &Store,
    work: impl Future<Output = T>,
) -> T {
    let mut work = std::pin::pin!(work);
    if !record.wants_end {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = cancel.cancelled() => {
                record.wants_end = true;
                drop(write(record, store));
            }
        }
    }
    work.await
}

/// Whether there may be a job all the same. sbatch gives up on a controller that is busy, which may
/// take the job later, or whose answer is lost; and a signal ends it at any time.
fn is_unknown(error: &JobError) -> bool {
    match error {
        JobError::Ssh(SshError::Broken(_) | SshError::Deadline(_) | SshError::Io(_))
        | JobError::Unreadable { .. } => true,
        JobError::Refused { status, stderr, .. } => {
            let lost = [
                "timed out",
                "(send failure)",
                "(receive failure)",
                "(shutdown failure)",
                "Zero Bytes were transmitted or received",
            ];
            *status > 128 || lost.iter().any(|words| stderr.contains(words))
        }
        JobError::Ssh(_) | JobError::ControllerDown { .. } => false,
    }
}

/// Waits until nothing has gone through for so long; never, where that is not bounded.
async fn idle(activity: &Activity, most: Option<Duration>) -> Duration {
    let Some(most) = most else {
        return pending().await;
    };
    loop {
        match most.checked_sub(activity.idle()) {
            Some(rest) if !rest.is_zero() => sleep(rest).await,
            _ => return most,
        }
    }
}

/// Looks for the lease until it is there; the job may have only just started.
async fn read_lease(cluster: &Cluster, job: JobId, node: &NodeName) -> Event {
    let start = Instant::now();
    let mut interval = LEASE_INTERVAL;
    loop {
        match lease::read(cluster, job, node).await {
            Ok(lease) => return Event::LeaseRead(Arc::new(lease)),
            Err(LeaseError::NotYet) if start.elapsed() < LEASE_DEADLINE => {
                sleep(interval).await;
                interval = interval.mul_f32(1.25);
            }
            Err(error) => return Event::LeaseFailed(chain(&error)),
        }
    }
}

async fn open_tunnel(
    cluster: &Cluster,
    address: Address,
    lease: &Lease,
) -> Result<Tunnel, TunnelError> {
    let local_end = LocalEnd::new(address.clone(), lease.proxy.clone());
    Tunnel::open(cluster, &address, lease, local_end).await
}

fn tell(phase: &Phase) {
    let job = phase.job().map(tracing::field::display);
    let node = phase.node().map(tracing::field::display);
    match phase {
        Phase::Ended { why, .. } => tracing::info!(job, why, "session ended"),
        Phase::Pending { reason, .. } => tracing::info!(job, reason, "session waits for its turn"),
        Phase::Connected { lease, .. } => {
            tracing::info!(
                job,
                node,
                proxy_port = lease.proxy.port,
                "session connected"
            );
        }
        _ => tracing::info!(job, node, phase = ?phase.name(), "session goes on"),
    }
}
