//! Constraint: decompression is a stream under a limit. A few bytes that claim to be gigabytes cost at most the limit,
//! and one codec's fixed window: 8 MiB for lz4's largest block twice, 16 MiB for zstd.

use std::io::{BufRead, BufReader, Read, Write};

use super::{COMPRESSION_MASK, Error};

/// Zstandard windows above 2^24 bytes are refused: no level below 20 makes them.
const ZSTD_WINDOW_LOG_MAX: u32 = 24;
/// What snappy blocks from a Java client begin with.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Magic, version and the lowest compatible version.
const XERIAL_HEADER_BYTES: usize = 16;
/// Bytes of input that one xerial block holds when we write it, as the Java library does.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// A batch's compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Compression {
    /// As is.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy, raw or in xerial's framing.
    Snappy,
    /// The LZ4 frame format.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    pub(super) fn from_attributes(attributes: i16) -> Result<Self, Error> {
        match attributes & COMPRESSION_MASK {
            0 => Ok(Self::None),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Snappy),
            3 => Ok(Self::Lz4),
            4 => Ok(Self::Zstd),
            other => Err(Error::Compression(other)),
        }
    }

    /// Its number in a batch's attributes.
    #[must_use]
    pub fn attributes(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// Its name, as `compression.type` has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    pub(super) fn error(self, reason: impl ToString) -> Error {
        Error::Decompress { codec: self.name(), reason: reason.to_string() }
    }

    /// A stream of the decompressed bytes, which fails past `limit` bytes. `None` for [`Compression::None`].
    pub(super) fn reader(self, bytes: &[u8], limit: usize) -> Result<Option<Bounded<'_>>, Error> {
        let inner: Box<dyn Read + '_> = match self {
            Self::None => return Ok(None),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(bytes)),
            Self::Snappy => Box::new(Snappy::new(bytes, limit)?),
            Self::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(bytes)),
            Self::Zstd => {
                let mut decoder =
                    zstd::stream::read::Decoder::with_buffer(bytes).map_err(|e| self.error(e))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|e| self.error(e))?;
                Box::new(decoder)
            }
        };
        Ok(Some(Bounded {
            inner: BufReader::with_capacity(16 << 10, inner),
            codec: self,
            left: limit,
            limit,
        }))
    }

    /// All of the decompressed bytes, at most `limit`.
    pub(super) fn decompress(self, bytes: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
        match self.reader(bytes, limit)? {
            None if bytes.len() > limit => Err(Error::TooLarge { limit }),
            None => Ok(bytes.to_vec()),
            Some(mut reader) => {
                let mut out = Vec::new();
                reader.read_up_to(limit.saturating_add(1), &mut out)?;
                Ok(out)
            }
        }
    }
}

/// Memory that compressing one batch after another takes.
#[derive(Debug, Default)]
pub(super) struct Compressor {
    lz4: Option<lz4_flex::frame::FrameEncoder<Vec<u8>>>,
}

impl Compressor {
    /// Appends what `bytes` compress to.
    pub(super) fn compress(
        &mut self,
        codec: Compression,
        bytes: &[u8],
        mut out: Vec<u8>,
    ) -> Result<Vec<u8>, Error> {
        match codec {
            Compression::None => {
                out.extend_from_slice(bytes);
                Ok(out)
            }
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
                encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(|e| codec.error(e))
            }
            Compression::Snappy => {
                out.extend_from_slice(&XERIAL_MAGIC);
                out.extend_from_slice(&1i32.to_be_bytes());
                out.extend_from_slice(&1i32.to_be_bytes());
                let mut encoder = snap::raw::Encoder::new();
                for block in bytes.chunks(XERIAL_BLOCK_BYTES) {
                    let block = encoder.compress_vec(block).map_err(|e| codec.error(e))?;
                    out.extend_from_slice(&(block.len() as i32).to_be_bytes());
                    out.extend_from_slice(&block);
                }
                Ok(out)
            }
            Compression::Lz4 => self.lz4(bytes, out).map_err(|e| codec.error(e)),
            Compression::Zstd => {
                zstd::stream::copy_encode(bytes, &mut out, 0).map_err(|e| codec.error(e))?;
                Ok(out)
            }
        }
    }

    /// One frame. Its encoder has buffers of a block each and a table, which the next frame needs again.
    fn lz4(&mut self, bytes: &[u8], out: Vec<u8>) -> Result<Vec<u8>, lz4_flex::frame::Error> {
        let mut encoder = self.lz4.take().unwrap_or_else(|| {
            // A block's size is chosen at the first frame; as the Java client does, by the smallest.
            let info = lz4_flex::frame::FrameInfo::new().block_size(lz4_flex::frame::BlockSize::Max64KB);
            lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new())
        });
        *encoder.get_mut() = out;
        encoder.write_all(bytes)?;
        encoder.try_finish()?;
        let made = std::mem::take(encoder.get_mut());
        // One that failed isn't used again.
        self.lz4 = Some(encoder);
        Ok(made)
    }
}

