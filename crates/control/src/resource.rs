//! A resource in the store: the same shape as everywhere, but for its revision, which is the document's.
//!
//! `status` in the store holds facts that can't be found again by looking (a transform's newest version, what
//! a connector is wanted to do). What can be seen is never stored: it is added when a resource is read.

use std::collections::BTreeMap;

use resources::{ConnectorState, Resource, Spec};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::Document;

use crate::Error;
use crate::rollback::{RolledBack, Versions};

/// What is stored in a transform's status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TransformFacts {
    /// The newest version.
    pub(crate) version: u32,
    /// Of its content.
    pub(crate) hash: resources::ContentHash,
}

/// What is stored in a pipeline's or a connector's status: what people asked of it besides its spec. It
/// outlives changes of the spec and restarts of the process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct StageFacts {
    /// Pipelines know no `STOPPED`.
    pub(crate) wanted_state: ConnectorState,
    /// How often a restart was asked for.
    pub(crate) restarts: u64,
    /// Of a pipeline: which versions it was put with, the present ones last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) versions: Vec<Versions>,
    /// Of a pipeline: what it was rolled back from, by `TRANSFORM@VERSION`. It isn't put again by mistake.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) rolled_back: BTreeMap<String, RolledBack>,
}

/// What is stored of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionBody {
    /// Of its content.
    pub(crate) hash: resources::ContentHash,
    /// As it was applied.
    pub(crate) spec: resources::TransformSpec,
}

fn corrupt(what: impl Into<String>) -> Error {
    Error::Store(store::Error::Corrupt { what: what.into() })
}

/// Reads a document.
pub(crate) fn resource(document: &Document) -> Result<Resource, Error> {
    let named = || format!("{} {}/{}", document.key.kind, document.key.workspace, document.key.name);
    let mut resource: Resource = serde_json::from_value(document.body.clone())
        .map_err(|error| corrupt(format!("{}: {error}", named())))?;
    resource.metadata.revision = document.revision;
    Ok(resource)
}

/// Reads a resource's spec.
pub(crate) fn spec(resource: &Resource) -> Result<Spec, Error> {
    Spec::decode(resource.kind, &resource.spec).map_err(|problems| {
        corrupt(format!(
            "{} {}/{}: {problems}",
            resource.kind, resource.metadata.workspace, resource.metadata.name
        ))
    })
}

/// Reads the stored part of a status.
pub(crate) fn facts<T: serde::de::DeserializeOwned>(resource: &Resource) -> Result<T, Error> {
    serde_json::from_value(resource.status.clone())
        .map_err(|error| corrupt(format!("status of {} {}: {error}", resource.kind, resource.metadata.name)))
}

/// Reads a stored version.
pub(crate) fn version(body: Value) -> Result<VersionBody, Error> {
    serde_json::from_value(body).map_err(|error| corrupt(format!("a transform's version: {error}")))
}

/// As it is written: without the revision, which the write makes.
pub(crate) fn body(resource: &Resource) -> Value {
    let mut resource = resource.clone();
    resource.metadata.revision = 0;
    serde_json::to_value(resource).expect("resources have string keys and no failing serializer")
}
