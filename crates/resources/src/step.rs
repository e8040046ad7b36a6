//! The steps of a pipeline: what each does to a record.
//!
//! Invariant: a step is of exactly one kind, and all that can be known of it without other resources is right: names of
//! headers can be written, lists aren't empty. Expressions are texts here: the control plane compiles them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use types::{Headers, TopicName, names};

use crate::decode::{At, Object};
use crate::problem::{Problems, child};
use crate::{ContentHash, Percent, VersionRef, Versioned, name};

/// The longest JSONata that stands in a pipeline itself, in bytes: a filter, a key, a header. Longer ones are transforms.
pub const STEP_EXPRESSION_BYTES_MAX: usize = 16 << 10;

/// Headers that one step sets, and headers that it drops.
pub const STEP_HEADERS_MAX: usize = 64;

/// A header's name, in bytes.
pub const HEADER_NAME_BYTES_MAX: usize = 256;

/// Topics of one route.
pub const ROUTE_TOPICS_MAX: usize = 64;

/// Paths of one redaction.
pub const REDACT_PATHS_MAX: usize = 64;

/// The longest path, in bytes.
pub const REDACT_PATH_BYTES_MAX: usize = 1024;

/// Names and indices of a path.
pub const REDACT_PATH_DEPTH_MAX: usize = 32;

/// A schema that stands in a pipeline, as JSON without white space, in bytes.
pub const SCHEMA_BYTES_MAX: usize = 256 << 10;

/// What a step does. `T` is how a transform is named: as a manifest does ([`TransformRef`]), or whole ([`crate::TransformPlan`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum StepKind<T> {
    /// The value becomes what the expression of a transform's version gives; nothing: the record is dropped.
    Transform(T),
    /// JSONata over the value: `true` lets the record pass, `false` drops it, anything else fails.
    Filter(String),
    /// JSONata over the value that gives the record's key: a text, a number or a boolean; `null` takes the key away.
    Key(String),
    /// Sets and drops headers.
    Headers(HeadersSpec),
    /// Hides parts of the value.
    Redact(RedactSpec),
    /// Lets a share of the records pass, and drops the others.
    Sample(SampleSpec),
    /// Lets records pass whose value a schema allows; the others fail.
    Validate(ValidateSpec),
    /// Chooses the topic that the record goes to.
    Route(RouteSpec),
}

/// Where records go instead of the pipeline's target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteSpec {
    /// The topics that it may choose besides the pipeline's target; at least one.
    pub topics: Vec<TopicName>,
    /// JSONata over the value that gives the name of one of them, or of the target; `null`: the target.
    pub to: String,
}

/// What is hidden. A value of another shape than a path fails, so that nothing slips through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RedactSpec {
    /// JSON pointers (RFC 6901) into the value, in which `*` is any name or index; at least one. What isn't there is no error.
    pub paths: Vec<String>,
    /// What becomes of it.
    #[serde(default)]
    pub with: RedactWith,
}

/// What becomes of what is hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RedactWith {
    /// `"***"` stands in its place, whatever it was.
    #[default]
    Mask,
    /// It is taken away; an array gets shorter.
    Drop,
}

/// Which records pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SampleSpec {
    /// How many.
    pub percent: Percent,
    /// By what they are chosen.
    #[serde(default)]
    pub by: SampleBy,
}

/// By what the records of a sample are chosen: always the same ones, also when they are read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SampleBy {
    /// All records of a key, or none; one without a key by its place.
    #[default]
    Key,
    /// Each record by its place: topic, partition and offset.
    Record,
}

/// What a value must be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValidateSpec {
    /// JSON Schema: an object, or `true` or `false`. References lead into the schema itself.
    pub schema: Value,
}

/// What is done with a record's headers: first dropped, then set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HeadersSpec {
    /// By name, JSONata over the value: a text, a number or a boolean takes the place of every header of that name, `null`
    /// takes them away.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub set: BTreeMap<String, String>,
    /// Names, as they are written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
}

/// A transform as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransformRef {
    /// The transform's name.
    pub transform: String,
    /// `None` in a manifest: the version applied with it. What is stored is a number.
    pub version: Option<VersionRef>,
}

/// A transform at a version, with what it computes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TransformPlan {
    /// The transform's name.
    pub transform: String,
    /// The version, from 1.
    pub version: u32,
    /// Of that version's content.
    pub hash: ContentHash,
    /// JSONata.
    pub expression: String,
}

