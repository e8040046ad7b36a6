//! A file's records, in constant memory: NDJSON, or one document.
//!
//! Invariant: no more than one record is held, of at most [`RECORD_BYTES_MAX`] bytes; what is longer
//! is passed over, and said.
//!
//! What a file is, its first line that isn't blank says: JSON by itself begins NDJSON, the beginning
//! of a JSON value begins a document that is the whole file. Anything else is a broken line of NDJSON.

use std::io::{self, BufRead, Read as _};

use serde::de::IgnoredAny;

use super::RECORD_BYTES_MAX;

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A record is in [`Records::record`].
    Record,
    /// A record was too long, and is left out.
    TooLong,
    End,
}

pub(super) struct Records<R> {
    input: R,
    record: Vec<u8>,
    /// The line at which the record begins, from 1.
    line: u64,
    /// Lines that were read.
    read: u64,
    /// Whether the next line decides what the file is.
    undecided: bool,
}

impl<R: BufRead> Records<R> {
    /// `lines`: every line is a record, whatever the first one is.
    pub(super) fn new(input: R, lines: bool) -> Self {
        Self { input, record: Vec::new(), line: 0, read: 0, undecided: !lines }
    }

    /// Without the line end behind it.
    pub(super) fn record(&self) -> &[u8] {
        self.record.trim_ascii_end()
    }

    /// The line at which the record begins, from 1.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Whether the next record can be had without waiting, as far as is known.
    pub(super) fn is_buffered(&self) -> bool
    where
        R: Buffered,
    {
        self.input.is_buffered()
    }

    pub(super) fn next(&mut self) -> io::Result<Next> {
        loop {
            self.record.clear();
            self.line = self.read + 1;
            let (found, too_long) = self.read_line()?;
            if !found {
                return Ok(Next::End);
            }
            self.read += 1;
            if too_long {
                self.undecided = false;
                return Ok(Next::TooLong);
            }
            if self.record.trim_ascii().is_empty() {
                continue;
            }
            if std::mem::take(&mut self.undecided) && is_beginning(&self.record) {
                return self.read_document();
            }
            return Ok(Next::Record);
        }
    }

    /// Appends a line to the record; says whether there was one, and whether it was too long.
    fn read_line(&mut self) -> io::Result<(bool, bool)> {
        let (mut found, mut too_long) = (false, false);
        loop {
            let buffer = match self.input.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            };
            if buffer.is_empty() {
                return Ok((found, too_long));
            }
            found = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(buffer.len(), |at| at + 1);
            if self.record.len() + taken > RECORD_BYTES_MAX {
                too_long = true;
                self.record = Vec::new();
            }
            if !too_long {
                self.record.extend_from_slice(&buffer[..taken]);
            }
            self.input.consume(taken);
            if end.is_some() {
                return Ok((true, too_long));
            }
        }
    }

    /// The rest of the file belongs to the record.
    fn read_document(&mut self) -> io::Result<Next> {
        let left = (RECORD_BYTES_MAX - self.record.len()) as u64;
        (&mut self.input).take(left + 1).read_to_end(&mut self.record)?;
        if self.record.len() <= RECORD_BYTES_MAX {
            return Ok(Next::Record);
        }
        self.record = Vec::new();
        io::copy(&mut self.input, &mut io::sink())?;
        Ok(Next::TooLong)
    }
}

/// Whether more text could make it a JSON value.
pub(super) fn is_beginning(line: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(line).is_err_and(|error| error.is_eof())
}

/// Inputs that know whether they have something at hand.
pub(super) trait Buffered {
    fn is_buffered(&self) -> bool;
}

impl<R: io::Read> Buffered for io::BufReader<R> {
    fn is_buffered(&self) -> bool {
        !self.buffer().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8], lines: bool) -> Vec<(u64, Option<String>)> {
        // A buffer that is shorter than the lines.
        let mut records = Records::new(io::BufReader::with_capacity(7, text), lines);
        let mut found = Vec::new();
        loop {
            match records.next().unwrap() {
                Next::End => return found,
                Next::TooLong => found.push((records.line(), None)),
                Next::Record => {
                    let text = String::from_utf8_lossy(records.record()).trim().to_owned();
                    found.push((records.line(), Some(text)));
                }
            }
        }
    }

    fn some(line: u64, text: &str) -> (u64, Option<String>) {
        (line, Some(text.to_owned()))
    }

    #[test]
    fn the_first_line_says_what_a_file_is() {
        assert_eq!(
            all(b"\n{\"a\": 1}\n\n[2]\r\n3", false),
            [some(2, "{\"a\": 1}"), some(4, "[2]"), some(5, "3")]
        );
        assert_eq!(all(b"\n{\n  \"a\": 1\n}\n", false), [some(2, "{\n  \"a\": 1\n}")]);
        assert_eq!(all(b"[\n1,\n2]", false), [some(1, "[\n1,\n2]")]);
        // Not JSON, and no beginning of it: a line like others.
        assert_eq!(all(b"nope\n1\n", false), [some(1, "nope"), some(2, "1")]);
        // Only the first line decides.
        assert_eq!(all(b"1\n{\n2\n", false), [some(1, "1"), some(2, "{"), some(3, "2")]);
        assert_eq!(all(b"{\n1\n", true), [some(1, "{"), some(2, "1")]);
        assert_eq!(all(b"", false), []);
        assert_eq!(all(b" \n\n", false), []);
    }

    #[test]
    fn what_is_too_long_is_passed_over() {
        let long = vec![b'1'; RECORD_BYTES_MAX + 1];
        let text = [&long[..], b"\n2\n"].concat();
        assert_eq!(all(&text, false), [(1, None), some(2, "2")]);
        let document = [b"[\n", &long[..], b"]\n"].concat();
        assert_eq!(all(&document, false), [(1, None)]);
        // As long as is allowed, its end included.
        let mut fits = vec![b'1'; RECORD_BYTES_MAX - 1];
        fits.push(b'\n');
        assert!(matches!(&all(&fits, false)[..], [(1, Some(_))]));
    }
}
