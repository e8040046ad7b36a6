//! Single records: where the outputs of both sides differ, and what is kept of it to be shown.
//!
//! Invariant: what is kept is bounded, whatever the record and its outputs weigh.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bytes::Bytes;
use types::{Headers, Offset, Record, TimestampMs, TopicPartition, names};

use super::differ::{differences, pattern, pointer};
use super::tally::{Category, STOPS};
use super::{EXCERPT_BYTES_MAX, SAMPLE_DIFFERENCES_MAX, SAMPLE_OUTPUTS_MAX};
use crate::evaluate::{Fate, Trouble, Write};

/// Differences of one record that are looked at.
const DIFFERENCES_MAX: usize = 200;
/// Of a text that differs, in bytes.
const DIFFERENCE_BYTES_MAX: usize = 400;

/// The beginning of some bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// At most [`EXCERPT_BYTES_MAX`].
    pub bytes: Bytes,
    /// How many there are.
    pub length: usize,
}

impl Excerpt {
    pub(super) fn of(bytes: &Bytes) -> Self {
        let some = &bytes[..bytes.len().min(EXCERPT_BYTES_MAX)];
        // A copy: else the whole would be held.
        Self { bytes: Bytes::copy_from_slice(some), length: bytes.len() }
    }
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// `x-dlq-reason`, or [`STOPS`].
    pub reason: &'static str,
    /// The step's name; empty: it is about none.
    pub step: String,
    /// JSONata's code.
    pub code: Option<&'static str>,
    /// Line and column in the expression, from 1.
    pub position: Option<(u32, u32)>,
    /// For people.
    pub message: String,
    /// The same with the expression's line and a caret, where there is one.
    pub rendered: String,
}

impl Failed {
    fn of(trouble: &Trouble) -> Self {
        let Trouble { reason, message, step, code, position, rendered } = trouble;
        Self {
            reason: reason.as_str(),
            step: step.clone(),
            code: *code,
            position: *position,
            message: cut(message, deadletter::MESSAGE_BYTES_MAX),
            rendered: cut(rendered, 2 * deadletter::MESSAGE_BYTES_MAX),
        }
    }
}

/// What one of the two makes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// Outputs; the first [`SAMPLE_OUTPUTS_MAX`] of them, key and value, and how many there are.
    Outputs(Vec<(Option<Excerpt>, Option<Excerpt>)>, usize),
    /// No result.
    Dropped,
    /// A failure.
    Failed(Failed),
}

impl Made {
    pub(super) fn of(fate: &Fate) -> Self {
        match fate {
            Fate::Outputs(records) if records.is_empty() => Self::Dropped,
            Fate::Outputs(records) => {
                let shown = |Write { topic: _, record: r }: &Write| {
                    (r.key.as_ref().map(Excerpt::of), r.value.as_ref().map(Excerpt::of))
                };
                Self::Outputs(records.iter().take(SAMPLE_OUTPUTS_MAX).map(shown).collect(), records.len())
            }
            Fate::Failed(trouble) => Self::Failed(Failed::of(trouble)),
            Fate::Stops(why) => Self::Failed(Failed {
                reason: STOPS,
                step: String::new(),
                code: None,
                position: None,
                message: cut(why, deadletter::MESSAGE_BYTES_MAX),
                rendered: cut(why, deadletter::MESSAGE_BYTES_MAX),
            }),
        }
    }
}

/// In which part of a record outputs differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// How many outputs there are.
    Outputs,
    /// The value.
    Value,
    /// The key.
    Key,
    /// The headers, but for `x-transform`, which names the version.
    Headers,
    /// Its topic.
    Topic,
}

impl Part {
    /// As the API and the command line write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outputs => "outputs",
            Self::Value => "value",
            Self::Key => "key",
            Self::Headers => "headers",
            Self::Topic => "topic",
        }
    }
}

/// One place at which outputs differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Which output, from 0.
    pub output: usize,
    /// In which part of it.
    pub part: Part,
    /// Where in the value: a JSON pointer. Empty in other parts.
    pub pointer: String,
    /// What the active version has there, cut; `None`: nothing.
    pub active: Option<String>,
    /// What the candidate has there, cut; `None`: nothing.
    pub candidate: Option<String>,
}

