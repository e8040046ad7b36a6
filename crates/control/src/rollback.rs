//! Which versions a pipeline was put with, since when, and going back to earlier ones.
//!
//! Invariants: the last of the versions that are kept are those of the spec; two that follow one another differ. Going
//! back is a write like any other: a new generation, kept too, so that what happened is never hidden. A version that was
//! rolled back comes into force again only by somebody who says that it shall: a folder that is applied over and over doesn't
//! undo what was done at night.

use std::collections::BTreeMap;

use jiff::Timestamp;
use resources::{Resource, Spec, TransformRef};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::Key;

use crate::control::not_found;
use crate::resource::{StageFacts, facts, resource, spec};
use crate::{Control, Error, Precondition, Put, Write};

/// How many sets of versions of a pipeline are kept; the oldest goes first.
const KEPT_MAX: usize = 50;

/// Bytes of the reason that somebody gives for going back.
const REASON_BYTES_MAX: usize = 1000;

/// What going back is asked for with.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RollBack {
    /// One at which the versions were in force that are wanted; the ones before the present ones where it isn't said.
    pub generation: Option<u64>,
    /// Why, for whoever reads of it later; at most 1,000 bytes.
    pub reason: Option<String>,
}

/// The versions of a pipeline's steps, from one write on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Versions {
    /// The pipeline's generation that first had them.
    pub(crate) generation: u64,
    /// When it was put; a runtime takes it up at its next batch.
    pub(crate) since: Timestamp,
    /// `TRANSFORM@VERSION` by step that is a transform; what other steps do stands in the pipeline itself.
    pub(crate) steps: BTreeMap<String, String>,
}

impl Versions {
    /// Those of a pipeline as it is put.
    fn of(resource: &Resource) -> Result<Option<Self>, Error> {
        let Spec::Pipeline(pipeline) = spec(resource)? else { return Ok(None) };
        let version =
            |version: Option<resources::VersionRef>| version.map(|v| v.to_string()).unwrap_or_default();
        let steps = pipeline
            .steps
            .iter()
            .filter_map(|step| {
                let TransformRef { transform, version: number } = step.kind.transform()?;
                Some((step.name.clone(), format!("{transform}@{}", version(*number))))
            })
            .collect();
        let Resource { metadata, .. } = resource;
        Ok(Some(Self { generation: metadata.generation, since: metadata.updated_at, steps }))
    }

    /// `step: transform@version, ...`
    fn text(&self) -> String {
        self.steps.iter().map(|(step, version)| format!("{step}: {version}")).collect::<Vec<_>>().join(", ")
    }
}

/// Where a write takes a pipeline's versions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Rollout {
    /// On; a version that it was rolled back from is refused.
    #[default]
    Forward,
    /// On, also to a version that it was rolled back from.
    Retry,
    /// Back; what it had isn't put again by mistake.
    Back {
        /// For people.
        reason: String,
    },
}

/// When and why a version was taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RolledBack {
    pub(crate) at: Timestamp,
    pub(crate) reason: String,
}

/// Notes in a pipeline's status what it is put with now, and holds that against what it was rolled back from. `before`: as it
/// was. Warnings.
pub(crate) fn note(
    resource: &mut Resource,
    before: Option<&Resource>,
    rollout: &Rollout,
) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    let Some(now) = Versions::of(resource)? else { return Ok(warnings) };
    let before = before.map(Versions::of).transpose()?.flatten();
    let mut kept: StageFacts = facts(resource)?;
    let stored = kept.clone();
    let had =
        |version: &String| before.as_ref().is_some_and(|before| before.steps.values().any(|v| v == version));
    for version in now.steps.values().filter(|version| !had(version)) {
        let Some(RolledBack { at, reason }) = kept.rolled_back.remove(version) else { continue };
        match rollout {
            Rollout::Forward => {
                return Err(Error::Conflict(format!(
                    "{version} was rolled back at {at:.0} ({reason}): change the transform, or put it again with \
                     `--retry-rollout` (?retryRollout=true)"
                )));
            }
            Rollout::Retry => {
                warnings.push(format!("{version}, rolled back at {at:.0} ({reason}), is tried again"))
            }
            Rollout::Back { .. } => {}
        }
    }
    if let (Rollout::Back { reason }, Some(before)) = (rollout, &before) {
        for version in before.steps.values().filter(|&v| now.steps.values().all(|kept| kept != v)) {
            let rolled_back = RolledBack { at: now.since, reason: reason.clone() };
            kept.rolled_back.insert(version.clone(), rolled_back);
        }
        while kept.rolled_back.len() > KEPT_MAX {
            let oldest =
                kept.rolled_back.iter().min_by_key(|(_, v)| v.at).map(|(version, _)| version.clone());
            oldest.and_then(|version| kept.rolled_back.remove(&version));
        }
    }
    // What was put before versions were kept is known from the spec that it left.
    let earlier = before.filter(|_| kept.versions.is_empty());
    for versions in earlier.into_iter().chain([now]) {
        if kept.versions.last().is_none_or(|last| last.steps != versions.steps) {
            kept.versions.push(versions);
        }
    }
    let over = kept.versions.len().saturating_sub(KEPT_MAX);
    kept.versions.drain(..over);
    if kept != stored {
        resource.status = serde_json::to_value(kept).expect("words, numbers and maps of text");
    }
    Ok(warnings)
}

