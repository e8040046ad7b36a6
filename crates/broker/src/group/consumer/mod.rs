//! One group of the consumer protocol (KIP-848): pure, synchronous, under the group's lock. Its members only send heartbeats;
//! the broker assigns.
//!
//! Nouns. The group has an *epoch*, which rises when members, subscriptions or topics change; with it the assignor says what
//! each member is to own, its *target*. A member *owns* partitions: they are what it was told. What its target lacks it is
//! told to give up and is then *revoking*, until it says that it owns it no more; only then it reaches the group's epoch and
//! is given what is new to it, as far as nobody else has it.
//!
//! Invariants:
//! - A partition is owned or being revoked by one member at most.
//! - A member's epoch is never above the group's; an epoch never comes back, as it is kept over restarts.
//! - Every member with something to revoke has a deadline for it, and every member one for its next heartbeat.
//!
//! What is deliberately not here: members are not kept over a restart. They are told UNKNOWN_MEMBER_ID, drop what they own and
//! join again with their ids; commits of before are refused meanwhile, so nothing is processed twice that a dropped session
//! wouldn't do as well. A group's members are all of one protocol: it changes when the last one has left (Kafka's online
//! migration isn't done). Racks don't count, there is one broker.

mod api;
mod assignor;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use regex::{Regex, RegexBuilder};
use tokio::time::Instant;
use uuid::Uuid;
use wire::ErrorCode;

pub use api::{DescribedConsumer, DescribedConsumerGroup, HeartbeatRequest, HeartbeatResponse, Refused};

use super::journal::PartitionId;
use super::request::{GroupState, MemberRef};
use super::state::{Context, Group};
use crate::catalog::{Topic, Topics};
use assignor::{Assignor, Input};

/// The epoch of who joins.
const JOINING: i32 = 0;
/// The epoch of who leaves for good.
const LEAVING: i32 = -1;
/// The epoch of a static member that leaves and will be back.
const AWAY: i32 = -2;
/// Memory of one compiled regular expression; a longer one is refused.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// A topic pattern: the whole name must match, as in Kafka.
#[derive(Debug)]
struct Pattern {
    text: String,
    regex: Regex,
}

#[derive(Debug)]
struct Member {
    /// Names the member in `Consumer::owners`.
    number: u64,
    instance_id: Option<String>,
    rack_id: Option<String>,
    client_id: String,
    client_host: String,
    rebalance_timeout: Duration,
    names: BTreeSet<String>,
    pattern: Option<Pattern>,
    assignor: Option<Assignor>,
    /// Topics that names and pattern come to.
    topics: BTreeSet<Uuid>,
    epoch: i32,
    previous_epoch: i32,
    target: BTreeSet<PartitionId>,
    /// Partition to the member's epoch since which it owns it.
    owned: BTreeMap<PartitionId, i32>,
    /// The same of what it is to give up.
    revoking: BTreeMap<PartitionId, i32>,
    revoke_deadline: Option<Instant>,
    expires: Instant,
}

impl Member {
    fn is_settled(&self, epoch: i32) -> bool {
        self.epoch == epoch && self.revoking.is_empty() && self.owned.keys().eq(self.target.iter())
    }

    fn subscription_bytes(&self) -> usize {
        let names: usize = self.names.iter().map(String::len).sum();
        names + self.pattern.as_ref().map_or(0, |pattern| pattern.text.len())
    }
}

/// The members of a group of the consumer protocol. There is one only while there are members.
#[derive(Debug, Default)]
pub(in crate::group) struct Consumer {
    members: BTreeMap<String, Member>,
    /// Instance id -> member id.
    statics: HashMap<String, String>,
    /// Who owns or is revoking a partition.
    owners: HashMap<PartitionId, u64>,
    next_number: u64,
    assignor: Assignor,
    /// The topics of the last look, to see that there are others.
    topics: Arc<Topics>,
    /// Subscribed topics with their partitions.
    partitions: BTreeMap<Uuid, i32>,
}

/// What a heartbeat came to.
struct Beat {
    response: HeartbeatResponse,
    /// The group's epoch rose.
    bumped: bool,
}

