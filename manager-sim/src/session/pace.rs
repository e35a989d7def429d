//! How soon something is asked or tried again: pure.

use std::time::Duration;

use super::Phase;

/// How soon squeue is asked after a change. It is asked ever more rarely while nothing changes.
pub const FIRST_POLL: Duration = Duration::from_millis(400);
/// How rarely it is asked at last: sites complain about managers that poll every second.
pub const LAST_POLL: Duration = Duration::from_secs(5);
/// How rarely while a tunnel is there, which tells the end sooner; but somebody who looks is told after
/// [`LAST_POLL`].
const CONNECTED_POLL: Duration = Duration::from_secs(30);
/// How soon what failed is tried again, doubled with each failure.
pub const FIRST_RETRY: Duration = Duration::from_millis(250);
/// How late what failed is tried again at last.
const LAST_RETRY: Duration = Duration::from_secs(8);

/// How soon squeue is to be asked about a job that has `left` so long, if that is known, after so many
/// answers that changed nothing.
pub fn poll(phase: &Phase, without_change: u32, left: Option<Duration>) -> Duration {
    let pause = FIRST_POLL.mul_f32(1.5_f32.powi(without_change.min(16) as i32));
    match phase {
        Phase::Connected { .. } => {
            let left = left.unwrap_or(CONNECTED_POLL);
            left.clamp(LAST_POLL, CONNECTED_POLL)
        }
        _ => pause.min(LAST_POLL),
    }
}

/// How long to wait before the next try.
pub fn retry(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        count => FIRST_RETRY
            .saturating_mul(1 << count.min(8))
            .min(LAST_RETRY),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hpc_proxy::auth::Token;

    use super::*;
    use crate::{lease::Lease, local_end::Identity};

    fn connected() -> Phase {
        let token = Token::parse("ab".repeat(32).as_bytes()).unwrap();
        let proxy = Identity {
            instance: "i".into(),
            port: 40123,
            token,
        };
        Phase::Connected {
            job: "7".parse().unwrap(),
            lease: Arc::new(Lease::example("node01".parse().unwrap(), proxy)),
        }
    }

    #[test]
    fn a_change_is_looked_after_at_once_and_then_ever_more_rarely() {
        let running = Phase::Running {
            job: "7".parse().unwrap(),
            node: "node01".parse().unwrap(),
        };
        let pauses: Vec<_> = (0..20).map(|count| poll(&running, count, None)).collect();
        assert_eq!(pauses[0].as_millis(), FIRST_POLL.as_millis());
        assert!(pauses.is_sorted());
        assert_eq!(pauses[19], LAST_POLL);
    }

    #[test]
    fn a_tunnel_is_trusted_until_the_time_limit_is_near() {
        let poll = |left: Option<u64>| poll(&connected(), 0, left.map(Duration::from_secs));
        assert_eq!(poll(None), CONNECTED_POLL);
        assert_eq!(poll(Some(3600)), CONNECTED_POLL);
        assert_eq!(poll(Some(12)), Duration::from_secs(12));
        assert_eq!(poll(Some(0)), LAST_POLL);
    }

    #[test]
    fn what_fails_is_tried_ever_more_rarely() {
        assert_eq!(retry(0), Duration::ZERO);
        assert_eq!(retry(1), FIRST_RETRY * 2);
        assert_eq!(retry(100), LAST_RETRY);
    }
}
