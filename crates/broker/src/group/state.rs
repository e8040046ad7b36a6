//! The state machine of one classic group: pure, synchronous, under the group's lock.
//!
//! Nouns. A *member* joins; a *rebalance* collects joins until all members are in or the longest rebalance
//! timeout is over; then there is a *generation* with a *protocol* that all members know and a *leader* who
//! assigns. States: Empty -> PreparingRebalance -> CompletingRebalance (the leader assigns) -> Stable; any
//! change of membership leads back to PreparingRebalance; without members the group is Empty; Dead means
//! that it was deleted and whoever holds it must look it up again.
//!
//! Invariants:
//! - A group with members outside of PreparingRebalance has exactly one leader, which is a member.
//! - Every member supports at least one protocol that all members support.
//! - A waiting join or sync is answered: by the next generation, by an error, or by the member's removal.
//! - In Stable nobody waits; in CompletingRebalance nobody's join waits.
//!
//! The broker doesn't look into assignments, so eager and cooperative clients are alike to it. Rules are
//! those of Kafka's classic protocol with KIP-345 (static members), KIP-394 (member ids first) and KIP-814.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;
use wire::ErrorCode;

use super::clock::Clock;
use super::config::Config;
use super::consumer::Consumer;
use super::journal::{GROUPS_MACHINE, Journal, PartitionId, Position};
use super::member::{Member, Reply, answer, protocols_bytes};
use super::offsets::Offsets;
use super::persist;
use super::request::{
    GroupState, JoinRequest, JoinResponse, JoinedMember, Leaving, MemberRef, SyncRequest, SyncResponse,
};

/// A client id may be 32 KiB long; of a member id it is only decoration.
const CLIENT_ID_IN_MEMBER_ID_MAX: usize = 128;

/// What a group works with while it holds its lock.
pub(super) struct Context<'a> {
    pub(super) config: &'a Config,
    pub(super) journal: &'a dyn Journal,
    pub(super) clock: &'a Clock,
    pub(super) now: Instant,
}

/// The first rebalance of a group waits a little for more members.
#[derive(Debug)]
struct InitialDelay {
    remaining: Duration,
    /// Somebody joined since the delay was last extended.
    joined: bool,
}

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) id: Arc<str>,
    pub(super) state: GroupState,
    pub(super) generation: i32,
    pub(super) protocol_type: Option<String>,
    pub(super) protocol: Option<String>,
    pub(super) leader: Option<String>,
    pub(super) members: BTreeMap<String, Member>,
    /// Instance id -> member id.
    pub(super) static_members: HashMap<String, String>,
    /// Member ids that were handed out and not yet joined with, and when they lapse.
    pub(super) pending: BTreeMap<String, Instant>,
    /// Wall time since when there are no members, for retention.
    pub(super) empty_since_ms: i64,
    pub(super) offsets: Offsets,
    /// Its members, where they are of the consumer protocol; `members` is empty then, and the state Stable.
    pub(super) consumer: Option<Box<Consumer>>,
    /// The last complete membership, as it is kept in the journal and in snapshots.
    pub(super) persisted: Vec<u8>,
    /// What must be durable before this state is shown to anybody.
    pub(super) position: Option<Position>,
    /// When the timer looks at the group next.
    pub(super) scheduled: Option<Instant>,
    join_deadline: Option<Instant>,
    sync_deadline: Option<Instant>,
    initial_delay: Option<InitialDelay>,
}

impl Group {
    pub(super) fn new(id: Arc<str>) -> Group {
        let mut group = Group {
            id,
            state: GroupState::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: HashMap::new(),
            pending: BTreeMap::new(),
            empty_since_ms: 0,
            offsets: Offsets::default(),
            consumer: None,
            persisted: Vec::new(),
            position: None,
            scheduled: None,
            join_deadline: None,
            sync_deadline: None,
            initial_delay: None,
        };
        group.persisted = persist::membership_body(&group);
        group
    }