impl Group {
    /// ConsumerGroupHeartbeat.
    pub(in crate::group) fn consumer_heartbeat(
        &mut self,
        cx: &Context<'_>,
        request: HeartbeatRequest,
        topics: &Arc<Topics>,
    ) -> Result<HeartbeatResponse, Refused> {
        if self.state == GroupState::Dead {
            return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE.into());
        }
        if !self.members.is_empty() || !self.pending.is_empty() {
            let message = format!("the members of group '{}' are of the classic protocol", self.id);
            return Err(Refused::new(ErrorCode::GROUP_ID_NOT_FOUND, message));
        }
        let mut consumer = self.consumer.take().unwrap_or_default();
        let beat = match request.epoch {
            LEAVING | AWAY => consumer.leave(cx, &mut self.generation, &request),
            _ => consumer.beat(cx, &mut self.generation, request, topics),
        };
        let bumped = beat.as_ref().is_ok_and(|beat| beat.bumped);
        self.put_back(cx, consumer, bumped);
        let Beat { response, bumped: _ } = beat?;
        Ok(HeartbeatResponse { position: self.position, ..response })
    }

    /// Removes members by id or instance id (an administrator's LeaveGroup).
    pub(in crate::group) fn consumer_remove(
        &mut self,
        cx: &Context<'_>,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        let Some(mut consumer) = self.consumer.take() else { return Err(ErrorCode::UNKNOWN_MEMBER_ID) };
        let found = match instance_id.and_then(|id| consumer.statics.get(id)) {
            Some(current) if member_id.is_empty() || current == member_id => Ok(current.clone()),
            Some(_) => Err(ErrorCode::FENCED_INSTANCE_ID),
            None if instance_id.is_none() && consumer.members.contains_key(member_id) => {
                Ok(member_id.to_owned())
            }
            None => Err(ErrorCode::UNKNOWN_MEMBER_ID),
        };
        if let Ok(id) = &found {
            consumer.remove(&mut self.generation, id);
        }
        self.put_back(cx, consumer, found.is_ok());
        found.map(drop)
    }

    /// Does what is due.
    pub(in crate::group) fn consumer_tick(&mut self, cx: &Context<'_>) {
        let Some(mut consumer) = self.consumer.take() else { return };
        let late: Vec<String> = consumer.late(cx.now).map(ToOwned::to_owned).collect();
        for id in &late {
            tracing::info!(group = %self.id, member = %id, "no heartbeat or no revocation in time, member removed");
            consumer.remove(&mut self.generation, id);
        }
        self.put_back(cx, consumer, !late.is_empty());
    }

    fn put_back(&mut self, cx: &Context<'_>, consumer: Box<Consumer>, bumped: bool) {
        if consumer.members.is_empty() {
            if self.state != GroupState::Empty {
                self.state = GroupState::Empty;
                self.empty_since_ms = cx.clock.now_ms();
            }
        } else {
            self.state = GroupState::Stable;
            self.protocol_type = Some("consumer".to_owned());
            self.consumer = Some(consumer);
        }
        if bumped {
            self.persist(cx);
        }
    }
}

impl Consumer {
    fn beat(
        &mut self,
        cx: &Context<'_>,
        epoch: &mut i32,
        request: HeartbeatRequest,
        topics: &Arc<Topics>,
    ) -> Result<Beat, Refused> {
        request.check()?;
        let pattern = request.regex.as_deref().filter(|text| !text.is_empty()).map(pattern).transpose()?;
        let assignor = match request.assignor.as_deref() {
            None => None,
            Some(name) => Some(Assignor::named(name).ok_or_else(|| {
                let message = format!("assignor '{name}': there are 'uniform' and 'range'");
                Refused::new(ErrorCode::UNSUPPORTED_ASSIGNOR, message)
            })?),
        };
        let owned: Option<BTreeSet<PartitionId>> =
            request.owned.as_ref().map(|all| all.iter().copied().collect());
        let known = self.find(&request, owned.as_ref())?;
        let others = self.members.iter().filter(|(other, _)| Some(*other) != known.as_ref());
        let others: usize = others.map(|(_, member)| member.subscription_bytes()).sum();
        let asked: usize = request.names.iter().flatten().map(String::len).sum();
        if others + asked + request.regex.as_ref().map_or(0, String::len) > cx.config.group_bytes_max {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED.into());
        }
        let id = match known {
            Some(id) => id,
            None => self.admit(cx, &request)?,
        };
        let full = request.epoch == JOINING
            || (request.rebalance_timeout_ms >= 0
                && (request.names.is_some() || request.regex.is_some())
                && owned.is_some());
        let changed = self.update(cx, &id, request, pattern, assignor);
        let bumped = self.refresh(epoch, topics, changed);
        let moved = self.reconcile(cx, &id, owned.as_ref(), *epoch);
        let member = self.members.get(&id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let response = HeartbeatResponse {
            epoch: member.epoch,
            interval: cx.config.consumer_heartbeat_interval,
            assignment: (full || moved).then(|| member.owned.keys().copied().collect()),
            member_id: id,
            position: None,
        };
        Ok(Beat { response, bumped })
    }

