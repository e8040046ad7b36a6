//! All transactional ids of the broker. Invariants: the end of a transaction is one frame (markers, offsets of its
//! groups, its state), so no crash leaves half of it; a transactional append happens under the lock of its
//! transactional id, after the check, so none can land behind the marker that ends its transaction.
//!
//! Locks, in this order: a transactional id, its groups by name, partitions (inside the log). None is held over an
//! await. Where the log is full the locks are released, and all is checked again once there is room.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use runtime::kill_points::{self, Point};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::ErrorCode;

use super::config::Config;
use super::ids::ProducerIds;
use super::persist;
use super::request::{Described, EndRequest, InitRequest, ProduceClaim, Producer, TransactionState};
use super::state::{End, Init, Txn};
use crate::group::timer::Deadlines;
use crate::group::{
    Clock, Frame, Groups, Journal, JournalError, Marker, PartitionCode, PartitionId, TRANSACTIONS_MACHINE,
    TxnCommitRequest,
};
use crate::log::{Outcome, Position};

/// Until the end of a transaction over its time is tried again, where it failed.
const ABORT_RETRY: std::time::Duration = std::time::Duration::from_secs(1);

/// One transactional id.
pub(super) struct Slot {
    pub(super) txn: Txn,
    /// What must be durable before this state is shown to anybody.
    position: Option<Position>,
    /// When the timer looks at it next.
    scheduled: Option<Instant>,
}

impl Slot {
    pub(super) fn new(txn: Txn) -> Cell {
        Arc::new(Mutex::new(Slot { txn, position: None, scheduled: None }))
    }
}

pub(super) type Cell = Arc<Mutex<Slot>>;

/// The transaction coordinator.
pub struct Transactions {
    config: Config,
    clock: Clock,
    groups: Arc<Groups>,
    journal: OnceLock<Arc<dyn Journal>>,
    pub(super) table: RwLock<HashMap<Arc<str>, Cell>>,
    pub(super) ids: ProducerIds,
    deadlines: Deadlines<Arc<str>>,
}

impl Transactions {
    /// A coordinator without transactions, which puts offsets into `groups`. It is handed to the log as a state
    /// machine, which restores it, and then gets its journal by [`Transactions::attach`]; until then requests are
    /// answered `COORDINATOR_LOAD_IN_PROGRESS`.
    #[must_use]
    pub fn new(config: Config, clock: Clock, groups: Arc<Groups>) -> Arc<Transactions> {
        Arc::new(Transactions {
            config,
            clock,
            groups,
            journal: OnceLock::new(),
            table: RwLock::new(HashMap::new()),
            ids: ProducerIds::default(),
            deadlines: Deadlines::new(),
        })
    }

    /// Gives the coordinator the journal that it writes to; the first one stays.
    pub fn attach(&self, journal: Arc<dyn Journal>) {
        if self.journal.set(journal).is_err() {
            tracing::warn!("the transaction coordinator has a journal already, the second one is ignored");
        }
    }

