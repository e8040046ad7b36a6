//! Tokens that were checked a moment ago, so that a busy caller's isn't checked anew with each request.
//!
//! Invariants: it holds digests, never tokens; it has a fixed number of places and forgets what is older than
//! [`AGE_MAX_S`]. What can change in a moment (the client, the time) is not in it: whoever takes from it checks that anew.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use ring::digest::{SHA256, digest};

use crate::UnixSeconds;
use crate::access::Verified;

/// How long a token isn't checked again, in seconds.
const AGE_MAX_S: u64 = 60;

/// Callers on different shards don't wait for each other.
const SHARDS: usize = 16;

/// Tokens of a shard.
const SHARD_TOKENS_MAX: usize = 256;

type Digest = [u8; 32];

#[derive(Debug)]
struct Entry {
    verified: Arc<Verified>,
    /// Of the keys that it was checked by.
    generation: u64,
    at: UnixSeconds,
}

#[derive(Debug, Default)]
pub(crate) struct Cache {
    shards: [Mutex<HashMap<Digest, Entry>>; SHARDS],
}

/// What stands for a token.
pub(crate) struct Place(Digest);

impl Place {
    pub(crate) fn of(token: &str) -> Self {
        let mut place = [0; 32];
        place.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        Self(place)
    }
}

impl Cache {
    fn shard(&self, place: &Place) -> &Mutex<HashMap<Digest, Entry>> {
        &self.shards[usize::from(place.0[0]) % SHARDS]
    }

    pub(crate) fn get(&self, place: &Place, generation: u64, now: UnixSeconds) -> Option<Arc<Verified>> {
        let shard = self.shard(place).lock();
        let entry = shard.get(&place.0)?;
        let is_fresh = entry.generation == generation && now.abs_diff(entry.at) < AGE_MAX_S;
        is_fresh.then(|| Arc::clone(&entry.verified))
    }

    pub(crate) fn put(&self, place: Place, verified: Arc<Verified>, generation: u64, now: UnixSeconds) {
        let mut shard = self.shard(&place).lock();
        if shard.len() >= SHARD_TOKENS_MAX {
            shard.retain(|_, entry| entry.generation == generation && now.abs_diff(entry.at) < AGE_MAX_S);
        }
        // Still full: they are all in use, and checking some of them again is what a full cache costs.
        if shard.len() >= SHARD_TOKENS_MAX {
            shard.clear();
        }
        shard.insert(place.0, Entry { verified, generation, at: now });
    }
}

#[cfg(test)]
mod tests {
    use types::Workspaces;

    use super::*;
    use crate::{Claims, Grant};

    fn verified() -> Arc<Verified> {
        let text = String::new;
        Arc::new(Verified {
            claims: Claims {
                iss: text(),
                aud: text(),
                sub: text(),
                client_id: text(),
                iat: 0,
                nbf: 0,
                exp: 0,
                jti: text(),
                scope: text(),
                topics: types::TopicPatterns::default(),
                workspaces: Workspaces::All,
                epoch: 0,
            },
            grant: Grant::default(),
        })
    }

    #[test]
    fn it_forgets_by_time_and_by_keys_and_stays_bounded() {
        let cache = Cache::default();
        cache.put(Place::of("a"), verified(), 1, 100);
        assert!(cache.get(&Place::of("a"), 1, 159).is_some());
        assert!(cache.get(&Place::of("a"), 1, 160).is_none(), "too old");
        assert!(cache.get(&Place::of("a"), 2, 100).is_none(), "other keys");
        assert!(cache.get(&Place::of("b"), 1, 100).is_none());
        for token in 0..20_000 {
            cache.put(Place::of(&token.to_string()), verified(), 1, 100);
        }
        let held: usize = cache.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(held <= SHARDS * SHARD_TOKENS_MAX, "{held}");
        assert!(cache.get(&Place::of("19999"), 1, 100).is_some());
    }
}