    /// The member that speaks, if it is one already; where a static one came back under another id, it is that from now on.
    fn find(
        &mut self,
        request: &HeartbeatRequest,
        owned: Option<&BTreeSet<PartitionId>>,
    ) -> Result<Option<String>, Refused> {
        let HeartbeatRequest { member_id, epoch, instance_id, .. } = request;
        if let Some(instance) = instance_id {
            match self.statics.get(instance).cloned() {
                Some(current) if current == *member_id => {}
                Some(current) if *epoch == JOINING => {
                    let away = self.members.get(&current).is_none_or(|member| member.epoch == AWAY);
                    if !away {
                        let message = format!("instance id '{instance}' is in use by another member");
                        return Err(Refused::new(ErrorCode::UNRELEASED_INSTANCE_ID, message));
                    }
                    return Ok(self.replace(&current, request));
                }
                Some(_) => return Err(ErrorCode::FENCED_INSTANCE_ID.into()),
                None if *epoch == JOINING => {}
                None => return Err(ErrorCode::UNKNOWN_MEMBER_ID.into()),
            }
        }
        match self.members.get(member_id) {
            None if *epoch == JOINING => Ok(None),
            None => Err(ErrorCode::UNKNOWN_MEMBER_ID.into()),
            Some(_) if *epoch == JOINING => Ok(Some(member_id.clone())),
            Some(member) => {
                // The answer that raised the epoch may have been lost.
                let lost = *epoch == member.previous_epoch
                    && owned.is_some_and(|owned| owned.iter().all(|one| member.owned.contains_key(one)));
                if *epoch == member.epoch || lost {
                    return Ok(Some(member_id.clone()));
                }
                let message = format!("member epoch {epoch}, it is {}", member.epoch);
                Err(Refused::new(ErrorCode::FENCED_MEMBER_EPOCH, message))
            }
        }
    }

    /// A static member came back under another id: it has what its predecessor had.
    fn replace(&mut self, old: &str, request: &HeartbeatRequest) -> Option<String> {
        let mut member = self.members.remove(old)?;
        let id = new_id(request);
        member.epoch = JOINING;
        member.previous_epoch = JOINING;
        self.statics.insert(member.instance_id.clone()?, id.clone());
        self.members.insert(id.clone(), member);
        Some(id)
    }

    fn admit(&mut self, cx: &Context<'_>, request: &HeartbeatRequest) -> Result<String, Refused> {
        if self.members.len() >= cx.config.members_max {
            return Err(ErrorCode::GROUP_MAX_SIZE_REACHED.into());
        }
        let id = new_id(request);
        let member = Member {
            number: self.next_number,
            instance_id: request.instance_id.clone(),
            rack_id: None,
            client_id: String::new(),
            client_host: String::new(),
            rebalance_timeout: Duration::ZERO,
            names: BTreeSet::new(),
            pattern: None,
            assignor: None,
            topics: BTreeSet::new(),
            epoch: JOINING,
            previous_epoch: JOINING,
            target: BTreeSet::new(),
            owned: BTreeMap::new(),
            revoking: BTreeMap::new(),
            revoke_deadline: None,
            expires: cx.now + cx.config.consumer_session_timeout,
        };
        self.next_number += 1;
        if let Some(instance) = &request.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        self.members.insert(id.clone(), member);
        Ok(id)
    }

    /// Takes in what the member says of itself; true where that asks for a new epoch.
    fn update(
        &mut self,
        cx: &Context<'_>,
        id: &str,
        request: HeartbeatRequest,
        pattern: Option<Pattern>,
        assignor: Option<Assignor>,
    ) -> bool {
        let Some(member) = self.members.get_mut(id) else { return false };
        let HeartbeatRequest { rebalance_timeout_ms, names, regex, rack_id, client_id, client_host, .. } =
            request;
        member.expires = cx.now + cx.config.consumer_session_timeout;
        member.client_id = client_id;
        member.client_host = client_host;
        member.rack_id = rack_id.or_else(|| member.rack_id.take());
        if let Ok(ms) = u64::try_from(rebalance_timeout_ms) {
            member.rebalance_timeout = Duration::from_millis(ms);
        }
        // One that is new has no topics yet, and must count even if its subscription is empty.
        let mut changed = member.epoch == JOINING && member.target.is_empty() && member.owned.is_empty();
        if let Some(names) = names {
            let names: BTreeSet<String> = names.into_iter().collect();
            changed |= names != member.names;
            member.names = names;
        }
        if regex.is_some() {
            let text = |pattern: &Option<Pattern>| pattern.as_ref().map(|pattern| pattern.text.clone());
            changed |= text(&pattern) != text(&member.pattern);
            member.pattern = pattern;
        }
        if assignor.is_some() {
            changed |= assignor != member.assignor;
            member.assignor = assignor;
        }
        changed
    }