    /// Keeps time until `stop`: aborts transactions that take too long, forgets ids that nobody uses. Owned by the
    /// broker. What was over while the broker was down is aborted at once.
    pub async fn run(&self, stop: CancellationToken) {
        for (id, cell) in self.cells() {
            self.reschedule(&id, &mut cell.lock());
        }
        let mut expiration = tokio::time::interval(self.config.expiration_check_interval);
        expiration.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                due = self.deadlines.due() => {
                    for id in due {
                        tokio::select! {
                            () = stop.cancelled() => break,
                            () = self.abort_if_due(&id) => {}
                        }
                    }
                }
                _ = expiration.tick() => self.expire(),
            }
        }
        tracing::debug!("transaction coordinator stopped keeping time: shutdown");
    }

    // ---- requests

    /// InitProducerId. An open transaction of the same transactional id is aborted first, in the same frame.
    ///
    /// # Errors
    /// `PRODUCER_FENCED` (see [`super::code_for_version`]), `INVALID_TRANSACTION_TIMEOUT`, `INVALID_REQUEST`.
    pub async fn init_producer_id(&self, request: InitRequest) -> Result<Producer, ErrorCode> {
        let InitRequest { transactional_id, timeout_ms, expected } = request;
        let Some(id) = transactional_id else {
            let (id, position) = self.ids.take(self.journal()?);
            self.settle(position).await?;
            return Ok(Producer { id, epoch: 0 });
        };
        if id.is_empty() || (expected.id < 0) != (expected.epoch < 0) {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        let timeout_max = i64::try_from(self.config.timeout_max.as_millis()).unwrap_or(i64::MAX);
        if timeout_ms <= 0 || i64::from(timeout_ms) > timeout_max {
            return Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT);
        }
        let expected = if expected.id < 0 { Producer::NONE } else { expected };
        let attempt = || self.try_init(&id, timeout_ms, expected);
        let (producer, position) = self.with_room(attempt).await?;
        self.settle(position).await?;
        Ok(producer)
    }

    fn try_init(
        &self,
        id: &str,
        timeout_ms: i32,
        expected: Producer,
    ) -> Result<(Producer, Option<Position>), Failure> {
        let journal = self.journal()?;
        let (id, cell) = self.find_or_create(id)?;
        let mut slot = cell.lock();
        if slot.txn.state == TransactionState::Dead {
            // Expired between the look-up and the lock: as good as never used.
            drop(slot);
            self.forget(&id, &cell);
            return Err(Failure::Again);
        }
        let init = slot.txn.init(expected)?;
        if init == Init::Repeat {
            return Ok((slot.txn.producer, slot.position));
        }
        let mut reserved = None;
        let new_id = (init == Init::NewId).then(|| {
            let (new_id, position) = self.ids.take(journal);
            reserved = position;
            new_id
        });
        let next = slot.txn.initialized(new_id, expected, timeout_ms, self.clock.now_ms());
        if slot.txn.is_open() {
            tracing::info!(transactional_id = %id, "an open transaction is aborted: its producer was initialised again");
            let marker = slot.txn.fenced();
            self.end_locked(journal, &id, &mut slot, Outcome::Abort, marker, next)?;
        } else {
            self.set(journal, &id, &mut slot, next);
        }
        // The reservation of the id comes before, so the later position covers it.
        Ok((slot.txn.producer, slot.position.max(reserved)))
    }

    /// AddPartitionsToTxn. Not synced: the records come later in the same log, so they can't outlive it.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`, `PRODUCER_FENCED`, `INVALID_REQUEST`; `POLICY_VIOLATION` at
    /// [`Config::partitions_max`].
    pub fn add_partitions(
        &self,
        transactional_id: &str,
        producer: Producer,
        partitions: &[PartitionId],
    ) -> Result<(), ErrorCode> {
        let journal = self.journal()?;
        let (id, cell) = self.known(transactional_id)?;
        let mut slot = cell.lock();
        slot.txn.check(producer)?;
        self.add(journal, &id, &mut slot, partitions, None)
    }

    /// AddOffsetsToTxn: offsets of `group` will follow. Not synced, as [`Transactions::add_partitions`].
    ///
    /// # Errors
    /// As [`Transactions::add_partitions`].
    pub fn add_offsets(
        &self,
        transactional_id: &str,
        producer: Producer,
        group: &str,
    ) -> Result<(), ErrorCode> {
        let journal = self.journal()?;
        let (id, cell) = self.known(transactional_id)?;
        let mut slot = cell.lock();
        slot.txn.check(producer)?;
        self.add(journal, &id, &mut slot, &[], Some(group))
    }

    /// TxnOffsetCommit; `adds` from version 5 on (KIP-890): the group comes into the transaction by it. The
    /// producer is the request's; `request.producer_id` must be its id. Synced before the answer: a commit after
    /// a crash must find these offsets.
    ///
    /// # Errors
    /// What concerns the whole request; the protocol answers it for each partition. `INVALID_PRODUCER_EPOCH` for a
    /// fenced producer, `INVALID_TXN_STATE` if the group isn't in the transaction, and those of the group.
    pub async fn commit_offsets(
        &self,
        transactional_id: &str,
        epoch: i16,
        adds: bool,
        request: TxnCommitRequest,
    ) -> Result<Vec<PartitionCode>, ErrorCode> {
        let journal = self.journal()?;
        let producer = Producer { id: request.producer_id, epoch };
        let (codes, position) = {
            let (id, cell) = self.known(transactional_id)?;
            let mut slot = cell.lock();
            slot.txn.check(producer).map_err(as_produce)?;
            if !slot.txn.is_open() || !slot.txn.groups.contains(&request.group) {
                if !adds {
                    return Err(ErrorCode::INVALID_TXN_STATE);
                }
                self.add(journal, &id, &mut slot, &[], Some(&request.group))?;
            }
            self.groups.add_pending(request)?
        };
        self.settle(position).await?;
        Ok(codes)
    }

    /// EndTxn. Answers when the frame is durable; the producer to go on with is in the answer (the same one below
    /// version 5).
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`, `PRODUCER_FENCED` (see [`super::code_for_version`]), `INVALID_TXN_STATE`.
    pub async fn end(&self, request: EndRequest) -> Result<Producer, ErrorCode> {
        let attempt = || self.try_end(&request);
        let (producer, position) = self.with_room(attempt).await?;
        self.settle(position).await?;
        kill_points::pass(Point::EndAfter);
        Ok(producer)
    }

    fn try_end(&self, request: &EndRequest) -> Result<(Producer, Option<Position>), Failure> {
        let EndRequest { transactional_id, producer, commit, bumps_epoch } = request;
        let outcome = if *commit { Outcome::Commit } else { Outcome::Abort };
        let journal = self.journal()?;
        let (id, cell) = self.known(transactional_id)?;
        let mut slot = cell.lock();
        let end = slot.txn.end(*producer, outcome, *bumps_epoch)?;
        if end == End::Repeat {
            return Ok((slot.txn.producer, slot.position));
        }
        let now_ms = self.clock.now_ms();
        let (marker, next) = if *bumps_epoch {
            let new_id = slot.txn.is_exhausted().then(|| self.ids.take(journal).0);
            (slot.txn.fenced(), slot.txn.ended_and_bumped(outcome, new_id, now_ms))
        } else {
            (slot.txn.producer, slot.txn.ended(outcome, now_ms))
        };
        match end {
            End::Open => self.end_locked(journal, &id, &mut slot, outcome, marker, next)?,
            End::Nothing | End::Repeat => self.set(journal, &id, &mut slot, next),
        }
        Ok((slot.txn.producer, slot.position))
    }

    /// Runs `append` for transactional records if their producer may write to the partition: it is the current
    /// one, and the partition is in its open transaction (or comes into it, with [`ProduceClaim::adds`]). The
    /// transaction can't end in between. `append` must only hand over to the log, and not wait.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_EPOCH`, `INVALID_PRODUCER_ID_MAPPING`; `INVALID_TXN_STATE` where the partition isn't in the
    /// transaction.
    pub fn produce<R>(&self, claim: ProduceClaim<'_>, append: impl FnOnce() -> R) -> Result<R, ErrorCode> {
        let ProduceClaim { transactional_id, producer, partition, adds } = claim;
        let journal = self.journal()?;
        let (id, cell) = self.known(transactional_id)?;
        let mut slot = cell.lock();
        slot.txn.check(producer).map_err(as_produce)?;
        if !slot.txn.is_open() || !slot.txn.partitions.contains(&partition) {
            if !adds {
                return Err(ErrorCode::INVALID_TXN_STATE);
            }
            self.add(journal, &id, &mut slot, &[partition], None)?;
        }
        Ok(append())
    }

    /// DescribeTransactions, one id.
    ///
    /// # Errors
    /// `TRANSACTIONAL_ID_NOT_FOUND`.
    pub fn describe(&self, transactional_id: &str) -> Result<Described, ErrorCode> {
        self.journal()?;
        let cell = self.find(transactional_id).ok_or(ErrorCode::TRANSACTIONAL_ID_NOT_FOUND)?;
        let slot = cell.lock();
        if slot.txn.state == TransactionState::Dead {
            return Err(ErrorCode::TRANSACTIONAL_ID_NOT_FOUND);
        }
        Ok(describe(transactional_id, &slot.txn))
    }

    /// ListTransactions, sorted by id.
    #[must_use]
    pub fn list(&self) -> Vec<Described> {
        let cells: Vec<(Arc<str>, Cell)> =
            self.table.read().iter().map(|(id, cell)| (id.clone(), cell.clone())).collect();
        let mut listed: Vec<Described> =
            cells.iter().map(|(id, cell)| describe(id, &cell.lock().txn)).collect();
        listed.retain(|txn| txn.state != TransactionState::Dead);
        listed.sort_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
        listed
    }

    // ---- changes under the lock of a transactional id

    fn add(
        &self,
        journal: &dyn Journal,
        id: &Arc<str>,
        slot: &mut Slot,
        partitions: &[PartitionId],
        group: Option<&str>,
    ) -> Result<(), ErrorCode> {
        let txn = &slot.txn;
        let open = txn.is_open();
        let new: Vec<PartitionId> = partitions
            .iter()
            .filter(|partition| !open || !txn.partitions.contains(partition))
            .copied()
            .collect();
        let group = group.filter(|group| !open || !txn.groups.contains(*group));
        if new.is_empty() && group.is_none() {
            return Ok(());
        }
        let (partitions_now, groups_now) =
            if open { (txn.partitions.len(), txn.groups.len()) } else { (0, 0) };
        let over = partitions_now + new.len() > self.config.partitions_max
            || (group.is_some() && groups_now >= self.config.groups_max);
        if over {
            tracing::warn!(transactional_id = %id, "a transaction with too many partitions or groups is refused");
            return Err(ErrorCode::POLICY_VIOLATION);
        }
        let now_ms = self.clock.now_ms();
        slot.txn.add(&new, group, now_ms);
        let entry = persist::added_entry(id, slot.txn.producer, slot.txn.start_ms, &new, group);
        slot.position = Some(journal.entry(TRANSACTIONS_MACHINE, entry));
        self.reschedule(id, slot);
        Ok(())
    }

    fn set(&self, journal: &dyn Journal, id: &Arc<str>, slot: &mut Slot, next: Txn) {
        let entry = persist::state_entry(id, &next);
        slot.position = Some(journal.entry(TRANSACTIONS_MACHINE, entry));
        slot.txn = next;
    }

    /// Ends the open transaction in one frame.
    fn end_locked(
        &self,
        journal: &dyn Journal,
        id: &Arc<str>,
        slot: &mut Slot,
        outcome: Outcome,
        marker: Producer,
        next: Txn,
    ) -> Result<(), JournalError> {
        let partitions = slot.txn.partitions.iter();
        let markers: Vec<Marker> = partitions
            .map(|partition| Marker {
                partition: *partition,
                producer_id: marker.id,
                producer_epoch: marker.epoch,
                outcome,
            })
            .collect();
        let state = persist::state_entry(id, &next);
        let write = |offsets: Vec<Vec<u8>>| {
            let mut entries: Vec<(u8, Vec<u8>)> =
                offsets.into_iter().map(|entry| (crate::group::GROUPS_MACHINE, entry)).collect();
            entries.push((TRANSACTIONS_MACHINE, state));
            journal.frame(Frame { markers, entries })
        };
        kill_points::pass(Point::EndBefore);
        let position = self.groups.end_transaction(&slot.txn.groups, slot.txn.producer.id, outcome, write)?;
        kill_points::pass(Point::EndQueued);
        slot.position = Some(position);
        slot.txn = next;
        Ok(())
    }

    // ---- time

    async fn abort_if_due(&self, id: &str) {
        let attempt = || self.try_abort(id);
        if let Err(error) = self.with_room(attempt).await {
            tracing::error!(transactional_id = id, %error, "a transaction over its time could not be aborted yet");
            // The disk may be full for a while: the transaction must not stay open for ever.
            if let Some((id, cell)) = self.find_named(id) {
                let mut slot = cell.lock();
                let at = Instant::now() + ABORT_RETRY;
                let instead = slot.scheduled.replace(at);
                self.deadlines.schedule(at, instead, id);
            }
        }
    }

    fn try_abort(&self, id: &str) -> Result<(), Failure> {
        let journal = self.journal()?;
        let Some((id, cell)) = self.find_named(id) else { return Ok(()) };
        let mut slot = cell.lock();
        if slot.scheduled.is_some_and(|scheduled| scheduled <= Instant::now()) {
            slot.scheduled = None;
        }
        let now_ms = self.clock.now_ms();
        if slot.txn.deadline_ms().is_none_or(|deadline_ms| deadline_ms > now_ms) {
            self.reschedule(&id, &mut slot);
            return Ok(());
        }
        tracing::info!(transactional_id = %id, timeout_ms = slot.txn.timeout_ms, "a transaction took too long and is aborted");
        let next = slot.txn.ended_and_bumped(Outcome::Abort, None, now_ms);
        let marker = slot.txn.fenced();
        self.end_locked(journal, &id, &mut slot, Outcome::Abort, marker, next)?;
        Ok(())
    }

    fn reschedule(&self, id: &Arc<str>, slot: &mut Slot) {
        let Some(deadline_ms) = slot.txn.deadline_ms() else { return };
        let at = self.clock.instant_of(deadline_ms);
        if slot.scheduled.is_none_or(|scheduled| at < scheduled) {
            let instead = slot.scheduled.replace(at);
            self.deadlines.schedule(at, instead, id.clone());
        }
    }

    /// Forgets ids that weren't used for [`Config::id_expiration`].
    fn expire(&self) {
        let Ok(journal) = self.journal() else { return };
        let expiration_ms = i64::try_from(self.config.id_expiration.as_millis()).unwrap_or(i64::MAX);
        let before_ms = self.clock.now_ms().saturating_sub(expiration_ms);
        for (id, cell) in self.cells() {
            let mut slot = cell.lock();
            if slot.txn.is_open()
                || slot.txn.state == TransactionState::Dead
                || slot.txn.updated_ms > before_ms
            {
                continue;
            }
            journal.entry(TRANSACTIONS_MACHINE, persist::removed_entry(&id));
            slot.txn.state = TransactionState::Dead;
            drop(slot);
            self.forget(&id, &cell);
        }
    }

    // ---- inside

    fn journal(&self) -> Result<&dyn Journal, ErrorCode> {
        self.journal.get().map(AsRef::as_ref).ok_or(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
    }

    /// Repeats an attempt until the log has room for it.
    async fn with_room<T>(&self, mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, ErrorCode> {
        loop {
            match attempt() {
                Ok(done) => return Ok(done),
                Err(Failure::Code(code)) => return Err(code),
                Err(Failure::Again) => {}
                Err(Failure::Journal(JournalError::Busy)) => {
                    self.journal()?.room().await.map_err(|error| unavailable(&error))?;
                    // Where there is room but the frame is refused as busy for another reason, others run first.
                    tokio::task::yield_now().await;
                }
                Err(Failure::Journal(error @ JournalError::Refused { .. })) => {
                    tracing::error!(%error, "a transaction could not be ended");
                    return Err(ErrorCode::UNKNOWN_SERVER_ERROR);
                }
                Err(Failure::Journal(error @ JournalError::Failed { .. })) => {
                    return Err(unavailable(&error));
                }
            }
        }
    }

    async fn settle(&self, position: Option<Position>) -> Result<(), ErrorCode> {
        let Some(position) = position else { return Ok(()) };
        self.journal()?.synced(position).await.map_err(|error| unavailable(&error))
    }

    /// All transactional ids, sorted: what is made of them doesn't depend on the table's order.
    pub(super) fn cells(&self) -> Vec<(Arc<str>, Cell)> {
        let mut cells: Vec<(Arc<str>, Cell)> =
            self.table.read().iter().map(|(id, cell)| (id.clone(), cell.clone())).collect();
        cells.sort_by(|(a, _), (b, _)| a.cmp(b));
        cells
    }

    fn find(&self, id: &str) -> Option<Cell> {
        self.table.read().get(id).cloned()
    }

    fn find_named(&self, id: &str) -> Option<(Arc<str>, Cell)> {
        self.table.read().get_key_value(id).map(|(id, cell)| (id.clone(), cell.clone()))
    }

    fn known(&self, id: &str) -> Result<(Arc<str>, Cell), ErrorCode> {
        if id.is_empty() {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        self.find_named(id).ok_or(ErrorCode::INVALID_PRODUCER_ID_MAPPING)
    }

    fn find_or_create(&self, id: &str) -> Result<(Arc<str>, Cell), ErrorCode> {
        if let Some(found) = self.find_named(id) {
            return Ok(found);
        }
        let mut table = self.table.write();
        if let Some((id, cell)) = table.get_key_value(id) {
            return Ok((id.clone(), cell.clone()));
        }
        if table.len() >= self.config.ids_max {
            tracing::warn!(
                transactional_id = id,
                limit = self.config.ids_max,
                "a new transactional id is refused: too many"
            );
            return Err(ErrorCode::POLICY_VIOLATION);
        }
        let id: Arc<str> = Arc::from(id);
        let cell = Slot::new(Txn::unused());
        table.insert(id.clone(), cell.clone());
        Ok((id, cell))
    }

    fn forget(&self, id: &str, cell: &Cell) {
        let mut table = self.table.write();
        if table.get(id).is_some_and(|current| Arc::ptr_eq(current, cell)) {
            table.remove(id);
        }
    }
}

/// Why an attempt didn't come to an end.
enum Failure {
    Code(ErrorCode),
    Journal(JournalError),
    Again,
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Failure {
        Failure::Code(code)
    }
}

impl From<JournalError> for Failure {
    fn from(error: JournalError) -> Failure {
        Failure::Journal(error)
    }
}

fn unavailable(error: &JournalError) -> ErrorCode {
    tracing::warn!(%error, "a change of a transaction could not be made durable");
    ErrorCode::COORDINATOR_NOT_AVAILABLE
}

/// Produce and TxnOffsetCommit know no `PRODUCER_FENCED`.
fn as_produce(code: ErrorCode) -> ErrorCode {
    if code == ErrorCode::PRODUCER_FENCED { ErrorCode::INVALID_PRODUCER_EPOCH } else { code }
}

fn describe(id: &str, txn: &Txn) -> Described {
    let Txn { state, producer, timeout_ms, start_ms, partitions, last: _, updated_ms: _, groups: _ } = txn;
    Described {
        transactional_id: id.to_owned(),
        state: *state,
        producer: *producer,
        timeout_ms: *timeout_ms,
        start_ms: if txn.is_open() { *start_ms } else { -1 },
        partitions: partitions.iter().copied().collect(),
    }
}
