//! The store as it was at one moment, with what a plan would have written on top.
//!
//! Invariant: nothing goes to the store. Documents are read once; versions never change and are read as they are needed.

use std::collections::BTreeMap;

use resources::{Kind, Resource, WorkspaceSpec};
use serde_json::{Value, json};
use store::{Document, Key, LIST_MAX, Pending, Query, Read, Store};
use types::Uid;

use super::body;
use crate::Error;
use crate::control::new;
use crate::resource::resource;

/// Workspace, kind by its name, name: a store's order.
type Place = (String, &'static str, String);

pub(super) struct Snapshot<'a> {
    store: &'a dyn Store,
    documents: BTreeMap<Place, Document>,
    /// Those that aren't in the store.
    versions: BTreeMap<(Uid, u32), Value>,
}

fn place(key: &Key) -> Place {
    (key.workspace.clone(), key.kind.as_str(), key.name.clone())
}

impl<'a> Snapshot<'a> {
    pub(super) async fn of(store: &'a dyn Store) -> Result<Self, Error> {
        let mut documents = BTreeMap::new();
        let mut after = None;
        loop {
            let page = store.list(Query { after, limit: LIST_MAX, ..Query::default() }).await?;
            let complete = page.len() < LIST_MAX;
            after = page.last().map(|document| document.key.clone());
            documents.extend(page.into_iter().map(|document| (place(&document.key), document)));
            if complete {
                return Ok(Self { store, documents, versions: BTreeMap::new() });
            }
        }
    }

    pub(super) fn resource(&self, key: &Key) -> Result<Option<Resource>, Error> {
        self.documents.get(&place(key)).map(resource).transpose()
    }

    /// All of them.
    pub(super) fn resources(&self) -> Result<Vec<(Key, Resource)>, Error> {
        self.documents.values().map(|document| Ok((document.key.clone(), resource(document)?))).collect()
    }

    /// What a source owns.
    pub(super) fn owned_by(&self, source: &str) -> Result<Vec<(Key, Resource)>, Error> {
        let owner = |document: &&Document| {
            document.body.pointer("/metadata/managedBy").and_then(Value::as_str) == Some(source)
        };
        let owned = self.documents.values().filter(owner);
        owned.map(|document| Ok((document.key.clone(), resource(document)?))).collect()
    }

    /// As if it had been written. `revision`: of the document that is there.
    pub(super) fn put(
        &mut self,
        key: &Key,
        revision: Option<u64>,
        written: &Resource,
        new_version: Option<(u32, Value)>,
        new_workspace: bool,
    ) {
        if new_workspace {
            let key = Key::new(&key.workspace, Kind::Workspace, &key.workspace);
            let spec = resources::Spec::Workspace(WorkspaceSpec::default()).to_value();
            let made = new(&key, spec, json!({}), BTreeMap::new());
            self.documents.insert(place(&key), Document { key, revision: 0, body: body(&made) });
        }
        if let Some((number, version)) = new_version {
            self.versions.insert((written.metadata.uid, number), version);
        }
        let document = Document { key: key.clone(), revision: revision.unwrap_or(0), body: body(written) };
        self.documents.insert(place(key), document);
    }
}

impl Read for Snapshot<'_> {
    fn get<'b>(&'b self, key: &'b Key) -> Pending<'b, Option<Document>> {
        Box::pin(async move { Ok(self.documents.get(&place(key)).cloned()) })
    }

    fn list(&self, query: Query) -> Pending<'_, Vec<Document>> {
        let Query { workspace, kind, after, limit } = query;
        let from =
            after.as_ref().map_or(std::ops::Bound::Unbounded, |key| std::ops::Bound::Excluded(place(key)));
        let found = self.documents.range((from, std::ops::Bound::Unbounded)).map(|(_, document)| document);
        let found = found
            .filter(|document| {
                workspace.as_ref().is_none_or(|workspace| *workspace == document.key.workspace)
            })
            .filter(|document| kind.is_none_or(|kind| kind == document.key.kind));
        let found = found.take(limit.min(LIST_MAX)).cloned().collect();
        Box::pin(async move { Ok(found) })
    }

    fn version(&self, owner: Uid, number: u32) -> Pending<'_, Option<Value>> {
        Box::pin(async move {
            match self.versions.get(&(owner, number)) {
                Some(version) => Ok(Some(version.clone())),
                None => self.store.version(owner, number).await,
            }
        })
    }

    fn versions(&self, owner: Uid, limit: usize) -> Pending<'_, Vec<(u32, Value)>> {
        Box::pin(async move {
            let added = self.versions.range((owner, 0)..=(owner, u32::MAX)).rev();
            let mut all: Vec<_> = added.map(|((_, number), body)| (*number, body.clone())).collect();
            let stored = self.store.versions(owner, limit).await?;
            all.extend(
                stored.into_iter().filter(|(number, _)| !self.versions.contains_key(&(owner, *number))),
            );
            all.truncate(limit.min(LIST_MAX));
            Ok(all)
        })
    }
}
