//! Drives one session: asks the scheduler, reads the lease, holds the tunnel, and publishes how it
//! stands. What follows from what is [`super::step`]'s business.

use std::{mem, sync::Arc, time::Duration};

use hpc_proxy::text::chain;
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{Cluster, SshError},
    job::{self, JobError, JobId, Resources, script::IdeKind},
    lease::{self, Lease, LeaseError},
    local_end::{Address, LocalEnd},
    names::NodeName,
    session::{Action, Event, Phase, step},
    tunnel::{Tunnel, TunnelError},
    upstream::Upstream,
};

/// How soon squeue is asked after a change. It is asked ever more rarely while nothing changes.
const FIRST_POLL: Duration = Duration::from_millis(400);
/// How rarely it is asked at last: sites complain about managers that poll every second.
const LAST_POLL: Duration = Duration::from_secs(5);
/// How soon a lease that is not there yet is looked for again, one command on the login node each;
/// the next time a quarter later.
const LEASE_INTERVAL: Duration = Duration::from_millis(300);
/// The job script gives a proxy 30 s to start. Who waits longer is told what is missing.
const LEASE_DEADLINE: Duration = Duration::from_secs(45);
/// How soon what failed is tried again, doubled with each failure.
const FIRST_RETRY: Duration = Duration::from_millis(250);
/// How late what failed is tried again at last.
const LAST_RETRY: Duration = Duration::from_secs(8);
/// A tunnel that lasted so long was a good one: failures count from zero again.
const GOOD_TUNNEL: Duration = Duration::from_secs(10);
/// How long the job's own last words are waited for.
const LAST_WORDS_DEADLINE: Duration = Duration::from_secs(5);

/// What a session is to be.
#[derive(Clone, Debug)]
pub struct Order {
    /// The batch script.
    pub script: String,
    /// Whether a proxy runs in it.
    pub kind: IdeKind,
    /// What it asks of the cluster.
    pub resources: Resources,
    /// The node it must be on, if any.
    pub node: Option<NodeName>,
    /// The local end of its tunnel.
    pub address: Address,
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
    /// Whether a proxy runs in it.
    pub kind: IdeKind,
}

impl View {
    /// That of a new session.
    pub fn new(kind: IdeKind) -> Self {
        Self {
            phase: Phase::Submitting,
            trouble: None,
            upstream: None,
            kind,
        }
    }
}

/// What a task of the driver brought.
enum Outcome {
    Event(Event),
    Opened(Box<Result<Tunnel, TunnelError>>),
}

/// The driver of one session.
pub struct Driver {
    cluster: Arc<Cluster>,
    order: Order,
    view: watch::Sender<View>,
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
}

impl Driver {
    /// A driver that publishes on `view`. `cancel` asks it to cancel the job, `stop` to leave it.
    pub fn new(
        cluster: Arc<Cluster>,
        order: Order,
        view: watch::Sender<View>,
        cancel: CancellationToken,
        stop: CancellationToken,
    ) -> Self {
        Self {
            cluster,
            order,
            view,
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
        }
    }

    /// Runs the session to its end, or until it is to be left.
    pub async fn run(mut self) {
        // Neither a cancel nor a stop interrupts this: there would be a job that nobody knows of.
        let submitted = self.submit().await;
        self.take(submitted);
        while !self.view.borrow().phase.is_over() {
            let cancelling = matches!(self.view.borrow().phase, Phase::Cancelling { .. });
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = self.cancel.cancelled(), if !cancelling => self.take(Event::CancelAsked),
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
        self.tasks.shutdown().await;
        self.add_last_words().await;
    }

    async fn submit(&self) -> Event {
        let Order {
            script,
            resources,
            node,
            ..
        } = &self.order;
        match job::submit(&self.cluster, script, resources, node.as_ref()).await {
            Ok(job) => Event::Submitted(job),
            Err(error @ JobError::Ssh(SshError::Broken(_) | SshError::Deadline(_))) => {
                Event::SubmitFailed(format!(
                    "{}; if a job was submitted all the same, squeue shows it",
                    chain(&error)
                ))
            }
            Err(error) => Event::SubmitFailed(chain(&error)),
        }
    }

    fn take_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Event(event) => self.take(event),
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
                    Some(Upstream::new(local_end, Arc::clone(lease)))
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
            }
            Event::CancelAsked => {
                self.tunnel_trouble = None;
                self.failures = 0;
            }
            Event::Submitted(_)
            | Event::SubmitFailed(_)
            | Event::LeaseRead(_)
            | Event::Cancelled => {}
        }
    }

    fn act(&mut self, action: Action, phase: &Phase) {
        let opened = self.opened.take();
        let cluster = Arc::clone(&self.cluster);
        let pause = pause(self.failures);
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
        let cluster = Arc::clone(&self.cluster);
        let pause = FIRST_POLL.mul_f32(1.5_f32.powi(self.polls_without_change.min(16) as i32));
        self.polls_without_change += 1;
        let poll = self.tasks.spawn(async move {
            sleep(pause.min(LAST_POLL)).await;
            Outcome::Event(match job::poll(&cluster, job).await {
                Ok(status) => Event::Polled(status),
                Err(error) => Event::PollFailed(chain(&error)),
            })
        });
        if let Some(before) = self.poll.replace(poll) {
            before.abort();
        }
    }

    /// A job that failed has often said why.
    async fn add_last_words(&self) {
        let Phase::Ended { job: Some(job), .. } = self.view.borrow().phase else {
            return;
        };
        if self.cancel.is_cancelled() {
            return;
        }
        let words = timeout(LAST_WORDS_DEADLINE, job::last_words(&self.cluster, job)).await;
        let words = words.ok().and_then(Result::ok);
        if let Some(words) = words.filter(|words| !words.is_empty()) {
            self.view.send_modify(|view| view.trouble = Some(words));
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

/// How long to wait before the next try.
fn pause(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        count => FIRST_RETRY
            .saturating_mul(1 << count.min(8))
            .min(LAST_RETRY),
    }
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
