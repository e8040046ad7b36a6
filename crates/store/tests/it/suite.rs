//! What every backend must do. A backend calls [`run`] with an empty store.

use std::sync::Arc;

use resources::Kind;
use serde_json::{Value, json};
use store::{DOCUMENT_BYTES_MAX, Error, Expected, Key, LIST_MAX, Query, Store};
use types::Uid;

/// All cases, over one store: each uses a workspace of its own.
pub(crate) async fn run(store: Arc<dyn Store>) {
    documents_are_compared_and_set(&*store).await;
    revisions_are_never_used_twice(&*store).await;
    of_many_writers_one_wins(Arc::clone(&store)).await;
    lists_are_ordered_bounded_and_go_on(&*store).await;
    versions_never_change(&*store).await;
    the_sequence_rises_with_every_write(&*store).await;
    what_is_too_large_is_refused(&*store).await;
}

fn topic(workspace: &str, name: &str) -> Key {
    Key::new(workspace, Kind::Topic, name)
}

fn current(error: Error) -> Option<u64> {
    match error {
        Error::Conflict { current } => current,
        other => panic!("no conflict: {other}"),
    }
}

async fn documents_are_compared_and_set(store: &dyn Store) {
    let key = topic("cas", "a");
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert_eq!(current(store.put(&key, Expected::Revision(1), &json!(1)).await.unwrap_err()), None);
    assert_eq!(current(store.delete(&key, 1).await.unwrap_err()), None);

    let first = store.put(&key, Expected::Absent, &json!({"ü": [1, null, "'\";\u{0}"]})).await.unwrap();
    let document = store.get(&key).await.unwrap().unwrap();
    assert_eq!((document.revision, document.key.clone()), (first, key.clone()));
    assert_eq!(document.body, json!({"ü": [1, null, "'\";\u{0}"]}));
    // The same name elsewhere is another document.
    assert_eq!(store.get(&Key::new("cas", Kind::Pipeline, "a")).await.unwrap(), None);
    assert_eq!(store.get(&topic("cas2", "a")).await.unwrap(), None);

    assert_eq!(current(store.put(&key, Expected::Absent, &json!(2)).await.unwrap_err()), Some(first));
    let second = store.put(&key, Expected::Revision(first), &json!(2)).await.unwrap();
    assert!(second > first);
    assert_eq!(
        current(store.put(&key, Expected::Revision(first), &json!(3)).await.unwrap_err()),
        Some(second)
    );
    assert_eq!(current(store.delete(&key, first).await.unwrap_err()), Some(second));
    assert_eq!(store.get(&key).await.unwrap().unwrap().body, json!(2));
    store.delete(&key, second).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), None);
}

async fn revisions_are_never_used_twice(store: &dyn Store) {
    let key = topic("again", "a");
    let first = store.put(&key, Expected::Absent, &json!(1)).await.unwrap();
    store.delete(&key, first).await.unwrap();
    let second = store.put(&key, Expected::Absent, &json!(1)).await.unwrap();
    assert_ne!(first, second, "an old If-Match would match a new document");
}

