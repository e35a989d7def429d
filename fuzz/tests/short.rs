//! What a fuzzer does for hours, for some seconds: the corpora as they are, and a number of changes to
//! them that is always the same.
//!
//! The changes follow from a seed, which `FUZZ_SEED` replaces by another; `FUZZ_RUNS` does more of them.

#![expect(
    clippy::print_stdout,
    reason = "the output of a test, from below its function"
)]

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::Path,
};

use fuzz::Target;

const SEED: u64 = 1;
/// Longer than what is kept, and short enough to be fast.
const LONGEST_BYTES: usize = 4096;

#[test]
fn an_answer_is_passed_on_or_refused() {
    play("answer", 1_000);
}

#[test]
fn a_connection_carries_what_the_client_plainly_said() {
    play("connection", 1_000);
}

#[test]
fn a_coded_body_is_unpacked_or_refused() {
    play("decode", 600);
}

#[test]
fn heads_and_bodies_are_read_as_the_model_reads_them() {
    play("head", 10_000);
}

#[test]
fn a_lease_is_what_it_says() {
    play("lease", 10_000);
}

#[test]
fn a_document_is_moved_once_and_in_any_pieces() {
    play("markup", 400);
}

#[test]
fn the_kernel_is_understood() {
    play("owners", 10_000);
}

#[test]
fn a_target_leads_where_it_says() {
    play("route", 50_000);
}

/// Every target that there is has a test above.
#[test]
fn no_target_is_forgotten() {
    let names = fuzz::TARGETS.map(|(name, _)| name);
    let corpora = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")).unwrap();
    let mut corpora: Vec<_> = corpora
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    corpora.sort();
    assert_eq!(names.to_vec(), corpora);
}

fn play(name: &str, runs: u64) {
    let (_, target) = fuzz::TARGETS
        .into_iter()
        .find(|(found, _)| *found == name)
        .unwrap();
    let corpus = corpus(name);
    for bytes in &corpus {
        run(target, bytes);
    }
    let number = |variable: &str| {
        std::env::var(variable)
            .ok()
            .map(|text| text.parse().unwrap())
    };
    let seed = number("FUZZ_SEED").unwrap_or(SEED);
    let runs = number("FUZZ_RUNS").unwrap_or(runs);
    println!(
        "{name}: {} kept, {runs} changed with FUZZ_SEED={seed}",
        corpus.len()
    );
    let mut changes = Changes::new(seed, &corpus, words(name));
    for _ in 0..runs {
        run(target, &changes.next());
    }
}

fn run(target: Target, bytes: &[u8]) {
    // Unwinding is caught to say which bytes it were, and goes on.
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(bytes))) {
        println!("failed on b\"{}\"", bytes.escape_ascii());
        resume_unwind(panic);
    }
}

/// Those of the target's own dictionary, or of the one for messages.
fn words(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = fs::read_to_string(directory.join(format!("{name}.dict")));
    fuzz::words(&own.unwrap_or_else(|_| include_str!("../words.dict").to_owned()))
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(name);
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|file| fs::read(file).unwrap())
        .collect()
}

/// Changes of kept bytes, as chance has it.
struct Changes<'a> {
    state: u64,
    corpus: &'a [Vec<u8>],
    /// What a change may put in.
    words: Vec<Vec<u8>>,
}

impl<'a> Changes<'a> {
    fn new(seed: u64, corpus: &'a [Vec<u8>], words: Vec<Vec<u8>>) -> Self {
        Self {
            state: seed,
            corpus,
            words,
        }
    }

    /// SplitMix64 (Steele, Lea and Flood 2014).
    fn chance(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `end`; 0 for 0.
    fn below(&mut self, end: usize) -> usize {
        (self.chance() % (end.max(1) as u64)) as usize
    }

    fn next(&mut self) -> Vec<u8> {
        let kept = self.below(self.corpus.len());
        let mut bytes = self.corpus[kept].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes);
        }
        bytes.truncate(LONGEST_BYTES);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len() + 1);
        let end = at + self.below((bytes.len() - at).min(64) + 1);
        match self.below(8) {
            0 => drop(bytes.drain(at..end)),
            1 => bytes.truncate(at),
            2 => {
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
            3 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            4 if at < bytes.len() => bytes[at] = self.chance() as u8,
            5 => {
                let other = self.below(self.corpus.len());
                let from = self.below(self.corpus[other].len());
                bytes.splice(at..end, self.corpus[other][from..].iter().copied());
            }
            _ => {
                let word = self.below(self.words.len());
                let end = if self.below(2) == 0 { at } else { end };
                bytes.splice(at..end, self.words[word].iter().copied());
            }
        }
    }
}
