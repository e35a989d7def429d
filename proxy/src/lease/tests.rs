use std::{
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_lease_is_published_complete_and_withdrawn_whole() {
    let home = TempDir::new().unwrap();
    let place = Place::in_home(home.path(), Some("123"), "node01");
    let (token, record) = (Token::random().unwrap(), Record::example(40123));
    let lease = Lease::publish(&place, &record, &token).unwrap();
    let directory = home.path().join(".hpc-proxy");
    assert_eq!(
        files(&directory),
        ["job-123.json", "job-123.token", "port", "token"]
    );
    assert_eq!(fs::read_to_string(place.port_file()).unwrap(), "40123\n");
    assert_eq!(
        Record::parse(&fs::read(place.record_file()).unwrap()).unwrap(),
        record
    );
    assert_eq!(
        Token::parse(&fs::read(place.token_file()).unwrap()),
        Ok(token)
    );
    for name in files(&directory) {
        let mode = fs::metadata(directory.join(&name)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
    drop(lease);
    assert!(files(&directory).is_empty());
}

// Behaviour 129: the later proxy takes over.
#[test]
fn what_another_proxy_took_over_is_not_withdrawn() {
    let home = TempDir::new().unwrap();
    let place = Place::in_home(home.path(), Some("123"), "node01");
    let first = Lease::publish(&place, &Record::example(1), &Token::random().unwrap()).unwrap();
    let second = Lease::publish(&place, &Record::example(2), &Token::random().unwrap()).unwrap();
    drop(first);
    assert_eq!(fs::read_to_string(place.port_file()).unwrap(), "2\n");
    assert_eq!(files(&home.path().join(".hpc-proxy")).len(), 4);
    drop(second);
    assert!(files(&home.path().join(".hpc-proxy")).is_empty());
}

#[test]
fn what_was_removed_is_put_back() {
    let home = TempDir::new().unwrap();
    let place = Place::in_home(home.path(), Some("123"), "node01");
    let directory = home.path().join(".hpc-proxy");
    let all = ["job-123.json", "job-123.token", "port", "token"];
    let mut lease = Lease::publish(&place, &Record::example(1), &Token::random().unwrap()).unwrap();
    assert_eq!(lease.restore().unwrap(), 0);
    fs::remove_file(place.port_file()).unwrap();
    fs::remove_file(place.record_file()).unwrap();
    assert_eq!(lease.restore().unwrap(), 2);
    assert_eq!(files(&directory), all);

    fs::remove_dir_all(&directory).unwrap();
    assert_eq!(lease.restore().unwrap(), 4);
    assert_eq!(files(&directory), all);
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
    for name in all {
        let mode = fs::metadata(directory.join(name)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    // And it is still its own to withdraw.
    drop(lease);
    assert!(files(&directory).is_empty());
}

#[test]
fn what_another_proxy_took_over_is_not_put_back() {
    let home = TempDir::new().unwrap();
    let place = |job| Place::in_home(home.path(), Some(job), "node01");
    let token = || Token::random().unwrap();
    let mut first = Lease::publish(&place("1"), &Record::example(1), &token()).unwrap();
    let second = Lease::publish(&place("2"), &Record::example(2), &token()).unwrap();
    assert_eq!(first.restore().unwrap(), 0);
    assert_eq!(fs::read_to_string(place("1").port_file()).unwrap(), "2\n");
    drop(second);
    assert_eq!(first.restore().unwrap(), 0);
    assert_eq!(
        files(&home.path().join(".hpc-proxy")),
        ["job-1.json", "job-1.token"]
    );
}

#[test]
fn two_jobs_share_a_home() {
    let home = TempDir::new().unwrap();
    let token = Token::random().unwrap();
    let place = |job| Place::in_home(home.path(), Some(job), "node01");
    let one = Lease::publish(&place("1"), &Record::example(1), &token).unwrap();
    let _two = Lease::publish(&place("2"), &Record::example(2), &Token::random().unwrap()).unwrap();
    drop(one);
    assert!(!place("1").record_file().exists());
    assert!(place("2").record_file().exists());
    assert_eq!(fs::read_to_string(place("2").port_file()).unwrap(), "2\n");
}

#[test]
fn a_port_file_among_other_files_leaves_them_alone() {
    let directory = TempDir::new().unwrap();
    let precious = directory.path().join("token");
    fs::write(&precious, "precious").unwrap();
    let place = |name: &str| Place::beside(&directory.path().join(name), Some("1"), "h");
    let one = Lease::publish(&place("a"), &Record::example(1), &Token::random().unwrap()).unwrap();
    let two = Lease::publish(&place("b"), &Record::example(2), &Token::random().unwrap()).unwrap();
    assert_ne!(place("a").token_file(), place("b").token_file());
    assert_ne!(place("a").last_token_file(), place("b").last_token_file());
    drop((one, two));
    assert_eq!(files(directory.path()), ["token"]);
    assert_eq!(fs::read_to_string(precious).unwrap(), "precious");
}

// S9.
#[test]
fn a_directory_that_others_can_write_is_refused() {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let place = Place::beside(&directory.path().join("port"), None, "node01");
    let refused = Lease::publish(&place, &Record::example(1), &Token::random().unwrap());
    assert!(
        matches!(refused, Err(LeaseError::OpenDirectory(_))),
        "{refused:?}"
    );
    assert!(files(directory.path()).is_empty());
}

#[test]
fn our_own_directory_made_with_a_loose_umask_is_tightened() {
    let home = TempDir::new().unwrap();
    let directory = home.path().join(".hpc-proxy");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o775)).unwrap();
    let place = Place::in_home(home.path(), None, "node01");
    let _lease = Lease::publish(&place, &Record::example(1), &Token::random().unwrap()).unwrap();
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
}

/// What may be found in place of a file, by somebody's mistake or malice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    Nothing,
    Link,
    DanglingLink,
    HardLink,
    Pipe,
    Directory,
    Empty,
    Binary,
    Huge,
}

impl Obstacle {
    const ALL: [Self; 9] = [
        Self::Nothing,
        Self::Link,
        Self::DanglingLink,
        Self::HardLink,
        Self::Pipe,
        Self::Directory,
        Self::Empty,
        Self::Binary,
        Self::Huge,
    ];

    /// Puts it at `path`; `victim` is a file of somebody's.
    fn put(self, path: &Path, victim: &Path) {
        match self {
            Self::Nothing => {}
            Self::Link => symlink(victim, path).unwrap(),
            Self::DanglingLink => symlink(victim.with_extension("new"), path).unwrap(),
            Self::HardLink => fs::hard_link(victim, path).unwrap(),
            Self::Pipe => {
                let made = std::process::Command::new("mkfifo").arg(path).status();
                assert!(made.unwrap().success());
            }
            Self::Directory => fs::create_dir(path).unwrap(),
            Self::Empty => fs::write(path, "").unwrap(),
            Self::Binary => fs::write(path, [0, 255, 27, b'\n', 128]).unwrap(),
            Self::Huge => fs::File::create(path).unwrap().set_len(1 << 30).unwrap(),
        }
    }
}

/// A place in a new home with its directory, and a file beside that nobody may touch.
fn at_home(home: &TempDir) -> (Place, PathBuf) {
    let victim = home.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    fs::create_dir(home.path().join(".hpc-proxy")).unwrap();
    (Place::in_home(home.path(), Some("123"), "node01"), victim)
}

fn names(place: &Place) -> [PathBuf; 4] {
    [
        place.port_file().to_owned(),
        place.last_token_file(),
        place.record_file(),
        place.token_file(),
    ]
}

// S9.
#[test]
fn whatever_is_in_the_way_is_replaced_and_not_followed() {
    for obstacle in Obstacle::ALL {
        for index in 0..4 {
            let home = TempDir::new().unwrap();
            let (place, victim) = at_home(&home);
            let name = &names(&place)[index];
            obstacle.put(name, &victim);
            let record = Record::example(7);
            let published = Lease::publish(&place, &record, &Token::random().unwrap());
            if obstacle == Obstacle::Directory {
                published.unwrap_err();
                let directory = home.path().join(".hpc-proxy");
                assert_eq!(files(&directory).len(), 1, "{obstacle:?} {name:?}");
                assert!(name.is_dir());
            } else {
                let lease = published.unwrap();
                assert_eq!(place.read_record().unwrap(), record);
                assert_eq!(place.read_last().unwrap(), (7, place.read_token().unwrap()));
                drop(lease);
                assert!(!name.exists(), "{obstacle:?} {name:?}");
            }
            assert_eq!(
                fs::read_to_string(&victim).unwrap(),
                "precious",
                "{obstacle:?}"
            );
            assert_eq!(fs::metadata(&victim).unwrap().nlink(), 1, "{obstacle:?}");
            assert!(!victim.with_extension("new").exists(), "{obstacle:?}");
        }
    }
}

// S8, S9: no reader waits, follows or believes.
#[test]
fn whatever_else_stands_in_for_a_lease_is_not_read() {
    for obstacle in Obstacle::ALL {
        let home = TempDir::new().unwrap();
        let (place, victim) = at_home(&home);
        fs::write(&victim, serde_json::to_vec(&Record::example(7)).unwrap()).unwrap();
        for name in names(&place) {
            obstacle.put(&name, &victim);
        }
        if obstacle == Obstacle::HardLink {
            // The same file of the same user under another name is what it is.
            place.read_record().unwrap();
        } else {
            let refused = place.read_record();
            assert!(refused.is_err(), "{obstacle:?} {refused:?}");
            assert!(place.read_all_records().is_empty(), "{obstacle:?}");
        }
        assert!(place.read_token().is_err(), "{obstacle:?}");
        assert!(place.read_last().is_err(), "{obstacle:?}");
    }
}

#[test]
fn a_file_of_another_user_is_not_read() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped, needs: to be root");
        return;
    }
    let home = TempDir::new().unwrap();
    let (place, _) = at_home(&home);
    let _lease = Lease::publish(&place, &Record::example(7), &Token::random().unwrap()).unwrap();
    for name in names(&place) {
        chown(name, Some(65534), None).unwrap();
    }
    assert!(matches!(place.read_record(), Err(NoLease::Read { .. })));
    assert!(place.read_token().is_err() && place.read_last().is_err());
}

