//! A batch script before it is submitted: whether it is one, and the options in its comments.

/// Checks the script; the error is what sbatch says of it.
pub(super) fn check(script: &[u8]) -> Result<(), String> {
    if script.is_empty() {
        return Err("sbatch: error: Batch script is empty!".into());
    }
    if script.iter().all(u8::is_ascii_whitespace) {
        return Err("sbatch: error: Batch script contains only whitespace!".into());
    }
    if !script.starts_with(b"#!") {
        return Err(
            "sbatch: error: This does not look like a batch script.  The first\n\
             sbatch: error: line must start with #! followed by the path to an interpreter.\n\
             sbatch: error: For instance: #!/bin/sh"
                .into(),
        );
    }
    if script.windows(2).any(|pair| pair == b"\r\n") {
        return Err(
            "sbatch: error: Batch script contains DOS line breaks (\\r\\n)\n\
             sbatch: error: instead of expected UNIX line breaks (\\n)."
                .into(),
        );
    }
    Ok(())
}

/// The script that `--wrap` stands for.
pub(super) fn wrapped(command: &str) -> Vec<u8> {
    format!("#!/bin/sh\n# This script was created by sbatch --wrap.\n\n{command}\n").into_bytes()
}

/// The words of all `#SBATCH` lines before the first line that is neither empty nor a comment. The
/// error is what follows the mark at once, where that is no blank.
pub(super) fn option_lines(script: &[u8]) -> Result<Vec<String>, String> {
    let text = String::from_utf8_lossy(script);
    let mut all = Vec::new();
    let lines = text
        .lines()
        .take_while(|line| line.trim().is_empty() || line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("#SBATCH"));
    for line in lines {
        if !line.is_empty() && !line.starts_with([' ', '\t']) {
            let stranger = line.split_whitespace().next();
            return Err(stranger.unwrap_or_default().to_owned());
        }
        all.extend(words(line));
    }
    Ok(all)
}

/// Splits a line as sbatch does: at blanks, but not in quotes; a `#` begins a comment.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => word.get_or_insert_default().extend(chars.next()),
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn options_end_with_the_first_command() {
        let script = b"#!/bin/sh\n#SBATCH -J one --time=5 # why\n\n# note\n\
            #SBATCH --comment='a b'\ntrue\n#SBATCH --bogus\n";
        assert_eq!(
            option_lines(script).unwrap(),
            ["-J", "one", "--time=5", "--comment=a b"]
        );
        let stranger = option_lines(b"#!/bin/sh\n#SBATCHED -J x\n");
        assert_eq!(stranger, Err("ED".to_owned()));
    }

    #[test]
    fn what_is_no_script_is_told_so() {
        for (script, beginning) in [
            (&b""[..], "sbatch: error: Batch script is empty!"),
            (
                b"\n \n",
                "sbatch: error: Batch script contains only whitespace!",
            ),
            (
                b"echo x\n",
                "sbatch: error: This does not look like a batch script.  The first\n",
            ),
            (
                b"#!/bin/sh\r\ntrue\r\n",
                "sbatch: error: Batch script contains DOS line breaks",
            ),
        ] {
            assert!(check(script).unwrap_err().starts_with(beginning));
        }
        assert_eq!(check(&wrapped("true")), Ok(()));
    }

    proptest! {
        #[test]
        fn no_script_panics(script in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = check(&script);
            let _ = option_lines(&[b"#!/bin/sh\n#SBATCH ".as_slice(), &script].concat());
        }

        #[test]
        fn quoted_words_come_back(text in "[a-z #\\\\]{1,20}") {
            prop_assert_eq!(words(&format!(" '{text}' x")), vec![text, "x".to_owned()]);
        }
    }
}
