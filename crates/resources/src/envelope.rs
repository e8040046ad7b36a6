//! The one shape of every resource: `{apiVersion, kind, metadata, spec, status}`, in a manifest, in the API's
//! bodies, in the store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use types::Uid;

use crate::decode::{At, Object};
use crate::problem::{Problems, child};
use crate::{
    API_VERSION, ClientSpec, ConnectorSpec, Kind, PipelineSpec, TopicSpec, TransformSpec, WorkspaceSpec, name,
};

/// Labels of one resource.
pub const LABELS_MAX: usize = 64;

/// Where a folder's manifest belongs that names no workspace.
pub const WORKSPACE_DEFAULT: &str = "default";

/// The spec of any kind that people write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Spec {
    /// Of a Workspace.
    Workspace(WorkspaceSpec),
    /// Of a Topic.
    Topic(TopicSpec),
    /// Of a Transform.
    Transform(TransformSpec),
    /// Of a Pipeline.
    Pipeline(PipelineSpec),
    /// Of a Connector.
    Connector(ConnectorSpec),
    /// Of a Client.
    Client(ClientSpec),
}

impl Spec {
    /// Reads a spec; pointers begin at `/spec`.
    pub fn decode(kind: Kind, value: &Value) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let spec = Self::decode_at(kind, &At { value, pointer: "/spec".into() }, &mut problems);
        problems.or(spec)
    }

    fn decode_at(kind: Kind, at: &At<'_>, problems: &mut Problems) -> Option<Self> {
        match kind {
            Kind::Workspace => WorkspaceSpec::decode(at, problems).map(Self::Workspace),
            Kind::Topic => TopicSpec::decode(at, problems).map(Self::Topic),
            Kind::Transform => TransformSpec::decode(at, problems).map(Self::Transform),
            Kind::Pipeline => PipelineSpec::decode(at, problems).map(Self::Pipeline),
            Kind::Connector => ConnectorSpec::decode(at, problems).map(Self::Connector),
            Kind::Client => ClientSpec::decode(at, problems).map(Self::Client),
            Kind::Redrive => {
                problems.add("/kind", "invalid_value", "a Redrive is a run, begun by the redrive endpoint");
                None
            }
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Workspace(_) => Kind::Workspace,
            Self::Topic(_) => Kind::Topic,
            Self::Transform(_) => Kind::Transform,
            Self::Pipeline(_) => Kind::Pipeline,
            Self::Connector(_) => Kind::Connector,
            Self::Client(_) => Kind::Client,
        }
    }

    /// In its normal form: defaults filled in, durations and sizes as numbers. Equal specs have equal values.
    pub fn to_value(&self) -> Value {
        let value = match self {
            Self::Workspace(spec) => serde_json::to_value(spec),
            Self::Topic(spec) => serde_json::to_value(spec),
            Self::Transform(spec) => serde_json::to_value(spec),
            Self::Pipeline(spec) => serde_json::to_value(spec),
            Self::Connector(spec) => serde_json::to_value(spec),
            Self::Client(spec) => serde_json::to_value(spec),
        };
        value.expect("specs have string keys and no failing serializer")
    }
}

/// Who a resource is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// By the rules of its kind.
    pub name: String,
    /// The tenant; of a Workspace, its own name; of a Client, which belongs to none, empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workspace: String,
    /// Free text by free name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Made once, at its creation.
    pub uid: Uid,
    /// Rises with every write of it, also of its status; what `If-Match` names.
    pub revision: u64,
    /// Rises with every change of what is wanted: of the spec, and by pause, resume, stop and restart.
    pub generation: u64,
    /// Who changes it: `api`, `console`, or a GitOps source.
    pub managed_by: String,
    /// RFC 3339.
    pub created_at: jiff::Timestamp,
    /// RFC 3339.
    pub updated_at: jiff::Timestamp,
}

