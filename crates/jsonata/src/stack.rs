//! Recursion over syntax and values is counted against limits elsewhere; here the machine's
//! stack is made large enough for those limits, whatever thread the caller is on.

/// What must be free on the stack before a recursive step: several levels of the largest
/// frames of a build without optimisation.
const RED_ZONE_BYTES: usize = 192 * 1024;
/// Size of a further stack segment.
const SEGMENT_BYTES: usize = 2 * 1024 * 1024;

/// Runs `f` with enough stack below it.
#[inline]
pub(crate) fn grow<R>(f: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(RED_ZONE_BYTES, SEGMENT_BYTES, f)
}
