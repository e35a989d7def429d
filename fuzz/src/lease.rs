//! What stands in files and links: records, ports, tokens, proofs and codes.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hpc_proxy::{
    auth::{Nonce, Proof, Token},
    lease::{MAX_RECORD_BYTES, Place, Record, parse_port},
    link::{self, Redeemed},
};

/// A moment that codes are good at.
const NOW: Duration = Duration::from_secs(1_800_000_000);

/// Any bytes as each of them.
///
/// # Panics
/// When one is believed that must not be, or is not what it says.
pub fn lease(data: &[u8]) {
    record(data);
    port(data);
    secrets(data);
    place(data);
    code(data);
}

fn record(data: &[u8]) {
    let Ok(record) = Record::parse(data) else {
        return;
    };
    assert!(data.len() <= MAX_RECORD_BYTES);
    assert_eq!(record.version, Record::VERSION);
    assert!(record.port != 0 || record.socket.is_some(), "{record:?}");
    let text = serde_json::to_vec(&record).expect("what was read can be written");
    if text.len() <= MAX_RECORD_BYTES {
        assert_eq!(Record::parse(&text).expect("it is one"), record);
    }
    // No longer one of the job or node that it was checked for.
    let believed = record.check("123", "node01").is_ok();
    let says = record.job_id.as_deref() == Some("123") && record.node.as_deref() == Some("node01");
    assert_eq!(believed, says);
}

fn port(data: &[u8]) {
    let text = data.trim_ascii();
    let digits = !text.is_empty() && text.len() <= 5 && text.iter().all(u8::is_ascii_digit);
    let number = text.iter().fold(0_u32, |number, digit| {
        number
            .saturating_mul(10)
            .saturating_add(u32::from(digit.wrapping_sub(b'0')))
    });
    let wanted = (digits && (1..=65535).contains(&number)).then_some(number);
    assert_eq!(parse_port(data).map(u32::from), wanted);
}

fn secrets(data: &[u8]) {
    let text = data.trim_ascii();
    let hexadecimal = text.iter().all(|digit| b"0123456789abcdef".contains(digit));
    let token = Token::parse(data);
    assert_eq!(token.is_ok(), hexadecimal && text.len() == 64);
    if let Ok(token) = token {
        assert_eq!(token.reveal().as_bytes(), text);
        // A stolen cookie does not let its thief answer for the proxy.
        assert_ne!(token.cookie_value().as_bytes(), text);
        assert!(!format!("{token:?}").contains(&token.reveal()));
    }
    let whole = data.iter().all(|digit| b"0123456789abcdef".contains(digit));
    let nonce = Nonce::parse(data);
    assert_eq!(nonce.is_some(), whole && data.len() == 32);
    if let Some(nonce) = nonce {
        assert_eq!(nonce.to_hex().as_bytes(), data);
    }
    if let Ok(proof) = serde_json::from_slice::<Proof>(data) {
        // Nobody who does not know the token has ever proved anything.
        let nonce = Nonce::parse(&[b'0'; 32]).expect("32 digits");
        assert!(!key().verify(&proof, &nonce, &proof.instance, 1));
    }
}

/// Whatever a job or a host is called, its files are in their directory.
fn place(data: &[u8]) {
    let Ok(name) = std::str::from_utf8(data) else {
        return;
    };
    let home = Path::new("/home/alice");
    let beside = home.join("ports").join("mine");
    for place in [
        Place::in_home(home, Some(name), "node01"),
        Place::in_home(home, None, name),
        Place::beside(&beside, Some(name), "node01"),
    ] {
        for file in [place.record_file(), place.token_file()] {
            assert_eq!(file.parent(), Some(place.directory()));
            let plain = file
                .file_name()
                .and_then(|file| file.to_str())
                .expect("it is text");
            assert!(plain.len() < 200 && !plain.contains(['/', '\0', '\n']));
        }
    }
}

/// A code signs in once, and nothing else does, not even something like it.
fn code(data: &[u8]) {
    let (key, redeemed) = (key(), Redeemed::default());
    let now = UNIX_EPOCH + NOW;
    let signs_in = |code: &str, now: SystemTime| redeemed.redeem(&key, "alice", code, now).is_ok();
    let text = String::from_utf8_lossy(data);
    assert!(!signs_in(&text, now), "{text}");

    let Ok(good) = link::mint(&key, "alice", now) else {
        return;
    };
    // The first byte says where the code is changed, the rest into what.
    let changed = match data.split_first() {
        Some((at, into)) => {
            let (before, after) = good.split_at(usize::from(*at) % good.len());
            let into = String::from_utf8_lossy(into);
            let after = after.chars().skip(into.chars().count());
            format!("{before}{into}{}", after.collect::<String>())
        }
        None => good.clone(),
    };
    let late = now + link::VALID_FOR + Duration::from_secs(1);
    assert!(!signs_in(&good, late), "too late");
    let first = signs_in(&changed, now);
    let second = signs_in(&good, now);
    let third = signs_in(&changed, now);
    // Digits of the time may be written in more ways than one.
    assert!(first != second && !third, "{changed} for {good}");
}

fn key() -> Token {
    Token::parse("5a".repeat(32).as_bytes()).expect("64 digits")
}
