//! Resources: what people write down, and what runtimes are told to run. No I/O.
//!
//! Invariant: a spec that exists as a type is valid by itself; manifests that aren't are refused with every
//! problem at once, each with a JSON pointer and, where it came from YAML, the line. What needs other
//! resources or the engine (does the topic exist? whose is it?) is the control plane's to check.
//!
//! It knows no store, no engine and no HTTP.

mod client;
mod connector;
pub mod decode;
mod envelope;
mod folder;
pub mod format;
mod hash;
mod name;
mod percent;
mod pipeline;
mod plan;
mod problem;
pub mod reference;
mod rollout;
mod spec;
mod step;
mod topic;
mod topic_table;
mod transform;
mod workspace;
mod yaml;
mod yaml_text;

pub use client::{
    CLIENT_TOPICS_MAX, CLIENT_WORKSPACES_MAX, ClientSpec, TOKEN_LIFETIME_DEFAULT_S, TOKEN_LIFETIME_MAX_S,
};
pub use connector::{CONFIG_VALUE_BYTES_MAX, ConnectorSpec, TASKS_MAX};
pub use envelope::{LABELS_MAX, Manifest, Metadata, Origin, Resource, Spec, WORKSPACE_DEFAULT};
pub use folder::{MANIFESTS_MAX, Place, Placed, PlacedProblem, folder, is_manifest};
pub use hash::{ContentHash, ContentHashError};
pub use name::{
    API_VERSION, Kind, KindError, NAME_LENGTH_MAX, NameError, SOURCE_LENGTH_MAX, UNOWNED, VersionError,
    VersionRef, Versioned, VersionedError, check_source, name,
};
pub use percent::{Percent, PercentError};
pub use pipeline::{
    Guarantee, KEY_EXPRESSION_BYTES_MAX, PARALLELISM_MAX, PipelineSpec, SOURCES_MAX, STEPS_MAX, TargetSpec,
};
pub use plan::{ConnectorPlan, ConnectorState, PipelinePlan, Source, StageTopics};
pub use problem::{Problem, Problems};
pub use rollout::{
    Most, MostError, REQUIRED_LAST_DEFAULT, REQUIRED_LAST_MAX, RequiredBacktest, Requirement, RolloutSpec,
};
pub use spec::{Arrays, IngestSpec, OnError, StartFrom, StartFromError};
pub use step::{
    HEADER_NAME_BYTES_MAX, HeadersSpec, REDACT_PATH_BYTES_MAX, REDACT_PATH_DEPTH_MAX, REDACT_PATHS_MAX,
    ROUTE_TOPICS_MAX, RedactSpec, RedactWith, RouteSpec, SCHEMA_BYTES_MAX, STEP_EXPRESSION_BYTES_MAX,
    STEP_HEADERS_MAX, SampleBy, SampleSpec, StepKind, StepPlan, StepSpec, TransformPlan, TransformRef,
    ValidateSpec,
};
pub use topic::{
    CONFIG_ENTRIES_MAX, MAX_MESSAGE_BYTES_DEFAULT, PARTITIONS_DEFAULT, PARTITIONS_MAX, TopicSpec,
};
pub use topic_table::{TopicEntry, TopicTable};
pub use transform::{EXPRESSION_BYTES_MAX, Language, TESTS_MAX, TransformSpec, TransformTest};
pub use workspace::{AllowedReferences, TopicNaming, WorkspaceSpec};
pub use yaml::{ALIAS_EVENTS_MAX, DEPTH_MAX, DOCUMENTS_MAX, FILE_BYTES_MAX, NODES_MAX};
