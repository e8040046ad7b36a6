//! The rules of transactions, one test each, on tokio's paused time and a journal in memory.

mod ends;
mod identity;
mod model;
mod on_log;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use wire::ErrorCode;

use super::*;
use crate::group::memory::MemoryJournal;
use crate::group::{
    self, Clock, FetchRequest, Frame, Groups, Marker, MemberRef, OffsetToCommit, PartitionId,
    TxnCommitRequest,
};
use crate::log::{Machine, Outcome};

const START_MS: i64 = 1_700_000_000_000;
const TIMEOUT_MS: i32 = 10_000;
const OK: ErrorCode = ErrorCode::NONE;

/// Both coordinators over one journal.
struct Fixture {
    txns: Arc<Transactions>,
    groups: Arc<Groups>,
    journal: Arc<MemoryJournal>,
    clock: Clock,
    config: Config,
    stop: CancellationToken,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::with(Config::default())
    }

    fn with(config: Config) -> Fixture {
        let clock = Clock::fixed(START_MS);
        let (groups, txns) = machines(&config, &clock);
        Fixture::start(groups, txns, Arc::default(), clock, config)
    }

    fn start(
        groups: Arc<Groups>,
        txns: Arc<Transactions>,
        journal: Arc<MemoryJournal>,
        clock: Clock,
        config: Config,
    ) -> Fixture {
        groups.attach(journal.clone());
        txns.attach(journal.clone());
        let stop = CancellationToken::new();
        tokio::spawn({
            let (groups, txns, stop) = (groups.clone(), txns.clone(), stop.clone());
            async move { tokio::join!(groups.run(stop.clone()), txns.run(stop)) }
        });
        Fixture { txns, groups, journal, clock, config, stop }
    }

    /// What a crash now leaves, started again from the whole journal.
    fn restarted(&self) -> Fixture {
        let journal = Arc::new(self.journal.after_crash());
        let (groups, txns) = machines(&self.config, &self.clock);
        journal.replay(0, &[&*groups, &*txns]);
        Fixture::start(groups, txns, journal, self.clock.clone(), self.config.clone())
    }

    async fn init(&self, id: &str) -> Producer {
        self.txns.init_producer_id(init(id)).await.unwrap()
    }

    async fn init_as(&self, id: &str, expected: Producer) -> Result<Producer, ErrorCode> {
        self.txns.init_producer_id(InitRequest { expected, ..init(id) }).await
    }

    async fn end(&self, id: &str, producer: Producer, commit: bool) -> Result<Producer, ErrorCode> {
        self.txns.end(EndRequest { transactional_id: id.into(), producer, commit, bumps_epoch: false }).await
    }

    async fn end_and_bump(&self, id: &str, producer: Producer, commit: bool) -> Result<Producer, ErrorCode> {
        self.txns.end(EndRequest { transactional_id: id.into(), producer, commit, bumps_epoch: true }).await
    }

    fn produce(&self, id: &str, producer: Producer, partition: i32, adds: bool) -> Result<(), ErrorCode> {
        let partition = self::partition(partition);
        self.txns.produce(ProduceClaim { transactional_id: id, producer, partition, adds }, || ())
    }

    async fn commit_offset(
        &self,
        id: &str,
        producer: Producer,
        offset: i64,
        adds: bool,
    ) -> Result<(), ErrorCode> {
        let offsets = vec![OffsetToCommit {
            partition: partition(0),
            offset,
            leader_epoch: -1,
            metadata: String::new(),
        }];
        let member = MemberRef { member_id: String::new(), instance_id: None, generation: -1 };
        let request = TxnCommitRequest { group: "g".into(), member, producer_id: producer.id, offsets };
        self.txns.commit_offsets(id, producer.epoch, adds, request).await.map(|_| ())
    }

    /// The offset of partition 0 in group `g`: what plain readers see, and what those see who want it stable.
    async fn offset(&self) -> (i64, ErrorCode) {
        let request = |require_stable| FetchRequest {
            group: "g".into(),
            partitions: Some(vec![partition(0)]),
            require_stable,
        };
        let plain = self.groups.fetch_offsets(request(false)).await.unwrap();
        let stable = self.groups.fetch_offsets(request(true)).await.unwrap();
        (plain[0].offset, stable[0].error)
    }

    fn state(&self, id: &str) -> TransactionState {
        self.txns.describe(id).map_or(TransactionState::Dead, |txn| txn.state)
    }

    fn last_frame(&self) -> Frame {
        self.journal.durable(0).pop().unwrap()
    }

    /// As if `id` had been initialised often.
    fn set_epoch(&self, id: &str, epoch: i16) -> Producer {
        let cell = self.txns.table.read().get(id).unwrap().clone();
        let producer = &mut cell.lock().txn.producer;
        producer.epoch = epoch;
        *producer
    }
}

fn machines(config: &Config, clock: &Clock) -> (Arc<Groups>, Arc<Transactions>) {
    let groups = Groups::new(group::Config::default(), clock.clone());
    let txns = Transactions::new(config.clone(), clock.clone(), groups.clone());
    (groups, txns)
}

fn init(id: &str) -> InitRequest {
    InitRequest { transactional_id: Some(id.into()), timeout_ms: TIMEOUT_MS, expected: Producer::NONE }
}

fn partition(n: i32) -> PartitionId {
    PartitionId { topic: Uuid::from_u128(9), partition: n }
}

fn marker(n: i32, producer: Producer, outcome: Outcome) -> Marker {
    Marker { partition: partition(n), producer_id: producer.id, producer_epoch: producer.epoch, outcome }
}

fn next(producer: Producer) -> Producer {
    Producer { epoch: producer.epoch + 1, ..producer }
}

async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
