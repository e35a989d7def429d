//! The spellings of time limits, spans and memory that Slurm's commands read and print.

use std::time::Duration;

use crate::clock::Time;

const MINUTE_SECS: u64 = 60;
const HOUR_SECS: u64 = 60 * MINUTE_SECS;
const DAY_SECS: u64 = 24 * HOUR_SECS;

/// A time limit in minutes, or none at all.
pub(crate) type Limit = Option<u64>;

/// Reads `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours[:minutes[:seconds]]`
/// or `UNLIMITED`. Seconds are rounded up: Slurm limits by the minute.
pub(crate) fn parse_limit(text: &str) -> Option<Limit> {
    if ["unlimited", "infinite", "-1"].contains(&text.to_ascii_lowercase().as_str()) {
        return Some(None);
    }
    let number = |part: &str| -> Option<u64> {
        (!part.is_empty() && part.len() < 9 && part.bytes().all(|b| b.is_ascii_digit()))
            .then(|| part.parse().ok())
            .flatten()
    };
    let secs = match text.split_once('-') {
        Some((days, rest)) => {
            let parts = rest.split(':').map(number).collect::<Option<Vec<_>>>()?;
            let units = [HOUR_SECS, MINUTE_SECS, 1];
            if parts.len() > units.len() {
                return None;
            }
            number(days)? * DAY_SECS
                + parts
                    .iter()
                    .zip(units)
                    .map(|(n, unit)| n * unit)
                    .sum::<u64>()
        }
        None => match text.split(':').map(number).collect::<Option<Vec<_>>>()?[..] {
            [minutes] => minutes * MINUTE_SECS,
            [minutes, secs] => minutes * MINUTE_SECS + secs,
            [hours, minutes, secs] => hours * HOUR_SECS + minutes * MINUTE_SECS + secs,
            _ => return None,
        },
    };
    Some(Some(secs.div_ceil(MINUTE_SECS)))
}

/// `0:03`, `1:00:00` or `1-00:00:00`: the short form of squeue and sinfo.
pub(crate) fn span(secs: u64) -> String {
    let (days, hours, minutes, secs) = split(secs);
    if days > 0 {
        format!("{days}-{hours:02}:{minutes:02}:{secs:02}")
    } else if hours > 0 {
        format!("{hours}:{minutes:02}:{secs:02}")
    } else {
        format!("{minutes}:{secs:02}")
    }
}

/// `00:00:12` or `1-00:00:00`: the long form of scontrol.
pub(crate) fn long_span(secs: u64) -> String {
    let (days, hours, minutes, secs) = split(secs);
    if days > 0 {
        format!("{days}-{hours:02}:{minutes:02}:{secs:02}")
    } else {
        format!("{hours:02}:{minutes:02}:{secs:02}")
    }
}

fn split(secs: u64) -> (u64, u64, u64, u64) {
    (
        secs / DAY_SECS,
        secs % DAY_SECS / HOUR_SECS,
        secs % HOUR_SECS / MINUTE_SECS,
        secs % MINUTE_SECS,
    )
}

/// Reads an amount of memory (`200`, `200M`, `8G`) as megabytes.
pub(crate) fn parse_memory_mb(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit.to_ascii_uppercase().as_str() {
        "K" | "KB" => Some(number.div_ceil(1024)),
        "" | "M" | "MB" => Some(number),
        "G" | "GB" => number.checked_mul(1024),
        "T" | "TB" => number.checked_mul(1024 * 1024),
        _ => None,
    }
}

/// Prints megabytes in the largest unit that is exact: `100M`, `2G`.
pub(crate) fn memory(mut mb: u64) -> String {
    let mut units = ["M", "G", "T"].into_iter().peekable();
    loop {
        let unit = units.next().unwrap_or("T");
        if mb == 0 {
            return "0".into();
        }
        if !mb.is_multiple_of(1024) || units.peek().is_none() {
            return format!("{mb}{unit}");
        }
        mb /= 1024;
    }
}

/// The words that a moment may begin with; behind one, sbatch looks for what it cannot read.
const MOMENTS: [&str; 8] = [
    "elevenses",
    "fika",
    "midnight",
    "noon",
    "now",
    "teatime",
    "today",
    "tomorrow",
];

