//! A sink that keeps what it is given, and does with it what the test says.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use ingest::{Sink, SinkError, Stored};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use types::{Record, TopicName};

#[derive(Clone)]
pub(crate) struct Fake {
    records: Arc<Mutex<Vec<(TopicName, Record)>>>,
    script: Arc<Mutex<VecDeque<Step>>>,
    gate: Arc<Semaphore>,
}

/// What becomes of the next record; without a step it is stored.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Store,
    /// `send` itself fails.
    RefuseAtOnce(SinkError),
    /// The delivery fails.
    Fail(SinkError),
    /// It is kept, and acknowledged when the gate opens.
    StoreLater,
    Never,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self { records: Arc::default(), script: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
    }

    pub(crate) fn script(&self, steps: impl IntoIterator<Item = Step>) {
        *self.script.lock() = steps.into_iter().collect();
    }

    /// Lets so many deliveries that wait be acknowledged.
    pub(crate) fn open_gate(&self, deliveries: usize) {
        self.gate.add_permits(deliveries);
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.records.lock().iter().map(|(_, record)| record.clone()).collect()
    }

    pub(crate) fn topics(&self) -> Vec<String> {
        self.records.lock().iter().map(|(topic, _)| topic.to_string()).collect()
    }
}

impl Sink for Fake {
    type Delivery = Pin<Box<dyn Future<Output = Result<Stored, SinkError>> + Send>>;

    fn send(&self, topic: &TopicName, _: u64, record: Record) -> Result<Self::Delivery, SinkError> {
        let step = self.script.lock().pop_front().unwrap_or(Step::Store);
        let mut records = self.records.lock();
        let stored = Stored { partition: 3, offset: records.len() as i64 };
        match step {
            Step::RefuseAtOnce(error) => Err(error),
            Step::Fail(error) => Ok(Box::pin(async { Err(error) })),
            Step::Never => Ok(Box::pin(std::future::pending())),
            Step::Store => {
                records.push((topic.clone(), record));
                Ok(Box::pin(async move { Ok(stored) }))
            }
            Step::StoreLater => {
                records.push((topic.clone(), record));
                let gate = self.gate.clone();
                Ok(Box::pin(async move {
                    gate.acquire().await.expect("the gate is never closed").forget();
                    Ok(stored)
                }))
            }
        }
    }
}
