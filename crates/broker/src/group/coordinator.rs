//! All groups of the broker: looks a group up, locks it, lets it act, waits for what it promised to be
//! durable, and keeps time. Invariants: a group's lock is never held over an await, and no other lock is
//! taken under it but the journal's; the table's lock is only held to look up, add or remove.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wire::ErrorCode;

use super::clock::Clock;
use super::config::Config;
use super::journal::{Journal, Position};
use super::request::{
    DescribedGroup, DescribedMember, GroupState, JoinRequest, JoinResponse, Leaving, ListedGroup, MemberRef,
    SyncRequest, SyncResponse,
};
use super::state::{Context, Group};
use super::timer::Deadlines;

pub(super) type Cell = Arc<Mutex<Group>>;

/// The group coordinator.
pub struct Groups {
    pub(super) config: Config,
    pub(super) clock: Clock,
    journal: OnceLock<Arc<dyn Journal>>,
    pub(super) table: RwLock<HashMap<Arc<str>, Cell>>,
    deadlines: Deadlines<Arc<str>>,
}

impl Groups {
    /// A coordinator without groups. It is handed to the log as a state machine, which restores it, and then
    /// gets its journal by [`Groups::attach`]; until then requests are answered `COORDINATOR_LOAD_IN_PROGRESS`.
    #[must_use]
    pub fn new(config: Config, clock: Clock) -> Arc<Groups> {
        Arc::new(Groups {
            config,
            clock,
            journal: OnceLock::new(),
            table: RwLock::new(HashMap::new()),
            deadlines: Deadlines::new(),
        })
    }

    /// Gives the coordinator the journal that it writes to; the first one stays.
    pub fn attach(&self, journal: Arc<dyn Journal>) {
        if self.journal.set(journal).is_err() {
            tracing::warn!("the group coordinator has a journal already, the second one is ignored");
        }
    }

