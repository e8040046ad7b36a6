//! Both coordinators on the broker's log, over a disk that loses what wasn't synced.

use std::path::Path;

use bytes::Bytes;
use wire::records::{BatchBuilder, Compression};

use super::*;
use crate::group::LogJournal;
use crate::log::testing::LossyDisk;
use crate::log::{self, Log, PartitionConfig, RawBatch};

const TOPIC: Uuid = Uuid::from_u128(9);

struct OnLog {
    disk: LossyDisk,
    log: Arc<Log>,
    groups: Arc<Groups>,
    txns: Arc<Transactions>,
}

impl OnLog {
    fn open(disk: LossyDisk) -> OnLog {
        let (groups, txns) = machines(&Config::default(), &Clock::System);
        let config = log::Config { background: false, ..log::Config::default() };
        let machines: Vec<Arc<dyn Machine>> = vec![groups.clone(), txns.clone()];
        let log =
            Log::open(Arc::new(disk.clone()), Path::new("/data"), config, machines).expect("the log opens");
        let journal = LogJournal::new(log.clone());
        groups.attach(journal.clone());
        txns.attach(journal);
        OnLog { disk, log, groups, txns }
    }

    async fn new() -> OnLog {
        let this = OnLog::open(LossyDisk::new());
        let created = this.log.frame().create_partitions(TOPIC, 3, PartitionConfig::default()).commit();
        this.log.synced(created.expect("a new topic").1).await.expect("a healthy disk");
        this
    }

    fn reopened(&self, seed: u64) -> OnLog {
        self.disk.crash(seed);
        OnLog::open(self.disk.clone())
    }

    fn append(&self, n: i32, producer: Producer, transactional: bool) -> log::AppendInfo {
        let mut builder = BatchBuilder::new(Compression::None).producer(producer.id, producer.epoch, 0);
        if transactional {
            builder = builder.transactional();
        }
        builder.push_parts(START_MS, None, Some(b"value"), [].into_iter());
        let bytes = Bytes::copy_from_slice(builder.build().expect("a small batch").bytes());
        let batch = RawBatch::parse(bytes).expect("a valid batch");
        let partition = self.log.partition(TOPIC, n).expect("the topic exists");
        partition.append(batch).expect("in sequence")
    }

    /// An open transaction with records in partitions 0 and 1 and an offset, all of it durable.
    async fn opened(&self) -> Producer {
        let p = self.txns.init_producer_id(init("t")).await.expect("a new id");
        self.txns.add_partitions("t", p, &[partition(0), partition(1)]).expect("its own");
        for n in [0, 1] {
            let claim =
                ProduceClaim { transactional_id: "t", producer: p, partition: partition(n), adds: false };
            let info = self.txns.produce(claim, || self.append(n, p, true)).expect("it was added");
            self.log.synced(info.position).await.expect("a healthy disk");
        }
        self.txns.add_offsets("t", p, "g").expect("its own");
        let offsets = vec![OffsetToCommit {
            partition: partition(0),
            offset: 5,
            leader_epoch: -1,
            metadata: String::new(),
        }];
        let member = MemberRef { member_id: String::new(), instance_id: None, generation: -1 };
        let request = TxnCommitRequest { group: "g".into(), member, producer_id: p.id, offsets };
        self.txns.commit_offsets("t", p.epoch, false, request).await.expect("it was added");
        p
    }

    fn end(
        &self,
        producer: Producer,
        commit: bool,
    ) -> impl Future<Output = Result<Producer, ErrorCode>> + use<> {
        let txns = self.txns.clone();
        let request = EndRequest { transactional_id: "t".into(), producer, commit, bumps_epoch: false };
        async move { txns.end(request).await }
    }

    fn state(&self) -> TransactionState {
        self.txns.describe("t").expect("it was initialised").state
    }

    /// Whether all that the transaction wrote is stable: records in both partitions, and the offset.
    async fn stable(&self) -> [bool; 3] {
        let record = |n| {
            let visible = self.log.partition(TOPIC, n).expect("the topic exists").visible();
            visible.last_stable_offset == visible.high_watermark
        };
        let request =
            FetchRequest { group: "g".into(), partitions: Some(vec![partition(0)]), require_stable: true };
        let fetched = self.groups.fetch_offsets(request).await.expect("a healthy disk");
        [record(0), record(1), fetched[0].error.is_ok()]
    }
}

#[tokio::test]
async fn an_answered_end_survives_a_crash() {
    for commit in [true, false] {
        let live = OnLog::new().await;
        let p = live.opened().await;
        assert_eq!(live.stable().await, [false; 3]);
        live.end(p, commit).await.expect("its own");
        let again = live.reopened(0);
        assert_eq!(again.stable().await, [true; 3]);
        assert_eq!(again.end(p, commit).await, Ok(p), "a repeated end is answered the same");
        assert_eq!(again.end(p, !commit).await, Err(ErrorCode::INVALID_TXN_STATE));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_leaves_an_end_whole_or_not_at_all() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 1..=40 {
        let live = OnLog::new().await;
        let p = live.opened().await;
        live.disk.hold_syncs();
        let ending = tokio::spawn(live.end(p, true));
        let disk = live.disk.clone();
        tokio::task::spawn_blocking(move || disk.wait_for_held_sync()).await.expect("no panic");
        assert!(!ending.is_finished(), "no answer before the sync");
        let visible = live.log.partition(TOPIC, 0).expect("the topic exists").visible();
        assert!(visible.last_stable_offset < visible.high_watermark, "and nothing is shown");
        let again = live.reopened(seed);
        let _ = ending.await;
        let ended = again.state() == TransactionState::CompleteCommit;
        assert_eq!(again.stable().await, [ended; 3], "seed {seed}");
        seen.insert(ended);
        // Either way its producer gets to the end.
        assert_eq!(again.end(p, true).await, Ok(p));
        assert_eq!(again.stable().await, [true; 3]);
    }
    assert_eq!(seen.len(), 2, "crashes on both sides of the frame");
}

#[tokio::test]
async fn a_checkpoint_in_the_middle_changes_nothing() {
    let live = OnLog::new().await;
    let p = live.opened().await;
    live.log.checkpoint().expect("a healthy disk");
    let again = live.reopened(0);
    assert_eq!(again.stable().await, [false; 3]);
    assert_eq!(again.end(p, true).await, Ok(p));
    again.log.checkpoint().expect("a healthy disk");
    let third = again.reopened(0);
    assert_eq!(third.stable().await, [true; 3]);
    assert_eq!(third.txns.init_producer_id(init("t")).await, Ok(next(p)));
}

#[tokio::test]
async fn a_deleted_topic_does_not_keep_a_transaction_open() {
    let live = OnLog::new().await;
    let p = live.opened().await;
    let dropped = live.log.frame().drop_topic(TOPIC).commit().expect("it exists").1;
    live.log.synced(dropped).await.expect("a healthy disk");
    assert_eq!(live.end(p, true).await, Ok(p));
}

#[tokio::test]
async fn a_foreign_epoch_in_one_partition_does_not_keep_the_others_open() {
    let live = OnLog::new().await;
    let p = live.opened().await;
    live.txns.add_partitions("t", p, &[partition(2)]).expect("its own");
    live.append(2, Producer { epoch: p.epoch + 9, ..p }, false);
    assert_eq!(live.end(p, true).await, Ok(p));
    assert_eq!(live.stable().await, [true; 3]);
}
