//! What a redrive would come to, shown before it is done: each sample as it would be sent, and what the pipeline's version in
//! force would make of it. Nothing is written.

use deadletter::{Action, Sample, Stage};
use kafka::ConsumedRecord;
use pipeline::Redaction;
use resources::{HeadersSpec, RouteSpec, StepKind};
use serde_json::Value;
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
        let mut parts = parts(record);
        let mut made = None;
        for step in world.steps_of(workspace, name) {
            let word = step.word();
            match step {
                StepKind::Transform((transform, number)) => {
                    let Some(body) = self.store.version(transform, number).await? else { return Ok(None) };
                    let evaluated = self.tried(version(body)?.spec.expression, &value, &parts).await?;
                    let Evaluated::Value { result, .. } = &evaluated else { return Ok(Some(evaluated)) };
                    value = result.clone();
                    made = Some(evaluated);
                    continue;
                }
                StepKind::Filter(expression) => {
                    let evaluated = self.tried(expression, &value, &parts).await?;
                    match &evaluated {
                        Evaluated::Value { result, .. } if result.get() == "true" => {}
                        Evaluated::Value { result, steps } if result.get() == "false" => {
                            return Ok(Some(Evaluated::Undefined { steps: *steps }));
                        }
                        Evaluated::Error { .. } => return Ok(Some(evaluated)),
                        _ => return Ok(Some(Evaluated::invalid_result(word, "true or false"))),
                    }
                }
                StepKind::Key(expression) => match self.scalar(expression, &value, &parts, word).await? {
                    Ok(key) => parts.key = key,
                    Err(error) => return Ok(Some(error)),
                },
                StepKind::Headers(HeadersSpec { set, drop }) => {
                    let mut headers = parts.headers.clone();
                    headers.retain(|name, _| !drop.contains(name) && !set.contains_key(name));
                    for (name, expression) in set {
                        match self.scalar(expression, &value, &parts, word).await? {
                            Ok(Some(text)) => {
                                headers.insert(name, text);
                            }
                            Ok(None) => {}
                            Err(error) => return Ok(Some(error)),
                        }
                    }
                    parts.headers = headers;
                }
                StepKind::Redact(redact) => {
                    let hidden = Redaction::new(&redact).apply(value.get().as_bytes());
                    let read = |hidden: Vec<u8>| serde_json::from_slice(&hidden).map_err(|e| e.to_string());
                    match hidden.map_err(|e| e.to_string()).and_then(read) {
                        Ok(hidden) => value = hidden,
                        Err(why) => return Ok(Some(Evaluated::redact_failed(&why))),
                    }
                    made = Some(Evaluated::Value { result: value.clone(), steps: 0 });
                }
                StepKind::Route(RouteSpec { topics: _, to }) => {
                    if let Err(error) = self.scalar(to, &value, &parts, word).await? {
                        return Ok(Some(error));
                    }
                }
                // What a schema or a sample doesn't let through was said when it failed first.
                StepKind::Sample(_) | StepKind::Validate(_) => {}
            }
            // What passes as it came is what would be written.
            made.get_or_insert(Evaluated::Value { result: value.clone(), steps: 0 });
        }
        Ok(made)
    }

    /// What an expression gives, in its turn.
    async fn tried(&self, source: String, input: &RawValue, parts: &Parts) -> Result<Evaluated, Error> {
        // As many at once as tests of transforms. Never closed.
        let _turn = self.tests.acquire().await.ok();
        let (input, of) = (input.to_owned(), parts.clone());
        let evaluated = tokio::task::spawn_blocking(move || run(&source, Some(&input), &of));
        evaluated.await.map_err(|_| Error::Conflict("the expression ended the thread that ran it".into()))
    }

    /// The text that a step's expression gives a key or a header; `None`: null. `Err` inside: what is said instead.
    async fn scalar(
        &self,
        source: String,
        input: &RawValue,
        parts: &Parts,
        word: &str,
    ) -> Result<Result<Option<String>, Evaluated>, Error> {
        Ok(match self.tried(source, input, parts).await? {
            Evaluated::Value { result, .. } => match serde_json::from_str(result.get()) {
                Ok(Value::Null) => Ok(None),
                Ok(Value::String(text)) => Ok(Some(text)),
                Ok(Value::Number(_) | Value::Bool(_)) => Ok(Some(result.get().to_owned())),
                Ok(Value::Array(_) | Value::Object(_)) | Err(_) => {
                    Err(Evaluated::invalid_result(word, "a text, a number or a boolean"))
                }
            },
            Evaluated::Undefined { .. } => {
                Err(Evaluated::invalid_result(word, "a text, a number or a boolean"))
            }
            error @ Evaluated::Error { .. } => Err(error),
        })
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
