//! The two routes: the same path in, and two ways to say where the records are.
//!
//! Everything that can be refused without the body is refused before it is read. Between the first record that is
//! sent and the last there is no await: a client that goes away leaves all of them or none.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use auth::Access;
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request};
use resources::{TopicEntry, TopicTable};
use runtime::http::{BodyLimits, BodyMemory, HeldBody, Problem, discard, read_body};
use serde::Serialize;
use serde_json::json;
use tokio::sync::Notify;
use tracing::warn;
use types::{EventId, Offset, Partition, RequestId, Scope, StreamName, TopicName, TopicNameError, names};

use crate::admission::Admission;
use crate::event::{self, Envelope, Events};
use crate::identity::{self, Trace};
use crate::metrics::IngestMetrics;
use crate::sink::{Sink, SinkError, Stored};
use crate::{Config, Topics, key, media};

const X_EVENT_ID: HeaderName = HeaderName::from_static(names::EVENT_ID);

/// Seconds after which to try again: the queue empties fast.
const RETRY_QUEUE_FULL_S: u64 = 1;
/// And when the engine is away.
const RETRY_UNAVAILABLE_S: u64 = 5;

/// How long a request for an unknown topic waits for a new table of topics.
const LOOK_MAX: Duration = Duration::from_millis(800);

/// What handlers need.
pub(crate) struct Gateway<S> {
    pub(crate) config: Config,
    pub(crate) topics: Topics,
    pub(crate) look: Arc<Notify>,
    pub(crate) sink: S,
    pub(crate) bodies: BodyMemory,
    pub(crate) admission: Arc<Admission>,
    pub(crate) metrics: Arc<IngestMetrics>,
}

type Name = Result<Path<String>, PathRejection>;

/// The answer of `/ingest`.
#[derive(Serialize)]
struct Accepted<'a> {
    status: &'static str,
    event_id: &'a str,
    records: usize,
}

/// One record in the answer of the event API.
#[derive(Serialize)]
struct Place<'a> {
    status: &'static str,
    event_id: &'a str,
    partition: Partition,
    offset: Offset,
}

/// The answer of the event API to a batch.
#[derive(Serialize)]
struct BatchPlaces<'a> {
    status: &'static str,
    event_id: &'a str,
    records: Vec<Place<'a>>,
}

impl<'a> Place<'a> {
    fn of(id: &'a EventId, stored: &Stored) -> Self {
        let Stored { partition, offset } = *stored;
        Self { status: "stored", event_id: id.as_str(), partition, offset }
    }
}

/// `POST /ingest/{topic}`.
pub(crate) async fn ingest<S: Sink>(
    State(gateway): State<Arc<Gateway<S>>>,
    name: Name,
    request: request::Request<Body>,
) -> Response {
    gateway
        .answer(name, request, |id, records, _| {
            let body = Accepted { status: "accepted", event_id: id.as_str(), records };
            (StatusCode::ACCEPTED, [(X_EVENT_ID, header_value(id))], Json(body)).into_response()
        })
        .await
}

/// `POST /api/v1/events/{topic}`.
pub(crate) async fn publish<S: Sink>(
    State(gateway): State<Arc<Gateway<S>>>,
    name: Name,
    request: request::Request<Body>,
) -> Response {
    gateway
        .answer(name, request, |id, _, places| {
            let header = [(X_EVENT_ID, header_value(id))];
            match places {
                Places::One(stored) => (header, Json(Place::of(id, stored))).into_response(),
                Places::Batch(all) => {
                    let records = all.iter().map(|(id, stored)| Place::of(id, stored)).collect();
                    let body = BatchPlaces { status: "stored", event_id: id.as_str(), records };
                    (header, Json(body)).into_response()
                }
            }
        })
        .await
}

/// Where an event's records are.
enum Places {
    One(Stored),
    Batch(Vec<(EventId, Stored)>),
}

impl<S: Sink> Gateway<S> {
    async fn answer(
        &self,
        name: Name,
        request: request::Request<Body>,
        accepted: impl FnOnce(&EventId, usize, &Places) -> Response,
    ) -> Response {
        let begun = Instant::now();
        let _in_flight = self.metrics.enter();
        let (head, body) = request.into_parts();
        let request_id = head.extensions.get::<RequestId>().cloned().unwrap_or_else(RequestId::new);
        match self.handle(name, &head, body, request_id).await {
            Ok((id, records, places)) => {
                self.metrics.answered(None, begun.elapsed());
                accepted(&id, records, &places)
            }
            Err(problem) => {
                self.metrics.answered(Some(problem.code()), begun.elapsed());
                problem.into_response()
            }
        }
    }

