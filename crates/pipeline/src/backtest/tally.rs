//! What a candidate makes of records beside what the active version makes of them, counted.
//!
//! Invariant: each record is in exactly one category; what is kept of it is bounded whatever it weighs.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use kafka::ConsumedRecord;
use types::{Offset, TopicPartition};

use super::PLACES_MAX;
use super::sample::{Excerpt, Found, Made, Part, Sample};
use crate::evaluate::{Fate, Tried};

/// What became of a record, by both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// The same outputs.
    Same,
    /// Other outputs.
    Changed,
    /// The candidate fails.
    NewFailure,
    /// The active version fails, and the candidate has outputs.
    FixedFailure,
    /// Both fail.
    StillFailing,
    /// The candidate has no result, where the active version has outputs or a dead letter.
    NewlyDropped,
    /// The candidate has outputs, where the active version has no result.
    NewlyMade,
    /// Neither has a result.
    StillDropped,
}

impl Category {
    /// As the API and the command line write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Changed => "changed",
            Self::NewFailure => "newFailure",
            Self::FixedFailure => "fixedFailure",
            Self::StillFailing => "stillFailing",
            Self::NewlyDropped => "newlyDropped",
            Self::NewlyMade => "newlyMade",
            Self::StillDropped => "stillDropped",
        }
    }
}

/// Records by category.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// See [`Category::Same`].
    pub same: u64,
    /// See [`Category::Changed`].
    pub changed: u64,
    /// See [`Category::NewFailure`].
    pub new_failures: u64,
    /// See [`Category::FixedFailure`].
    pub fixed_failures: u64,
    /// See [`Category::StillFailing`].
    pub still_failing: u64,
    /// Of those, for another reason: another code, or at another step.
    pub still_failing_otherwise: u64,
    /// See [`Category::NewlyDropped`].
    pub newly_dropped: u64,
    /// See [`Category::NewlyMade`].
    pub newly_made: u64,
    /// See [`Category::StillDropped`].
    pub still_dropped: u64,
}

impl Counts {
    /// All records that were compared.
    pub fn compared(&self) -> u64 {
        let Self {
            same,
            changed,
            new_failures,
            fixed_failures,
            still_failing,
            still_failing_otherwise: _,
            newly_dropped,
            newly_made,
            still_dropped,
        } = self;
        same + changed
            + new_failures
            + fixed_failures
            + still_failing
            + newly_dropped
            + newly_made
            + still_dropped
    }

    /// Records that lead to something else, failures aside: other outputs, none any more, or some at last.
    pub fn different(&self) -> u64 {
        self.changed + self.newly_dropped + self.newly_made
    }

    fn add(&mut self, category: Category) {
        let count = match category {
            Category::Same => &mut self.same,
            Category::Changed => &mut self.changed,
            Category::NewFailure => &mut self.new_failures,
            Category::FixedFailure => &mut self.fixed_failures,
            Category::StillFailing => &mut self.still_failing,
            Category::NewlyDropped => &mut self.newly_dropped,
            Category::NewlyMade => &mut self.newly_made,
            Category::StillDropped => &mut self.still_dropped,
        };
        *count += 1;
    }
}

/// What one of the two took and how it failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Side {
    /// Evaluation time.
    pub time: Duration,
    /// Evaluation steps.
    pub steps: u64,
    /// The most steps that the expressions took together for one record: what the budget is held against.
    pub steps_max: u64,
    /// At which record.
    pub steps_max_at: Option<(TopicPartition, Offset)>,
    /// Failures by `x-dlq-reason`; [`STOPS`]: the pipeline would stop there.
    pub failures: BTreeMap<&'static str, u64>,
}

/// Stands in place of an `x-dlq-reason` where the pipeline would stop instead.
pub const STOPS: &str = "stops_pipeline";

/// A place at which outputs differ, over all records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// In which part of an output.
    pub part: Part,
    /// Where in its value: a JSON pointer with `*` for every index.
    pub pattern: String,
    /// How many records differ there.
    pub records: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    pub(super) active: Side,
    pub(super) candidate: Side,
    samples_max: usize,
    /// Each with what kind of difference it shows.
    samples: BTreeMap<Category, Vec<(u64, Sample)>>,
    places: BTreeMap<(Part, String), u64>,
    /// Records that differ at further places.
    pub(super) elsewhere: u64,
}

/// What one of the two made of a record, and how long it took.
pub(super) struct Timed {
    pub(super) tried: Tried,
    pub(super) took: Duration,
}

impl Tally {
    /// Keeps so many samples a category.
    pub(super) fn new(samples_max: usize) -> Self {
        let (counts, active, candidate, samples, places) = Default::default();
        Self { counts, active, candidate, samples_max, samples, places, elsewhere: 0 }
    }