/// A record that isn't the same by both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// What became of it.
    pub category: Category,
    /// Where it lies.
    pub tp: TopicPartition,
    /// Where it lies.
    pub offset: Offset,
    /// Its time; -1: it has none.
    pub timestamp_ms: TimestampMs,
    /// Its key.
    pub key: Option<Excerpt>,
    /// Its value.
    pub input: Option<Excerpt>,
    /// What the active version makes of it.
    pub active: Made,
    /// What the candidate makes of it.
    pub candidate: Made,
    /// Of outputs that changed: where; the first [`SAMPLE_DIFFERENCES_MAX`].
    pub differences: Vec<Difference>,
}

/// Where the outputs of a record differ.
#[derive(Default)]
pub(super) struct Found {
    /// Parts, and patterns of pointers within values.
    pub(super) places: BTreeSet<(Part, String)>,
    /// The first [`SAMPLE_DIFFERENCES_MAX`].
    pub(super) differences: Vec<Difference>,
    count: usize,
}

impl Found {
    pub(super) fn look(&mut self, active: &[Write], candidate: &[Write]) {
        if active.len() != candidate.len() {
            let text = |records: &[Write]| Some(records.len().to_string());
            let (a, b) = (text(active), text(candidate));
            let _ = self.add(0, Part::Outputs, (String::new(), String::new()), a.as_deref(), b.as_deref());
            return;
        }
        for (output, (a, b)) in active.iter().zip(candidate).enumerate() {
            if self.count >= DIFFERENCES_MAX {
                return;
            }
            if a.topic != b.topic {
                let (a, b) = (Some(a.topic.as_str()), Some(b.topic.as_str()));
                let _ = self.add(output, Part::Topic, (String::new(), String::new()), a, b);
            }
            self.look_at(output, &a.record, &b.record);
        }
    }

    fn look_at(&mut self, output: usize, active: &Record, candidate: &Record) {
        // Both have the input's timestamp.
        let Record { key, value, headers, timestamp: _ } = active;
        let text = |bytes: &Option<Bytes>| bytes.as_deref().map(|b| String::from_utf8_lossy(b).into_owned());
        let nowhere = || (String::new(), String::new());
        match (value, &candidate.value) {
            (Some(a), Some(b)) => differences(a, b, &mut |path, a, b| {
                self.add(output, Part::Value, (pointer(path), pattern(path)), a, b)
            }),
            (a, b) if a == b => {}
            (a, b) => {
                let (a, b) = (text(a), text(b));
                let _ = self.add(output, Part::Value, nowhere(), a.as_deref(), b.as_deref());
            }
        }
        if *key != candidate.key {
            let (a, b) = (text(key), text(&candidate.key));
            let _ = self.add(output, Part::Key, nowhere(), a.as_deref(), b.as_deref());
        }
        if !same_headers(headers, &candidate.headers) {
            let (a, b) = (shown(headers), shown(&candidate.headers));
            let _ = self.add(output, Part::Headers, nowhere(), Some(&a), Some(&b));
        }
    }

    fn add(
        &mut self,
        output: usize,
        part: Part,
        (pointer, pattern): (String, String),
        active: Option<&str>,
        candidate: Option<&str>,
    ) -> ControlFlow<()> {
        self.count += 1;
        self.places.insert((part, pattern));
        if self.differences.len() < SAMPLE_DIFFERENCES_MAX {
            let text = |text: &str| cut(text, DIFFERENCE_BYTES_MAX);
            let (active, candidate) = (active.map(text), candidate.map(text));
            self.differences.push(Difference { output, part, pointer, active, candidate });
        }
        if self.count < DIFFERENCES_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// All but the versions that made them, which differ by what is asked.
fn same_headers(active: &Headers, candidate: &Headers) -> bool {
    let but = |headers: &Headers| {
        headers.iter().filter(|h| &*h.name != names::TRANSFORM).cloned().collect::<Vec<_>>()
    };
    active.iter().count() == candidate.iter().count() && but(active) == but(candidate)
}

fn shown(headers: &Headers) -> String {
    let one = |h: &types::Header| {
        let value = h.value.as_deref().map_or_else(|| "-".into(), String::from_utf8_lossy);
        format!("{}: {value}", &*h.name)
    };
    headers.iter().filter(|h| &*h.name != names::TRANSFORM).map(one).collect::<Vec<_>>().join(", ")
}

/// At most `max` bytes, whole characters; that something is missing is shown.
fn cut(text: &str, max: usize) -> String {
    match text.len() <= max {
        true => text.to_owned(),
        false => format!("{}…", &text[..text.floor_char_boundary(max)]),
    }
}
