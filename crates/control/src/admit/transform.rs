//! Transforms: a changed content is a new version; a version never changes.

use resources::{Problems, TransformSpec};
use serde_json::{Value, json};

use super::Admission;
use crate::Error;
use crate::resource::{TransformFacts, VersionBody, facts, version};

impl Admission<'_> {
    /// The facts to store, and the version to add.
    pub(super) async fn transform(
        &self,
        transform: &TransformSpec,
        problems: &mut Problems,
    ) -> Result<(Value, Option<(u32, Value)>), Error> {
        for problem in self.tested.iter() {
            problems.add(problem.pointer.as_str(), &problem.code, problem.message.as_str());
        }
        let hash = transform.content_hash();
        let newest: Option<TransformFacts> = self.existing.map(facts).transpose()?;
        if let (Some(newest), Some(existing)) = (&newest, self.existing)
            && newest.hash == hash
        {
            return Ok((existing.status.clone(), None));
        }
        let body = VersionBody { hash, spec: TransformSpec { tests: Vec::new(), ..transform.clone() } };
        let mut number = newest.map_or(0, |newest| newest.version) + 1;
        // A crash between a version and its transform leaves a version that nobody names: one of the same
        // content is taken, any other is skipped.
        if let Some(existing) = self.existing {
            while let Some(left) = self.store.version(existing.metadata.uid, number).await? {
                if version(left)? == body {
                    break;
                }
                number += 1;
            }
        }
        let facts = TransformFacts { version: number, hash };
        Ok((json!(facts), Some((number, json!(body)))))
    }
}