    /// Nothing would be lost with it: it was never persisted and nobody is in it.
    pub(super) fn is_vacant(&self) -> bool {
        self.state == GroupState::Empty
            && self.generation == 0
            && self.pending.is_empty()
            && self.offsets.is_empty()
    }

    pub(super) fn write(&mut self, cx: &Context<'_>, entry: Vec<u8>) -> Position {
        let position = cx.journal.entry(GROUPS_MACHINE, entry);
        self.position = Some(position);
        position
    }

    /// The state as others are told it.
    pub(super) fn state_now(&self) -> GroupState {
        match &self.consumer {
            Some(consumer) if !consumer.is_settled(self.generation) => GroupState::Reconciling,
            _ => self.state,
        }
    }

    pub(super) fn persist(&mut self, cx: &Context<'_>) -> Position {
        let entry = persist::membership_entry(self);
        self.write(cx, entry)
    }

    // ---- joining

    pub(super) fn join(&mut self, cx: &Context<'_>, request: JoinRequest, reply: Reply<JoinResponse>) {
        if let Err(error) = self.check_join(cx, &request) {
            return answer(reply, JoinResponse::failed(error, request.member_id), None);
        }
        if request.member_id.is_empty() {
            self.join_new(cx, request, reply);
        } else {
            self.join_known(cx, request, reply);
        }
    }