// S9, S10: the same content in another file is another proxy's, as when two of them on two
// nodes got the same port.
#[test]
fn only_ones_own_files_are_withdrawn() {
    let home = TempDir::new().unwrap();
    let (place, victim) = at_home(&home);
    let token = Token::random().unwrap();
    let lease = Lease::publish(&place, &Record::example(7), &token).unwrap();
    let later = home.path().join("later");
    fs::write(&later, "7\n").unwrap();
    fs::rename(&later, place.port_file()).unwrap();
    fs::remove_file(place.record_file()).unwrap();
    Obstacle::Pipe.put(&place.record_file(), &victim);
    fs::write(place.token_file(), "changed").unwrap();
    drop(lease);
    assert_eq!(
        files(&home.path().join(".hpc-proxy")),
        ["job-123.json", "job-123.token", "port"]
    );
}

#[test]
fn a_directory_may_be_a_link_of_ones_own() {
    let (home, disk) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let link = home.path().join(".hpc-proxy");
    symlink(disk.path(), &link).unwrap();
    let place = Place::in_home(home.path(), None, "node01");
    let publish = || Lease::publish(&place, &Record::example(7), &Token::random().unwrap());
    drop(publish().unwrap());
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(&link, Some(65534), None).unwrap();
        let refused = publish();
        assert!(
            matches!(
                refused,
                Err(LeaseError::ForeignDirectory { owner: 65534, .. })
            ),
            "{refused:?}"
        );
    }
}

