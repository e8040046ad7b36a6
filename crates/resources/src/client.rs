//! The Client: a machine identity. It belongs to no workspace, and is linked to those that it may work in.
//!
//! Invariant: a client that could do nothing, and one that could do more than it says, is refused. Its secret is no part of it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize, Serializer};
use types::{Scope, Scopes, TopicPattern, TopicPatterns, Workspaces};

use crate::decode::At;
use crate::problem::Problems;
use crate::{format, name};

/// Topic patterns of a client: all of them must fit into a token.
pub const CLIENT_TOPICS_MAX: usize = 50;

/// Workspaces of a client.
pub const CLIENT_WORKSPACES_MAX: usize = 50;

/// What a token lives where nothing else is said, in seconds.
pub const TOKEN_LIFETIME_DEFAULT_S: u64 = 15 * 60;

/// What it lives at most, in seconds.
pub const TOKEN_LIFETIME_MAX_S: u64 = 24 * 60 * 60;

/// What a client is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientSpec {
    /// Where.
    pub workspaces: Workspaces,
    /// What; at least one.
    pub scopes: Scopes,
    /// On which topics.
    pub topics: TopicPatterns,
    /// Of its tokens, in seconds; written as a duration, `15m`.
    #[serde(rename = "tokenLifetime", serialize_with = "as_duration")]
    pub token_lifetime_s: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn as_duration<S: Serializer>(seconds: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{seconds}s"))
}

impl ClientSpec {
    pub(crate) fn decode(at: &At<'_>, problems: &mut Problems) -> Option<Self> {
        let mut object = at.object(problems)?;
        let scopes = object.required("scopes", problems).and_then(|at| {
            let list = at.list(Scope::ALL.len(), problems)?;
            if list.is_empty() {
                problems.invalid(at.pointer.clone(), "can't be empty: a client that may do nothing is none");
            }
            Some(list.iter().filter_map(|at| at.read::<Scope>(problems)).collect::<Scopes>())
        });
        let workspaces_at = object.required("workspaces", problems);
        let workspaces = workspaces_at.as_ref().and_then(|at| {
            let list = at.list(CLIENT_WORKSPACES_MAX, problems)?;
            if list.is_empty() {
                let message = "can't be empty: name workspaces, or \"*\" for the whole installation";
                problems.invalid(at.pointer.clone(), message);
            }
            let read = |text: &str| match text == Workspaces::ALL_TEXT {
                true => Ok(text.to_owned()),
                false => name(text).map(|()| text.to_owned()),
            };
            let names = list.iter().filter_map(|at| at.parsed(problems, read));
            Some(Workspaces::from(names.collect::<BTreeSet<_>>()))
        });
        let topics = object.field("topics").map_or_else(
            || Some(TopicPatterns::default()),
            |at| {
                let list = at.list(CLIENT_TOPICS_MAX, problems)?;
                Some(list.iter().filter_map(|at| at.read::<TopicPattern>(problems)).collect())
            },
        );
        let token_lifetime_s = object.field("tokenLifetime").map_or(Some(TOKEN_LIFETIME_DEFAULT_S), |at| {
            at.parsed(problems, |text| {
                let ms = format::duration_ms(text).map_err(|error| error.to_string())?;
                match u64::try_from(ms / 1000) {
                    Ok(seconds @ 10..=TOKEN_LIFETIME_MAX_S) => Ok(seconds),
                    _ => Err(format!("is {text}, but must be from 10s to {}h", TOKEN_LIFETIME_MAX_S / 3600)),
                }
            })
        });
        object.finish(problems);
        let (scopes, workspaces, topics) = (scopes?, workspaces?, topics?);
        let holds = |scope| scopes.iter().any(|held| held == scope);
        if let (true, Some(at), Workspaces::Named(_)) = (holds(Scope::Admin), &workspaces_at, &workspaces) {
            let message = "scope admin is about the whole installation: write [\"*\"]";
            problems.invalid(at.pointer.clone(), message);
        }
        let on_topics = [Scope::IngestWrite, Scope::StreamRead].into_iter().find(|scope| holds(*scope));
        if let (Some(scope), true) = (on_topics, topics.is_empty()) {
            let message =
                format!("can't be empty: scope {scope} allows nothing without topics; \"*\" means all");
            problems.invalid(format!("{}/topics", at.pointer), message);
        }
        Some(Self { workspaces, scopes, topics, token_lifetime_s: token_lifetime_s? })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::{Kind, Spec};

    fn decode(value: &Value) -> Result<Spec, Vec<String>> {
        Spec::decode(Kind::Client, value)
            .map_err(|problems| problems.into_iter().map(|p| p.pointer).collect())
    }

    #[test]
    fn a_client_reads_and_its_normal_form_reads_back() {
        let value = json!({
            "workspaces": ["shop", "demo"],
            "scopes": ["ingest:write", "control:read"],
            "topics": ["dev.demo.*", "orders"],
            "tokenLifetime": "5m",
        });
        let spec = decode(&value).unwrap();
        let normal = spec.to_value();
        assert_eq!(normal["tokenLifetime"], "300s");
        assert_eq!(normal["workspaces"], json!(["demo", "shop"]));
        assert_eq!(decode(&normal).unwrap(), spec);
        let admin = decode(&json!({ "workspaces": ["*"], "scopes": ["admin"] })).unwrap().to_value();
        assert_eq!((&admin["tokenLifetime"], &admin["workspaces"]), (&json!("900s"), &json!(["*"])));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_place() {
        let good = json!({ "workspaces": ["a"], "scopes": ["stream:read"], "topics": ["*"] });
        assert!(decode(&good).is_ok());
        for (field, value, place) in [
            ("scopes", json!([]), "/spec/scopes"),
            ("scopes", json!(["all"]), "/spec/scopes/0"),
            ("scopes", json!(["admin"]), "/spec/workspaces"),
            ("workspaces", json!([]), "/spec/workspaces"),
            ("workspaces", json!(["A"]), "/spec/workspaces/0"),
            ("workspaces", json!("a"), "/spec/workspaces"),
            ("topics", json!([]), "/spec/topics"),
            ("topics", json!(["a*b"]), "/spec/topics/0"),
            ("topics", json!(["vltava.*"]), "/spec/topics/0"),
            ("topics", json!(vec!["a"; 51]), "/spec/topics"),
            ("tokenLifetime", json!("1s"), "/spec/tokenLifetime"),
            ("tokenLifetime", json!("25h"), "/spec/tokenLifetime"),
            ("tokenLifetime", json!("soon"), "/spec/tokenLifetime"),
            ("secret", json!("x"), "/spec/secret"),
        ] {
            let mut bad = good.clone();
            bad[field] = value.clone();
            let found = decode(&bad).unwrap_err();
            assert!(found.iter().any(|found| found == place), "{field} {value}: {found:?}");
        }
        assert_eq!(decode(&json!({})).unwrap_err(), ["/spec/scopes", "/spec/workspaces"]);
    }
}