async fn of_many_writers_one_wins(store: Arc<dyn Store>) {
    const WRITERS: u64 = 16;
    let key = topic("race", "counter");
    store.put(&key, Expected::Absent, &json!(0)).await.unwrap();
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let (store, key) = (Arc::clone(&store), key.clone());
        writers.push(tokio::spawn(async move {
            loop {
                let document = store.get(&key).await.unwrap().unwrap();
                let next = json!(document.body.as_u64().unwrap() + 1);
                match store.put(&key, Expected::Revision(document.revision), &next).await {
                    Ok(_) => break,
                    Err(Error::Conflict { .. }) => tokio::task::yield_now().await,
                    Err(other) => panic!("{other}"),
                }
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(store.get(&key).await.unwrap().unwrap().body, json!(WRITERS), "no update is lost");
}

async fn lists_are_ordered_bounded_and_go_on(store: &dyn Store) {
    let mut keys = Vec::new();
    for workspace in ["list-b", "list-a"] {
        for kind in [Kind::Topic, Kind::Connector] {
            for name in ["c", "a", "b", "B"] {
                keys.push(Key::new(workspace, kind, name));
                store.put(keys.last().unwrap(), Expected::Absent, &json!(name)).await.unwrap();
            }
        }
    }
    keys.sort_by_key(|key| (key.workspace.clone(), key.kind.as_str(), key.name.clone()));
    let mut seen = Vec::new();
    let mut after = Some(Key::new("list-", Kind::Workspace, ""));
    loop {
        let query = Query { after, limit: 3, ..Query::default() };
        let page = store.list(query).await.unwrap();
        assert!(page.len() <= 3);
        let page: Vec<Key> =
            page.into_iter().map(|d| d.key).filter(|key| key.workspace.starts_with("list-")).collect();
        let Some(last) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page);
    }
    assert_eq!(seen, keys);
    let of = async |workspace: Option<&str>, kind| {
        let query = Query { workspace: workspace.map(String::from), kind, after: None, limit: LIST_MAX + 1 };
        store.list(query).await.unwrap().len()
    };
    assert_eq!(of(Some("list-a"), None).await, 8);
    assert_eq!(of(Some("list-a"), Some(Kind::Topic)).await, 4);
    assert_eq!(of(Some("list-a"), Some(Kind::Pipeline)).await, 0);
    assert_eq!(of(None, Some(Kind::Connector)).await, 8);
}

async fn versions_never_change(store: &dyn Store) {
    let (owner, other) = (Uid::new(), Uid::new());
    for number in 1..=3 {
        store.put_version(owner, number, &json!({"n": number})).await.unwrap();
    }
    store.put_version(owner, 2, &json!({"n": 2})).await.unwrap();
    let error = store.put_version(owner, 2, &json!({"n": 9})).await.unwrap_err();
    assert!(matches!(error, Error::VersionExists { number: 2 }), "{error}");
    assert_eq!(store.version(owner, 2).await.unwrap(), Some(json!({"n": 2})));
    assert_eq!(store.version(owner, 4).await.unwrap(), None);
    assert_eq!(store.version(other, 1).await.unwrap(), None);
    let numbers: Vec<u32> = store.versions(owner, 2).await.unwrap().into_iter().map(|(n, _)| n).collect();
    assert_eq!(numbers, [3, 2]);
    store.put_version(other, 1, &Value::Null).await.unwrap();
    store.delete_versions(owner).await.unwrap();
    assert_eq!(store.versions(owner, LIST_MAX).await.unwrap(), []);
    assert_eq!(store.versions(other, LIST_MAX).await.unwrap(), [(1, Value::Null)]);
}

async fn the_sequence_rises_with_every_write(store: &dyn Store) {
    let mut watch = store.watch();
    let key = topic("sequence", "a");
    let before = store.sequence().await.unwrap();
    watch.mark_unchanged();
    let revision = store.put(&key, Expected::Absent, &json!(1)).await.unwrap();
    let between = store.sequence().await.unwrap();
    assert!(between > before && watch.has_changed().unwrap() && *watch.borrow_and_update() == between);
    assert!(store.put(&key, Expected::Absent, &json!(1)).await.is_err());
    assert_eq!(store.sequence().await.unwrap(), between, "a refused write is no write");
    store.delete(&key, revision).await.unwrap();
    assert!(store.sequence().await.unwrap() > between && watch.has_changed().unwrap());
}

async fn what_is_too_large_is_refused(store: &dyn Store) {
    let large = json!("x".repeat(DOCUMENT_BYTES_MAX));
    let error = store.put(&topic("large", "a"), Expected::Absent, &large).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { bytes } if bytes == DOCUMENT_BYTES_MAX + 2), "{error}");
    assert_eq!(store.get(&topic("large", "a")).await.unwrap(), None);
}