// S9: what is not ours is neither written to nor changed.
#[test]
fn a_directory_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped, needs: to be root");
        return;
    }
    let home = TempDir::new().unwrap();
    let (place, _) = at_home(&home);
    let directory = home.path().join(".hpc-proxy");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
    chown(&directory, Some(65534), None).unwrap();
    let refused = Lease::publish(&place, &Record::example(7), &Token::random().unwrap());
    assert!(
        matches!(
            refused,
            Err(LeaseError::ForeignDirectory { owner: 65534, .. })
        ),
        "{refused:?}"
    );
    assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o777);
    assert!(files(&directory).is_empty());
}

#[test]
fn a_failure_leaves_an_earlier_lease_as_it_was() {
    let home = TempDir::new().unwrap();
    let (place, _) = at_home(&home);
    let token = Token::random().unwrap();
    let _lease = Lease::publish(&place, &Record::example(7), &token).unwrap();
    // The name that the later port file would have while it is written.
    let record = Record {
        instance: "later".into(),
        ..Record::example(8)
    };
    fs::create_dir(home.path().join(".hpc-proxy/port.later.new")).unwrap();
    Lease::publish(&place, &record, &Token::random().unwrap()).unwrap_err();
    assert_eq!(place.read_record().unwrap(), Record::example(7));
    assert_eq!(place.read_last().unwrap(), (7, token));
    assert_eq!(files(&home.path().join(".hpc-proxy")).len(), 5);
}

