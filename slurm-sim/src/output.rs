//! Where a job's output goes: the file name patterns of `--output` and its kin.

use std::path::PathBuf;

use crate::job::Job;

/// The path of the job's standard output.
pub(crate) fn stdout_path(job: &Job) -> PathBuf {
    let default = if job.array.is_some() {
        "slurm-%A_%a.out"
    } else {
        "slurm-%j.out"
    };
    resolve(job, job.request.stdout.as_deref().unwrap_or(default))
}

/// The path of its standard error, if that is a file of its own.
pub(crate) fn stderr_path(job: &Job) -> Option<PathBuf> {
    job.request
        .stderr
        .as_deref()
        .map(|pattern| resolve(job, pattern))
}

/// The path of its standard input.
pub(crate) fn stdin_path(job: &Job) -> PathBuf {
    resolve(job, job.request.stdin.as_deref().unwrap_or("/dev/null"))
}

fn resolve(job: &Job, pattern: &str) -> PathBuf {
    job.request.work_dir.join(expand(job, pattern))
}

/// Replaces `%j`, `%5j` and so on. An unknown letter stays as it is, and a backslash anywhere
/// switches the replacing off.
fn expand(job: &Job, pattern: &str) -> String {
    if pattern.contains('\\') {
        return pattern.replace('\\', "");
    }
    let mut out = String::new();
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = after.split_at(digits);
        let mut chars = tail.chars();
        let letter = chars.next();
        match letter.and_then(|letter| value(job, letter)) {
            Some(value) => {
                // Slurm pads numbers to at most ten digits.
                let width = number.parse::<usize>().unwrap_or(0).min(10);
                if value.bytes().all(|byte| byte.is_ascii_digit()) {
                    out.push_str(&format!("{value:0>width$}"));
                } else {
                    out.push_str(&value);
                }
                rest = chars.as_str();
            }
            None => {
                out.push('%');
                rest = after;
                if letter == Some('%') && digits == 0 {
                    rest = chars.as_str();
                }
            }
        }
    }
    out + rest
}

fn value(job: &Job, letter: char) -> Option<String> {
    let array = job.array.as_ref();
    Some(match letter {
        'A' => array.map_or(job.id, |array| array.job).to_string(),
        'a' => array.map_or(4_294_967_294, |array| array.task).to_string(),
        'j' | 'J' => job.id.to_string(),
        'N' => job.batch_host().unwrap_or_default().to_owned(),
        'n' | 't' => "0".to_owned(),
        's' => "batch".to_owned(),
        'u' => job.user.clone(),
        'x' => job.name.clone(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::job::ArrayTask;
    use crate::job::tests::job;

    fn demo() -> Job {
        let mut job = job(20);
        job.name = "nm".into();
        job.nodes = vec!["node01".into()];
        job
    }

    #[test]
    fn replaces_the_letters() {
        for (pattern, name) in [
            ("out_%x_%j_%N_%u.txt", "out_nm_20_node01_alice.txt"),
            ("%5j-%A", "00020-20"),
            ("100%%", "100%"),
            ("%q-%", "%q-%"),
            ("\\%j", "%j"),
            ("plain", "plain"),
        ] {
            assert_eq!(expand(&demo(), pattern), name, "{pattern}");
        }
    }

    #[test]
    fn defaults_lie_in_the_working_directory() {
        assert_eq!(
            stdout_path(&demo()),
            PathBuf::from("/home/alice/slurm-20.out")
        );
        assert_eq!(stdin_path(&demo()), PathBuf::from("/dev/null"));
        let mut task = demo();
        task.array = Some(ArrayTask {
            job: 56,
            task: 2,
            count: 2,
            min: 1,
            max: 2,
            step: 1,
            at_once: None,
        });
        assert_eq!(
            stdout_path(&task),
            PathBuf::from("/home/alice/slurm-56_2.out")
        );
    }

    proptest! {
        #[test]
        fn no_pattern_panics_and_text_without_percent_is_kept(text in "\\PC{0,20}") {
            let name = expand(&demo(), &text);
            if !text.contains(['%', '\\']) {
                prop_assert_eq!(name, text);
            }
        }
    }
}
