//! Dead letters: what every stage writes when it can't do a record, how they are read, settled, and given back.
//!
//! Nouns: a *dead letter* lies in a DLQ, with the headers of [`dead_letter`]. It is *settled* (redriven or discarded) by a
//! record in [`SETTLED_TOPIC`], written in the transaction that does it. A *redrive* is one run over a selection of a
//! DLQ's letters.
//!
//! It must not know pipelines, connectors or the control plane: who may be redriven to where is told by its caller.

mod bindings;
mod browse;
mod error;
mod expression;
mod failure;
mod letter;
pub mod metrics;
mod redrive;
mod select;
mod settled;
mod stage;

pub use bindings::{Reads, bind, bind_headers, bind_key};
pub use browse::{Dlq, Group, Listing, Summary};
pub use error::{Error, Result};
pub use expression::{Expression, ExpressionError, Predicate, Repair};
pub use failure::{Failure, Reason};
pub use letter::{
    Letter, LetterId, LetterIdError, MESSAGE_BYTES_MAX, Origin, dead_letter, first_origin_topic, redriven,
};
pub use redrive::{Action, Ended, PartitionPlan, Plan, Progress, Redrive, Resolve, Sample, StagePlan, Way};
pub use select::Selection;
pub use settled::{Outcome, Settled, Settlement};
pub use stage::{Stage, StageError};

/// Where settlements lie: compacted, key `topic/partition/offset`.
pub const SETTLED_TOPIC: &str = "vltava.dlq.settled";
