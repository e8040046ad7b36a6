//! Length-prefixed frames. Invariant: the length is judged before anything is allocated for it.

/// The largest frame that is accepted unless a limit says otherwise: Kafka's `socket.request.max.bytes`.
pub const FRAME_BYTES_MAX: usize = 100 << 20;

/// Why a frame's length is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The length is negative.
    #[error("frame length {0} is negative")]
    Negative(i32),
    /// The length is over the limit.
    #[error("frame of {size} bytes is over the limit of {limit} bytes")]
    TooLarge {
        /// What was announced.
        size: usize,
        /// What is allowed.
        limit: usize,
    },
}

/// The length that a prefix of four bytes announces.
///
/// # Errors
/// When it is negative or over `limit` bytes.
pub fn size(prefix: [u8; 4], limit: usize) -> Result<usize, Error> {
    let size = i32::from_be_bytes(prefix);
    let size = usize::try_from(size).map_err(|_| Error::Negative(size))?;
    if size > limit { Err(Error::TooLarge { size, limit }) } else { Ok(size) }
}
