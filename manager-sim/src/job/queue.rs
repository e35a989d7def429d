//! squeue, asked once for all jobs of an account, or of a whole cluster, that somebody waits for: whoever
//! wants to know first asks for the others too. So a controller sees as many commands as there are accounts
//! or clusters, not as there are sessions. What is asked, and when, is not its business.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, sleep_until},
};

use super::JobId;

/// When an answer is wanted.
#[derive(Clone, Debug)]
pub struct Due {
    /// At the latest.
    pub late: Instant,
    /// From when on somebody who looks is reason enough.
    pub soon: Instant,
    /// Tells that somebody looks.
    pub looked: Arc<Notify>,
}

impl Due {
    async fn comes(&self) {
        let looked = async {
            sleep_until(self.soon).await;
            self.looked.notified().await;
        };
        tokio::select! {
            () = sleep_until(self.late) => {}
            () = looked => {}
        }
    }
}

/// Those who wait for answers of kind `A`.
#[derive(Debug)]
pub(super) struct Queue<A> {
    waiting: Mutex<Vec<(JobId, oneshot::Sender<A>)>>,
    /// Held by whoever asks: from when on the next may.
    turn: tokio::sync::Mutex<Option<Instant>>,
    /// Between one answer and the next question.
    pause: Duration,
}

impl<A> Default for Queue<A> {
    fn default() -> Self {
        Self::with_pause(Duration::ZERO)
    }
}

impl<A> Queue<A> {
    /// One that leaves the controller alone for so long after each answer.
    pub(super) fn with_pause(pause: Duration) -> Self {
        Self {
            waiting: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            pause,
        }
    }

    /// What `ask` brings about `job` once an answer is due, or what it brought another before. It is
    /// never older than this call.
    pub(super) async fn told<Asking>(
        &self,
        job: JobId,
        due: &Due,
        ask: impl Fn(BTreeSet<JobId>) -> Asking,
    ) -> A
    where
        Asking: Future<Output = BTreeMap<JobId, A>>,
    {
        loop {
            let mut answer = self.wait(job);
            let turn = async {
                due.comes().await;
                let turn = self.turn.lock().await;
                if let Some(from) = *turn {
                    sleep_until(from).await;
                }
                turn
            };
            // An error: whoever asked was stopped halfway.
            let mut turn = tokio::select! {
                biased;
                told = &mut answer => match told {
                    Ok(told) => return told,
                    Err(_) => continue,
                },
                turn = turn => turn,
            };
            self.ask(&ask).await;
            *turn = Some(Instant::now() + self.pause);
            drop(turn);
            if let Ok(told) = answer.await {
                return told;
            }
        }
    }

    fn wait(&self, job: JobId) -> oneshot::Receiver<A> {
        let (send, receive) = oneshot::channel();
        self.waiting().push((job, send));
        receive
    }

