//! Waiting for a state, with a deadline and a reason; the one place where stories sleep.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// Short against what is waited for, long against what a look costs.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Looks again and again until `look` is `Ok`, at most until `deadline` has passed.
///
/// The error then says what was awaited and why the last look was not content.
pub async fn until_ok<T, E: Display>(
    deadline: Duration,
    reason: &str,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    let mut last = "the first look did not return".to_owned();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = format!("{error:#}"),
            Err(_) => {}
        }
        // Asked here as well: a look that never has to wait is not subject to the timeout.
        ensure!(
            Instant::now() < end,
            "not within {deadline:?}: {reason}; last seen: {last}"
        );
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}

/// `eventually!(SECONDS, "why", { look })`: the look is an async block that ends in a `Result`.
///
/// ```ignore
/// let page = eventually!(10, "the page heals", { healed(browser.gets("/").await?) })?;
/// ```
#[macro_export]
macro_rules! eventually {
    ($seconds:expr, $reason:expr, $look:block) => {
        $crate::eventually::until_ok(
            ::std::time::Duration::from_secs($seconds),
            $reason,
            async || -> ::anyhow::Result<_> { $look },
        )
        .await
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_value_of_the_first_good_look_is_given() {
        let mut looks = 0;
        let value = until_ok(Duration::from_secs(5), "three looks", async || {
            looks += 1;
            if looks == 3 {
                Ok(looks)
            } else {
                Err("too early")
            }
        });
        assert_eq!(value.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_deadline_tells_the_reason_and_the_last_look() {
        let never = until_ok(Duration::from_millis(120), "pigs fly", async || {
            Err::<(), _>("on the ground")
        });
        let error = never.await.unwrap_err().to_string();
        assert!(
            error.contains("pigs fly") && error.contains("on the ground"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn a_look_that_hangs_does_not_outlive_the_deadline() {
        let hangs = until_ok(Duration::from_millis(50), "an answer", async || {
            std::future::pending::<Result<(), String>>().await
        });
        assert!(hangs.await.is_err());
    }
}
