//! SQLite: the suite, and what is about its file.

use std::sync::Arc;
use std::time::Instant;

use resources::Kind;
use serde_json::json;
use sqlx::{Connection, SqliteConnection};
use store::{Error, Expected, FORMAT, Key, Read, Sqlite, Store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Sqlite::open(&folder.path().join("store.db")).await.unwrap());
    crate::suite::run(store).await;
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let key = Key::new("w", Kind::Topic, "a");
    let store = Sqlite::open(&path).await.unwrap();
    let installation = store.installation();
    let revision = store.put(&key, Expected::Absent, &json!({"a": 1})).await.unwrap();
    // What a crash leaves: the file and its log as they are at this moment, nothing closed.
    let after = folder.path().join("after");
    std::fs::create_dir(&after).unwrap();
    for file in ["store.db", "store.db-wal"] {
        std::fs::copy(folder.path().join(file), after.join(file)).unwrap();
    }
    let again = Sqlite::open(&after.join("store.db")).await.unwrap();
    assert_eq!(again.installation(), installation, "made once");
    assert_eq!(again.get(&key).await.unwrap().unwrap().revision, revision);
    assert_eq!(*again.watch().borrow(), again.sequence().await.unwrap());
}

#[tokio::test]
async fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    Sqlite::open(&path).await.unwrap().close().await.unwrap();
    let mut raw = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
    let pragma = format!("PRAGMA user_version = {}", FORMAT + 1);
    sqlx::query(sqlx::AssertSqlSafe(pragma)).execute(&mut raw).await.unwrap();
    raw.close().await.unwrap();
    let error = Sqlite::open(&path).await.unwrap_err();
    assert!(
        matches!(error, Error::NewerFormat { found, known: FORMAT, .. } if found == FORMAT + 1),
        "{error}"
    );
    assert!(error.to_string().contains("use a newer one"));
}

#[tokio::test]
async fn what_is_no_store_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    std::fs::write(&path, "this is no database, and never was one ".repeat(100)).unwrap();
    assert!(Sqlite::open(&path).await.is_err());
    assert!(Sqlite::open(&folder.path().join("no/folder/store.db")).await.is_err());
}

/// The whole platform is ready within a second; the store's share of it is small.
#[tokio::test]
async fn opening_is_quick() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.db");
    let mut quickest = u128::MAX;
    for _ in 0..5 {
        let begun = Instant::now();
        let store = Sqlite::open(&path).await.unwrap();
        quickest = quickest.min(begun.elapsed().as_millis());
        store.close().await.unwrap();
    }
    assert!(quickest < 50, "{quickest} ms");
}