/// What sbatch says of a moment that it cannot read.
pub(crate) fn complain_of_begin(text: &str) -> String {
    let known = MOMENTS.into_iter().find(|word| text.starts_with(word));
    let pos = known.map_or(0, str::len);
    format!("Invalid time specification (pos={pos}): {text}")
}

/// Reads the moment of `--begin`: `now`, `now+1hour`, `now+30` (seconds) or `2026-11-23T02:09[:45]`.
pub(crate) fn parse_begin(text: &str, now: Time) -> Option<Time> {
    if let Some(rest) = text.strip_prefix("now") {
        if rest.is_empty() {
            return Some(now);
        }
        let rest = rest.strip_prefix('+')?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = rest.split_at(digits);
        let secs = match unit {
            "" | "second" | "seconds" => 1,
            "minute" | "minutes" => MINUTE_SECS,
            "hour" | "hours" => HOUR_SECS,
            "day" | "days" => DAY_SECS,
            "week" | "weeks" => 7 * DAY_SECS,
            _ => return None,
        };
        return Some(now + Duration::from_secs(number.parse::<u64>().ok()?.checked_mul(secs)?));
    }
    let at: jiff::civil::DateTime = text.parse().ok()?;
    let at = at.to_zoned(jiff::tz::TimeZone::system()).ok()?;
    u64::try_from(at.timestamp().as_millisecond())
        .ok()
        .map(Time)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_every_documented_form_of_a_limit() {
        for (text, minutes) in [
            ("10", 10),
            ("0:01", 1),
            ("1:30", 2),
            ("1:00:00", 60),
            ("2-00:00:00", 2880),
            ("1-1", 1500),
            ("1-1:30", 1530),
            ("0", 0),
        ] {
            assert_eq!(parse_limit(text), Some(Some(minutes)), "{text}");
        }
        assert_eq!(parse_limit("UNLIMITED"), Some(None));
        for text in [
            "abc",
            "",
            "1:2:3:4",
            "-5",
            "1-",
            "1-a",
            "+3",
            "1 0",
            "1-2:3:4:5",
        ] {
            assert_eq!(parse_limit(text), None, "{text}");
        }
    }

    #[test]
    fn prints_spans_as_slurm_does() {
        assert_eq!(span(3), "0:03");
        assert_eq!(span(3600), "1:00:00");
        assert_eq!(span(86400), "1-00:00:00");
        assert_eq!(long_span(12), "00:00:12");
        assert_eq!(long_span(90061), "1-01:01:01");
    }

    #[test]
    fn reads_and_prints_memory() {
        assert_eq!(parse_memory_mb("200"), Some(200));
        assert_eq!(parse_memory_mb("8G"), Some(8192));
        assert_eq!(parse_memory_mb("1k"), Some(1));
        assert_eq!(parse_memory_mb("abc"), None);
        assert_eq!(parse_memory_mb(""), None);
        assert_eq!(memory(100), "100M");
        assert_eq!(memory(2048), "2G");
        assert_eq!(memory(2000), "2000M");
        assert_eq!(memory(0), "0");
    }

    #[test]
    fn reads_when_a_job_may_begin() {
        let now = Time(1_000_000);
        assert_eq!(parse_begin("now", now), Some(now));
        assert_eq!(parse_begin("now+1hour", now), Some(Time(4_600_000)));
        assert_eq!(parse_begin("now+30", now), Some(Time(1_030_000)));
        assert!(parse_begin("2026-11-23T02:09:45", now).is_some());
        assert_eq!(parse_begin("tomorrowish", now), None);
        assert_eq!(parse_begin("now+", now), None);
    }

    proptest! {
        #[test]
        fn a_printed_span_reads_back_rounded_up_to_the_minute(secs in 3600u64..10_000_000) {
            prop_assert_eq!(parse_limit(&span(secs)), Some(Some(secs.div_ceil(60))));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,24}") {
            let _ = parse_limit(&text);
            let _ = parse_memory_mb(&text);
            let _ = parse_begin(&text, Time(0));
            let _ = parse_begin(&format!("now+{text}"), Time(0));
        }

        #[test]
        fn printed_memory_reads_back(mb in 0u64..1 << 40) {
            prop_assert_eq!(parse_memory_mb(&memory(mb)), Some(mb));
        }
    }
}