    fn check_join(&self, cx: &Context<'_>, request: &JoinRequest) -> Result<(), ErrorCode> {
        if self.consumer.is_some() {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        let known = self.members.get(&request.member_id);
        let full = match self.state {
            GroupState::Dead => return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE),
            GroupState::Empty => false,
            // A member that is in the room already keeps its place; the others race for what is left.
            GroupState::PreparingRebalance => {
                let joining = self.members.values().filter(|member| member.is_joining()).count();
                !known.is_some_and(Member::is_joining) && joining >= cx.config.members_max
            }
            GroupState::CompletingRebalance | GroupState::Stable | GroupState::Reconciling => {
                let replaces =
                    request.instance_id.as_ref().is_some_and(|id| self.static_members.contains_key(id));
                known.is_none() && !replaces && self.members.len() >= cx.config.members_max
            }
        };
        if full {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        if !self.supports_protocols(request) {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        let others: usize = self
            .members
            .iter()
            .filter(|(id, _)| **id != request.member_id)
            .map(|(_, member)| member.metadata_bytes())
            .sum();
        if others + protocols_bytes(&request.protocols) > cx.config.group_bytes_max {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED);
        }
        Ok(())
    }

    /// Whether one of the offered protocols is known to all other members.
    fn supports_protocols(&self, request: &JoinRequest) -> bool {
        if request.protocol_type.is_empty() || request.protocols.is_empty() {
            return false;
        }
        if self.members.is_empty() {
            return true;
        }
        if self.protocol_type.as_deref() != Some(request.protocol_type.as_str()) {
            return false;
        }
        let replaced = request.instance_id.as_ref().and_then(|id| self.static_members.get(id));
        let is_self = |id: &str| id == request.member_id || replaced.is_some_and(|replaced| replaced == id);
        request
            .protocols
            .iter()
            .any(|(name, _)| self.members.iter().all(|(id, member)| is_self(id) || member.supports(name)))
    }

    fn join_new(&mut self, cx: &Context<'_>, request: JoinRequest, reply: Reply<JoinResponse>) {
        let unique = Uuid::new_v4();
        if let Some(instance_id) = request.instance_id.clone() {
            let member_id = format!("{instance_id}-{unique}");
            match self.static_members.get(&instance_id).cloned() {
                Some(old_id) => self.replace_static(cx, &old_id, member_id, request, reply),
                None => self.add_member(cx, member_id, request, reply),
            }
            return;
        }
        let client_id: String = request.client_id.chars().take(CLIENT_ID_IN_MEMBER_ID_MAX).collect();
        let member_id = format!("{client_id}-{unique}");
        if !request.knows_member_ids {
            return self.add_member(cx, member_id, request, reply);
        }
        if self.pending.len() >= cx.config.members_max {
            let refused = JoinResponse::failed(ErrorCode::GROUP_MAX_SIZE_REACHED, "");
            return answer(reply, refused, None);
        }
        self.pending.insert(member_id.clone(), cx.now + session_timeout(&request));
        answer(reply, JoinResponse::failed(ErrorCode::MEMBER_ID_REQUIRED, member_id), None);
    }

    fn join_known(&mut self, cx: &Context<'_>, request: JoinRequest, reply: Reply<JoinResponse>) {
        let member_id = request.member_id.clone();
        if request.instance_id.is_none() && self.pending.remove(&member_id).is_some() {
            return self.add_member(cx, member_id, request, reply);
        }
        if let Err(error) = self.check_member(&member_id, request.instance_id.as_deref()) {
            return answer(reply, JoinResponse::failed(error, member_id), None);
        }
        let is_leader = self.leader.as_deref() == Some(&member_id);
        let same = self.members.get(&member_id).is_some_and(|member| member.protocols == request.protocols);
        match self.state {
            // The answer of this generation was lost on its way: it is given again.
            GroupState::CompletingRebalance if same => {
                let members = if is_leader { self.joined_members() } else { Vec::new() };
                let response = self.join_response(&member_id, members);
                self.touch(cx, &member_id);
                answer(reply, response, None);
            }
            GroupState::Stable if same && !is_leader => {
                let response = self.join_response(&member_id, Vec::new());
                self.touch(cx, &member_id);
                answer(reply, response, self.position);
            }
            GroupState::PreparingRebalance
            | GroupState::CompletingRebalance
            | GroupState::Stable
            | GroupState::Reconciling => {
                if let Some(member) = self.members.get_mut(&member_id) {
                    member.session_timeout = session_timeout(&request);
                    member.rebalance_timeout = rebalance_timeout(&request);
                    member.protocols = request.protocols;
                    member.client_id = request.client_id;
                    member.client_host = request.client_host;
                    member.touch(cx.now);
                    member.wait_join(reply, &member_id);
                }
                self.rebalance(cx);
            }
            GroupState::Empty | GroupState::Dead => {
                answer(reply, JoinResponse::failed(ErrorCode::UNKNOWN_MEMBER_ID, member_id), None);
            }
        }
    }

    fn add_member(
        &mut self,
        cx: &Context<'_>,
        member_id: String,
        request: JoinRequest,
        reply: Reply<JoinResponse>,
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if self.leader.is_none() {
            self.leader = Some(member_id.clone());
        }
        if let Some(delay) = &mut self.initial_delay {
            delay.joined = true;
        }
        if let Some(instance_id) = &request.instance_id {
            self.static_members.insert(instance_id.clone(), member_id.clone());
        }
        self.members.insert(member_id, new_member(cx, request, Some(reply)));
        self.rebalance(cx);
    }

    /// A static member came back without its id: it takes its predecessor's place under a new id, and the
    /// predecessor is fenced.
    fn replace_static(
        &mut self,
        cx: &Context<'_>,
        old_id: &str,
        new_id: String,
        request: JoinRequest,
        reply: Reply<JoinResponse>,
    ) {
        let Some(mut old) = self.members.remove(old_id) else {
            return self.add_member(cx, new_id, request, reply);
        };
        old.fail_join(ErrorCode::FENCED_INSTANCE_ID, old_id);
        old.fail_sync(ErrorCode::FENCED_INSTANCE_ID);
        let was_leader = self.leader.as_deref() == Some(old_id);
        if was_leader {
            self.leader = Some(new_id.clone());
        }
        if let Some(instance_id) = &request.instance_id {
            self.static_members.insert(instance_id.clone(), new_id.clone());
        }
        let skips_assignment = request.skips_assignment;
        let mut member = new_member(cx, request, None);
        member.assignment = old.assignment;
        member.synced = old.synced;
        self.members.insert(new_id.clone(), member);

        let unchanged = self.state == GroupState::Stable && self.select_protocol() == self.protocol;
        if !unchanged {
            if let Some(member) = self.members.get_mut(&new_id) {
                member.wait_join(reply, &new_id);
            }
            return self.rebalance(cx);
        }
        let position = self.persist(cx);
        let mut response = self.join_response(&new_id, Vec::new());
        if was_leader && skips_assignment {
            response.skip_assignment = true;
            response.members = self.joined_members();
        } else if was_leader {
            // A client that can't skip its assignment must not think that it leads: it would assign anew.
            response.leader = old_id.to_owned();
        }
        answer(reply, response, Some(position));
    }

    // ---- rebalancing

    /// A change that needs a new generation has happened.
    fn rebalance(&mut self, cx: &Context<'_>) {
        if self.state == GroupState::PreparingRebalance {
            return self.complete_join_if_all_in(cx);
        }
        if self.state == GroupState::CompletingRebalance {
            for member in self.members.values_mut() {
                member.fail_sync(ErrorCode::REBALANCE_IN_PROGRESS);
                member.assignment = Bytes::new();
            }
        }
        self.sync_deadline = None;
        let was_empty = self.state == GroupState::Empty;
        let timeout = self.rebalance_timeout();
        self.state = GroupState::PreparingRebalance;
        let delay = cx.config.initial_rebalance_delay;
        if !was_empty {
            self.join_deadline = Some(cx.now + timeout);
            self.complete_join_if_all_in(cx);
        } else if delay.is_zero() {
            self.complete_join(cx);
        } else {
            let remaining = timeout.saturating_sub(delay);
            self.initial_delay = Some(InitialDelay { remaining, joined: false });
            self.join_deadline = Some(cx.now + delay.min(timeout));
        }
    }

    fn complete_join_if_all_in(&mut self, cx: &Context<'_>) {
        if self.state != GroupState::PreparingRebalance {
            return;
        }
        let all_in = self.pending.is_empty() && self.members.values().all(Member::is_joining);
        // Without members there is nobody to wait with for those who were only given an id.
        if self.members.is_empty() || (all_in && self.initial_delay.is_none()) {
            self.complete_join(cx);
        }
    }

    fn complete_join(&mut self, cx: &Context<'_>) {
        self.initial_delay = None;
        self.join_deadline = None;
        let late: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| !member.is_joining() && member.instance_id.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            self.drop_member(&id);
        }
        if self.members.is_empty() {
            self.generation = self.generation.wrapping_add(1).max(1);
            self.become_empty(cx);
            return;
        }
        if !self.elect_leader() {
            // Only static members that haven't come back: they keep their places until their sessions end.
            self.join_deadline = Some(cx.now + self.rebalance_timeout());
            return;
        }
        self.generation = self.generation.wrapping_add(1).max(1);
        self.protocol = self.select_protocol();
        self.state = GroupState::CompletingRebalance;
        self.sync_deadline = Some(cx.now + self.rebalance_timeout());
        let ids: Vec<String> = self.members.keys().cloned().collect();
        let mut for_leader = self.joined_members();
        for id in ids {
            let is_leader = self.leader.as_deref() == Some(&id);
            let members = if is_leader { std::mem::take(&mut for_leader) } else { Vec::new() };
            let response = self.join_response(&id, members);
            if let Some(member) = self.members.get_mut(&id) {
                member.synced = false;
                if let Some(reply) = member.join.take() {
                    member.touch(cx.now);
                    answer(reply, response, None);
                }
            }
        }
    }

