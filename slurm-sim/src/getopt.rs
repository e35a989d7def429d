//! Option parsing with the manners and the messages of getopt_long, as Slurm's commands use it:
//! a long option may be cut short as far as it stays the only one.

/// Whether an option takes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    Nothing,
    Value,
    /// Only as `--long=value` or `-svalue`.
    PerhapsValue,
}

/// An option that a command knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) takes: Takes,
}

/// An option that takes a value.
pub(crate) const fn value(long: &'static str, short: Option<char>) -> Known {
    Known {
        long,
        short,
        takes: Takes::Value,
    }
}

/// An option that takes none.
pub(crate) const fn flag(long: &'static str, short: Option<char>) -> Known {
    Known {
        long,
        short,
        takes: Takes::Nothing,
    }
}

/// An option that may take one.
pub(crate) const fn perhaps(long: &'static str, short: Option<char>) -> Known {
    Known {
        long,
        short,
        takes: Takes::PerhapsValue,
    }
}

/// What a command line says: options by their long name, in order, then the rest.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) options: Vec<(&'static str, Option<String>)>,
    pub(crate) operands: Vec<String>,
}

impl Parsed {
    pub(crate) fn has(&self, long: &str) -> bool {
        self.options.iter().any(|(name, _)| *name == long)
    }

    /// The value of an option; the last one counts.
    pub(crate) fn value(&self, long: &str) -> Option<&str> {
        let (_, value) = self.options.iter().rev().find(|(name, _)| *name == long)?;
        value.as_deref()
    }

    /// A comma-separated list, without empty words.
    pub(crate) fn list(&self, long: &str) -> Option<Vec<&str>> {
        Some(
            self.value(long)?
                .split(',')
                .filter(|word| !word.is_empty())
                .collect(),
        )
    }
}

/// Where operands end the options, and where they may stand among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operands {
    EndOptions,
    Anywhere,
}

/// Parses `args`. The error is getopt's message, and a hint, without a final newline.
pub(crate) fn parse(
    program: &str,
    known: &[Known],
    args: &[String],
    placement: Operands,
) -> Result<Parsed, String> {
    let refuse =
        |what: String| format!("{program}: {what}\nTry \"{program} --help\" for more information");
    let mut parsed = Parsed::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            parsed.operands.extend(args.cloned());
            break;
        } else if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let option = find(known, name).map_err(|meant| {
                refuse(match &meant[..] {
                    [] => format!("unrecognized option '--{long}'"),
                    many => format!(
                        "option '--{name}' is ambiguous; possibilities:{}",
                        many.iter()
                            .map(|long| format!(" '--{long}'"))
                            .collect::<String>()
                    ),
                })
            })?;
            let name = option.long;
            let value =
                match (option.takes, value) {
                    (Takes::Nothing, Some(_)) => {
                        return Err(refuse(format!(
                            "option '--{name}' doesn't allow an argument"
                        )));
                    }
                    (Takes::Value, None) => {
                        let next = args.next().cloned();
                        Some(next.ok_or_else(|| {
                            refuse(format!("option '--{name}' requires an argument"))
                        })?)
                    }
                    (_, value) => value,
                };
            parsed.options.push((option.long, value));
        } else if arg.len() > 1 && arg.starts_with('-') {
            let mut letters = arg[1..].chars();
            while let Some(letter) = letters.next() {
                let option = known
                    .iter()
                    .find(|option| option.short == Some(letter))
                    .ok_or_else(|| refuse(format!("invalid option -- '{letter}'")))?;
                if option.takes == Takes::Nothing {
                    parsed.options.push((option.long, None));
                    continue;
                }
                let rest = letters.as_str();
                let value = match option.takes {
                    _ if !rest.is_empty() => Some(rest.to_owned()),
                    Takes::Value => Some(args.next().cloned().ok_or_else(|| {
                        refuse(format!("option requires an argument -- '{letter}'"))
                    })?),
                    _ => None,
                };
                parsed.options.push((option.long, value));
                break;
            }
        } else {
            parsed.operands.push(arg.clone());
            if placement == Operands::EndOptions {
                parsed.operands.extend(args.cloned());
                break;
            }
        }
    }
    Ok(parsed)
}

/// The option of this name, or the only one that it is the beginning of; else all of those.
fn find<'a>(known: &'a [Known], name: &str) -> Result<&'a Known, Vec<&'static str>> {
    if let Some(exact) = known.iter().find(|option| option.long == name) {
        return Ok(exact);
    }
    let meant: Vec<&Known> = known
        .iter()
        .filter(|option| option.long.starts_with(name))
        .collect();
    match meant[..] {
        [only] => Ok(only),
        _ => Err(meant.iter().map(|option| option.long).collect()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KNOWN: &[Known] = &[
        value("time", Some('t')),
        flag("noheader", Some('h')),
        perhaps("signal", None),
        value("states", None),
        perhaps("dependency", Some('d')),
    ];

    fn run(args: &[&str], placement: Operands) -> Result<Parsed, String> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        parse("squeue", KNOWN, &args, placement)
    }

    #[test]
    fn reads_long_and_short_options_in_all_spellings() {
        let parsed = run(
            &[
                "--tim=1", "-t", "2", "-t3", "-ht4", "--signal", "x", "--", "-h",
            ],
            Operands::Anywhere,
        );
        let parsed = parsed.unwrap();
        let times: Vec<_> = parsed
            .options
            .iter()
            .filter(|(name, _)| *name == "time")
            .collect();
        assert_eq!(times.len(), 4);
        assert_eq!(parsed.value("time"), Some("4"));
        assert!(parsed.has("noheader"));
        assert_eq!(parsed.value("signal"), None);
        assert_eq!(parsed.operands, ["x", "-h"]);
    }

    #[test]
    fn the_first_operand_may_end_the_options() {
        let parsed = run(&["-h", "script", "-h", "--bogus"], Operands::EndOptions).unwrap();
        assert_eq!(parsed.operands, ["script", "-h", "--bogus"]);
    }

    #[test]
    fn refuses_in_the_words_of_getopt() {
        for (args, message) in [
            (vec!["--bogus=1"], "squeue: unrecognized option '--bogus=1'"),
            (
                vec!["--s"],
                "squeue: option '--s' is ambiguous; possibilities: '--signal' '--states'",
            ),
            (vec!["-Z"], "squeue: invalid option -- 'Z'"),
            (
                vec!["--time"],
                "squeue: option '--time' requires an argument",
            ),
            (vec!["-t"], "squeue: option requires an argument -- 't'"),
            (
                vec!["--noheader=1"],
                "squeue: option '--noheader' doesn't allow an argument",
            ),
        ] {
            let refusal = run(&args, Operands::Anywhere).unwrap_err();
            let hint = "\nTry \"squeue --help\" for more information";
            assert_eq!(refusal, format!("{message}{hint}"));
        }
    }

    proptest! {
        #[test]
        fn no_command_line_panics(args in proptest::collection::vec("-{0,2}[a-z=,]{0,6}", 0..6)) {
            let _ = parse("squeue", KNOWN, &args, Operands::Anywhere);
        }
    }
}
