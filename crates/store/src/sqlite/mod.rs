//! The SQLite backend: one file (and its write-ahead log beside it) in the data directory.
//!
//! Invariant: `journal_mode = WAL` with `synchronous = FULL`: each commit syncs the log before it is answered.
//! With `NORMAL`, which most guides advise, a loss of power takes back the newest commits.
//!
//! Format 1: `meta(name, value)` holds `format`, `installation` and `sequence`; `documents` one row a document;
//! `versions` one row a version of a transform, which is inserted and never updated.

mod migrations;

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use resources::Kind;
use runtime::kill_points::{self, Point};
use serde_json::Value;
use sqlx::Row;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use tokio::sync::watch;
use types::{InstallationId, Uid};

pub use migrations::FORMAT;

use crate::{DOCUMENT_BYTES_MAX, Document, Error, Expected, Key, LIST_MAX, Pending, Query, Read, Store};

/// Connections, each of which is a thread and a cache: one writes while another reads.
const CONNECTIONS_MAX: u32 = 2;

/// Of each connection's page cache, in KiB.
const CACHE_KIB: i64 = 1024;

/// How long a writer waits for another.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a call waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// A store in a file.
#[derive(Debug)]
pub struct Sqlite {
    pool: SqlitePool,
    path: PathBuf,
    installation: InstallationId,
    sequence: watch::Sender<u64>,
}

fn failed(action: &'static str) -> impl FnOnce(sqlx::Error) -> Error {
    move |source| Error::Backend { action, source: Box::new(source) }
}

impl Sqlite {
    /// Opens the store, and makes it if it isn't there. Only one process may have it open: the data
    /// directory's lock is the caller's.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        make_private(path)
            .map_err(|source| Error::Backend { action: "make its file", source: Box::new(source) })?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(32)
            .pragma("cache_size", format!("-{CACHE_KIB}"))
            .pragma("wal_autocheckpoint", "256")
            .pragma("journal_size_limit", "4194304");
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .min_connections(0)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .connect_with(options)
            .await
            .map_err(failed("open its file"))?;
        let (installation, sequence) = migrations::run(&pool, path).await?;
        sync_folder(path)
            .map_err(|source| Error::Backend { action: "sync its folder", source: Box::new(source) })?;
        Ok(Self { pool, path: path.into(), installation, sequence: watch::Sender::new(sequence) })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn written(&self, sequence: u64) {
        // Two writers may come here in either order: the sequence never goes back.
        self.sequence.send_if_modified(|current| {
            let rises = sequence > *current;
            *current = sequence.max(*current);
            rises
        });
    }

    async fn put_document(&self, key: &Key, expected: Expected, body: &Value) -> Result<u64, Error> {
        let body = encoded(body)?;
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed("begin a write"))?;
        let current = current(&mut tx, key).await?;
        let wanted = match expected {
            Expected::Absent => None,
            Expected::Revision(revision) => Some(revision),
        };
        if current != wanted {
            return Err(Error::Conflict { current });
        }
        let sequence = next_sequence(&mut tx).await?;
        sqlx::query(
            "INSERT INTO documents (workspace, kind, name, revision, body) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (workspace, kind, name) DO UPDATE SET revision = excluded.revision, body = excluded.body",
        )
        .bind(&key.workspace)
        .bind(key.kind.as_str())
        .bind(&key.name)
        .bind(to_sql(sequence)?)
        .bind(body)
        .execute(&mut *tx)
        .await
        .map_err(failed("write a document"))?;
        kill_points::pass(Point::StoreBefore);
        tx.commit().await.map_err(failed("commit a document"))?;
        kill_points::pass(Point::StoreAfter);
        self.written(sequence);
        Ok(sequence)
    }

    async fn delete_document(&self, key: &Key, revision: u64) -> Result<(), Error> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed("begin a write"))?;
        let current = current(&mut tx, key).await?;
        if current != Some(revision) {
            return Err(Error::Conflict { current });
        }
        let sequence = next_sequence(&mut tx).await?;
        sqlx::query("DELETE FROM documents WHERE workspace = ? AND kind = ? AND name = ?")
            .bind(&key.workspace)
            .bind(key.kind.as_str())
            .bind(&key.name)
            .execute(&mut *tx)
            .await
            .map_err(failed("delete a document"))?;
        kill_points::pass(Point::StoreBefore);
        tx.commit().await.map_err(failed("commit a deletion"))?;
        kill_points::pass(Point::StoreAfter);
        self.written(sequence);
        Ok(())
    }

    async fn list_documents(&self, query: Query) -> Result<Vec<Document>, Error> {
        let Query { workspace, kind, after, limit } = query;
        let after = after.unwrap_or_else(|| Key::new("", Kind::Workspace, ""));
        let first = after.workspace.is_empty() && after.name.is_empty();
        let rows = sqlx::query(
            "SELECT workspace, kind, name, revision, body FROM documents
             WHERE (?1 IS NULL OR workspace = ?1) AND (?2 IS NULL OR kind = ?2)
               AND (?3 OR (workspace, kind, name) > (?4, ?5, ?6))
             ORDER BY workspace, kind, name LIMIT ?7",
        )
        .bind(workspace)
        .bind(kind.map(Kind::as_str))
        .bind(first)
        .bind(after.workspace)
        .bind(after.kind.as_str())
        .bind(after.name)
        .bind(to_sql(limit.min(LIST_MAX) as u64)?)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("list documents"))?;
        rows.iter().map(document).collect()
    }

    async fn insert_version(&self, owner: Uid, number: u32, body: &Value) -> Result<(), Error> {
        let body = encoded(body)?;
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed("begin a write"))?;
        let inserted = sqlx::query("INSERT OR IGNORE INTO versions (owner, number, body) VALUES (?, ?, ?)")
            .bind(owner.to_string())
            .bind(i64::from(number))
            .bind(&body)
            .execute(&mut *tx)
            .await
            .map_err(failed("write a version"))?;
        if inserted.rows_affected() == 0 {
            let row = sqlx::query("SELECT body FROM versions WHERE owner = ? AND number = ?")
                .bind(owner.to_string())
                .bind(i64::from(number))
                .fetch_one(&mut *tx)
                .await
                .map_err(failed("read a version"))?;
            let stored: String = row.try_get(0).map_err(failed("read a version"))?;
            return if stored == body { Ok(()) } else { Err(Error::VersionExists { number }) };
        }
        let sequence = next_sequence(&mut tx).await?;
        kill_points::pass(Point::StoreBefore);
        tx.commit().await.map_err(failed("commit a version"))?;
        kill_points::pass(Point::StoreAfter);
        self.written(sequence);
        Ok(())
    }
}

