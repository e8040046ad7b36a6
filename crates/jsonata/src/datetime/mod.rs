//! Dates and times in the proleptic Gregorian calendar, and integers in words, letters and
//! numerals: the pictures of XPath's format-dateTime and format-integer as jsonata-js reads
//! them. Nothing here looks at the machine's clock or timezone.

mod calendar;
mod format;
mod integer;
mod parse;
mod picture;
mod words;

pub(crate) use calendar::iso;
pub(crate) use format::format;
pub(crate) use integer::{format_integer, parse_integer};
pub(crate) use parse::{parse_iso, parse_with_picture};
