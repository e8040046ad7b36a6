//! What a redrive would come to, shown before it is done: each sample as it would be sent, and what the pipeline's version in
//! force would make of it. Nothing is written.

use deadletter::{Action, Sample, Stage};
use kafka::ConsumedRecord;
use serde_json::value::RawValue;

use crate::admit::Sample as Parts;
use crate::evaluate::{Evaluated, run};
use crate::reconcile::World;
use crate::resource::version;
use crate::{Control, Error};

/// One letter before and after.
#[derive(Debug)]
pub(crate) struct Rehearsed {
    /// The letter and what would be sent.
    pub(crate) sample: Sample,
    /// What the pipeline would make of what is sent; `None`: it doesn't go to a pipeline.
    pub(crate) made: Option<Evaluated>,
}

impl Control {
    pub(crate) async fn rehearse(
        &self,
        world: &World,
        action: &Action,
        samples: Vec<Sample>,
    ) -> Result<Vec<Rehearsed>, Error> {
        let mut rehearsed = Vec::with_capacity(samples.len());
        for sample in samples {
            let made = match (action, &sample.letter.stage, &sample.sent) {
                (Action::Redrive | Action::RedriveToOrigin, Some(stage), Ok(Some(sent))) => {
                    self.would_make(world, stage, sent).await?
                }
                _ => None,
            };
            rehearsed.push(Rehearsed { sample, made });
        }
        Ok(rehearsed)
    }

    async fn would_make(
        &self,
        world: &World,
        stage: &Stage,
        record: &ConsumedRecord,
    ) -> Result<Option<Evaluated>, Error> {
        let Stage::Pipeline { workspace, name, .. } = stage else { return Ok(None) };
        let Some(value) = &record.value else { return Ok(None) };
        let Ok(mut value) = serde_json::from_slice::<Box<RawValue>>(value) else {
            return Ok(Some(Evaluated::invalid_json()));
        };
        let parts = parts(record);
        let mut made = None;
        for (transform, number) in world.steps_of(workspace, name) {
            let Some(body) = self.store.version(transform, number).await? else { return Ok(None) };
            let source = version(body)?.spec.expression;
            // As many at once as tests of transforms. Never closed.
            let _turn = self.tests.acquire().await.ok();
            let (input, of) = (value.clone(), parts.clone());
            let evaluated = tokio::task::spawn_blocking(move || run(&source, Some(&input), &of));
            let evaluated = evaluated
                .await
                .map_err(|_| Error::Conflict("the expression ended the thread that ran it".into()))?;
            let Evaluated::Value { result, .. } = &evaluated else { return Ok(Some(evaluated)) };
            value = result.clone();
            made = Some(evaluated);
        }
        Ok(made)
    }
}

/// The record's other parts, at its first origin's place as the pipeline will see them.
fn parts(record: &ConsumedRecord) -> Parts {
    let origin = deadletter::Origin::told(&record.headers);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = record.headers.iter().filter(|header| !types::Headers::is_reserved(&header.name));
    let (topic, partition, offset) = match origin {
        Some(origin) => (origin.topic, origin.partition, origin.offset),
        None => (record.tp.topic.clone(), record.tp.partition, record.offset),
    };
    Parts {
        key: record.key.as_deref().map(text),
        headers: headers.filter_map(|h| Some((h.name.to_string(), text(h.value.as_deref()?)))).collect(),
        topic: topic.to_string(),
        partition,
        offset,
        // That of the copy, which is made now.
        timestamp: jiff::Timestamp::now().as_millisecond(),
    }
}
