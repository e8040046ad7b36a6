//! Which recorded input is read: fixed before the first record is, so that a backtest ends.

use std::collections::BTreeMap;

use kafka::{Admin, OffsetSpec, Stretch};
use resources::Source;
use types::{Offset, TimestampMs, TopicName, TopicPartition};

use super::{Error, LAST_DEFAULT, RECORDS_MAX, Records};

/// Offsets to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) stretches: Vec<Stretch>,
    /// Offsets in them; records are at most so many.
    pub(super) offsets: u64,
    /// Offsets that were asked for and lie before them, because there were too many.
    pub(super) left_out: u64,
}

impl Extent {
    /// Looks up what the sources have now.
    pub(super) async fn look_up(admin: &Admin, sources: &[Source], records: &Records) -> Result<Self, Error> {
        let topics: Vec<TopicName> = sources.iter().map(|source| source.topic.clone()).collect();
        let described = admin.describe_topics(&topics).await?;
        let partitions: Vec<TopicPartition> = described
            .values()
            .flat_map(|topic| {
                topic.partitions.iter().map(|p| TopicPartition::new(topic.name.clone(), p.partition))
            })
            .collect();
        let list = async |spec: OffsetSpec| -> Result<BTreeMap<TopicPartition, Offset>, Error> {
            let asked: Vec<_> = partitions.iter().map(|tp| (tp.clone(), spec)).collect();
            let found = admin.list_offsets(&asked).await?;
            Ok(found.into_iter().map(|(tp, listed)| (tp, listed.offset)).collect())
        };
        let mut first = list(OffsetSpec::Earliest).await?;
        if let Some(since) = records.since {
            let at = list(OffsetSpec::Timestamp(TimestampMs::max(since, 0))).await?;
            // -1: nothing is that young.
            first = at.into_iter().map(|(tp, at)| (tp, if at < 0 { Offset::MAX } else { at })).collect();
        }
        let ends = list(OffsetSpec::Latest).await?;
        let whole = partitions.into_iter().map(|tp| {
            let end = ends.get(&tp).copied().unwrap_or(0);
            let start = first.get(&tp).copied().unwrap_or(end).min(end);
            Stretch { tp, start, end }
        });
        Ok(Self::last(whole.collect(), records))
    }

    /// The last of what there is, each partition's part as large as any other's where it has so much.
    fn last(mut whole: Vec<Stretch>, records: &Records) -> Self {
        let is_bounded = records.since.is_some() || records.predicate.is_some();
        let most =
            records.last.unwrap_or(if is_bounded { RECORDS_MAX } else { LAST_DEFAULT }).min(RECORDS_MAX);
        let length = |stretch: &Stretch| u64::try_from(stretch.end - stretch.start).unwrap_or(0);
        let all: u64 = whole.iter().map(length).sum();
        // From the shortest on: what one doesn't need is the others'.
        whole.sort_by_key(length);
        let (mut left, mut sharers) = (most, whole.len() as u64);
        for stretch in &mut whole {
            let part = length(stretch).min(left.div_ceil(sharers.max(1)));
            stretch.start = stretch.end - Offset::try_from(part).unwrap_or(0);
            left -= part;
            sharers -= 1;
        }
        whole.retain(|stretch| stretch.start < stretch.end);
        whole.sort_by(|a, b| a.tp.cmp(&b.tp));
        let offsets = whole.iter().map(length).sum();
        let left_out = if records.last.is_some() { 0 } else { all - offsets };
        Self { stretches: whole, offsets, left_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretches(lengths: &[(Offset, Offset)]) -> Vec<Stretch> {
        let topic = TopicName::new("t").unwrap();
        let of = |(p, (start, end)): (usize, &(Offset, Offset))| Stretch {
            tp: TopicPartition::new(topic.clone(), p as i32),
            start: *start,
            end: *end,
        };
        lengths.iter().enumerate().map(of).collect()
    }

    fn read(lengths: &[(Offset, Offset)], records: &Records) -> (Vec<(i32, Offset, Offset)>, u64, u64) {
        let Extent { stretches, offsets, left_out } = Extent::last(stretches(lengths), records);
        (stretches.iter().map(|s| (s.tp.partition, s.start, s.end)).collect(), offsets, left_out)
    }

    #[test]
    fn partitions_share_what_is_asked_for() {
        let last = |n| Records { last: Some(n), ..Records::default() };
        let all = [(0, 100), (90, 100), (5, 5), (0, 100)];
        assert_eq!(read(&all, &last(50)), (vec![(0, 80, 100), (1, 90, 100), (3, 80, 100)], 50, 0));
        assert_eq!(read(&all, &last(3)), (vec![(0, 99, 100), (1, 99, 100), (3, 99, 100)], 3, 0));
        assert_eq!(read(&all, &last(1)).1, 1);
        assert_eq!(read(&all, &last(1_000)), (vec![(0, 0, 100), (1, 90, 100), (3, 0, 100)], 210, 0));
        assert_eq!(read(&[], &last(5)), (vec![], 0, 0));
    }

    #[test]
    fn what_is_not_said_has_a_limit() {
        let huge = [(0, 3_000_000)];
        let of = |records: Records| read(&huge, &records);
        assert_eq!(of(Records::default()).1, LAST_DEFAULT);
        let since = Records { since: Some(0), ..Records::default() };
        assert_eq!((of(since.clone()).1, of(since).2), (RECORDS_MAX, 3_000_000 - RECORDS_MAX));
        let predicate = Some("a".to_owned().try_into().unwrap());
        assert_eq!(of(Records { predicate, ..Records::default() }).1, RECORDS_MAX);
        assert_eq!(of(Records { last: Some(u64::MAX), ..Records::default() }).1, RECORDS_MAX);
    }
}