    fn become_empty(&mut self, cx: &Context<'_>) {
        self.state = GroupState::Empty;
        self.protocol = None;
        self.leader = None;
        self.join_deadline = None;
        self.sync_deadline = None;
        self.initial_delay = None;
        self.empty_since_ms = cx.clock.now_ms();
        self.persist(cx);
    }

    /// Keeps the leader if it is joining, else takes one who is.
    fn elect_leader(&mut self) -> bool {
        let keeps = self.leader.as_ref().and_then(|id| self.members.get(id)).is_some_and(Member::is_joining);
        if keeps {
            return true;
        }
        let next = self.members.iter().find(|(_, member)| member.is_joining()).map(|(id, _)| id.clone());
        if next.is_some() {
            self.leader = next;
            return true;
        }
        false
    }

    /// The protocol that most members like best among those that all know.
    fn select_protocol(&self) -> Option<String> {
        let first = self.members.values().next()?;
        let common: Vec<&str> = first
            .protocols
            .iter()
            .map(|(name, _)| name.as_str())
            .filter(|name| self.members.values().all(|member| member.supports(name)))
            .collect();
        let mut votes: Vec<usize> = vec![0; common.len()];
        for member in self.members.values() {
            let favourite =
                member.protocols.iter().find_map(|(name, _)| common.iter().position(|c| c == name));
            if let Some(favourite) = favourite {
                votes[favourite] += 1;
            }
        }
        let best = votes.iter().max()?;
        let index = votes.iter().position(|count| count == best)?;
        Some(common[index].to_owned())
    }