/// One step of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct StepSpec {
    /// Its name in the pipeline; stands in `x-dlq-stage`.
    pub name: String,
    /// What it does.
    pub kind: StepKind<TransformRef>,
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepPlan {
    /// Its name in the pipeline; stands in `x-dlq-stage`.
    pub name: String,
    /// What it does.
    pub kind: StepKind<TransformPlan>,
}

/// A step as it is written: the kind is the field that is there.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Written {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    transform: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<VersionRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headers: Option<HeadersSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    redact: Option<RedactSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<SampleSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    validate: Option<ValidateSpec>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<RouteSpec>,
}

impl From<StepSpec> for Written {
    fn from(StepSpec { name, kind }: StepSpec) -> Self {
        let step = Self { name, ..Self::default() };
        match kind {
            StepKind::Transform(TransformRef { transform, version }) => {
                Self { transform: Some(transform), version, ..step }
            }
            StepKind::Filter(expression) => Self { filter: Some(expression), ..step },
            StepKind::Key(expression) => Self { key: Some(expression), ..step },
            StepKind::Headers(headers) => Self { headers: Some(headers), ..step },
            StepKind::Redact(redact) => Self { redact: Some(redact), ..step },
            StepKind::Sample(sample) => Self { sample: Some(sample), ..step },
            StepKind::Validate(validate) => Self { validate: Some(validate), ..step },
            StepKind::Route(route) => Self { route: Some(route), ..step },
        }
    }
}

impl TryFrom<Written> for StepSpec {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, &'static str> {
        let Written { name, transform, version, filter, key, headers, redact, sample, validate, route } =
            written;
        let transform = transform.map(|transform| StepKind::Transform(TransformRef { transform, version }));
        let kinds = [
            transform,
            filter.map(StepKind::Filter),
            key.map(StepKind::Key),
            headers.map(StepKind::Headers),
            redact.map(StepKind::Redact),
            sample.map(StepKind::Sample),
            validate.map(StepKind::Validate),
            route.map(StepKind::Route),
        ];
        let mut kinds = kinds.into_iter().flatten();
        match (kinds.next(), kinds.next()) {
            (Some(kind), None) => Ok(Self { name, kind }),
            _ => Err("a step is of exactly one kind"),
        }
    }
}

impl<T> StepKind<T> {
    /// The field that a manifest says it by.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Transform(_) => "transform",
            Self::Filter(_) => "filter",
            Self::Key(_) => "key",
            Self::Headers(_) => "headers",
            Self::Redact(_) => "redact",
            Self::Sample(_) => "sample",
            Self::Validate(_) => "validate",
            Self::Route(_) => "route",
        }
    }

    /// The transform, if it is one.
    pub fn transform(&self) -> Option<&T> {
        match self {
            Self::Transform(transform) => Some(transform),
            _ => None,
        }
    }

    /// The expressions that stand in the step itself, each with its JSON pointer from the step on.
    pub fn expressions(&self) -> Vec<(String, &str)> {
        match self {
            Self::Transform(_) | Self::Redact(_) | Self::Sample(_) | Self::Validate(_) => Vec::new(),
            Self::Filter(expression) | Self::Key(expression) => {
                vec![(format!("/{}", self.word()), expression)]
            }
            Self::Route(RouteSpec { topics: _, to }) => vec![("/route/to".into(), to)],
            Self::Headers(HeadersSpec { set, drop: _ }) => {
                set.iter().map(|(name, expression)| (child("/headers/set", name), &**expression)).collect()
            }
        }
    }

    /// The topics that it may send records to.
    pub fn topics(&self) -> &[TopicName] {
        match self {
            Self::Route(RouteSpec { topics, to: _ }) => topics,
            _ => &[],
        }
    }

    /// The same with the transform named otherwise.
    pub fn try_map<U, E>(&self, map: impl FnOnce(&T) -> Result<U, E>) -> Result<StepKind<U>, E> {
        Ok(match self {
            Self::Transform(transform) => StepKind::Transform(map(transform)?),
            Self::Filter(expression) => StepKind::Filter(expression.clone()),
            Self::Key(expression) => StepKind::Key(expression.clone()),
            Self::Headers(headers) => StepKind::Headers(headers.clone()),
            Self::Redact(redact) => StepKind::Redact(redact.clone()),
            Self::Sample(sample) => StepKind::Sample(sample.clone()),
            Self::Validate(validate) => StepKind::Validate(validate.clone()),
            Self::Route(route) => StepKind::Route(route.clone()),
        })
    }
}

