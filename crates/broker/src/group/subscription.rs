//! The topics that a group's members subscribe to. Invariant: the broker reads classic members' metadata only here, only
//! for groups of protocol type `consumer`, and gives up (None) rather than guess.
//!
//! Format (Kafka's ConsumerProtocolSubscription): INT16 version, INT32 count, STRING names, then what newer
//! versions add, which isn't read.

use std::collections::HashSet;

use super::state::Group;

/// Names of the topics that any member subscribes to.
pub(super) fn topics_of(group: &Group) -> Option<HashSet<String>> {
    if let Some(consumer) = &group.consumer {
        return Some(consumer.topic_names());
    }
    if group.protocol_type.as_deref() != Some("consumer") {
        return None;
    }
    let mut found = HashSet::new();
    for member in group.members.values() {
        // Before a protocol is chosen the first one tells as well: all carry the same topics.
        let chosen = group.protocol.as_deref().map(|protocol| member.metadata(protocol));
        let metadata = chosen.or_else(|| Some(member.protocols.first()?.1.clone()))?;
        found.extend(topics(&metadata)?);
    }
    Some(found)
}

fn topics(metadata: &[u8]) -> Option<Vec<String>> {
    let (_version, rest) = metadata.split_first_chunk::<2>()?;
    let (count, mut rest) = rest.split_first_chunk::<4>()?;
    let count = usize::try_from(i32::from_be_bytes(*count)).ok()?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let (len, after) = rest.split_first_chunk::<2>()?;
        let len = usize::try_from(i16::from_be_bytes(*len)).ok()?;
        let (name, after) = after.split_at_checked(len)?;
        topics.push(std::str::from_utf8(name).ok()?.to_owned());
        rest = after;
    }
    Some(topics)
}

#[cfg(test)]
mod tests {
    use super::topics;

    #[test]
    fn topics_are_read_and_nonsense_is_not() {
        let metadata = [0, 1, 0, 0, 0, 2, 0, 1, b'a', 0, 2, b'b', b'c', 0xff, 0xff, 0xff, 0xff];
        assert_eq!(topics(&metadata), Some(vec!["a".to_owned(), "bc".to_owned()]));
        assert_eq!(topics(&metadata[..8]), None);
        assert_eq!(topics(&[0, 1, 0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(topics(&[]), None);
    }
}
