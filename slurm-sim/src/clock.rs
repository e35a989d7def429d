//! Moments and spans as the cluster counts them: milliseconds since the epoch, shown in local time.
//! Nothing here waits, and only [`Time::now`] looks at a clock.

use std::fmt;
use std::ops::Add;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A moment, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Time(pub(crate) u64);

impl Time {
    pub(crate) fn now() -> Self {
        SystemTime::now().into()
    }

    /// How long ago `earlier` was; nothing if it is still to come.
    pub(crate) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    pub(crate) fn unix_seconds(self) -> u64 {
        self.0 / 1000
    }

    /// Local time in a `strftime` format.
    pub(crate) fn local(self, format: &str) -> String {
        let millis = i64::try_from(self.0).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(millis)
            .map(|at| {
                at.to_zoned(jiff::tz::TimeZone::system())
                    .strftime(format)
                    .to_string()
            })
            .unwrap_or_else(|_| "Unknown".into())
    }
}

impl From<SystemTime> for Time {
    fn from(at: SystemTime) -> Self {
        let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}

/// The form of every Slurm listing: `2026-11-23T02:09:45`.
impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.local("%Y-%m-%dT%H:%M:%S"))
    }
}
