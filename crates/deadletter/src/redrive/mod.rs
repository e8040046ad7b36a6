//! A redrive: one run over a selection of a DLQ's letters.
//!
//! A *plan* fixes what is meant: the selection and the offsets at which each partition ends, so that letters which come
//! later (also those that the run itself causes) are not part of it. It is plain data: kept, it is begun again after a
//! crash, and the settlements say what is left to do.

mod plan;
mod run;

pub use plan::{Action, PartitionPlan, Plan, StagePlan};
pub use run::{Ended, Progress, Redrive};

use types::TopicName;

use crate::Stage;

/// Says to which retry topic letters of a stage go: that of a stage of the same workspace whose DLQ this is. `None`: to
/// none, and the letter stays where it is.
pub type Resolve = std::sync::Arc<dyn Fn(&Stage) -> Option<TopicName> + Send + Sync>;
