//! Every evaluation runs under a [`Budget`]: whatever the expression and the input are, it ends
//! within it, with a result or with an ordinary error. Steps, depth and bytes are counted the
//! same way on every machine, so they decide the same on every replay; wall time is a backstop
//! for a machine that is too slow and says nothing about the record.

use std::time::Duration;

/// What one evaluation may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Evaluation steps: one for each syntax node evaluated and for each element, character run
    /// or comparison that a built-in function works through. Default: 20,000,000.
    pub steps: u64,
    /// How deeply evaluations nest: calls that are not tail calls, and nested syntax. Also bounds
    /// how deep a value is followed (serialisation, comparison, `**`). Default: 5,000.
    pub depth: u32,
    /// Bytes held by all intermediate values together, by what is noted of the input, and by
    /// buffers on the way. An evaluation gives nothing back before it ends, so this is also what it
    /// allocates in total: a loop of tail calls takes no depth, but bytes. Default: 128 MiB.
    pub bytes: usize,
    /// Bytes of the serialised result. Default: 16 MiB.
    pub output_bytes: usize,
    /// Steps of the backtracking regex matcher, over all matches. Default: 10,000,000.
    pub regex_steps: u64,
    /// Wall time, looked at every few thousand steps. Default: 30 s.
    pub wall: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            steps: 20_000_000,
            depth: 5_000,
            bytes: 128 * 1024 * 1024,
            output_bytes: 16 * 1024 * 1024,
            regex_steps: 10_000_000,
            wall: Duration::from_secs(30),
        }
    }
}

/// The part of a [`Budget`] that was used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// [`Budget::steps`], code `D1901`.
    Steps,
    /// [`Budget::depth`], code `D1011` as in jsonata-js.
    Depth,
    /// [`Budget::bytes`], code `D1902`.
    Bytes,
    /// [`Budget::output_bytes`], code `D1903`.
    OutputBytes,
    /// [`Budget::regex_steps`], code `D1904`.
    RegexSteps,
    /// [`Budget::wall`], code `D1012` as in jsonata-js.
    WallTime,
}

impl Limit {
    /// The error code that names this limit.
    pub fn code(self) -> &'static str {
        match self {
            Limit::Steps => "D1901",
            Limit::Depth => "D1011",
            Limit::Bytes => "D1902",
            Limit::OutputBytes => "D1903",
            Limit::RegexSteps => "D1904",
            Limit::WallTime => "D1012",
        }
    }

    /// Whether the same evaluation exceeds this limit everywhere and always. Only wall time
    /// depends on the machine and its load.
    pub fn is_deterministic(self) -> bool {
        !matches!(self, Limit::WallTime)
    }

    /// The name of the limit, as in [`Budget`].
    pub fn name(self) -> &'static str {
        match self {
            Limit::Steps => "steps",
            Limit::Depth => "depth",
            Limit::Bytes => "bytes",
            Limit::OutputBytes => "output_bytes",
            Limit::RegexSteps => "regex_steps",
            Limit::WallTime => "wall",
        }
    }
}