/// Reads a kind from its field.
type Read = fn(&At<'_>, &mut Problems) -> Option<StepKind<TransformRef>>;

/// What a step can be besides a transform, by field.
const KINDS: [(&str, Read); 7] = [
    ("filter", |at, problems| expression(at, problems).map(StepKind::Filter)),
    ("key", |at, problems| expression(at, problems).map(StepKind::Key)),
    ("headers", |at, problems| HeadersSpec::decode(at, problems).map(StepKind::Headers)),
    ("redact", |at, problems| RedactSpec::decode(at, problems).map(StepKind::Redact)),
    ("sample", |at, problems| SampleSpec::decode(at, problems).map(StepKind::Sample)),
    ("validate", |at, problems| ValidateSpec::decode(at, problems).map(StepKind::Validate)),
    ("route", |at, problems| RouteSpec::decode(at, problems).map(StepKind::Route)),
];

impl StepSpec {
    pub(crate) fn decode(at: &At<'_>, problems: &mut Problems) -> Option<Self> {
        let mut object = at.object(problems)?;
        let step = object
            .required("name", problems)
            .and_then(|at| at.parsed(problems, |text| name(text).map(|()| text.to_owned())));
        let mut found: Vec<&str> = Vec::new();
        let mut kind = None;
        let transform = object.field("transform");
        if let Some(at) = &transform {
            found.push("transform");
            kind = transform_ref(at, &mut object, problems).map(StepKind::Transform);
        } else if let Some(at) = object.field("version") {
            problems.add(at.pointer, "conflict", "only a transform has a version");
        }
        for (field, read) in KINDS {
            let Some(at) = object.field(field) else { continue };
            if let Some(first) = found.first() {
                let message =
                    format!("a step does one thing, and this one has {first} too: make two steps of it");
                problems.add(at.pointer.clone(), "conflict", message);
            }
            found.push(field);
            kind = read(&at, problems);
        }
        object.finish(problems);
        if found.is_empty() {
            let known: Vec<_> = KINDS.iter().map(|(field, _)| *field).collect();
            let message = format!("a step needs what it does: transform, or one of {}", known.join(", "));
            problems.add(at.pointer.clone(), "missing_field", message);
        }
        Some(Self { name: step?, kind: kind? })
    }
}

fn transform_ref(at: &At<'_>, object: &mut Object<'_>, problems: &mut Problems) -> Option<TransformRef> {
    let transform = at.read::<Versioned>(problems);
    let version_at = object.field("version");
    let version = version_at.as_ref().and_then(|at| match at.value.as_i64() {
        Some(_) => at
            .integer(1, u32::MAX.into(), problems)
            .and_then(|n| u32::try_from(n).ok())
            .map(VersionRef::Number),
        None => at.read(problems),
    });
    let transform = transform?;
    if let (Some(_), Some(_), Some(at)) = (transform.version, version, version_at) {
        problems.add(
            at.pointer,
            "conflict",
            format!("the version is given twice: in transform ({transform}) and in version"),
        );
    }
    Some(TransformRef { version: version.or(transform.version), transform: transform.name })
}

fn expression(at: &At<'_>, problems: &mut Problems) -> Option<String> {
    at.some_text(STEP_EXPRESSION_BYTES_MAX, problems).map(String::from)
}

impl HeadersSpec {
    fn decode(at: &At<'_>, problems: &mut Problems) -> Option<Self> {
        let mut object = at.object(problems)?;
        let mut set = BTreeMap::new();
        if let Some(at) = object.field("set") {
            let map = at.map(problems)?;
            at.at_most(map.len(), STEP_HEADERS_MAX, problems)?;
            for (name, value) in map {
                let at = At { value, pointer: child(&at.pointer, name) };
                header_name(&at, name, problems);
                if let Some(expression) = expression(&at, problems) {
                    set.insert(name.clone(), expression);
                }
            }
        }
        let mut drop = Vec::new();
        let mut seen = BTreeSet::new();
        for at in object.field("drop").and_then(|at| at.list(STEP_HEADERS_MAX, problems)).unwrap_or_default()
        {
            let Some(name) = at.text(problems) else { continue };
            header_name(&at, name, problems);
            if !seen.insert(name) {
                problems.add(at.pointer.clone(), "duplicate", format!("{name} is dropped twice"));
            }
            drop.push(name.to_owned());
        }
        object.finish(problems);
        if at.value.get("set").is_none() && at.value.get("drop").is_none() {
            problems.add(at.pointer.clone(), "missing_field", "needs set, drop or both");
        }
        Some(Self { set, drop })
    }
}

impl RedactSpec {
    fn decode(at: &At<'_>, problems: &mut Problems) -> Option<Self> {
        let mut object = at.object(problems)?;
        let mut paths = Vec::new();
        if let Some(at) = object.required("paths", problems) {
            let list = at.list(REDACT_PATHS_MAX, problems).unwrap_or_default();
            if list.is_empty() && at.value.as_array().is_some_and(Vec::is_empty) {
                problems.invalid(at.pointer.clone(), "can't be empty: what is to be hidden?");
            }
            for at in list {
                if let Some(path) = at.parsed(problems, redact_path) {
                    paths.push(path);
                }
            }
        }
        let words = [("mask", RedactWith::Mask), ("drop", RedactWith::Drop)];
        let with = object.field("with").and_then(|at| at.word(&words, problems)).unwrap_or_default();
        object.finish(problems);
        Some(Self { paths, with })
    }
}

fn redact_path(text: &str) -> Result<String, String> {
    let escapes = |part: &str| part.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if !text.starts_with('/') || !escapes(text) {
        let shown: String = text.chars().take(80).collect();
        return Err(format!(
            "{shown:?} is no JSON pointer to a part of the value, such as /customer/email or /cards/*/number; ~ is written ~0, and / in a name ~1"
        ));
    }
    if text.len() > REDACT_PATH_BYTES_MAX || text.split('/').count() - 1 > REDACT_PATH_DEPTH_MAX {
        return Err(format!("longer than {REDACT_PATH_BYTES_MAX} bytes or {REDACT_PATH_DEPTH_MAX} names"));
    }
    Ok(text.to_owned())
}

impl SampleSpec {
    fn decode(at: &At<'_>, problems: &mut Problems) -> Option<Self> {
        let mut object = at.object(problems)?;
        let percent = object.required("percent", problems).and_then(|at| {
            Percent::try_from(at.value.clone())
                .map_err(|error| problems.invalid(at.pointer.clone(), error))
                .ok()
        });
        let words = [("key", SampleBy::Key), ("record", SampleBy::Record)];
        let by = object.field("by").and_then(|at| at.word(&words, problems)).unwrap_or_default();
        object.finish(problems);
        Some(Self { percent: percent?, by })
    }
}

impl RouteSpec {
    fn decode(at: &At<'_>, problems: &mut Problems) -> Option<Self> {
        let mut object = at.object(problems)?;
        let mut topics = Vec::new();
        if let Some(at) = object.required("topics", problems) {
            let list = at.list(ROUTE_TOPICS_MAX, problems).unwrap_or_default();
            if list.is_empty() && at.value.as_array().is_some_and(Vec::is_empty) {
                problems.invalid(at.pointer.clone(), "can't be empty: a route needs a topic to choose");
            }
            for at in list {
                let Some(topic) = at.parsed(problems, TopicName::for_caller) else { continue };
                if topics.contains(&topic) {
                    problems.add(at.pointer, "duplicate", format!("{topic} is declared twice"));
                    continue;
                }
                topics.push(topic);
            }
        }
        let to = object.required("to", problems).and_then(|at| expression(&at, problems));
        object.finish(problems);
        Some(Self { topics, to: to? })
    }
}

impl ValidateSpec {
    fn decode(at: &At<'_>, problems: &mut Problems) -> Option<Self> {
        let mut object = at.object(problems)?;
        let schema = object.required("schema", problems).and_then(|at| {
            if !at.value.is_object() && !at.value.is_boolean() {
                problems.add(at.pointer, "wrong_type", "must be a JSON Schema: an object, true or false");
                return None;
            }
            let length = at.value.to_string().len();
            if length > SCHEMA_BYTES_MAX {
                let message = format!("has {length} bytes, but at most {SCHEMA_BYTES_MAX} are allowed");
                problems.invalid(at.pointer, message);
                return None;
            }
            Some(at.value.clone())
        });
        object.finish(problems);
        Some(Self { schema: schema? })
    }
}

/// Checks that a step may write or drop headers of this name.
fn header_name(at: &At<'_>, name: &str, problems: &mut Problems) {
    let why = if name.is_empty() {
        "a header's name can't be empty".to_owned()
    } else if name.len() > HEADER_NAME_BYTES_MAX {
        format!("a header's name of {} bytes: at most {HEADER_NAME_BYTES_MAX} are allowed", name.len())
    } else if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        format!("{name:?} has white space or a control character: a header's name can't")
    } else if Headers::is_reserved(name) {
        format!(
            "{name} is Vltava's own: x-dlq-*, x-origin-*, x-redrive-* and x-transform* are never a step's"
        )
    } else if [names::EVENT_ID, names::CONTENT_TYPE].iter().any(|own| name.eq_ignore_ascii_case(own)) {
        format!("{name} is what Vltava says of every output: no step can change it")
    } else {
        return;
    };
    problems.invalid(at.pointer.clone(), why);
}
