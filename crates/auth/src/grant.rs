//! What a client or a token allows.

use serde::{Deserialize, Serialize};
use types::{Scopes, TopicPatterns, Workspaces};

/// Scopes, in workspaces, on topics.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Grant {
    /// Where.
    pub workspaces: Workspaces,
    /// What.
    pub scopes: Scopes,
    /// On which topics.
    pub topics: TopicPatterns,
}

impl Grant {
    /// Whether `other` allows nothing that this doesn't.
    pub fn covers(&self, other: &Self) -> bool {
        let Self { workspaces, scopes, topics } = self;
        workspaces.cover(&other.workspaces) && scopes.cover(&other.scopes) && topics.cover(&other.topics)
    }
}
