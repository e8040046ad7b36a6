//! Where the control plane keeps resources: documents with revisions, and the immutable versions of
//! transforms.
//!
//! Invariants:
//! - A write that was answered survives a crash and a loss of power; one that wasn't left the old document or
//!   the new one, never a part.
//! - Compare-and-set of a single document is all that a backend gives. Nothing here spans two documents, and
//!   nobody may need it to.
//! - A revision is never used twice, also not by a document that was deleted and made again.
//!
//! It knows no engine, no HTTP and no rules of resources: those are `control`'s and `resources`'.
//!
//! Not here yet: the MongoDB backend, a feed of changes beyond the sequence, backup.

mod sqlite;

use std::future::Future;
use std::pin::Pin;

use resources::Kind;
use serde_json::Value;
use tokio::sync::watch;
use types::{InstallationId, Uid};

pub use sqlite::{FORMAT, Sqlite};

/// Documents of one list.
pub const LIST_MAX: usize = 1_000;

/// The longest document, in bytes of JSON.
pub const DOCUMENT_BYTES_MAX: usize = 4 << 20;

/// Names a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The tenant; of a Workspace, its own name.
    pub workspace: String,
    /// The kind.
    pub kind: Kind,
    /// The resource's name.
    pub name: String,
}

impl Key {
    /// Of these parts.
    pub fn new(workspace: impl Into<String>, kind: Kind, name: impl Into<String>) -> Self {
        Self { workspace: workspace.into(), kind, name: name.into() }
    }
}

/// A document as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its name.
    pub key: Key,
    /// Of the write that made it so.
    pub revision: u64,
    /// What `control` keeps of the resource.
    pub body: Value,
}

/// What a write takes the document to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Not there.
    Absent,
    /// There, at this revision.
    Revision(u64),
}

/// Which documents a list is of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// `None`: of all.
    pub workspace: Option<String>,
    /// `None`: of all.
    pub kind: Option<Kind>,
    /// Only what comes after this key, in the order of the list.
    pub after: Option<Key>,
    /// At most [`LIST_MAX`].
    pub limit: usize,
}

/// Why the store didn't do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The document isn't what the write took it to be.
    #[error("the document is at {}", current.map_or("no revision: it doesn't exist".into(), |r| format!("revision {r}")))]
    Conflict {
        /// What it is.
        current: Option<u64>,
    },
    /// The version exists with another content: versions never change.
    #[error("version {number} exists with another content")]
    VersionExists {
        /// Its number.
        number: u32,
    },
    /// The document is too large.
    #[error("the document has {bytes} bytes, but at most {DOCUMENT_BYTES_MAX} are allowed")]
    TooLarge {
        /// In JSON.
        bytes: usize,
    },
    /// The store was written by a newer Vltava.
    #[error(
        "{path} has format {found}, but this version of Vltava knows formats up to {known}: use a newer one"
    )]
    NewerFormat {
        /// The file.
        path: String,
        /// What it says.
        found: i64,
        /// What is known.
        known: i64,
    },
    /// What is stored can't be read.
    #[error("the store holds what it can't hold: {what}")]
    Corrupt {
        /// Where, and what is wrong with it.
        what: String,
    },
    /// The backend failed.
    #[error("the store failed to {action}")]
    Backend {
        /// What it was doing.
        action: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// What a store's methods give.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// What can be read of a store. Called by `control` alone, from many tasks at once.
pub trait Read: Send + Sync {
    /// The document; `None` if it doesn't exist.
    fn get<'a>(&'a self, key: &'a Key) -> Pending<'a, Option<Document>>;

    /// Documents in the order of workspace, kind (by its name) and name.
    fn list(&self, query: Query) -> Pending<'_, Vec<Document>>;

    /// A version; `None` if it doesn't exist.
    fn version(&self, owner: Uid, number: u32) -> Pending<'_, Option<Value>>;

    /// The newest versions first, at most `limit` and [`LIST_MAX`].
    fn versions(&self, owner: Uid, limit: usize) -> Pending<'_, Vec<(u32, Value)>>;
}

/// A store. Called by `control` alone, from many tasks at once. A call whose future is dropped was done or
/// wasn't; the next read tells.
pub trait Store: Read + 'static {
    /// Who this store is: made when the store was.
    fn installation(&self) -> InstallationId;

    /// Writes the document if it is what is expected, and gives its new revision, else [`Error::Conflict`]:
    /// read it again and decide anew.
    fn put<'a>(&'a self, key: &'a Key, expected: Expected, body: &'a Value) -> Pending<'a, u64>;

    /// Deletes the document if it is at this revision, else [`Error::Conflict`].
    fn delete<'a>(&'a self, key: &'a Key, revision: u64) -> Pending<'a, ()>;

    /// Adds a version. The same content again is no error; another is [`Error::VersionExists`].
    fn put_version<'a>(&'a self, owner: Uid, number: u32, body: &'a Value) -> Pending<'a, ()>;

    /// Forgets all versions of a transform that is deleted.
    fn delete_versions(&self, owner: Uid) -> Pending<'_, ()>;

    /// Rises with every write by anybody. What several processes share is polled by it.
    fn sequence(&self) -> Pending<'_, u64>;

    /// The sequence as this process's own writes make it rise: a signal, which may be missed by nobody who also
    /// polls.
    fn watch(&self) -> watch::Receiver<u64>;

    /// Ends: what was answered is on disk, files are closed.
    fn close(&self) -> Pending<'_, ()>;
}
