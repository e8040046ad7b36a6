//! Who is to own what, as the members choose by name: `uniform` (the default) or `range`. Invariants: every partition that
//! somebody subscribes to has one owner, who subscribes to it; the same input gives the same result.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::group::PartitionId;

/// A way to assign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Assignor {
    /// As even as subscriptions allow, and nothing moves without need.
    #[default]
    Uniform,
    /// By topic, neighbouring partitions to each member: the same numbers of all topics to the same member.
    Range,
}

/// A member as the assignor sees it.
pub(super) struct Input<'a> {
    /// Topics that it subscribes to.
    pub(super) topics: &'a BTreeSet<Uuid>,
    /// What it was to own so far.
    pub(super) current: &'a BTreeSet<PartitionId>,
}

impl Assignor {
    pub(super) fn named(name: &str) -> Option<Assignor> {
        match name {
            "uniform" => Some(Assignor::Uniform),
            "range" => Some(Assignor::Range),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// What each member is to own, in their order. `partitions` has how many each topic has.
    pub(super) fn assign(
        self,
        members: &[Input<'_>],
        partitions: &BTreeMap<Uuid, i32>,
    ) -> Vec<BTreeSet<PartitionId>> {
        let subscribers = |topic: &Uuid| -> Vec<usize> {
            let with = members.iter().enumerate().filter(|(_, member)| member.topics.contains(topic));
            with.map(|(index, _)| index).collect()
        };
        let topics = partitions.iter().map(|(topic, count)| Topic {
            id: *topic,
            partitions: *count,
            subscribers: subscribers(topic),
        });
        let topics: Vec<Topic> = topics.filter(|topic| !topic.subscribers.is_empty()).collect();
        match self {
            Assignor::Uniform => uniform(members, &topics),
            Assignor::Range => range(members.len(), &topics),
        }
    }
}

struct Topic {
    id: Uuid,
    partitions: i32,
    /// Indexes of the members that subscribe to it; never empty.
    subscribers: Vec<usize>,
}

fn range(members: usize, topics: &[Topic]) -> Vec<BTreeSet<PartitionId>> {
    let mut found = vec![BTreeSet::new(); members];
    for Topic { id, partitions, subscribers } in topics {
        let count = i32::try_from(subscribers.len()).unwrap_or(i32::MAX);
        let (each, more) = (partitions / count, partitions % count);
        let mut next = 0;
        for (place, member) in (0..).zip(subscribers) {
            let end = next + each + i32::from(place < more);
            found[*member].extend((next..end).map(|partition| PartitionId { topic: *id, partition }));
            next = end;
        }
    }
    found
}

fn uniform(members: &[Input<'_>], topics: &[Topic]) -> Vec<BTreeSet<PartitionId>> {
    let mut found = vec![BTreeSet::new(); members.len()];
    let mut owners: BTreeMap<PartitionId, usize> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        for partition in member.current.iter().filter(|partition| member.topics.contains(&partition.topic)) {
            owners.entry(*partition).or_insert(index);
        }
    }
    let mut loads = vec![0usize; members.len()];
    let mut unowned = Vec::new();
    for (place, topic) in topics.iter().enumerate() {
        for partition in (0..topic.partitions).map(|partition| PartitionId { topic: topic.id, partition }) {
            match owners.get(&partition) {
                Some(owner) => {
                    found[*owner].insert(partition);
                    loads[*owner] += 1;
                }
                None => unowned.push((place, partition)),
            }
        }
    }
    let least = |loads: &[usize], topic: &Topic| {
        topic.subscribers.iter().copied().min_by_key(|member| loads[*member]).unwrap_or(topic.subscribers[0])
    };
    for (place, partition) in unowned {
        let member = least(&loads, &topics[place]);
        found[member].insert(partition);
        loads[member] += 1;
    }
    // Each move makes the sum of the squares of loads smaller, so this ends.
    loop {
        let mut moved = false;
        for topic in topics {
            for owner in topic.subscribers.iter().copied() {
                loop {
                    let to = least(&loads, topic);
                    if loads[owner] <= loads[to] + 1 {
                        break;
                    }
                    let last = PartitionId { topic: topic.id, partition: i32::MAX };
                    let first = PartitionId { topic: topic.id, partition: 0 };
                    let Some(partition) = found[owner].range(first..=last).next_back().copied() else {
                        break;
                    };
                    found[owner].remove(&partition);
                    found[to].insert(partition);
                    loads[owner] -= 1;
                    loads[to] += 1;
                    moved = true;
                }
            }
        }
        if !moved {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn run(
        assignor: Assignor,
        subscriptions: &[BTreeSet<Uuid>],
        current: &[BTreeSet<PartitionId>],
        partitions: &BTreeMap<Uuid, i32>,
    ) -> Vec<BTreeSet<PartitionId>> {
        let members: Vec<Input<'_>> =
            subscriptions.iter().zip(current).map(|(topics, current)| Input { topics, current }).collect();
        assignor.assign(&members, partitions)
    }

    #[test]
    fn range_gives_the_same_numbers_of_each_topic() {
        let both = BTreeSet::from([topic(1), topic(2)]);
        let partitions = BTreeMap::from([(topic(1), 5), (topic(2), 5)]);
        let found =
            run(Assignor::Range, &[both.clone(), both], &[BTreeSet::new(), BTreeSet::new()], &partitions);
        let numbers = |set: &BTreeSet<PartitionId>, id| -> Vec<i32> {
            set.iter().filter(|p| p.topic == id).map(|p| p.partition).collect()
        };
        for id in [topic(1), topic(2)] {
            assert_eq!((numbers(&found[0], id), numbers(&found[1], id)), (vec![0, 1, 2], vec![3, 4]));
        }
    }

    #[test]
    fn uniform_moves_only_what_a_new_member_needs() {
        let one = BTreeSet::from([topic(1)]);
        let partitions = BTreeMap::from([(topic(1), 9)]);
        let none = BTreeSet::new;
        let alone = run(Assignor::Uniform, std::slice::from_ref(&one), &[none()], &partitions);
        let two =
            run(Assignor::Uniform, &[one.clone(), one.clone()], &[alone[0].clone(), none()], &partitions);
        assert_eq!((two[0].len(), two[1].len()), (5, 4));
        assert!(two[0].is_subset(&alone[0]));
        let three = run(
            Assignor::Uniform,
            &[one.clone(), one.clone(), one],
            &[two[0].clone(), two[1].clone(), none()],
            &partitions,
        );
        assert_eq!(three.iter().map(BTreeSet::len).collect::<Vec<_>>(), [3, 3, 3]);
        assert!(three[0].is_subset(&two[0]) && three[1].is_subset(&two[1]));
    }

    proptest! {
        #[test]
        fn every_partition_has_one_owner_who_subscribes_to_it(
            counts in prop::collection::vec(1i32..8, 1..4),
            chosen in prop::collection::vec(prop::collection::vec(any::<bool>(), 4), 1..6),
            // What members owned before, right or wrong: topic, partition and member.
            before in prop::collection::vec((0u128..5, 0i32..9, 0usize..6), 0..20),
            uniform in any::<bool>(),
        ) {
            let partitions: BTreeMap<Uuid, i32> =
                counts.iter().zip(0u128..).map(|(count, number)| (topic(number), *count)).collect();
            let subscriptions: Vec<BTreeSet<Uuid>> = chosen
                .iter()
                .map(|chosen| partitions.keys().zip(chosen).filter(|(_, yes)| **yes).map(|(id, _)| *id).collect())
                .collect();
            let mut current = vec![BTreeSet::new(); subscriptions.len()];
            for (number, partition, member) in before {
                let member = member % current.len();
                current[member].insert(PartitionId { topic: topic(number), partition });
            }
            let assignor = if uniform { Assignor::Uniform } else { Assignor::Range };
            let found = run(assignor, &subscriptions, &current, &partitions);
            for (id, count) in &partitions {
                let subscribed = subscriptions.iter().any(|topics| topics.contains(id));
                for partition in (0..*count).map(|partition| PartitionId { topic: *id, partition }) {
                    let owners: Vec<usize> =
                        (0..found.len()).filter(|member| found[*member].contains(&partition)).collect();
                    prop_assert_eq!(owners.len(), usize::from(subscribed));
                    prop_assert!(owners.iter().all(|owner| subscriptions[*owner].contains(id)));
                }
            }
            let all: usize = found.iter().map(BTreeSet::len).sum();
            let wanted: i32 = partitions
                .iter()
                .filter(|(id, _)| subscriptions.iter().any(|topics| topics.contains(id)))
                .map(|(_, count)| *count)
                .sum();
            prop_assert_eq!(all, usize::try_from(wanted).unwrap());
            let same = subscriptions.windows(2).all(|pair| pair[0] == pair[1]);
            if uniform && same {
                let loads: Vec<usize> = found.iter().map(BTreeSet::len).collect();
                prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
            }
        }
    }
}
