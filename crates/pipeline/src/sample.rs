//! Which records a sample keeps.
//!
//! Invariant: it follows from the step's name and the record's key, or its first place, alone: a replay, a redrive and another
//! machine keep the same ones. The hash is none that a partitioner uses, so that every partition gives its share.

use deadletter::Origin;
use resources::{SampleBy, SampleSpec};

/// A share of all records.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Two samples of one pipeline keep other records each.
    salt: u64,
    /// Records whose hash is below it are kept.
    below: u128,
    by: SampleBy,
}

impl Sample {
    pub(crate) fn new(step: &str, SampleSpec { percent, by }: &SampleSpec) -> Self {
        // Hundredths of a percent, up to 10,000: the product fits.
        let below = (u128::from(percent.hundredths()) << 64) / 10_000;
        Self { salt: fold(OFFSET_BASIS, step.as_bytes()), below, by: *by }
    }

    /// Whether the record is one of the sample. One without a key goes by its place.
    pub(crate) fn keeps(&self, key: Option<&[u8]>, origin: &Origin) -> bool {
        let hash = match (self.by, key) {
            (SampleBy::Key, Some(key)) => fold(self.salt, key),
            _ => {
                let hash = fold(self.salt, origin.topic.as_str().as_bytes());
                fold(fold(hash, &origin.partition.to_be_bytes()), &origin.offset.to_be_bytes())
            }
        };
        u128::from(mix(hash)) < self.below
    }
}

const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, 64 bits.
fn fold(hash: u64, bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.iter().fold(hash, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

/// MurmurHash3's 64-bit finaliser: of FNV's result the upper bits alone aren't even.
fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use types::TopicName;

    use super::*;

    fn sample(step: &str, percent: &str, by: SampleBy) -> Sample {
        Sample::new(step, &SampleSpec { percent: percent.parse().unwrap(), by })
    }

    fn origin(offset: i64) -> Origin {
        Origin { topic: TopicName::new("in").unwrap(), partition: 3, offset, timestamp_ms: 0 }
    }

    #[test]
    fn the_share_is_kept_evenly_and_the_bounds_are_none_and_all() {
        for by in [SampleBy::Key, SampleBy::Record] {
            let count = |percent: &str| {
                let sample = sample("s", percent, by);
                (0..20_000).filter(|n| sample.keeps(Some(format!("k{n}").as_bytes()), &origin(*n))).count()
            };
            assert_eq!((count("0"), count("100")), (0, 20_000));
            let (tenth, half) = (count("10"), count("50.5"));
            assert!((1_850..2_150).contains(&tenth) && (9_850..10_350).contains(&half), "{tenth} {half}");
        }
    }

    #[test]
    fn a_keys_records_stay_together_and_steps_differ() {
        let by_key = sample("s", "50", SampleBy::Key);
        for key in [&b"a"[..], b"b", b"c", b""] {
            let kept = by_key.keeps(Some(key), &origin(0));
            assert!((1..50).all(|n| by_key.keeps(Some(key), &origin(n)) == kept));
        }
        let places = (0..1_000).filter(|n| by_key.keeps(None, &origin(*n))).count();
        assert!((400..600).contains(&places), "without a key by the place: {places}");
        let other = sample("t", "50", SampleBy::Key);
        let both = (0..10_000)
            .map(|n| format!("k{n}"))
            .filter(|k| [&by_key, &other].iter().all(|s| s.keeps(Some(k.as_bytes()), &origin(0))))
            .count();
        assert!((2_300..2_700).contains(&both), "a half of a half: {both}");
    }

    /// What was kept once is kept by every later version, too.
    #[test]
    fn the_choice_never_changes() {
        let sample = sample("errors", "10", SampleBy::Key);
        let kept: Vec<_> =
            (0..100_u32).filter(|n| sample.keeps(Some(format!("user-{n}").as_bytes()), &origin(0))).collect();
        assert_eq!(kept, [8, 15, 17, 24, 45, 50, 54, 72, 74, 88]);
    }
}