#[test]
fn what_a_killed_proxy_left_half_done_is_swept() {
    let home = TempDir::new().unwrap();
    let (place, _) = at_home(&home);
    let directory = home.path().join(".hpc-proxy");
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let left = |name: &str, age| {
        let file = fs::File::create(directory.join(name)).unwrap();
        if let Some(written) = age {
            file.set_modified(written).unwrap();
        }
    };
    let instance = "0123456789abcdef0123456789abcdef";
    left(&format!("token.{instance}.new"), Some(long_ago));
    left(&format!("port.{instance}.new"), None);
    left("mine.new", Some(long_ago));
    left(&format!("{instance}.old"), Some(long_ago));
    let lease = Lease::publish(&place, &Record::example(7), &Token::random().unwrap());
    drop(lease.unwrap());
    assert_eq!(
        files(&directory),
        [
            format!("{instance}.old"),
            "mine.new".to_owned(),
            format!("port.{instance}.new")
        ]
    );
}

// Behaviour 128.
#[test]
fn a_file_is_complete_whenever_it_is_seen() {
    let home = TempDir::new().unwrap();
    let (place, _) = at_home(&home);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..200 {
                let token = Token::random().unwrap();
                drop(Lease::publish(&place, &Record::example(40123), &token).unwrap());
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut reads = 0;
        while !done.load(Ordering::Relaxed) || reads < 10_000 {
            reads += 1;
            match fs::read(place.port_file()) {
                Ok(port) => assert_eq!(port, b"40123\n"),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::NotFound),
            }
            match place.read_record() {
                Ok(record) => assert_eq!(record, Record::example(40123)),
                Err(NoLease::Read { source, .. }) => {
                    assert_eq!(source.kind(), io::ErrorKind::NotFound);
                }
                Err(other) => panic!("{other}"),
            }
        }
    });
}

#[test]
fn all_records_of_a_place_are_found() {
    let directory = TempDir::new().unwrap();
    let place = |job: &str| Place::beside(&directory.path().join("p"), Some(job), "h");
    let record = |job: &str, port| Record {
        job_id: Some(job.into()),
        ..Record::example(port)
    };
    let token = Token::random().unwrap();
    let _one = Lease::publish(&place("1"), &record("1", 1), &token).unwrap();
    let _two = Lease::publish(&place("2"), &record("2", 2), &token).unwrap();
    fs::write(directory.path().join("q.job-3.json"), "{}").unwrap();
    fs::write(directory.path().join("p.job-4.json"), "{}").unwrap();
    let mut ports: Vec<u16> = place("5")
        .read_all_records()
        .iter()
        .map(|r| r.port)
        .collect();
    ports.sort();
    assert_eq!(ports, [1, 2]);
}

#[test]
fn a_port_file_is_a_number_or_nothing() {
    for (text, port) in [
        ("40123\n", Some(40123)),
        (" 1 ", Some(1)),
        ("", None),
        ("0", None),
        ("65536", None),
        ("+1", None),
        ("1 2", None),
        ("000001", None),
        ("0x10", None),
    ] {
        assert_eq!(parse_port(text.as_bytes()), port, "{text}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        let _ = parse_port(&bytes);
    }
}