    /// Looks which topics there are; where they, or the members, are others than before, there is a new epoch and target.
    fn refresh(&mut self, epoch: &mut i32, topics: &Arc<Topics>, changed: bool) -> bool {
        if !changed && Arc::ptr_eq(&self.topics, topics) {
            return false;
        }
        self.topics = topics.clone();
        let mut partitions = BTreeMap::new();
        let mut resolved = false;
        for member in self.members.values_mut() {
            let named = member.names.iter().filter_map(|name| topics.named(name));
            let mut subscribed: Vec<&Arc<Topic>> = named.collect();
            if let Some(pattern) = &member.pattern {
                subscribed.extend(topics.iter().filter(|topic| pattern.regex.is_match(&topic.name)));
            }
            partitions.extend(subscribed.iter().map(|topic| (topic.id, topic.partitions)));
            let found: BTreeSet<Uuid> = subscribed.into_iter().map(|topic| topic.id).collect();
            resolved |= found != member.topics;
            member.topics = found;
        }
        if !changed && !resolved && partitions == self.partitions {
            return false;
        }
        self.partitions = partitions;
        self.assign(epoch);
        true
    }

    /// A new epoch with new targets.
    fn assign(&mut self, epoch: &mut i32) {
        *epoch = epoch.wrapping_add(1).max(1);
        self.assignor = self.chosen();
        // Static members keep their place in the order over restarts of theirs.
        let mut order: Vec<(&String, &Member)> = self.members.iter().collect();
        order.sort_by_key(|(id, member)| {
            (member.instance_id.is_none(), member.instance_id.clone(), (*id).clone())
        });
        let inputs: Vec<Input<'_>> = order
            .iter()
            .map(|(_, member)| Input { topics: &member.topics, current: &member.target })
            .collect();
        let targets = self.assignor.assign(&inputs, &self.partitions);
        let ids: Vec<String> = order.into_iter().map(|(id, _)| id.clone()).collect();
        for (id, target) in ids.into_iter().zip(targets) {
            if let Some(member) = self.members.get_mut(&id) {
                member.target = target;
            }
        }
    }

