//! What outlives the manager: an embedded store of named records, in one file. What the records say
//! is the business of whoever keeps them.
//!
//! One thread writes, in the order in which it is asked, and whatever has gathered in one
//! transaction: nobody on the runtime waits for a disk, unless they want to know that it is done.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
};

use hpc_proxy::text::chain;
use redb::{
    Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, backends::FileBackend,
};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;
use tokio::sync::oneshot;

/// The file's name in the manager's directory.
pub const FILE: &str = "sessions.redb";

/// Why something cannot be kept.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The system says no.
    #[error("cannot open `{path}`")]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store says no.
    #[error("cannot use `{path}`")]
    Database {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<redb::Error>,
    },
    /// A record was not written.
    #[error("cannot keep a record: {0}")]
    NotKept(String),
}

/// What kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Sessions, by their name.
    Sessions,
    /// Signed-in browsers, by the hash of their cookie.
    Browsers,
    /// Browsers at a host of a port's own, likewise.
    PortBrowsers,
    /// What tells browsers apart, by what it is for.
    Marks,
}

impl Table {
    const ALL: [Self; 4] = [
        Self::Sessions,
        Self::Browsers,
        Self::PortBrowsers,
        Self::Marks,
    ];

    fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(match self {
            Self::Sessions => "sessions",
            Self::Browsers => "browsers",
            Self::PortBrowsers => "port-browsers",
            Self::Marks => "marks",
        })
    }
}

/// The open store. What was asked for is written before it is gone.
#[derive(Debug)]
pub struct Store {
    /// There until it is dropped.
    changes: Option<mpsc::Sender<Change>>,
    writer: Option<thread::JoinHandle<()>>,
    was: Vec<(Table, String, Vec<u8>)>,
}

#[derive(Debug)]
struct Change {
    table: Table,
    key: String,
    /// Nothing removes the record.
    value: Option<Vec<u8>>,
    done: oneshot::Sender<Result<(), String>>,
}

/// A change on its way to the disk.
#[derive(Debug)]
#[must_use = "await `kept` where it matters, or drop it"]
pub struct OnItsWay(oneshot::Receiver<Result<(), String>>);

impl OnItsWay {
    /// Waits until it is on the disk.
    ///
    /// # Errors
    /// When it does not get there.
    pub async fn kept(self) -> Result<(), StoreError> {
        match self.0.await {
            Ok(written) => written.map_err(StoreError::NotKept),
            Err(_) => Err(StoreError::NotKept("the store is closed".into())),
        }
    }
}

impl Store {
    /// Opens or makes the store in `directory`, for this user alone.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let database = open(&path)?;
        let was = contents(&database).map_err(|source| StoreError::Database {
            path: path.clone(),
            source: Box::new(source),
        })?;
        let (changes, asked) = mpsc::channel();
        let writer = thread::Builder::new().name("store".into());
        let file = path.clone();
        let writer = writer.spawn(move || write(&file, database, &asked));
        let writer = writer.map_err(|source| StoreError::Io { path, source })?;
        Ok(Self {
            changes: Some(changes),
            writer: Some(writer),
            was,
        })
    }

    /// What an earlier manager kept in `table`, by its key. A record that this one does not
    /// understand is left where it is.
    pub fn kept<T: DeserializeOwned>(&self, table: Table) -> Vec<(String, T)> {
        let of_table = self.was.iter().filter(|(found, ..)| *found == table);
        let read = |(_, key, value): &(Table, String, Vec<u8>)| {
            let record = serde_json::from_slice(value);
            if let Err(error) = &record {
                tracing::warn!(?table, %error, "a record of the store is not understood");
            }
            Some((key.clone(), record.ok()?))
        };
        of_table.filter_map(read).collect()
    }

    /// Keeps a record in place of any other by that key.
    pub fn put<T: Serialize>(&self, table: Table, key: &str, record: &T) -> OnItsWay {
        let value = serde_json::to_vec(record).expect("records are strings and numbers");
        self.change(table, key, Some(value))
    }

    /// Keeps it no longer.
    pub fn remove(&self, table: Table, key: &str) -> OnItsWay {
        self.change(table, key, None)
    }

    /// Waits until everything that was asked for is written, or is not going to be.
    pub async fn settled(&self) {
        // No record has an empty key.
        let _ = self.remove(Table::Sessions, "").kept().await;
    }

    fn change(&self, table: Table, key: &str, value: Option<Vec<u8>>) -> OnItsWay {
        let (done, kept) = oneshot::channel();
        let key = key.to_owned();
        if let Some(changes) = &self.changes {
            // Without a writer the sender of `done` is dropped, which tells it.
            let _ = changes.send(Change {
                table,
                key,
                value,
                done,
            });
        }
        OnItsWay(kept)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.changes.take();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn open(path: &Path) -> Result<Database, StoreError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    let file = file.map_err(|source| StoreError::Io {
        path: path.to_owned(),
        source,
    })?;
    let at = |source: redb::Error| StoreError::Database {
        path: path.to_owned(),
        source: Box::new(source),
    };
    let backend = FileBackend::new(file).map_err(|error| at(error.into()))?;
    let database = Database::builder().create_with_backend(backend);
    database.map_err(|error| at(error.into()))
}

