//! A deadline that moves with every request and costs nothing to move.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline. It is mostly put off, so the timer is left alone until it fires, and only then set
/// to where the deadline is by now.
#[derive(Debug)]
pub(crate) struct Clock {
    timer: Pin<Box<Sleep>>,
    deadline: Instant,
}

impl Clock {
    pub(crate) fn after(duration: Duration) -> Self {
        let deadline = Instant::now() + duration;
        Self {
            timer: Box::pin(sleep_until(deadline)),
            deadline,
        }
    }

    /// Puts the deadline `duration` from now.
    pub(crate) fn set(&mut self, duration: Duration) {
        self.deadline = Instant::now() + duration;
        if self.deadline < self.timer.deadline() {
            self.timer.as_mut().reset(self.deadline);
        }
    }

    /// Ready once the deadline is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() >= self.deadline {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(self.deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_was_put_off_is_kept() {
        let started = Instant::now();
        let mut clock = Clock::after(Duration::from_secs(1));
        clock.set(Duration::from_secs(3));
        poll_fn(|cx| clock.poll(cx)).await;
        assert_eq!(started.elapsed().as_secs(), 3);

        clock.set(Duration::from_secs(300));
        clock.set(Duration::from_secs(2));
        poll_fn(|cx| clock.poll(cx)).await;
        assert_eq!(started.elapsed().as_secs(), 5);
    }
}