/// Decompressed bytes under a limit.
pub(super) struct Bounded<'a> {
    inner: BufReader<Box<dyn Read + 'a>>,
    codec: Compression,
    left: usize,
    limit: usize,
}

impl Bounded<'_> {
    /// Appends up to `count` bytes to `out`, fewer at the end of the stream. Allocates as bytes come, not as announced.
    pub(super) fn read_up_to(&mut self, count: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        let codec = self.codec;
        let taken = (&mut self.inner).take(count as u64).read_to_end(out).map_err(|e| codec.error(e))?;
        self.left = self.left.checked_sub(taken).ok_or(Error::TooLarge { limit: self.limit })?;
        Ok(())
    }

    /// The next byte, `None` at the end of the stream.
    pub(super) fn byte(&mut self) -> Result<Option<u8>, Error> {
        let codec = self.codec;
        let buffer = self.inner.fill_buf().map_err(|e| codec.error(e))?;
        let Some(byte) = buffer.first().copied() else { return Ok(None) };
        self.inner.consume(1);
        self.left = self.left.checked_sub(1).ok_or(Error::TooLarge { limit: self.limit })?;
        Ok(Some(byte))
    }
}

/// Snappy's block format has no stream: a block is decompressed whole, after its announced length was judged.
struct Snappy<'a> {
    rest: &'a [u8],
    xerial: bool,
    block: Vec<u8>,
    at: usize,
    left: usize,
}

impl<'a> Snappy<'a> {
    fn new(bytes: &'a [u8], limit: usize) -> Result<Self, Error> {
        let xerial = bytes.starts_with(&XERIAL_MAGIC);
        if xerial && bytes.len() < XERIAL_HEADER_BYTES {
            return Err(Compression::Snappy.error("the xerial header is cut off"));
        }
        let rest = if xerial { &bytes[XERIAL_HEADER_BYTES..] } else { bytes };
        Ok(Self { rest, xerial, block: Vec::new(), at: 0, left: limit })
    }

    fn next_block(&mut self) -> Result<(), String> {
        let block = if self.xerial {
            let (prefix, rest) = self.rest.split_first_chunk::<4>().ok_or("a block length is cut off")?;
            let length =
                usize::try_from(i32::from_be_bytes(*prefix)).map_err(|_| "a block length is negative")?;
            if length > rest.len() {
                return Err("a block is cut off".to_owned());
            }
            let (block, rest) = rest.split_at(length);
            self.rest = rest;
            block
        } else {
            std::mem::take(&mut self.rest)
        };
        let size = snap::raw::decompress_len(block).map_err(|e| e.to_string())?;
        // One byte more than is allowed may pass: it is what makes the reader say that the limit is exceeded.
        if size > self.left.saturating_add(1) {
            return Err(format!("a block of {size} bytes is over the limit"));
        }
        self.left = self.left.saturating_sub(size);
        self.block = snap::raw::Decoder::new().decompress_vec(block).map_err(|e| e.to_string())?;
        self.at = 0;
        Ok(())
    }
}

impl Read for Snappy<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.block.len() {
            if self.rest.is_empty() {
                return Ok(0);
            }
            self.next_block().map_err(std::io::Error::other)?;
        }
        let count = out.len().min(self.block.len() - self.at);
        out[..count].copy_from_slice(&self.block[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}
