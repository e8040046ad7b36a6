//! The task of one broker: takes what waits for it, a batch a partition, sends it as one request, and tells what became of it.
//! Then the next one, which filled meanwhile. It ends with the producer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use types::{TopicName, TopicPartition};
use wire::ErrorCode;
use wire::api::{ProduceRequest, produce};
use wire::records::BatchBuilder;

use super::Shared;
use super::batch::{Identity, Verdict, verdict};
use super::lanes::{Job, made_again};
use crate::admin::link::Link;
use crate::{Delivered, Error, Kind, Result};

/// Produce's last version with topics by name.
const PRODUCE_MAX: i16 = 12;
/// acks: all replicas in sync.
const ACKS_ALL: i16 = -1;
/// Between tries to reach the broker: doubled each time, up to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// A connection that was unused for so long may have been closed meanwhile.
const IDLE: Duration = Duration::from_secs(1);
/// The most that an engine's quota makes this producer wait at a time.
const THROTTLE_MAX: Duration = Duration::from_secs(10);

pub(super) async fn run(shared: Arc<Shared>, broker: i32, wake: Arc<Notify>, mut gone: watch::Receiver<()>) {
    tokio::select! {
        // Only ever an error: the producer was dropped.
        _ = gone.changed() => {}
        () = Worker::new(shared.clone(), broker).serve(&wake) => {}
    }
    tracing::debug!(client = shared.client_id, broker, "nothing is sent any more: the producer was dropped");
}

struct Worker {
    shared: Arc<Shared>,
    broker: i32,
    /// With the time of its last answer.
    link: Option<(Link, Instant)>,
    failures: u32,
    /// What batches are made with.
    builder: BatchBuilder,
}

impl Worker {
    fn new(shared: Arc<Shared>, broker: i32) -> Self {
        let builder = BatchBuilder::new(shared.compression).compressed_only_if_smaller();
        Self { shared, broker, link: None, failures: 0, builder }
    }

    async fn serve(mut self, wake: &Notify) {
        loop {
            let oldest = self.shared.lanes.lock().oldest(self.broker);
            let Some(oldest) = oldest else {
                wake.notified().await;
                // Who is about to send does so first: it goes with this.
                tokio::task::yield_now().await;
                continue;
            };
            if let Err(error) = self.round(oldest).await {
                self.shared.voice.failure(&error);
                let wait = BACKOFF.0.saturating_mul(1 << self.failures.min(8)).min(BACKOFF.1);
                self.failures = self.failures.saturating_add(1);
                tokio::time::sleep(wait).await;
            }
        }
    }

    /// One request. An error: nothing was sent, or what was is put off.
    async fn round(&mut self, oldest: Instant) -> Result<()> {
        self.linger(oldest).await;
        self.connect().await?;
        if self.shared.lanes.lock().identity().is_none() {
            let (id, epoch) = self.shared.admin.new_producer_id().await?;
            self.shared.lanes.lock().set_identity(Identity { id, epoch });
        }
        let jobs = self.shared.lanes.lock().take(self.broker);
        if jobs.is_empty() {
            return Ok(());
        }
        let (request, jobs) = self.request(jobs);
        let Some((mut link, _)) = self.link.take() else {
            self.put_off(jobs);
            return Ok(());
        };
        let within = self.shared.request_timeout;
        let answer = match tokio::time::timeout(within, link.ask(&request, PRODUCE_MAX)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(self.unanswered(jobs, error)),
            Err(_) => return Err(self.unanswered(jobs, Error::timeout("Produce", within))),
        };
        // It holds the batches' bytes, which are used again.
        drop(request);
        self.link = Some((link, Instant::now()));
        self.failures = 0;
        let throttle = Duration::from_millis(u64::try_from(answer.throttle_time_ms).unwrap_or(0));
        self.settle(jobs, answer);
        if !throttle.is_zero() {
            tokio::time::sleep(throttle.min(THROTTLE_MAX)).await;
        }
        Ok(())
    }

    /// Waits for more records, where the settings say so and there aren't enough.
    async fn linger(&self, oldest: Instant) {
        let Shared { linger, batch_bytes_max, lanes, .. } = &*self.shared;
        if !linger.is_zero() && lanes.lock().bytes() < *batch_bytes_max {
            tokio::time::sleep_until((oldest + *linger).into()).await;
        }
    }

    async fn connect(&mut self) -> Result<()> {
        if self.link.as_ref().is_some_and(|(link, used)| used.elapsed() < IDLE || !link.is_closed()) {
            return Ok(());
        }
        self.link = None;
        let address = self.shared.lanes.lock().address(self.broker);
        let address = address.ok_or_else(|| {
            Error::new(Kind::Unreachable, "produce", format!("broker {} isn't known", self.broker))
        })?;
        match Link::open(&address, &self.shared.client_id).await {
            Ok(link) => {
                self.link = Some((link, Instant::now()));
                Ok(())
            }
            Err(error) => {
                // Another one may lead its partitions by now.
                self.shared.lanes.lock().doubt();
                self.shared.look.notify_one();
                Err(error)
            }
        }
    }