    async fn ask<Asking>(&self, ask: impl Fn(BTreeSet<JobId>) -> Asking)
    where
        Asking: Future<Output = BTreeMap<JobId, A>>,
    {
        let mut waiting = mem::take(&mut *self.waiting());
        waiting.retain(|(_, answer)| !answer.is_closed());
        let mut told = ask(waiting.iter().map(|(job, _)| *job).collect()).await;
        for (job, answer) in waiting {
            if let Some(told) = told.remove(&job) {
                // They may have stopped to wait.
                let _ = answer.send(told);
            }
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<(JobId, oneshot::Sender<A>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{task::JoinSet, time::sleep};

    use super::*;

    /// Answers with the jobs asked about together, and remembers each question.
    #[derive(Default)]
    struct Slurm(Mutex<Vec<Vec<String>>>);

    impl Slurm {
        async fn answers(&self, jobs: BTreeSet<JobId>) -> BTreeMap<JobId, Duration> {
            let asked = jobs.iter().map(ToString::to_string).collect();
            self.0.lock().unwrap().push(asked);
            let asked_at = Instant::now();
            sleep(Duration::from_secs(1)).await;
            let answer = |job| (job, asked_at.elapsed());
            jobs.into_iter().map(answer).collect()
        }

        fn asked(&self) -> Vec<Vec<String>> {
            self.0.lock().unwrap().clone()
        }
    }

    fn due(soon: u64, late: u64, looked: &Arc<Notify>) -> Due {
        Due {
            late: Instant::now() + Duration::from_secs(late),
            soon: Instant::now() + Duration::from_secs(soon),
            looked: Arc::clone(looked),
        }
    }

    fn job(number: u32) -> JobId {
        number.to_string().parse().unwrap()
    }

    /// Has a job for each entry of `late` be waited for.
    fn all(queue: &Arc<Queue<Duration>>, slurm: &Arc<Slurm>, late: &[u64]) -> JoinSet<Duration> {
        let mut tasks = JoinSet::new();
        for (number, late) in (1..).zip(late) {
            let (queue, slurm) = (Arc::clone(queue), Arc::clone(slurm));
            let due = due(0, *late, &Arc::default());
            tasks.spawn(async move {
                let ask = |jobs| slurm.answers(jobs);
                queue.told(job(number), &due, ask).await
            });
        }
        tasks
    }

    #[tokio::test(start_paused = true)]
    async fn the_most_urgent_asks_for_all() {
        let (queue, slurm) = (Arc::default(), Arc::default());
        let start = Instant::now();
        all(&queue, &slurm, &[30, 2, 30]).join_all().await;
        assert_eq!(slurm.asked(), [["1", "2", "3"]]);
        assert_eq!(start.elapsed().as_secs(), 3);
    }

    // A question that is under way tells nothing of what has happened since.
    #[tokio::test(start_paused = true)]
    async fn who_comes_while_squeue_is_asked_is_told_by_the_next() {
        let (queue, slurm) = (Arc::default(), Arc::default());
        let first = all(&queue, &slurm, &[0]);
        sleep(Duration::from_millis(500)).await;
        let second = all(&queue, &slurm, &[0, 0]);
        first.join_all().await;
        second.join_all().await;
        assert_eq!(slurm.asked(), [vec!["1"], vec!["1", "2"]]);
    }

    // Sessions of a whole cluster come one after the other, and each is in a hurry.
    #[tokio::test(start_paused = true)]
    async fn a_controller_is_left_alone_between_two_questions() {
        let queue = Arc::new(Queue::with_pause(Duration::from_secs(2)));
        let slurm = Arc::default();
        let start = Instant::now();
        all(&queue, &slurm, &[0]).join_all().await;
        all(&queue, &slurm, &[0, 0]).join_all().await;
        assert_eq!(slurm.asked(), [vec!["1"], vec!["1", "2"]]);
        assert_eq!(start.elapsed().as_secs(), 1 + 2 + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_forgotten_when_who_asked_is_stopped() {
        let (queue, slurm) = (Arc::default(), Arc::default());
        let mut asks = all(&queue, &slurm, &[0]);
        let waits = all(&queue, &slurm, &[4]);
        sleep(Duration::from_millis(500)).await;
        asks.shutdown().await;
        waits.join_all().await;
        assert_eq!(slurm.asked(), [["1"], ["1"]]);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_looks_is_told_soon_but_not_at_every_look() {
        let (queue, slurm) = (Queue::default(), Slurm::default());
        let looked = Arc::new(Notify::new());
        looked.notify_one();
        let start = Instant::now();
        queue
            .told(job(1), &due(5, 30, &looked), |jobs| slurm.answers(jobs))
            .await;
        assert_eq!(start.elapsed().as_secs(), 6);
        queue
            .told(job(1), &due(5, 30, &looked), |jobs| slurm.answers(jobs))
            .await;
        assert_eq!(start.elapsed().as_secs(), 6 + 31);
    }
}
