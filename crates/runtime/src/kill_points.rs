//! Named places at which the process can be made to kill itself, for tests of what a crash there leaves behind.
//!
//! Invariants:
//! - No release build can be killed by it: there [`pass`] is nothing, the list of names is all that is left, and
//!   [`arm`] fails, so that a test on such a build can't succeed because nothing happened. A cargo feature was
//!   decided against: features are unified over the workspace, so a build for tests would turn it on for whatever
//!   binary is built beside it, and its state couldn't be told from the binary's profile.
//! - In other builds nothing happens before [`arm`], which only the binary calls, for an environment variable that is
//!   meant for tests; a pass costs one relaxed load and a comparison.
//! - The process dies at the point itself, by SIGKILL: no destructor, no flush, no other thread goes on for long. Its
//!   last words on standard error are `killed at NAME, pass N`, for the test to check that it died there.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

macro_rules! points {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal),+ $(,)?) => {
        /// A place at which the process can die.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Point {
            $($(#[doc = $doc])+ $variant),+
        }

        impl Point {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// What it is called, from outside too.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }
    };
}

points! {
    /// A plain record isn't handed to the client yet.
    ProduceBefore = "produce.before",
    /// The engine has acknowledged it, and who sent it doesn't know yet.
    ProduceAfter = "produce.after",
    /// A transaction is begun, and nothing written.
    TransactionBegun = "transaction.begun",
    /// Its records are with the client, its offsets not.
    OffsetsBefore = "transaction.offsets.before",
    /// Its offsets are with the engine.
    OffsetsAfter = "transaction.offsets.after",
    /// Its records are acknowledged, its end isn't asked for yet.
    CommitBefore = "transaction.commit.before",
    /// It is committed, and its owner doesn't know.
    CommitAfter = "transaction.commit.after",
    /// A redrive has begun a transaction.
    SettlementBefore = "settlement.before",
    /// Copies and settlements are with the client.
    SettlementSent = "settlement.sent",
    /// They are committed, and the run doesn't know.
    SettlementAfter = "settlement.after",
    /// Deliveries are done, their offsets not committed.
    ConnectorCommitBefore = "connector.commit.before",
    /// The offsets are committed, and the connector doesn't know.
    ConnectorCommitAfter = "connector.commit.after",
    /// A connector's dead letters are with the client, the offsets not.
    ConnectorLettersSent = "connector.letters.sent",
    /// The offsets are in the transaction of the dead letters, which isn't committed.
    ConnectorLettersOffsets = "connector.letters.offsets",
    /// It is committed, and the connector doesn't know.
    ConnectorLettersAfter = "connector.letters.after",
    /// The store has written a document, and not committed.
    StoreBefore = "store.write.before",
    /// It is committed, and nobody knows.
    StoreAfter = "store.write.after",
    /// The broker's log has a group of frames, and has written none of it.
    FrameBefore = "log.frame.before",
    /// The group is written and not synced.
    FrameWritten = "log.frame.written",
    /// It is synced, and nobody is told.
    FrameSynced = "log.frame.synced",
    /// The end of a transaction is decided and nothing of it written (where Kafka writes "prepare").
    EndBefore = "transaction.end.before",
    /// One more of its markers is in its partition's segment; the frame that makes it count isn't queued.
    EndMarker = "transaction.end.marker",
    /// The frame with markers, offsets and state is queued.
    EndQueued = "transaction.end.queued",
    /// The frame is durable, the answer not sent.
    EndAfter = "transaction.end.after",
    /// A partition needs a new segment.
    SegmentRollBefore = "log.segment.roll.before",
    /// Its first batch is written to it; the partition doesn't have it yet.
    SegmentRollAfter = "log.segment.roll.after",
    /// The write-ahead log's file is full, and synced.
    WalRollBefore = "log.wal.roll.before",
    /// The next file is made.
    WalRollAfter = "log.wal.roll.after",
    /// A checkpoint is due.
    CheckpointBefore = "log.checkpoint.before",
    /// Its segments are synced, itself isn't written.
    CheckpointSynced = "log.checkpoint.synced",
    /// It is written under its temporary name.
    CheckpointWritten = "log.checkpoint.written",
    /// It stands, and the write-ahead log before it too.
    CheckpointRenamed = "log.checkpoint.renamed",
    /// Everything before it is gone.
    CheckpointAfter = "log.checkpoint.after",
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Point {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.iter().find(|point| point.name() == text);
        found.copied().ok_or_else(|| Error::Unknown(text.to_owned()))
    }
}

/// Why the process can't be made to die.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The text isn't `NAME:PASS`.
    #[error("{0:?} is no kill point with a pass: give NAME:PASS, with PASS from 1")]
    Shape(String),
    /// There is no such point.
    #[error("there is no kill point {0:?}: runtime/src/kill_points.rs has the list")]
    Unknown(String),
    /// A release build.
    #[error("this build has no kill points: they are only in builds with debug assertions")]
    Release,
}

/// The point's place in the list, from 1; 0: none.
static ARMED: AtomicUsize = AtomicUsize::new(0);
/// The pass at which it strikes.
static PASS: AtomicU32 = AtomicU32::new(0);
static PASSED: AtomicU32 = AtomicU32::new(0);

/// From now on the process dies at a point, given as `NAME:PASS`: at the PASS-th time that it comes there.
///
/// # Errors
/// See [`Error`].
pub fn arm(text: &str) -> Result<(), Error> {
    if !cfg!(debug_assertions) {
        return Err(Error::Release);
    }
    let (name, pass) = text.split_once(':').ok_or_else(|| Error::Shape(text.to_owned()))?;
    let point: Point = name.parse()?;
    let pass = pass.parse().ok().filter(|pass| *pass > 0).ok_or_else(|| Error::Shape(text.to_owned()))?;
    PASS.store(pass, Ordering::Relaxed);
    ARMED.store(point as usize + 1, Ordering::Release);
    Ok(())
}

/// The process comes to a point.
#[inline]
pub fn pass(point: Point) {
    if cfg!(debug_assertions) && ARMED.load(Ordering::Relaxed) == point as usize + 1 {
        strike(point);
    }
}

#[cold]
fn strike(point: Point) {
    let passed = PASSED.fetch_add(1, Ordering::AcqRel) + 1;
    if passed == PASS.load(Ordering::Acquire) {
        use std::io::Write as _;
        let last_words = format!("killed at {point}, pass {passed}\n");
        // Whether anybody reads it or not, the process dies.
        let _ = std::io::stderr().write_all(last_words.as_bytes());
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            // The signal has been sent: this thread, too, is at its end.
            std::thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for point in Point::ALL {
            assert_eq!(point.name().parse(), Ok(*point));
        }
    }

    #[test]
    fn what_cannot_be_armed_says_why() {
        let shape = |text: &str| Err(Error::Shape(text.into()));
        assert_eq!(arm("log.frame.before"), shape("log.frame.before"));
        assert_eq!(arm("log.frame.before:0"), shape("log.frame.before:0"));
        assert_eq!(arm("no.such:1"), Err(Error::Unknown("no.such".into())));
    }
}