    fn rebalance_timeout(&self) -> Duration {
        self.members.values().map(|member| member.rebalance_timeout).max().unwrap_or_default()
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        self.members
            .iter()
            .map(|(id, member)| JoinedMember {
                member_id: id.clone(),
                instance_id: member.instance_id.clone(),
                metadata: member.metadata(protocol),
            })
            .collect()
    }

    fn join_response(&self, member_id: &str, members: Vec<JoinedMember>) -> JoinResponse {
        JoinResponse {
            error: ErrorCode::NONE,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members,
        }
    }

    // ---- assigning

    pub(super) fn sync(&mut self, cx: &Context<'_>, request: SyncRequest, reply: Reply<SyncResponse>) {
        if let Err(error) = self.check_sync(&request) {
            return answer(reply, SyncResponse::failed(error), None);
        }
        let SyncRequest { member: MemberRef { member_id, .. }, assignments, .. } = request;
        self.touch(cx, &member_id);
        if let Some(member) = self.members.get_mut(&member_id) {
            member.synced = true;
            match self.state {
                GroupState::CompletingRebalance => member.wait_sync(reply),
                _ => {
                    let assignment = member.assignment.clone();
                    let response = self.sync_response(assignment);
                    return answer(reply, response, self.position);
                }
            }
        }
        if self.leader.as_deref() != Some(&member_id) {
            return;
        }
        let bytes: usize = assignments.iter().map(|(id, assignment)| id.len() + assignment.len()).sum();
        if bytes > cx.config.group_bytes_max {
            // As where Kafka can't store the group's record: everybody is told, and joins again.
            for member in self.members.values_mut() {
                member.fail_sync(ErrorCode::UNKNOWN_SERVER_ERROR);
            }
            return self.rebalance(cx);
        }
        let mut assignments: HashMap<String, Bytes> = assignments.into_iter().collect();
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
        self.state = GroupState::Stable;
        let position = self.persist(cx);
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(reply) = member.sync.take() {
                member.touch(cx.now);
                let assignment = member.assignment.clone();
                answer(reply, self.sync_response(assignment), Some(position));
            }
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), ErrorCode> {
        let MemberRef { member_id, instance_id, generation } = &request.member;
        self.check_alive()?;
        self.check_member(member_id, instance_id.as_deref())?;
        if *generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        let differs = |given: &Option<String>, own: &Option<String>| given.is_some() && given != own;
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol, &self.protocol)
        {
            return Err(ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
        }
        match self.state {
            GroupState::Empty | GroupState::Dead => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            GroupState::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            GroupState::CompletingRebalance | GroupState::Stable | GroupState::Reconciling => Ok(()),
        }
    }

    fn sync_response(&self, assignment: Bytes) -> SyncResponse {
        SyncResponse {
            error: ErrorCode::NONE,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment,
        }
    }

    // ---- being a member