    async fn handle(
        &self,
        name: Name,
        head: &request::Parts,
        body: Body,
        request_id: RequestId,
    ) -> Result<(EventId, usize, Places), Problem> {
        // By the name alone: who may not write to it isn't told whether there is such a topic.
        let name = topic_name(name, head).and_then(|name| {
            let access = Access::from_extensions(&head.extensions)?;
            access.scope(Scope::IngestWrite)?;
            access.topic(&name)?;
            Ok((name, access))
        });
        let table = self.table(name.as_ref().ok().map(|(name, _)| name)).await;
        let known = name.and_then(|(name, access)| match table.get(name.as_str()) {
            Some(topic) if self.is_in_reach(access, &name, topic) => Ok((name, topic)),
            // A topic of others and none at all are the same.
            _ => Err(unknown(&name)),
        });
        let known = known.and_then(|(name, topic)| Ok((name, topic, envelope(&head.headers, request_id)?)));
        let (name, topic, envelope) = match known {
            Ok(known) => known,
            Err(problem) => {
                discard(&head.headers, body).await;
                return Err(problem);
            }
        };
        let body = self.read(&head.headers, body, topic).await?;
        let events = event::of_body(&self.config, topic, &head.headers, &envelope, &body.bytes)?;
        let bytes = body.bytes.len() as u64;
        let records = events.list.len();
        let Some(_admitted) = self.admission.admit(records as u64, events.bytes) else {
            return Err(not_stored(&name, topic, &SinkError::QueueFull));
        };
        let places = self.store(&name, topic, &envelope.request_id, events).await?;
        self.metrics.stored(name.as_str(), records as u64, bytes);
        Ok((envelope.event_id, records, places))
    }

    /// Whether the topic is one of the caller's workspaces: that of its Topic resource, else the one that its name says.
    fn is_in_reach(&self, access: &Access, name: &TopicName, topic: &TopicEntry) -> bool {
        if access.installation().is_ok() {
            return true;
        }
        let env = &self.config.deployment_env;
        let by_name = || {
            let stream = StreamName::parse(name).filter(|stream| *env == stream.env.as_bytes());
            stream.map(|stream| stream.workspace)
        };
        let workspace = topic.workspace.clone().or_else(by_name);
        workspace.is_some_and(|workspace| access.workspace(&workspace).is_ok())
    }

    /// The table of this moment; where it doesn't have the topic, the next one, if it comes soon: the topic may have
    /// been made a moment ago.
    async fn table(&self, topic: Option<&TopicName>) -> Arc<TopicTable> {
        let mut topics = self.topics.clone();
        let table = topics.borrow_and_update().clone();
        // What is refused anyway is not worth a look.
        if topic.is_none_or(|name| table.get(name.as_str()).is_some()) {
            return table;
        }
        self.look.notify_one();
        // Nobody publishes any more, or not in time: then this is the table.
        let _ = tokio::time::timeout(LOOK_MAX, topics.changed()).await;
        topics.borrow().clone()
    }

    async fn read(&self, headers: &HeaderMap, body: Body, topic: &TopicEntry) -> Result<HeldBody, Problem> {
        // A topic of larger records than the setting foresees can be used all the same.
        let topic_max = usize::try_from(topic.max_message_bytes).unwrap_or(usize::MAX);
        let bytes_max = self.config.body_bytes_max.max(topic_max);
        read_body(headers, body, BodyLimits { bytes_max }, &self.bodies).await.map_err(Problem::from)
    }

    /// Sends all records, and waits for all of them.
    async fn store(
        &self,
        name: &TopicName,
        topic: &TopicEntry,
        request_id: &RequestId,
        events: Events,
    ) -> Result<Places, Problem> {
        let Events { list, batch, bytes: _ } = events;
        let (mut ids, mut sent) = (Vec::with_capacity(list.len()), Vec::with_capacity(list.len()));
        let mut unsent = None;
        for event in list {
            ids.push(event.id);
            if unsent.is_none() {
                match self.sink.send(name, topic.max_message_bytes, event.record) {
                    Ok(delivery) => sent.push(delivery),
                    Err(error) => unsent = Some(error),
                }
            }
        }
        if let (Some(error), true) = (&unsent, sent.is_empty()) {
            // Nothing was sent, so nothing is stored: that is certain.
            return Err(not_stored(name, topic, error));
        }
        // The sink gives up by itself; this bound is for one that doesn't.
        let acks = tokio::time::timeout(self.config.ack_timeout, all(sent));
        let Ok(acks) = acks.await else {
            warn!(request_id = %request_id, topic = %name, "no acknowledgement in time");
            return Err(partial(&ids, &[], batch, "the engine doesn't answer"));
        };
        if unsent.is_none() && acks.iter().all(Result::is_ok) {
            let mut stored = acks.into_iter().flatten();
            return match (batch, stored.next()) {
                (false, Some(one)) => Ok(Places::One(one)),
                (_, first) => {
                    Ok(Places::Batch(ids.into_iter().zip(first.into_iter().chain(stored)).collect()))
                }
            };
        }
        let failed = acks.iter().find_map(|ack| ack.as_ref().err()).or(unsent.as_ref());
        let reason = failed.map_or_else(String::new, ToString::to_string);
        warn!(request_id = %request_id, topic = %name, reason, "records of a request aren't all stored");
        match failed {
            // All met the same clear refusal: there is nothing unknown about it.
            Some(error @ (SinkError::TooLarge | SinkError::UnknownTopic))
                if acks.iter().all(|a| a.as_ref() == Err(error)) =>
            {
                Err(not_stored(name, topic, error))
            }
            _ => Err(partial(&ids, &acks, batch, &reason)),
        }
    }
}