impl Control {
    /// Gives a pipeline's steps the versions of an earlier generation: the ones before the present ones where none is named.
    /// They ran before, so that no backtest is asked for. All else of the pipeline stays as it is.
    pub async fn roll_back(
        &self,
        key: &Key,
        RollBack { generation, reason }: RollBack,
        precondition: Precondition,
    ) -> Result<Put, Error> {
        if reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
            return Err(Error::BadRequest(format!("reason: longer than {REASON_BYTES_MAX} bytes")));
        }
        let document = self.store.get(key).await?.ok_or_else(|| not_found(key))?;
        precondition.check(Some(document.revision))?;
        let existing = resource(&document)?;
        let StageFacts { versions, .. } = facts(&existing)?;
        let (_, earlier) = versions.split_last().ok_or_else(|| nothing(key))?;
        let target = match generation {
            None => earlier.last().ok_or_else(|| nothing(key))?,
            // The last one that began at or before it was in force then.
            Some(asked) => match versions.iter().rev().find(|v| v.generation <= asked) {
                Some(found) if asked <= existing.metadata.generation => found,
                _ => {
                    let known: Vec<_> = versions.iter().map(|v| v.generation.to_string()).collect();
                    let known = known.join(", ");
                    return Err(Error::BadRequest(format!(
                        "generation: {asked} is none of pipeline {} whose versions are known; they changed at {known}",
                        key.name
                    )));
                }
            },
        };
        let mut spec = existing.spec.clone();
        let steps = spec["steps"].as_array_mut().into_iter().flatten();
        let steps = steps.filter(|step| step.get("transform").is_some());
        let mut left = target.steps.clone();
        for step in steps {
            let name = step["name"].as_str().unwrap_or_default();
            let reference = left.remove(name).and_then(|v| {
                let (transform, version) = v.rsplit_once('@')?;
                Some((transform.to_owned(), version.parse::<u64>().ok()?))
            });
            let Some((transform, version)) = reference else { return Err(other_steps(key, target)) };
            step["transform"] = json!(transform);
            step["version"] = json!(version);
        }
        if !left.is_empty() {
            return Err(other_steps(key, target));
        }
        let manifest = json!({
            "apiVersion": existing.api_version,
            "kind": existing.kind,
            "metadata": { "name": key.name, "labels": existing.metadata.labels },
            "spec": spec,
        });
        let reason = reason.unwrap_or_else(|| "it was asked for".into());
        let rollout = Rollout::Back { reason };
        let how = Write { skip_backtest: true, rollout, ..Write::default() };
        // By the revision that was looked at: a write in between isn't undone.
        let put = self.put(key, &manifest, Precondition::Revision(document.revision), how).await?;
        tracing::info!(
            workspace = key.workspace,
            pipeline = key.name,
            generation = put.resource.metadata.generation,
            to = target.generation,
            versions = target.text(),
            "rolled back"
        );
        Ok(put)
    }
}

fn nothing(key: &Key) -> Error {
    Error::Conflict(format!(
        "pipeline {} has had no other versions than it has now: there is nothing to go back to",
        key.name
    ))
}

fn other_steps(key: &Key, target: &Versions) -> Error {
    Error::Conflict(format!(
        "pipeline {} had other steps at generation {} ({}): put its manifest of then instead",
        key.name,
        target.generation,
        target.text()
    ))
}
