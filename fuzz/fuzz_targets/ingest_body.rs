//! The whole input is the body of a request to ingest, once to a topic that takes arrays apart and
//! once to one that keeps them, through the real router. What is answered 202 was stored, byte for
//! byte, and is JSON for another parser too; what is refused stored nothing; an answer of 5xx is a
//! finding.

#![no_main]

use std::cell::RefCell;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use ingest::{Config, Deps, Sink, SinkError, Stored};
use libfuzzer_sys::{Corpus, fuzz_target};
use resources::{Arrays, IngestSpec, TopicEntry, TopicTable};
use serde_json::value::RawValue;
use tokio::sync::{Notify, watch};
use tower::ServiceExt as _;
use types::{Record, TopicName};

/// The limits are small, so that inputs reach them.
const MESSAGE_BYTES_MAX: u64 = 2_000;
const BATCH_RECORDS_MAX: usize = 20;

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Record>>>);

impl Sink for Kept {
    type Delivery = Ready<Result<Stored, SinkError>>;

    fn send(&self, _: &TopicName, _: u64, record: Record) -> Result<Self::Delivery, SinkError> {
        let mut records = self.0.lock().expect("nothing panics while it holds this");
        records.push(record);
        Ok(ready(Ok(Stored { partition: 0, offset: records.len() as i64 - 1 })))
    }
}

struct Gateway {
    runtime: tokio::runtime::Runtime,
    router: Router,
    kept: Kept,
    /// Topics live as long as somebody could publish others.
    _topics: watch::Sender<Arc<TopicTable>>,
}

impl Gateway {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let entry = |arrays| TopicEntry {
            partitions: 1,
            max_message_bytes: MESSAGE_BYTES_MAX,
            ingest: IngestSpec { arrays, key: Some("/id".into()), ..IngestSpec::default() },
            workspace: None,
            dlq: None,
        };
        let name = |name| TopicName::new(name).expect("it is a name");
        let table =
            TopicTable::new([(name("split"), entry(Arrays::Split)), (name("whole"), entry(Arrays::Whole))]);
        let (sender, topics) = watch::channel(Arc::new(table));
        let kept = Kept::default();
        let config = Config { batch_records_max: BATCH_RECORDS_MAX, ..Config::default() };
        let metrics = runtime::Metrics::default();
        let deps = Deps { topics, sink: kept.clone(), look: Arc::new(Notify::new()), metrics };
        Self {
            runtime: runtime.expect("a runtime of one thread"),
            router: ingest::router(config, deps).layer(axum::Extension(auth::Access::local())),
            kept,
            _topics: sender,
        }
    }

    fn post(&self, topic: &str, body: &[u8]) -> (StatusCode, Vec<Record>) {
        let request = Request::post(format!("/ingest/{topic}"))
            .header("content-type", "application/json")
            .header("content-length", body.len())
            .body(Body::from(body.to_vec()))
            .expect("it is a request");
        let Ok(response) = self.runtime.block_on(self.router.clone().oneshot(request));
        let records = std::mem::take(&mut *self.kept.0.lock().expect("nothing panics while it holds this"));
        (response.status(), records)
    }
}

thread_local! {
    static GATEWAY: RefCell<Gateway> = RefCell::new(Gateway::new());
}

/// How deeply arrays and objects nest; of text that is JSON.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !quoted => depth -= 1,
            _ => {}
        }
    }
    deepest
}

fuzz_target!(|body: &[u8]| -> Corpus {
    let json = std::str::from_utf8(body).ok().and_then(|text| serde_json::from_str::<&RawValue>(text).ok());
    GATEWAY.with_borrow(|gateway| {
        for topic in ["split", "whole"] {
            let (status, records) = gateway.post(topic, body);
            let stored: Vec<&[u8]> = records.iter().filter_map(|record| record.value.as_deref()).collect();
            match status {
                StatusCode::ACCEPTED => {
                    let json = json.expect("202 for what isn't JSON").get();
                    if topic == "split" && json.starts_with('[') {
                        let elements: Vec<&RawValue> = serde_json::from_str(json).expect("an array");
                        let elements: Vec<&[u8]> = elements.iter().map(|e| e.get().as_bytes()).collect();
                        assert_eq!(stored, elements);
                        assert!((1..=BATCH_RECORDS_MAX).contains(&stored.len()));
                    } else {
                        assert_eq!(stored, [body]);
                    }
                    assert!(stored.iter().all(|value| value.len() as u64 <= MESSAGE_BYTES_MAX));
                }
                StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => {
                    assert!(stored.is_empty(), "{status}, but {} stored", stored.len());
                    if let Some(json) = json {
                        // JSON is refused for being no event, for its key, its depth or its size only.
                        let small = body.len() < 1_000 && depth(json.get()) < 128;
                        let plain = !body.contains(&b'[') && !json.get().contains("\"id\"");
                        let escaped = body.contains(&b'\\');
                        let object = json.get().starts_with('{') && json.get().contains(':');
                        assert!(!(small && plain && !escaped && object), "{status} for a plain event");
                    }
                }
                other => panic!("{other} for a body"),
            }
        }
    });
    Corpus::Keep
});
