//! What the consumer tells the loop: records, partitions that come and go, errors.

use std::collections::BTreeMap;
use std::time::Instant;

use futures::FutureExt;
use kafka::{AssignedPartition, Error, Event, Kind};
use types::{Offset, TopicPartition};

use super::{Done, Failure, Loop, Retry, Revoking};
use crate::lane::Lane;
use crate::position::Position;

impl Loop {
    pub(super) fn on_event(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Records(records) => {
                if self.ending.is_some() {
                    return;
                }
                let Some(index) = records.first().and_then(|r| self.owners.get(&r.tp)) else { return };
                let lane = &mut self.lanes[*index];
                if let Some(held) = records.first().and_then(|r| lane.partitions.get_mut(&r.tp)) {
                    held.end = None;
                }
                for record in records {
                    lane.take_in(record, now);
                }
                if self.away {
                    self.well();
                }
            }
            Event::Assigned(partitions) => self.on_assigned(partitions),
            Event::Revoked { partitions, done, lost } => {
                for tp in &partitions {
                    self.owners.remove(tp);
                    self.status.metrics.forget_partition(tp);
                }
                for lane in &mut self.lanes {
                    lane.revoke(&partitions, now);
                }
                if !lost {
                    // Acknowledged by the next look at the lanes, if nothing is in flight.
                    let until = now + self.config.drain_time_max();
                    self.revoking.push(Revoking { partitions, _done: done, until });
                }
            }
            Event::EndOfPartition(tp, offset) => {
                let lane = self.owners.get(&tp).map(|index| &mut self.lanes[*index]);
                if let Some(held) = lane.and_then(|lane| lane.partitions.get_mut(&tp)) {
                    held.end = Some(offset);
                }
            }
            Event::Error(error) => self.on_consumer_error(error),
        }
    }

    fn on_assigned(&mut self, partitions: Vec<AssignedPartition>) {
        self.epoch = partitions.iter().map(|p| p.assignment).fold(self.epoch, u64::max);
        self.settle_at = self.settle_at.filter(|_| partitions.is_empty());
        let mut pins: BTreeMap<usize, Vec<_>> = BTreeMap::new();
        for AssignedPartition { tp, committed, start, .. } in partitions {
            let generation =
                committed.as_ref().and_then(|c| Position::decode(&c.metadata)).map_or(0, |p| p.generation);
            let own = self.compiled.plan.generation;
            if generation > own {
                let reason = format!(
                    "generation {generation} of this pipeline is in force on {tp}; this instance has \
                     generation {own} and waits for the newer plan"
                );
                self.fail(Failure { reason, retry: Retry::Superseded });
                return;
            }
            let index = self.lightest_lane(&tp);
            let committed = committed.map(|c| c.offset);
            if let (None, Some(start)) = (committed, start)
                && start > 0
            {
                // Where "latest" or a time began is fixed before anything is read: a restart must not move it.
                pins.entry(index).or_default().push((tp.clone(), start, self.compiled.metadata.clone()));
            }
            let lane = &mut self.lanes[index];
            lane.assign(tp.clone(), self.epoch, committed, start);
            if lane.paused {
                self.consumer.pause(std::slice::from_ref(&tp));
            }
            self.owners.insert(tp, index);
        }
        if !pins.is_empty() {
            let lanes: Vec<_> = pins.keys().copied().collect();
            for index in &lanes {
                self.lanes[*index].pinning += 1;
            }
            let offsets: Vec<_> = pins.into_values().flatten().collect();
            let consumer = self.consumer.handle().clone();
            let pin = async move { Done::Pinned { lanes, result: consumer.commit(&offsets).await } };
            self.work.push(pin.boxed());
        }
        self.well();
    }

    /// The lane with the fewest partitions of the topic, then with the fewest at all.
    fn lightest_lane(&self, tp: &TopicPartition) -> usize {
        let load = |lane: &Lane| {
            let same = lane.partitions.keys().filter(|other| other.topic == tp.topic).count();
            (same, lane.partitions.len())
        };
        (0..self.lanes.len()).min_by_key(|index| load(&self.lanes[*index])).unwrap_or(0)
    }

    fn on_consumer_error(&mut self, error: Error) {
        match error.kind() {
            Kind::Fenced => self.fail(self.rival(&error)),
            Kind::OffsetOutOfRange { tp, wanted, available } => {
                self.find_start(tp.clone(), *wanted, *available);
            }
            Kind::UnknownTopic | Kind::NotAuthorized | Kind::Config | Kind::Closed => {
                self.fail(Failure::backoff(error.to_string()));
            }
            _ if error.is_fatal() => self.fail(Failure::backoff(error.to_string())),
            _ => self.unwell(&error.to_string()),
        }
    }

    /// The wanted offset isn't there. Where retention took it, the oldest record is next, and what was lost is said;
    /// an offset behind the end means that the engine lost records, and a person must decide.
    fn find_start(
        &mut self,
        tp: TopicPartition,
        wanted: Option<Offset>,
        available: Option<(Offset, Offset)>,
    ) {
        let consumer = self.consumer.handle().clone();
        let held = self.owners.get(&tp).and_then(|index| self.lanes[*index].partitions.get(&tp));
        let wanted = wanted.or_else(|| held.map(|h| h.position));
        let seek = async move {
            let result = async {
                let (low, high) = match available {
                    Some(available) => available,
                    None => {
                        let marks = consumer.watermarks(&tp).await.map_err(|e| e.to_string())?;
                        (marks.low, marks.high)
                    }
                };
                let wanted = wanted.unwrap_or(0);
                if wanted > high {
                    return Err(format!(
                        "offset {wanted} of {tp} is committed, but the partition ends at {high}: the engine \
                         lost records or the topic was made again; reset the group's offset to go on"
                    ));
                }
                consumer.seek(&tp, kafka::StartFrom::Offset(low)).await.map_err(|e| e.to_string())?;
                Ok((wanted, low))
            };
            let result = result.await;
            Done::Sought { tp, result }
        };
        self.work.push(seek.boxed());
    }
}