    /// The assignor that most members ask for.
    fn chosen(&self) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|member| member.assignor) {
            *votes.entry(assignor).or_default() += 1;
        }
        let best = votes.iter().max_by_key(|(assignor, votes)| (**votes, **assignor == Assignor::default()));
        best.map_or_else(Assignor::default, |(assignor, _)| *assignor)
    }

    /// Brings a member nearer to its target; true where what it owns is another set than before.
    fn reconcile(
        &mut self,
        cx: &Context<'_>,
        id: &str,
        said: Option<&BTreeSet<PartitionId>>,
        epoch: i32,
    ) -> bool {
        let Some(member) = self.members.get_mut(id) else { return false };
        let given_up = |partitions: &BTreeMap<PartitionId, i32>| {
            said.is_some_and(|said| partitions.keys().all(|partition| !said.contains(partition)))
        };
        if !member.revoking.is_empty() {
            if !given_up(&member.revoking) {
                return false;
            }
            for partition in std::mem::take(&mut member.revoking).into_keys() {
                self.owners.remove(&partition);
            }
            member.revoke_deadline = None;
        }
        let target = &member.target;
        let surplus: BTreeMap<PartitionId, i32> =
            member.owned.extract_if(.., |partition, _| !target.contains(partition)).collect();
        let mut moved = !surplus.is_empty();
        if moved {
            if !given_up(&surplus) {
                member.revoking = surplus;
                member.revoke_deadline = Some(cx.now + member.rebalance_timeout);
                return true;
            }
            for partition in surplus.into_keys() {
                self.owners.remove(&partition);
            }
        }
        if member.epoch != epoch {
            member.previous_epoch = member.epoch;
            member.epoch = epoch;
        }
        for partition in &member.target {
            if !self.owners.contains_key(partition) {
                self.owners.insert(*partition, member.number);
                member.owned.insert(*partition, epoch);
                moved = true;
            }
        }
        moved
    }

    fn leave(
        &mut self,
        cx: &Context<'_>,
        epoch: &mut i32,
        request: &HeartbeatRequest,
    ) -> Result<Beat, Refused> {
        let HeartbeatRequest { member_id, instance_id, .. } = request;
        if let Some(current) = instance_id.as_ref().and_then(|instance| self.statics.get(instance))
            && current != member_id
        {
            return Err(ErrorCode::FENCED_INSTANCE_ID.into());
        }
        if request.epoch == AWAY && instance_id.is_none() {
            let message = "only a member with an instance id can leave for a while (epoch -2)";
            return Err(Refused::new(ErrorCode::INVALID_REQUEST, message));
        }
        let member = self.members.get_mut(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        let bumped = request.epoch == LEAVING;
        if bumped {
            self.remove(epoch, member_id);
        } else {
            // Its partitions wait for it until its session ends; what it was to give up is free.
            member.epoch = AWAY;
            member.expires = cx.now + cx.config.consumer_session_timeout;
            member.revoke_deadline = None;
            for partition in std::mem::take(&mut member.revoking).into_keys() {
                self.owners.remove(&partition);
            }
        }
        let response = HeartbeatResponse {
            member_id: member_id.clone(),
            epoch: request.epoch,
            interval: cx.config.consumer_heartbeat_interval,
            assignment: None,
            position: None,
        };
        Ok(Beat { response, bumped })
    }

    fn remove(&mut self, epoch: &mut i32, id: &str) {
        let Some(member) = self.members.remove(id) else { return };
        if let Some(instance) = &member.instance_id {
            self.statics.remove(instance);
        }
        for partition in member.owned.keys().chain(member.revoking.keys()) {
            self.owners.remove(partition);
        }
        let subscribed: HashSet<Uuid> = self.members.values().flat_map(|m| &m.topics).copied().collect();
        self.partitions.retain(|topic, _| subscribed.contains(topic));
        self.assign(epoch);
    }

    fn late(&self, now: Instant) -> impl Iterator<Item = &str> {
        let due = move |member: &Member| {
            member.expires <= now || member.revoke_deadline.is_some_and(|deadline| deadline <= now)
        };
        self.members.iter().filter(move |(_, member)| due(member)).map(|(id, _)| id.as_str())
    }

    /// When a member is due next.
    pub(in crate::group) fn next_deadline(&self) -> Option<Instant> {
        self.members
            .values()
            .flat_map(|member| [Some(member.expires), member.revoke_deadline])
            .flatten()
            .min()
    }

    /// Whether a member may commit offsets of these partitions. One that isn't at its newest epoch yet may for what it has
    /// owned since the one it names (KIP-1251).
    pub(in crate::group) fn check_commit(
        &mut self,
        member: &MemberRef,
        mut partitions: impl Iterator<Item = PartitionId>,
        transactional: bool,
    ) -> Result<(), ErrorCode> {
        let MemberRef { member_id, instance_id, generation } = member;
        if *generation < 0 && member_id.is_empty() && instance_id.is_none() && transactional {
            return Ok(());
        }
        let known = self.members.get(member_id).ok_or(ErrorCode::UNKNOWN_MEMBER_ID)?;
        if instance_id.is_some() && *instance_id != known.instance_id {
            return Err(ErrorCode::FENCED_INSTANCE_ID);
        }
        let since = |partition: &PartitionId| {
            known.owned.get(partition).or_else(|| known.revoking.get(partition)).copied()
        };
        let older = *generation >= 0 && *generation < known.epoch;
        if *generation == known.epoch
            || (older && partitions.all(|one| since(&one).is_some_and(|since| since <= *generation)))
        {
            return Ok(());
        }
        // Transactions know the classic protocol's code only.
        Err(if transactional { ErrorCode::ILLEGAL_GENERATION } else { ErrorCode::STALE_MEMBER_EPOCH })
    }

    /// Names of the topics that any member subscribes to.
    pub(in crate::group) fn topic_names(&self) -> HashSet<String> {
        let ids = self.partitions.keys();
        ids.filter_map(|id| self.topics.with_id(*id)).map(|topic| topic.name.clone()).collect()
    }

    /// True once every member has what it is to have.
    pub(in crate::group) fn is_settled(&self, epoch: i32) -> bool {
        self.members.values().all(|member| member.is_settled(epoch))
    }
}

fn new_id(request: &HeartbeatRequest) -> String {
    // Version 0 leaves the id to the broker.
    if request.member_id.is_empty() { Uuid::new_v4().to_string() } else { request.member_id.clone() }
}

fn pattern(text: &str) -> Result<Pattern, Refused> {
    let compiled = RegexBuilder::new(&format!("^(?:{text})$")).size_limit(REGEX_BYTES_MAX).build();
    match compiled {
        Ok(regex) => Ok(Pattern { text: text.to_owned(), regex }),
        Err(error) => {
            let message = format!("subscribed topic regex '{text}': {error}");
            Err(Refused::new(ErrorCode::INVALID_REGULAR_EXPRESSION, message))
        }
    }
}
