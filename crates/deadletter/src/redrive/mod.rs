//! A redrive: one run over a selection of a DLQ's letters.
//!
//! A *plan* fixes what is meant: the selection and the offsets at which each partition ends, so that letters which come
//! later (also those that the run itself causes) are not part of it. It is plain data: kept, it is begun again after a
//! crash, and the settlements say what is left to do.

mod plan;
mod run;

pub use plan::{Action, PartitionPlan, Plan, Sample, StagePlan};
pub use run::{Ended, Progress, Redrive};

use std::collections::BTreeSet;

use types::TopicName;

use crate::Stage;

/// Where letters of a stage may go back to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The stage's own retry topic.
    pub retry: TopicName,
    /// The topics that it reads: a letter's origin must be one of them.
    pub sources: BTreeSet<TopicName>,
}

/// Says where letters of a stage go: a stage of the same workspace whose DLQ this is. `None`: nowhere, and the letter stays
/// where it is.
pub type Resolve = std::sync::Arc<dyn Fn(&Stage) -> Option<Way> + Send + Sync>;
