//! The formats of the file, and the way from each to the next.
//!
//! Invariant: a step and the format's new number are one transaction, so that a crash between two steps is
//! where the next start goes on. A format that is newer than the newest step is refused, never guessed at.

use std::path::Path;

use sqlx::Row;
use sqlx::sqlite::SqlitePool;
use types::InstallationId;

use super::{failed, parsed};
use crate::Error;

/// Step `n` (from 1) leads from format `n - 1` to `n`; format 0 is an empty file. A step never changes once it
/// was released.
const STEPS: &[&[&str]] = &[&[
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE documents (
         workspace TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
         revision INTEGER NOT NULL, body TEXT NOT NULL,
         PRIMARY KEY (workspace, kind, name)
     ) STRICT, WITHOUT ROWID",
    "CREATE TABLE versions (
         owner TEXT NOT NULL, number INTEGER NOT NULL, body TEXT NOT NULL,
         PRIMARY KEY (owner, number)
     ) STRICT, WITHOUT ROWID",
    "INSERT INTO meta VALUES ('sequence', '0')",
]];

/// The newest format that is known.
#[expect(clippy::cast_possible_wrap, reason = "steps are counted on fingers")]
pub const FORMAT: i64 = STEPS.len() as i64;

/// Brings the file to [`FORMAT`]; gives who it is and where its sequence stands.
pub(super) async fn run(pool: &SqlitePool, path: &Path) -> Result<(InstallationId, u64), Error> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed("begin a migration"))?;
    // In the file's header, so that it can be asked before any table is known.
    let row =
        sqlx::query("PRAGMA user_version").fetch_one(&mut *tx).await.map_err(failed("read its format"))?;
    let found: i64 = row.try_get(0).map_err(failed("read its format"))?;
    if found > FORMAT {
        return Err(Error::NewerFormat { path: path.display().to_string(), found, known: FORMAT });
    }
    let done = usize::try_from(found).map_err(|_| Error::Corrupt { what: format!("format {found}") })?;
    for statement in STEPS.iter().skip(done).flat_map(|step| step.iter()) {
        sqlx::query(*statement).execute(&mut *tx).await.map_err(failed("migrate"))?;
    }
    if found < FORMAT {
        // A pragma takes no bound value; this one is a constant number.
        let pragma = format!("PRAGMA user_version = {FORMAT}");
        sqlx::query(sqlx::AssertSqlSafe(pragma)).execute(&mut *tx).await.map_err(failed("set its format"))?;
    }
    let mut meta = async |name: &'static str| {
        let row = sqlx::query("SELECT value FROM meta WHERE name = ?")
            .bind(name)
            .fetch_optional(&mut *tx)
            .await
            .map_err(failed("read who it is"))?;
        row.map(|row| row.try_get::<String, _>(0)).transpose().map_err(failed("read who it is"))
    };
    let (installation, sequence) = (meta("installation").await?, meta("sequence").await?);
    let installation = match installation {
        Some(text) => parsed(&text, "meta installation")?,
        None => {
            let made = InstallationId::new();
            sqlx::query("INSERT INTO meta VALUES ('installation', ?)")
                .bind(made.to_string())
                .execute(&mut *tx)
                .await
                .map_err(failed("write who it is"))?;
            made
        }
    };
    let sequence = sequence.ok_or_else(|| Error::Corrupt { what: "meta has no sequence".into() })?;
    tx.commit().await.map_err(failed("commit a migration"))?;
    Ok((installation, parsed(&sequence, "meta sequence")?))
}
