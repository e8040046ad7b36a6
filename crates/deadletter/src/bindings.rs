//! What an expression sees of a record beside its value. One place for all stages, so that a redrive, a dry run and a
//! backtest see what the first try saw.

use jsonata::{Bindings, Program};
use kafka::ConsumedRecord;
use serde_json::{Map, Value};
use types::Headers;

use crate::Origin;

/// Which of a record's bindings expressions read: the others aren't made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reads {
    /// `$key`.
    pub key: bool,
    /// `$headers`.
    pub headers: bool,
    /// `$topic`, `$partition`, `$offset` or `$timestamp`.
    pub place: bool,
}

impl Reads {
    /// What any of the programs reads.
    pub fn of<'a>(programs: impl IntoIterator<Item = &'a Program>) -> Self {
        let mut reads = Self::default();
        for program in programs {
            // The text that `$eval` gets may read any of them.
            if program.source().contains("$eval") {
                return Self { key: true, headers: true, place: true };
            }
            for name in program.variables() {
                match name.as_str() {
                    "key" => reads.key = true,
                    "headers" => reads.headers = true,
                    "topic" | "partition" | "offset" | "timestamp" => reads.place = true,
                    _ => {}
                }
            }
        }
        reads
    }
}

/// Binds a record's parts, in place of what was bound. A record that came back through a retry topic is seen at its first
/// origin's place, so that a redrive gives what the first try would have given; its timestamp is its own.
pub fn bind(bindings: &mut Bindings, reads: Reads, record: &ConsumedRecord, origin: &Origin) {
    // Kafka's -1 says that there is none.
    let timestamp_ms = record.timestamp_ms.max(0);
    bindings.clear(timestamp_ms, seed(origin));
    if reads.place {
        bindings.set_str("topic", origin.topic.as_str());
        bindings.set_number("partition", f64::from(origin.partition));
        bindings.set_number("offset", origin.offset as f64);
        bindings.set_number("timestamp", timestamp_ms as f64);
    }
    if let (true, Some(key)) = (reads.key, &record.key) {
        bindings.set_str("key", &String::from_utf8_lossy(key));
    }
    if reads.headers {
        bind_headers(bindings, &record.headers);
    }
}

/// Binds another key in place of the record's: what a step made of it.
pub fn bind_key(bindings: &mut Bindings, key: Option<&[u8]>) {
    match key {
        Some(key) => bindings.set_str("key", &String::from_utf8_lossy(key)),
        None => bindings.set_undefined("key"),
    }
}

/// Binds headers in place of those that were bound.
pub fn bind_headers(bindings: &mut Bindings, headers: &Headers) {
    let mut map = Map::new();
    for header in headers {
        // Of several headers of a name the last one is seen, as in Kafka's `lastHeader`.
        let value = header.value.as_deref().map(String::from_utf8_lossy);
        map.insert(header.name.to_string(), value.map_or(Value::Null, |v| v.into()));
    }
    bindings.set_json("headers", Value::Object(map).to_string().as_bytes());
}

/// The seed of `$random`: FNV-1a over topic, partition and offset.
fn seed(origin: &Origin) -> u64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let place = origin.partition.to_be_bytes().into_iter().chain(origin.offset.to_be_bytes());
    origin
        .topic
        .as_str()
        .bytes()
        .chain(place)
        .fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bindings_are_made_that_an_expression_can_read() {
        let reads = |source| Reads::of([&Program::compile(source).unwrap()]);
        assert_eq!(reads("a.b"), Reads::default());
        assert_eq!(reads("$key"), Reads { key: true, ..Reads::default() });
        assert_eq!(reads("$lookup($headers, 'a')"), Reads { headers: true, ..Reads::default() });
        assert_eq!(reads("$fromMillis($timestamp)"), Reads { place: true, ..Reads::default() });
        let all = Reads { key: true, headers: true, place: true };
        assert_eq!(reads("$eval('$' & 'key')"), all);
        assert_eq!(reads("($f := $eval; $f(expression))"), all);
    }
}