    /// Keeps time until `stop`: sessions, rebalances, retention. Owned by the broker; without it nothing expires.
    pub async fn run(&self, stop: CancellationToken) {
        for cell in self.cells() {
            let mut group = cell.lock();
            group.activate(Instant::now());
            self.reschedule(&mut group);
        }
        let mut retention = tokio::time::interval(self.config.retention_check_interval);
        retention.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                due = self.deadlines.due() => {
                    for id in due {
                        self.tick(&id);
                    }
                }
                _ = retention.tick() => self.expire_offsets(),
            }
        }
        tracing::debug!("group coordinator stopped keeping time: shutdown");
    }

    // ---- membership

    /// JoinGroup. Waits for the other members, at most for the longest rebalance timeout among them. Dropping
    /// the future takes the member out of the waiting room; its session then ends by time.
    pub async fn join(&self, request: JoinRequest) -> JoinResponse {
        if let Err(error) = self.check_join(&request) {
            return JoinResponse::failed(error, request.member_id);
        }
        let member_id = request.member_id.clone();
        let (reply, answer) = oneshot::channel();
        let group = request.group.clone();
        // A member with an id joins a group that gave it that id: it must exist.
        let creates = member_id.is_empty();
        let missing = ErrorCode::UNKNOWN_MEMBER_ID;
        let joined = self.with(&group, creates, missing, |group, cx| group.join(cx, request, reply));
        if let Err(error) = joined {
            return JoinResponse::failed(error, member_id);
        }
        match answer.await {
            Ok((response, position)) => match self.settle(position).await {
                Ok(()) => response,
                Err(error) => JoinResponse::failed(error, member_id),
            },
            Err(_dropped) => JoinResponse::failed(ErrorCode::COORDINATOR_NOT_AVAILABLE, member_id),
        }
    }

    fn check_join(&self, request: &JoinRequest) -> Result<(), ErrorCode> {
        check_group_id(&request.group)?;
        let session = u64::try_from(request.session_timeout_ms).unwrap_or(0);
        let session = std::time::Duration::from_millis(session);
        if session < self.config.session_timeout_min || session > self.config.session_timeout_max {
            return Err(ErrorCode::INVALID_SESSION_TIMEOUT);
        }
        Ok(())
    }

    /// SyncGroup. Waits for the leader's assignment, and until that is durable.
    pub async fn sync(&self, request: SyncRequest) -> SyncResponse {
        if let Err(error) = check_group_id(&request.group) {
            return SyncResponse::failed(error);
        }
        let (reply, answer) = oneshot::channel();
        let group = request.group.clone();
        let missing = ErrorCode::UNKNOWN_MEMBER_ID;
        if let Err(error) = self.with(&group, false, missing, |group, cx| group.sync(cx, request, reply)) {
            return SyncResponse::failed(error);
        }
        match answer.await {
            Ok((response, position)) => match self.settle(position).await {
                Ok(()) => response,
                Err(error) => SyncResponse::failed(error),
            },
            Err(_dropped) => SyncResponse::failed(ErrorCode::COORDINATOR_NOT_AVAILABLE),
        }
    }

    /// Heartbeat.
    ///
    /// # Errors
    /// `REBALANCE_IN_PROGRESS`: join again; `ILLEGAL_GENERATION`, `UNKNOWN_MEMBER_ID`: start over;
    /// `FENCED_INSTANCE_ID`: another process has this instance id.
    pub fn heartbeat(&self, group: &str, member: &MemberRef) -> Result<(), ErrorCode> {
        check_group_id(group)?;
        let cell = self.find(group).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        // Only moves a deadline later, so the timer needs no word of it.
        let journal = self.journal()?;
        cell.lock().heartbeat(&self.context(journal), member)
    }

    /// LeaveGroup: one answer a member. Versions below 3 leave one member: its answer is the response's.
    ///
    /// # Errors
    /// What concerns the whole request.
    pub fn leave(&self, group: &str, members: &[Leaving]) -> Result<Vec<Result<(), ErrorCode>>, ErrorCode> {
        check_group_id(group)?;
        if self.find(group).is_none() {
            return Ok(vec![Err(ErrorCode::UNKNOWN_MEMBER_ID); members.len()]);
        }
        self.with(group, false, ErrorCode::UNKNOWN_MEMBER_ID, |group, cx| {
            members.iter().map(|leaving| group.leave(cx, leaving)).collect()
        })
    }

    // ---- administration

    /// DescribeGroups, one group. One of the consumer protocol isn't there for it, as in Kafka.
    pub async fn describe(&self, group: &str) -> DescribedGroup {
        let Some(cell) = self.find(group) else { return dead(group) };
        let (described, position) = {
            let group = cell.lock();
            if group.consumer.is_some() {
                return dead(&group.id);
            }
            (describe(&group), group.position)
        };
        match self.settle(position).await {
            Ok(()) => described,
            Err(_) => dead(group),
        }
    }

    /// ListGroups. The state filter of the protocol compares names without regard to case.
    #[must_use]
    pub fn list(&self) -> Vec<ListedGroup> {
        let cells = self.cells();
        let listed = cells.iter().map(|cell| {
            let group = cell.lock();
            ListedGroup {
                group: group.id.to_string(),
                protocol_type: group.protocol_type.clone().unwrap_or_default(),
                state: group.state_now(),
                is_consumer: group.consumer.is_some(),
            }
        });
        listed.filter(|group| group.state != GroupState::Dead).collect()
    }

    /// DeleteGroups, one group.
    ///
    /// # Errors
    /// `GROUP_ID_NOT_FOUND`, `NON_EMPTY_GROUP`.
    pub async fn delete(&self, group: &str) -> Result<(), ErrorCode> {
        let cell = self.find(group).ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
        let position = {
            let mut group = cell.lock();
            match group.state {
                GroupState::Dead => return Err(ErrorCode::GROUP_ID_NOT_FOUND),
                GroupState::Empty => {}
                _ => return Err(ErrorCode::NON_EMPTY_GROUP),
            }
            let journal = self.journal()?;
            self.remove_locked(&self.context(journal), &mut group)
        };
        self.forget(&cell);
        self.settle(Some(position)).await
    }

    // ---- inside

    pub(super) fn journal(&self) -> Result<&dyn Journal, ErrorCode> {
        self.journal.get().map(AsRef::as_ref).ok_or(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
    }

    pub(super) fn context<'a>(&'a self, journal: &'a dyn Journal) -> Context<'a> {
        Context { config: &self.config, journal, clock: &self.clock, now: Instant::now() }
    }

    /// Waits until `position` is durable.
    pub(super) async fn settle(&self, position: Option<Position>) -> Result<(), ErrorCode> {
        let Some(position) = position else { return Ok(()) };
        self.journal()?.synced(position).await.map_err(|error| {
            tracing::warn!(%error, "a change of a consumer group could not be made durable");
            ErrorCode::COORDINATOR_NOT_AVAILABLE
        })
    }

    pub(super) fn find(&self, group: &str) -> Option<Cell> {
        self.table.read().get(group).cloned()
    }

    /// All groups, by name: what is made of them (lists, snapshots) doesn't depend on the table's order.
    pub(super) fn cells(&self) -> Vec<Cell> {
        let mut cells: Vec<(Arc<str>, Cell)> =
            self.table.read().iter().map(|(id, cell)| (id.clone(), cell.clone())).collect();
        cells.sort_by(|(a, _), (b, _)| a.cmp(b));
        cells.into_iter().map(|(_, cell)| cell).collect()
    }

    /// Runs `act` on a group under its lock, and brings the timer up to date.
    pub(super) fn with<R>(
        &self,
        id: &str,
        create: bool,
        missing: ErrorCode,
        act: impl FnOnce(&mut Group, &Context<'_>) -> R,
    ) -> Result<R, ErrorCode> {
        let journal = self.journal()?;
        loop {
            let cell = match self.find(id) {
                Some(cell) => cell,
                None if create => self.create(id)?,
                None => return Err(missing),
            };
            let mut group = cell.lock();
            if group.state == GroupState::Dead {
                // Deleted between the look-up and the lock.
                drop(group);
                self.forget(&cell);
                continue;
            }
            let result = act(&mut group, &self.context(journal));
            if group.is_vacant() {
                group.die();
                drop(group);
                self.forget(&cell);
            } else {
                self.reschedule(&mut group);
            }
            return Ok(result);
        }
    }

    fn create(&self, id: &str) -> Result<Cell, ErrorCode> {
        let mut table = self.table.write();
        if let Some(cell) = table.get(id) {
            return Ok(cell.clone());
        }
        if table.len() >= self.config.groups_max {
            tracing::warn!(
                group = id,
                limit = self.config.groups_max,
                "a new consumer group is refused: too many groups"
            );
            return Err(ErrorCode::POLICY_VIOLATION);
        }
        let id: Arc<str> = Arc::from(id);
        let cell = Arc::new(Mutex::new(Group::new(id.clone())));
        table.insert(id, cell.clone());
        Ok(cell)
    }

    /// Takes a dead group out of the table, unless another has its name by now.
    pub(super) fn forget(&self, cell: &Cell) {
        let id = cell.lock().id.clone();
        let mut table = self.table.write();
        if table.get(&id).is_some_and(|current| Arc::ptr_eq(current, cell)) {
            table.remove(&id);
        }
    }

    /// Writes that the group is gone and marks it so; the caller takes it out of the table.
    pub(super) fn remove_locked(&self, cx: &Context<'_>, group: &mut Group) -> Position {
        let entry = super::persist::group_removed_entry(&group.id);
        let position = group.write(cx, entry);
        group.die();
        position
    }

    fn reschedule(&self, group: &mut Group) {
        let Some(next) = group.next_deadline() else { return };
        if group.scheduled.is_none_or(|scheduled| next < scheduled) {
            let instead = group.scheduled.replace(next);
            self.deadlines.schedule(next, instead, group.id.clone());
        }
    }

    fn tick(&self, id: &str) {
        let ticked = self.with(id, false, ErrorCode::GROUP_ID_NOT_FOUND, |group, cx| {
            if group.scheduled.is_some_and(|scheduled| scheduled <= cx.now) {
                group.scheduled = None;
            }
            group.tick(cx);
        });
        if let Err(error) = ticked {
            tracing::trace!(group = id, ?error, "a deadline of a group that is gone");
        }
    }
}

/// Group ids of members must not be empty; offsets may be committed to the empty group, as in Kafka.
fn check_group_id(group: &str) -> Result<(), ErrorCode> {
    if group.is_empty() { Err(ErrorCode::INVALID_GROUP_ID) } else { Ok(()) }
}

fn dead(group: &str) -> DescribedGroup {
    DescribedGroup {
        group: group.to_owned(),
        state: GroupState::Dead,
        protocol_type: String::new(),
        protocol: String::new(),
        members: Vec::new(),
    }
}

fn describe(group: &Group) -> DescribedGroup {
    let stable = group.state == GroupState::Stable;
    let protocol = group.protocol.clone().filter(|_| stable).unwrap_or_default();
    let members = group.members.iter().map(|(id, member)| DescribedMember {
        member_id: id.clone(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        metadata: if stable { member.metadata(&protocol) } else { Default::default() },
        assignment: if stable { member.assignment.clone() } else { Default::default() },
    });
    let members = members.collect();
    let protocol_type = group.protocol_type.clone().unwrap_or_default();
    DescribedGroup { group: group.id.to_string(), state: group.state, protocol_type, protocol, members }
}