    /// The request, and the batches in it. What can't be made into one is told so.
    fn request(&mut self, jobs: Vec<Job>) -> (ProduceRequest, Vec<Job>) {
        let mut topics: Vec<(TopicName, Vec<produce::PartitionProduceData>)> = Vec::new();
        let mut sent = Vec::with_capacity(jobs.len());
        for mut job in jobs {
            match job.batch.encoded(&mut self.builder) {
                Ok(records) => {
                    let data =
                        produce::PartitionProduceData { index: job.tp.partition, records: Some(records) };
                    match topics.iter_mut().find(|(topic, _)| *topic == job.tp.topic) {
                        Some((_, partitions)) => partitions.push(data),
                        None => topics.push((job.tp.topic.clone(), vec![data])),
                    }
                    sent.push(job);
                }
                Err(error) => {
                    let records = self.shared.lanes.lock().failed(job, false);
                    self.shared.fail(records, || error);
                }
            }
        }
        let request = ProduceRequest {
            transactional_id: None,
            acks: ACKS_ALL,
            timeout_ms: i32::try_from(self.shared.request_timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data: topics
                .into_iter()
                .map(|(topic, partition_data)| produce::TopicProduceData {
                    name: topic.to_string(),
                    partition_data,
                    ..Default::default()
                })
                .collect(),
        };
        (request, sent)
    }

    fn put_off(&self, jobs: Vec<Job>) {
        let lost = self.shared.lanes.lock().put_off(jobs);
        self.shared.fail(lost, || Error::new(Kind::Other, "produce", "the topic was deleted and made again"));
    }

    /// No answer came: the batches may be stored.
    fn unanswered(&self, jobs: Vec<Job>, error: Error) -> Error {
        for job in jobs {
            self.again(job, true);
        }
        error
    }

    fn again(&self, job: Job, uncertain: bool) {
        let topic = job.tp.topic.clone();
        let lost = self.shared.lanes.lock().again(job, uncertain, Instant::now());
        self.shared.look.notify_one();
        self.shared.fail(lost, || made_again(&topic));
    }

    fn settle(&mut self, jobs: Vec<Job>, answer: wire::api::ProduceResponse) {
        let mut answers: HashMap<TopicPartition, produce::PartitionProduceResponse> = HashMap::new();
        for topic in answer.responses {
            let Ok(name) = TopicName::new(&topic.name) else { continue };
            for partition in topic.partition_responses {
                answers.insert(TopicPartition::new(name.clone(), partition.index), partition);
            }
        }
        for job in jobs {
            match answers.remove(&job.tp) {
                Some(answer) => self.judge(job, answer),
                None => {
                    let why = format!("the engine's answer has nothing of {}", job.tp);
                    self.shared.voice.failure(&Error::new(Kind::Protocol, "produce", why));
                    self.again(job, true);
                }
            }
        }
        self.shared.settled();
    }

    fn judge(&mut self, mut job: Job, answer: produce::PartitionProduceResponse) {
        let shared = self.shared.clone();
        let lanes = &shared.lanes;
        let tp = job.tp.clone();
        let code = answer.error_code;
        let uncertain = job.batch.uncertain;
        let refused = || {
            let error =
                crate::admin::refused(&format!("produce to {tp}"), code, answer.error_message.clone());
            if uncertain { error.because("an earlier try may have stored it") } else { error }
        };
        let left = match verdict(code) {
            Verdict::Stored => {
                if let Some(bytes) = job.batch.take_encoded() {
                    self.builder.recycle(bytes);
                }
                let records = lanes.lock().stored(job);
                let now = Instant::now();
                for (delta, pending) in (0..).zip(records) {
                    // -1: it was stored so long ago that the engine doesn't say where any more.
                    let offset = if answer.base_offset < 0 { -1 } else { answer.base_offset + delta };
                    pending.stored(Delivered { partition: tp.partition, offset }, now);
                }
                return;
            }
            Verdict::Again { uncertain } => {
                if !matches!(code, ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
                {
                    self.shared.voice.failure(&refused());
                }
                return self.again(job, uncertain);
            }
            Verdict::TooLarge => lanes.lock().split(job),
            Verdict::Forgotten => {
                self.shared.voice.failure(&refused());
                let left = lanes.lock().under_another_identity(job, Instant::now());
                self.shared.look.notify_one();
                left
            }
            Verdict::Refused => lanes.lock().failed(job, false),
            Verdict::Failed => lanes.lock().failed(job, true),
        };
        self.shared.fail(left, refused);
    }
}