    pub(super) fn heartbeat(&mut self, cx: &Context<'_>, member: &MemberRef) -> Result<(), ErrorCode> {
        let MemberRef { member_id, instance_id, generation } = member;
        self.check_alive()?;
        self.check_member(member_id, instance_id.as_deref())?;
        if *generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        self.touch(cx, member_id);
        match self.state {
            GroupState::Empty | GroupState::Dead => Err(ErrorCode::UNKNOWN_MEMBER_ID),
            GroupState::PreparingRebalance => Err(ErrorCode::REBALANCE_IN_PROGRESS),
            GroupState::CompletingRebalance | GroupState::Stable | GroupState::Reconciling => Ok(()),
        }
    }

    pub(super) fn leave(&mut self, cx: &Context<'_>, leaving: &Leaving) -> Result<(), ErrorCode> {
        self.check_alive()?;
        let Leaving { member_id, instance_id } = leaving;
        if self.consumer.is_some() {
            return self.consumer_remove(cx, member_id, instance_id.as_deref());
        }
        if let (true, Some(instance_id)) = (member_id.is_empty(), instance_id) {
            let id = self.static_members.get(instance_id).cloned();
            let id = id.ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
            self.remove_member(cx, &id);
            return Ok(());
        }
        if instance_id.is_none() && self.pending.remove(member_id).is_some() {
            self.complete_join_if_all_in(cx);
            return Ok(());
        }
        self.check_member(member_id, instance_id.as_deref())?;
        self.remove_member(cx, member_id);
        Ok(())
    }