/// A resource as the API answers it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resource {
    /// [`API_VERSION`].
    pub api_version: String,
    /// The kind.
    pub kind: Kind,
    /// Who it is.
    pub metadata: Metadata,
    /// What is wanted, in its normal form.
    pub spec: Value,
    /// What is; `null` before anybody looked.
    #[serde(default)]
    pub status: Value,
}

/// Who reads a manifest, which decides what may stand in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A file that a person keeps: what belongs to the server (`status`, `metadata.uid`, ...) is a mistake in it.
    File,
    /// A body of the API: read, changed and put back, so what belongs to the server is ignored.
    Api,
}

/// A resource as a person writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// By the rules of its kind.
    pub name: String,
    /// `None`: where it is applied says it.
    pub workspace: Option<String>,
    /// Free text by free name.
    pub labels: BTreeMap<String, String>,
    /// The spec, and with it the kind.
    pub spec: Spec,
}

impl Manifest {
    /// Reads a manifest; every problem is reported with its pointer.
    pub fn decode(value: &Value, origin: Origin) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let manifest = Self::decode_at(&At { value, pointer: String::new() }, origin, &mut problems);
        problems.or(manifest)
    }

    fn decode_at(at: &At<'_>, origin: Origin, problems: &mut Problems) -> Option<Self> {
        let mut object = at.object(problems)?;
        if let Some(version) = object.required("apiVersion", problems) {
            version.word(&[(API_VERSION, ())], problems);
        }
        let kind = object.required("kind", problems).and_then(|at| at.read::<Kind>(problems));
        let metadata =
            object.required("metadata", problems).and_then(|at| metadata(&at, kind, origin, problems));
        let null = Value::Null;
        let spec_at = object.field("spec");
        let spec = match (kind, &spec_at) {
            (Some(kind), Some(at)) => Spec::decode_at(kind, at, problems),
            // Nothing in it is needed by some kinds: `{}` is what an absent spec means.
            (Some(kind @ (Kind::Workspace | Kind::Topic)), None) => {
                let empty = json!({});
                Spec::decode_at(kind, &At { value: &empty, pointer: "/spec".into() }, problems)
            }
            _ => {
                if spec_at.is_none() {
                    problems.add("/spec", "missing_field", "spec is missing");
                }
                None
            }
        };
        if origin == Origin::Api {
            drop(object.field("status"));
        } else if at.value.get("status").is_some_and(|status| *status != null) {
            drop(object.field("status"));
            problems.add("/status", "unknown_field", "status is the server's: it is no part of a manifest");
        }
        object.finish(problems);
        let (name, workspace, labels) = metadata?;
        Some(Self { name, workspace, labels, spec: spec? })
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.spec.kind()
    }

    /// As a body of the API.
    pub fn to_value(&self) -> Value {
        let mut metadata = json!({ "name": self.name });
        if let Some(workspace) = &self.workspace {
            metadata["workspace"] = json!(workspace);
        }
        if !self.labels.is_empty() {
            metadata["labels"] = json!(self.labels);
        }
        json!({
            "apiVersion": API_VERSION,
            "kind": self.kind(),
            "metadata": metadata,
            "spec": self.spec.to_value(),
        })
    }
}

type NameWorkspaceLabels = (String, Option<String>, BTreeMap<String, String>);

fn metadata(
    at: &At<'_>,
    kind: Option<Kind>,
    origin: Origin,
    problems: &mut Problems,
) -> Option<NameWorkspaceLabels> {
    let mut object = at.object(problems)?;
    let label = |at: At<'_>, problems: &mut Problems| {
        at.parsed(problems, |text| name(text).map(|()| text.to_owned()))
    };
    let named = object.required("name", problems).and_then(|at| match kind {
        Some(kind) => at.parsed(problems, |text| kind.check_name(text).map(|()| text.to_owned())),
        None => at.text(problems).map(String::from),
    });
    let workspace_at = object.field("workspace");
    let workspace = workspace_at.and_then(|at| label(at, problems));
    if let (Some(Kind::Workspace), Some(named), Some(workspace)) = (kind, &named, &workspace)
        && named != workspace
    {
        problems.add(
            child(&at.pointer, "workspace"),
            "conflict",
            format!("a Workspace belongs to none: leave it out, or write its own name, {named}"),
        );
    }
    if let (Some(Kind::Client), Some(_)) = (kind, &workspace) {
        problems.add(
            child(&at.pointer, "workspace"),
            "conflict",
            "a Client belongs to no workspace: leave it out, and name those that it may work in in spec.workspaces",
        );
    }
    let labels = object.field("labels").and_then(|at| labels(&at, problems)).unwrap_or_default();
    servers_fields(&mut object, at, origin, problems);
    object.finish(problems);
    Some((named?, workspace, labels))
}