fn contents(database: &Database) -> Result<Vec<(Table, String, Vec<u8>)>, redb::Error> {
    let read = database.begin_read()?;
    let mut all = Vec::new();
    for table in Table::ALL {
        let records = match read.open_table(table.definition()) {
            Ok(records) => records,
            Err(TableError::TableDoesNotExist(_)) => continue,
            Err(error) => return Err(error.into()),
        };
        for record in records.iter()? {
            let (key, value) = record?;
            all.push((table, key.value().to_owned(), value.value().to_owned()));
        }
    }
    Ok(all)
}

/// Writes until nobody asks any more. After an error, as of a full disk, a database takes nothing until it is opened
/// again; what was not written by then is offered again with what comes next, since in the end the last counts.
fn write(path: &Path, database: Database, asked: &mpsc::Receiver<Change>) {
    let mut open_one = Some(database);
    let mut owed: BTreeMap<(Table, String), Option<Vec<u8>>> = BTreeMap::new();
    while let Ok(first) = asked.recv() {
        let mut changes = vec![first];
        changes.extend(asked.try_iter());
        for Change {
            table, key, value, ..
        } in &changes
        {
            owed.insert((*table, key.clone()), value.clone());
        }
        let database = match open_one.take() {
            Some(database) => Ok(database),
            None => open(path).map_err(|error| chain(&error)),
        };
        let written = database.and_then(|database| {
            commit(&database, &owed).map_err(|error| error.to_string())?;
            Ok(open_one.insert(database))
        });
        let written = written.map(|_| owed.clear());
        if let Err(error) = &written {
            tracing::error!(error, "the store does not take what it is given");
        }
        for change in changes {
            let _ = change.done.send(written.clone());
        }
    }
}

/// On the disk when it returns.
fn commit(
    database: &Database,
    changes: &BTreeMap<(Table, String), Option<Vec<u8>>>,
) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for ((table, key), value) in changes {
        let mut table = transaction.open_table(table.definition())?;
        match value {
            Some(value) => table.insert(key.as_str(), value.as_slice())?,
            None => table.remove(key.as_str())?,
        };
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use redb::StorageBackend;

    use super::*;

    #[tokio::test]
    async fn what_is_kept_is_there_again_and_what_is_removed_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        store.put(Table::Sessions, "a", &1).kept().await.unwrap();
        drop(store.put(Table::Sessions, "b", &2));
        drop(store.put(Table::Browsers, "a", &"x"));
        drop(store.put(Table::Sessions, "b", &3));
        drop(store.remove(Table::Sessions, "a"));
        drop(store);
        let store = Store::open(directory.path()).unwrap();
        let sessions: Vec<(String, u32)> = store.kept(Table::Sessions);
        assert_eq!(sessions, [("b".to_owned(), 3)]);
        // Another version's record is no reason to lose the others.
        assert!(store.kept::<u32>(Table::Browsers).is_empty());
        assert_eq!(store.kept::<String>(Table::Browsers).len(), 1);
        let mode = std::fs::metadata(directory.path().join(FILE))
            .unwrap()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    /// A disk that is full for the first that is written, as redb sees it.
    #[derive(Debug)]
    struct FullOnce {
        file: FileBackend,
        is_full: std::sync::Arc<std::sync::atomic::AtomicBool>,
    }

    impl StorageBackend for FullOnce {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.file.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.file.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            if self.is_full.load(std::sync::atomic::Ordering::Relaxed) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.file.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.file.write(offset, data)
        }
    }

    #[test]
    fn after_a_full_disk_it_takes_what_it_could_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        drop(open(&path).unwrap());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let is_full = std::sync::Arc::default();
        let backend = FullOnce {
            file: FileBackend::new(file).unwrap(),
            is_full: std::sync::Arc::clone(&is_full),
        };
        let database = Database::builder().create_with_backend(backend).unwrap();
        is_full.store(true, std::sync::atomic::Ordering::Relaxed);
        let (changes, asked) = mpsc::channel();
        let puts = |changes: &mpsc::Sender<Change>, key: &str| {
            let (done, kept) = oneshot::channel();
            let value = Some(b"1".to_vec());
            let change = Change {
                table: Table::Sessions,
                key: key.to_owned(),
                value,
                done,
            };
            changes.send(change).unwrap();
            kept
        };
        thread::scope(|scope| {
            let file = &path;
            scope.spawn(move || write(file, database, &asked));
            assert!(puts(&changes, "a").blocking_recv().unwrap().is_err());
            assert_eq!(puts(&changes, "b").blocking_recv().unwrap(), Ok(()));
            drop(changes);
        });
        let keys: Vec<_> = contents(&open(&path).unwrap())
            .unwrap()
            .into_iter()
            .map(|(_, key, _)| key)
            .collect();
        assert_eq!(keys, ["a", "b"]);
    }

    #[test]
    fn a_file_of_something_else_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        let text = "precious".repeat(1000);
        std::fs::write(&path, &text).unwrap();
        assert!(Store::open(directory.path()).is_err());
        assert_eq!(std::fs::read_to_string(path).unwrap(), text);
    }
}