impl Read for Sqlite {
    fn get<'a>(&'a self, key: &'a Key) -> Pending<'a, Option<Document>> {
        Box::pin(async move {
            let row = sqlx::query(
                "SELECT workspace, kind, name, revision, body FROM documents
                 WHERE workspace = ? AND kind = ? AND name = ?",
            )
            .bind(&key.workspace)
            .bind(key.kind.as_str())
            .bind(&key.name)
            .fetch_optional(&self.pool)
            .await
            .map_err(failed("read a document"))?;
            row.as_ref().map(document).transpose()
        })
    }

    fn list(&self, query: Query) -> Pending<'_, Vec<Document>> {
        Box::pin(self.list_documents(query))
    }

    fn version(&self, owner: Uid, number: u32) -> Pending<'_, Option<Value>> {
        Box::pin(async move {
            let row = sqlx::query("SELECT number, body FROM versions WHERE owner = ? AND number = ?")
                .bind(owner.to_string())
                .bind(i64::from(number))
                .fetch_optional(&self.pool)
                .await
                .map_err(failed("read a version"))?;
            Ok(row.as_ref().map(version).transpose()?.map(|(_, body)| body))
        })
    }

    fn versions(&self, owner: Uid, limit: usize) -> Pending<'_, Vec<(u32, Value)>> {
        Box::pin(async move {
            let rows =
                sqlx::query("SELECT number, body FROM versions WHERE owner = ? ORDER BY number DESC LIMIT ?")
                    .bind(owner.to_string())
                    .bind(to_sql(limit.min(LIST_MAX) as u64)?)
                    .fetch_all(&self.pool)
                    .await
                    .map_err(failed("list versions"))?;
            rows.iter().map(version).collect()
        })
    }
}

impl Store for Sqlite {
    fn installation(&self) -> InstallationId {
        self.installation
    }

    fn put<'a>(&'a self, key: &'a Key, expected: Expected, body: &'a Value) -> Pending<'a, u64> {
        Box::pin(self.put_document(key, expected, body))
    }

    fn delete<'a>(&'a self, key: &'a Key, revision: u64) -> Pending<'a, ()> {
        Box::pin(self.delete_document(key, revision))
    }

    fn put_version<'a>(&'a self, owner: Uid, number: u32, body: &'a Value) -> Pending<'a, ()> {
        Box::pin(self.insert_version(owner, number, body))
    }

    fn delete_versions(&self, owner: Uid) -> Pending<'_, ()> {
        Box::pin(async move {
            sqlx::query("DELETE FROM versions WHERE owner = ?")
                .bind(owner.to_string())
                .execute(&self.pool)
                .await
                .map_err(failed("delete versions"))?;
            Ok(())
        })
    }

    fn sequence(&self) -> Pending<'_, u64> {
        Box::pin(async move {
            let row = sqlx::query("SELECT value FROM meta WHERE name = 'sequence'")
                .fetch_one(&self.pool)
                .await
                .map_err(failed("read its sequence"))?;
            parsed(&row.try_get::<String, _>(0).map_err(failed("read its sequence"))?, "meta sequence")
        })
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.sequence.subscribe()
    }

    fn close(&self) -> Pending<'_, ()> {
        Box::pin(async move {
            self.pool.close().await;
            Ok(())
        })
    }
}

