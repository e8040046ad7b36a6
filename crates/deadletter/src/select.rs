//! Which letters are meant.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Letter, LetterId, Predicate};

/// All that is said must hold; what isn't said holds always.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Selection {
    /// `x-dlq-stage`, whole or a head of it that ends at `/` or `@`: `pipeline/demo/github`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// `x-dlq-reason`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// These letters; empty: any.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub ids: BTreeSet<LetterId>,
    /// Dead-lettered then or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Dead-lettered before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// With this key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// With a header of this name and value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<(String, String)>,
    /// For which this expression is true.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub predicate: Option<Predicate>,
    /// At most so many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

impl Selection {
    /// Whether a letter is meant; `limit` is its caller's to keep.
    pub fn matches(&self, letter: &Letter) -> bool {
        let Self { stage, reason, ids, since, until, key, header, predicate, limit: _ } = self;
        let at = letter.record.timestamp_ms;
        stage.as_deref().is_none_or(|wanted| match &letter.stage {
            Some(stage) => stage.matches(wanted),
            None => letter.stage_text == wanted,
        }) && reason.as_deref().is_none_or(|wanted| letter.reason == wanted)
            && (ids.is_empty() || ids.contains(&letter.id()))
            && since.is_none_or(|since| at >= since.as_millisecond())
            && until.is_none_or(|until| at < until.as_millisecond())
            && key.as_deref().is_none_or(|wanted| letter.record.key.as_deref() == Some(wanted.as_bytes()))
            && header.as_ref().is_none_or(|(name, value)| {
                letter
                    .record
                    .headers
                    .iter()
                    .any(|h| *h.name == **name && h.value.as_deref() == Some(value.as_bytes()))
            })
            // Last: it costs most.
            && predicate.as_ref().is_none_or(|predicate| predicate.holds(letter))
    }
}

#[cfg(test)]
mod tests {
    use kafka::ConsumedRecord;
    use types::{Headers, TopicName, TopicPartition};

    use super::*;

    #[test]
    fn all_that_is_said_must_hold() {
        let mut headers = Headers::new();
        headers.push("x-dlq-stage", "pipeline/demo/p/s@2");
        headers.push("x-dlq-reason", "over_budget");
        headers.push("tenant", "a");
        headers.push("tenant", "b");
        let tp = TopicPartition::new(TopicName::new("d").unwrap(), 1);
        let (key, value) = (Some("k".into()), None);
        let letter = Letter::of(ConsumedRecord { tp, offset: 9, timestamp_ms: 5_000, key, value, headers });
        let at = |ms| Some(Timestamp::from_millisecond(ms).unwrap());
        let all = Selection {
            stage: Some("pipeline/demo/p".into()),
            reason: Some("over_budget".into()),
            ids: ["d/1/9".parse().unwrap()].into(),
            since: at(5_000),
            until: at(5_001),
            key: Some("k".into()),
            header: Some(("tenant".into(), "a".into())),
            predicate: Some("$key = 'k'".to_owned().try_into().unwrap()),
            limit: Some(1),
        };
        assert!(all.matches(&letter) && Selection::default().matches(&letter));
        let but: [fn(&mut Selection); 8] = [
            |s| s.stage = Some("pipeline/demo/q".into()),
            |s| s.reason = Some("expired".into()),
            |s| s.ids = ["d/1/8".parse().unwrap()].into(),
            |s| s.since = Some(Timestamp::from_millisecond(5_001).unwrap()),
            |s| s.until = Some(Timestamp::from_millisecond(5_000).unwrap()),
            |s| s.key = Some("l".into()),
            |s| s.header = Some(("tenant".into(), "c".into())),
            |s| s.predicate = Some("$key = 'l'".to_owned().try_into().unwrap()),
        ];
        for change in but {
            let mut selection = all.clone();
            change(&mut selection);
            assert!(!selection.matches(&letter), "{selection:?}");
        }
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Selection>(&text).unwrap(), all);
        assert_eq!(serde_json::to_string(&Selection::default()).unwrap(), "{}");
    }
}