/// One delivery is the usual case, and needs no list of futures.
async fn all<F: Future>(mut deliveries: Vec<F>) -> Vec<F::Output> {
    match deliveries.pop() {
        Some(one) if deliveries.is_empty() => vec![one.await],
        Some(last) => {
            deliveries.push(last);
            join_all(deliveries).await
        }
        None => Vec::new(),
    }
}

fn envelope(headers: &HeaderMap, request_id: RequestId) -> Result<Envelope, Problem> {
    let content_type = media::check(headers)?;
    let event_id = identity::event_id(headers)?;
    let key = key::of_headers(headers)?;
    Ok(Envelope { request_id, event_id, trace: Trace::of(headers), content_type, key })
}

fn topic_name(name: Name, head: &request::Parts) -> Result<TopicName, Problem> {
    let refuse = |code, value: &str, detail: String| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, code).field("topic").value(value).detail(detail)
    };
    // The path's last segment couldn't be decoded: it is no UTF-8.
    let Ok(Path(name)) = name else {
        let given = head.uri.path().rsplit('/').next().unwrap_or_default();
        let detail = "a topic name is letters, digits, \".\", \"_\" and \"-\"".to_owned();
        return Err(refuse("topic_name_invalid", given, detail));
    };
    TopicName::for_caller(&name).map_err(|error| {
        let code = match error {
            TopicNameError::Reserved(_) => "topic_name_reserved",
            _ => "topic_name_invalid",
        };
        refuse(code, &name, error.to_string())
    })
}

fn unknown(name: &TopicName) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "topic_not_found")
        .field("topic")
        .value(name.as_str())
        .detail(format!("there is no topic {name}: create it first, e.g. with `vltava topics create {name}`"))
}

/// A problem for records of which none is stored.
fn not_stored(name: &TopicName, topic: &TopicEntry, error: &SinkError) -> Problem {
    match error {
        SinkError::QueueFull => Problem::new(StatusCode::TOO_MANY_REQUESTS, "queue_full")
            .detail("more is coming in than the engine takes: nothing of this request is stored; try again")
            .retry_after(RETRY_QUEUE_FULL_S),
        SinkError::TooLarge => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "record_too_large").field("body").detail(format!(
                "the engine refused it as too large; the topic's max.message.bytes is {}",
                topic.max_message_bytes
            ))
        }
        SinkError::UnknownTopic => unknown(name),
        SinkError::Unavailable(_) | SinkError::Failed(_) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "engine_unavailable")
                .detail(format!("nothing of this request is stored: {error}"))
                .retry_after(RETRY_UNAVAILABLE_S)
        }
    }
}

/// A problem for records of which some are stored, or may be. The caller sends all of them again, under the same
/// ids: what is stored then stands twice, with the same `x-event-id`.
fn partial(ids: &[EventId], acks: &[Result<Stored, SinkError>], batch: bool, reason: &str) -> Problem {
    let problem =
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "engine_unavailable").retry_after(RETRY_UNAVAILABLE_S);
    if !batch {
        return problem.detail(format!(
            "whether the event is stored isn't known ({reason}); send it again with the same idempotency-key"
        ));
    }
    let outcome = |index: usize| if matches!(acks.get(index), Some(Ok(_))) { "stored" } else { "unknown" };
    let elements: Vec<_> = ids
        .iter()
        .enumerate()
        .map(|(index, id)| json!({ "index": index, "event_id": id.as_str(), "outcome": outcome(index) }))
        .collect();
    problem
        .detail(format!(
            "not every record of the batch is known to be stored ({reason}); send the batch again with the same idempotency-key"
        ))
        .with("elements", elements)
}

fn header_value(id: &EventId) -> HeaderValue {
    HeaderValue::from_maybe_shared(id.to_bytes()).expect("an event's id is visible ASCII")
}

/// For the routes' other methods.
pub(crate) async fn method_not_allowed() -> Response {
    let mut response = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed")
        .field("method")
        .detail("events are sent with POST")
        .into_response();
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}