type Tx<'a> = sqlx::Transaction<'a, sqlx::Sqlite>;

async fn current(tx: &mut Tx<'_>, key: &Key) -> Result<Option<u64>, Error> {
    let row = sqlx::query("SELECT revision FROM documents WHERE workspace = ? AND kind = ? AND name = ?")
        .bind(&key.workspace)
        .bind(key.kind.as_str())
        .bind(&key.name)
        .fetch_optional(&mut **tx)
        .await
        .map_err(failed("read a revision"))?;
    row.map(|row| from_sql(row.try_get(0).map_err(failed("read a revision"))?)).transpose()
}

async fn next_sequence(tx: &mut Tx<'_>) -> Result<u64, Error> {
    let row = sqlx::query(
        "UPDATE meta SET value = CAST(CAST(value AS INTEGER) + 1 AS TEXT) WHERE name = 'sequence' RETURNING value",
    )
    .fetch_one(&mut **tx)
    .await
    .map_err(failed("advance its sequence"))?;
    parsed(&row.try_get::<String, _>(0).map_err(failed("advance its sequence"))?, "meta sequence")
}

fn document(row: &SqliteRow) -> Result<Document, Error> {
    let text = |column: usize| row.try_get::<String, _>(column).map_err(failed("read a document"));
    let (workspace, kind, name) = (text(0)?, text(1)?, text(2)?);
    let kind = parsed::<Kind>(&kind, "a document's kind")?;
    let revision = from_sql(row.try_get(3).map_err(failed("read a document"))?)?;
    let key = Key { workspace, kind, name };
    let body = decoded(&text(4)?, || format!("{} {}/{}", key.kind, key.workspace, key.name))?;
    Ok(Document { key, revision, body })
}

fn version(row: &SqliteRow) -> Result<(u32, Value), Error> {
    let number: i64 = row.try_get(0).map_err(failed("read a version"))?;
    let number =
        u32::try_from(number).map_err(|_| Error::Corrupt { what: format!("version number {number}") })?;
    let body: String = row.try_get(1).map_err(failed("read a version"))?;
    Ok((number, decoded(&body, || format!("version {number}"))?))
}

fn encoded(body: &Value) -> Result<String, Error> {
    let text = body.to_string();
    if text.len() > DOCUMENT_BYTES_MAX { Err(Error::TooLarge { bytes: text.len() }) } else { Ok(text) }
}

fn decoded(text: &str, what: impl FnOnce() -> String) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|error| Error::Corrupt { what: format!("{}: {error}", what()) })
}

fn parsed<T: FromStr<Err: std::fmt::Display>>(text: &str, what: &str) -> Result<T, Error> {
    text.parse().map_err(|error| Error::Corrupt { what: format!("{what}: {error}") })
}

fn to_sql(number: u64) -> Result<i64, Error> {
    i64::try_from(number).map_err(|_| Error::Corrupt { what: format!("number {number}") })
}

fn from_sql(number: i64) -> Result<u64, Error> {
    u64::try_from(number).map_err(|_| Error::Corrupt { what: format!("revision {number}") })
}

/// Makes the file, readable by its owner alone, before SQLite would make it readable by all.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// SQLite syncs its files, but not that the folder knows of them.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_connection_syncs_every_commit() {
        let folder = tempfile::tempdir().unwrap();
        let store = Sqlite::open(&folder.path().join("store.db")).await.unwrap();
        let (mut one, mut two) = (store.pool.acquire().await.unwrap(), store.pool.acquire().await.unwrap());
        for connection in [&mut one, &mut two] {
            let mode: String =
                sqlx::query("PRAGMA journal_mode").fetch_one(&mut **connection).await.unwrap().get(0);
            assert_eq!(mode, "wal");
            let level: i64 =
                sqlx::query("PRAGMA synchronous").fetch_one(&mut **connection).await.unwrap().get(0);
            assert_eq!(level, 2, "FULL");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn only_the_owner_reads_the_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store.db");
        let _store = Sqlite::open(&path).await.unwrap();
        for file in [&path, &folder.path().join("store.db-wal")] {
            let mode = std::fs::metadata(file).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{}", file.display());
        }
    }
}