fn labels(at: &At<'_>, problems: &mut Problems) -> Option<BTreeMap<String, String>> {
    let labels = at.scalars(LABELS_MAX, problems)?;
    for (name, value) in &labels {
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
        if name.is_empty() || name.len() > 128 || value.len() > 256 || !plain(name) {
            problems.invalid(
                child(&at.pointer, name),
                "a label's name has 1 to 128 characters of letters, digits, \"-\", \"_\", \".\" and \"/\", its value at \
                 most 256 bytes",
            );
        }
    }
    Some(labels)
}

fn servers_fields(object: &mut Object<'_>, at: &At<'_>, origin: Origin, problems: &mut Problems) {
    for field in ["uid", "revision", "generation", "managedBy", "createdAt", "updatedAt"] {
        if at.value.get(field).is_none() {
            continue;
        }
        drop(object.field(field));
        if origin == Origin::File {
            problems.add(
                child(&at.pointer, field),
                "unknown_field",
                format!("{field} is the server's: it is no part of a manifest"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic() -> Value {
        json!({
            "apiVersion": "vltava/v1",
            "kind": "Topic",
            "metadata": {"name": "dev.demo.github.raw", "workspace": "demo", "labels": {"team": "x"}},
            "spec": {"partitions": 6},
        })
    }

    #[test]
    fn a_manifest_reads_and_reads_back() {
        let manifest = Manifest::decode(&topic(), Origin::File).unwrap();
        assert_eq!((manifest.kind(), manifest.name.as_str()), (Kind::Topic, "dev.demo.github.raw"));
        assert_eq!(Manifest::decode(&manifest.to_value(), Origin::File).unwrap(), manifest);
    }

    #[test]
    fn what_is_the_servers_is_ignored_from_the_api_and_refused_in_a_file() {
        let mut value = topic();
        value["status"] = json!({"state": "Ready"});
        value["metadata"]["revision"] = json!(7);
        assert!(Manifest::decode(&value, Origin::Api).is_ok());
        let problems = Manifest::decode(&value, Origin::File).unwrap_err();
        let places: Vec<&str> = problems.iter().map(|p| p.pointer.as_str()).collect();
        assert_eq!(places, ["/metadata/revision", "/status"]);
    }

    #[test]
    fn every_problem_of_the_envelope_is_collected() {
        let places = |value: Value| -> Vec<String> {
            Manifest::decode(&value, Origin::Api).unwrap_err().into_iter().map(|p| p.pointer).collect()
        };
        assert_eq!(places(json!({})), ["/apiVersion", "/kind", "/metadata", "/spec"]);
        assert_eq!(places(json!([])), [""]);
        let mut value = topic();
        value["apiVersion"] = json!("vltava/v2");
        value["metadata"]["name"] = json!("__x");
        value["metadata"]["workspace"] = json!("De.mo");
        value["specs"] = json!({});
        assert_eq!(places(value), ["/apiVersion", "/metadata/name", "/metadata/workspace", "/specs"]);
        let redrive =
            json!({"apiVersion": "vltava/v1", "kind": "Redrive", "metadata": {"name": "x"}, "spec": {}});
        assert_eq!(places(redrive), ["/kind"]);
        let foreign = json!({"apiVersion": "vltava/v1", "kind": "Workspace",
            "metadata": {"name": "a", "workspace": "b"}});
        assert_eq!(places(foreign), ["/metadata/workspace"]);
    }
}