    /// Whether an offset commit may be taken, and the member's session goes on with it.
    pub(super) fn check_commit(
        &mut self,
        cx: &Context<'_>,
        member: &MemberRef,
        partitions: impl Iterator<Item = PartitionId>,
        transactional: bool,
    ) -> Result<(), ErrorCode> {
        let MemberRef { member_id, instance_id, generation } = member;
        self.check_alive()?;
        if let Some(consumer) = &mut self.consumer {
            return consumer.check_commit(member, partitions, transactional);
        }
        if *generation < 0 && self.state == GroupState::Empty {
            return Ok(());
        }
        if *generation < 0 && member_id.is_empty() && instance_id.is_none() {
            // Versions of TxnOffsetCommit before KIP-447 name no member; plain commits to a group with members must.
            return if transactional { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) };
        }
        self.check_member(member_id, instance_id.as_deref())?;
        if *generation != self.generation {
            return Err(ErrorCode::ILLEGAL_GENERATION);
        }
        if !transactional && self.state == GroupState::CompletingRebalance {
            return Err(ErrorCode::REBALANCE_IN_PROGRESS);
        }
        self.touch(cx, member_id);
        Ok(())
    }

    fn check_alive(&self) -> Result<(), ErrorCode> {
        if self.state == GroupState::Dead { Err(ErrorCode::COORDINATOR_NOT_AVAILABLE) } else { Ok(()) }
    }

    fn check_member(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID),
                Some(current) if current != member_id => return Err(ErrorCode::FENCED_INSTANCE_ID),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UNKNOWN_MEMBER_ID) }
    }

    fn touch(&mut self, cx: &Context<'_>, member_id: &str) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.touch(cx.now);
        }
    }

    /// Takes a member out without a rebalance; whoever waits is told.
    fn drop_member(&mut self, member_id: &str) {
        let Some(mut member) = self.members.remove(member_id) else { return };
        member.fail_join(ErrorCode::UNKNOWN_MEMBER_ID, "");
        member.fail_sync(ErrorCode::UNKNOWN_MEMBER_ID);
        if let Some(instance_id) = &member.instance_id
            && self.static_members.get(instance_id).is_some_and(|id| id == member_id)
        {
            self.static_members.remove(instance_id);
        }
        if self.leader.as_deref() == Some(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    fn remove_member(&mut self, cx: &Context<'_>, member_id: &str) {
        self.drop_member(member_id);
        match self.state {
            GroupState::Empty | GroupState::Dead => {}
            GroupState::PreparingRebalance
            | GroupState::CompletingRebalance
            | GroupState::Stable
            | GroupState::Reconciling => {
                self.rebalance(cx);
            }
        }
    }

    /// Deletes the group; whoever waits is told (nobody, for a group without members).
    pub(super) fn die(&mut self) {
        self.state = GroupState::Dead;
        let ids: Vec<String> = self.members.keys().cloned().collect();
        for id in ids {
            self.drop_member(&id);
        }
        self.pending.clear();
        self.consumer = None;
        self.offsets = Offsets::default();
    }

    // ---- time

    /// Starts the sessions of members that came from the journal.
    pub(super) fn activate(&mut self, now: Instant) {
        for member in self.members.values_mut().filter(|member| member.expires.is_none()) {
            member.touch(now);
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, cx: &Context<'_>) {
        let now = cx.now;
        self.consumer_tick(cx);
        let before = self.pending.len();
        self.pending.retain(|_, lapses| *lapses > now);
        for member in self.members.values_mut().filter(|member| member.is_waiting()) {
            // Who waits for the group can't send heartbeats meanwhile.
            if member.expires.is_some_and(|expires| expires <= now) {
                member.touch(now);
            }
        }
        let expired: Vec<String> = self
            .members
            .iter()
            .filter(|(_, member)| member.expires.is_some_and(|expires| expires <= now))
            .map(|(id, _)| id.clone())
            .collect();
        for id in expired {
            tracing::info!(group = %self.id, member = %id, "session timed out, member removed");
            self.remove_member(cx, &id);
        }
        if self.pending.len() != before {
            self.complete_join_if_all_in(cx);
        }
        if self.sync_deadline.is_some_and(|deadline| deadline <= now) {
            self.sync_deadline = None;
            self.drop_unsynced(cx);
        }
        if self.join_deadline.is_some_and(|deadline| deadline <= now) {
            self.join_timed_out(cx);
        }
    }

    fn join_timed_out(&mut self, cx: &Context<'_>) {
        if let Some(delay) = &mut self.initial_delay
            && delay.joined
            && !delay.remaining.is_zero()
        {
            let more = cx.config.initial_rebalance_delay.min(delay.remaining);
            delay.joined = false;
            delay.remaining -= more;
            self.join_deadline = Some(cx.now + more);
            return;
        }
        self.complete_join(cx);
    }

    /// Members that joined but never asked for their assignment hold nobody up for longer than a rebalance.
    fn drop_unsynced(&mut self, cx: &Context<'_>) {
        let silent: Vec<String> =
            self.members.iter().filter(|(_, member)| !member.synced).map(|(id, _)| id.clone()).collect();
        for id in &silent {
            tracing::info!(group = %self.id, member = %id, "no SyncGroup within the rebalance timeout, member removed");
            self.drop_member(id);
        }
        if !silent.is_empty() {
            self.rebalance(cx);
        }
    }

    /// When [`Group::tick`] is needed next.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.members.values().filter_map(|member| member.expires);
        let pending = self.pending.values().copied();
        let consumer = self.consumer.as_ref().and_then(|consumer| consumer.next_deadline());
        sessions.chain(pending).chain(self.join_deadline).chain(self.sync_deadline).chain(consumer).min()
    }
}

fn session_timeout(request: &JoinRequest) -> Duration {
    Duration::from_millis(u64::try_from(request.session_timeout_ms).unwrap_or(0))
}

fn rebalance_timeout(request: &JoinRequest) -> Duration {
    match u64::try_from(request.rebalance_timeout_ms) {
        Ok(ms) => Duration::from_millis(ms),
        Err(_) => session_timeout(request),
    }
}

fn new_member(cx: &Context<'_>, request: JoinRequest, join: Option<Reply<JoinResponse>>) -> Member {
    let session_timeout = session_timeout(&request);
    let rebalance_timeout = rebalance_timeout(&request);
    let JoinRequest { instance_id, client_id, client_host, protocols, .. } = request;
    Member {
        instance_id,
        client_id,
        client_host,
        session_timeout,
        rebalance_timeout,
        protocols,
        assignment: Bytes::new(),
        join,
        sync: None,
        synced: false,
        expires: Some(cx.now + session_timeout),
    }
}