    pub(super) fn samples(&self) -> Vec<Sample> {
        self.samples.values().flatten().map(|(_, sample)| sample.clone()).collect()
    }

    /// Most records first.
    pub(super) fn places(&self) -> Vec<Place> {
        let place = |((part, pattern), records): (&(Part, String), &u64)| Place {
            part: *part,
            pattern: pattern.clone(),
            records: *records,
        };
        let mut places: Vec<_> = self.places.iter().map(place).collect();
        places.sort_by_key(|place| std::cmp::Reverse(place.records));
        places
    }

    /// Counts one record.
    pub(super) fn add(&mut self, record: &ConsumedRecord, active: &Timed, candidate: &Timed) {
        for (side, timed) in [(&mut self.active, active), (&mut self.candidate, candidate)] {
            side.count(record, timed);
        }
        let (before, after) = (&active.tried.fate, &candidate.tried.fate);
        let mut found = Found::default();
        let category = match (before, after) {
            (Fate::Outputs(a), Fate::Outputs(b)) => match (a.is_empty(), b.is_empty()) {
                (true, true) => Category::StillDropped,
                (true, false) => Category::NewlyMade,
                (false, true) => Category::NewlyDropped,
                (false, false) => {
                    found.look(a, b);
                    if found.places.is_empty() { Category::Same } else { Category::Changed }
                }
            },
            (Fate::Outputs(_), _) => Category::NewFailure,
            // Neither an output nor a dead letter is left of it: that mends nothing.
            (_, Fate::Outputs(b)) if b.is_empty() => Category::NewlyDropped,
            (_, Fate::Outputs(_)) => Category::FixedFailure,
            _ => Category::StillFailing,
        };
        self.counts.add(category);
        let otherwise = category == Category::StillFailing && cause(before) != cause(after);
        self.counts.still_failing_otherwise += u64::from(otherwise);
        let is_shown = match category {
            Category::Same | Category::StillDropped => false,
            Category::StillFailing => otherwise,
            _ => true,
        };
        if is_shown {
            self.keep(category, record, before, after, &found);
        }
        self.count_places(found.places);
    }

    fn count_places(&mut self, places: BTreeSet<(Part, String)>) {
        let mut elsewhere = false;
        for place in places {
            if self.places.len() < PLACES_MAX || self.places.contains_key(&place) {
                *self.places.entry(place).or_default() += 1;
            } else {
                elsewhere = true;
            }
        }
        self.elsewhere += u64::from(elsewhere);
    }

    /// Keeps the first records of a category, but a record of a kind that isn't there yet rather than two of one.
    fn keep(
        &mut self,
        category: Category,
        record: &ConsumedRecord,
        active: &Fate,
        candidate: &Fate,
        found: &Found,
    ) {
        let mut hasher = DefaultHasher::new();
        (&found.places, cause(active), cause(candidate)).hash(&mut hasher);
        let kind = hasher.finish();
        let kept = self.samples.entry(category).or_default();
        if kept.len() >= self.samples_max {
            let is_double = |at: &usize| kept.iter().filter(|(other, _)| *other == kept[*at].0).count() > 1;
            let double = (0..kept.len()).rev().find(is_double);
            match double.filter(|_| kept.iter().all(|(other, _)| *other != kind)) {
                Some(at) => drop(kept.remove(at)),
                None => return,
            }
        }
        let sample = Sample {
            category,
            tp: record.tp.clone(),
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.as_ref().map(Excerpt::of),
            input: record.value.as_ref().map(Excerpt::of),
            active: Made::of(active),
            candidate: Made::of(candidate),
            differences: found.differences.clone(),
        };
        kept.push((kind, sample));
    }
}

impl Side {
    fn count(&mut self, record: &ConsumedRecord, timed: &Timed) {
        let Timed { tried: Tried { fate, steps }, took } = timed;
        self.time += *took;
        self.steps = self.steps.saturating_add(*steps);
        if *steps > self.steps_max {
            self.steps_max = *steps;
            self.steps_max_at = Some((record.tp.clone(), record.offset));
        }
        match fate {
            Fate::Outputs(_) => {}
            Fate::Failed(trouble) => *self.failures.entry(trouble.reason.as_str()).or_default() += 1,
            Fate::Stops(_) => *self.failures.entry(STOPS).or_default() += 1,
        }
    }
}

/// What makes two failures the same. Messages don't: they name places in other expressions.
fn cause(fate: &Fate) -> Option<(&'static str, Option<&'static str>, &str)> {
    match fate {
        Fate::Outputs(_) => None,
        Fate::Failed(trouble) => Some((trouble.reason.as_str(), trouble.code, &trouble.step)),
        Fate::Stops(_) => Some((STOPS, None, "")),
    }
}
