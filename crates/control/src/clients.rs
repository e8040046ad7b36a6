//! Clients besides their spec: secrets, revocation, and the table that the authorizer goes by.
//!
//! Invariants: a secret leaves only in the answer of the request that made it; the store has its digest. What was written is in
//! the authorizer's table before the answer: a client that was revoked has no valid token when its revocation is answered. Both
//! are done under the lock of writes, so that an older table never follows a newer one.

use auth::{Client, ClientSecret, Clients, Grant, Secret};
use resources::{ClientSpec, Kind, Resource, Spec};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{Expected, Key};

use crate::control::not_found;
use crate::resource::{body, facts, resource, spec};
use crate::{Control, Error};

/// How long the secret before is taken beside a new one, unless it is said, in seconds.
const OVERLAP_DEFAULT_S: u64 = 24 * 60 * 60;

/// And at most, in seconds.
const OVERLAP_MAX_S: u64 = 30 * 24 * 60 * 60;

/// What a key of a client has in the place of a workspace: it belongs to none.
const NO_WORKSPACE: &str = "";

/// Names a client in the store.
pub fn client_key(name: impl Into<String>) -> Key {
    Key::new(NO_WORKSPACE, Kind::Client, name)
}

/// What is stored in a client's status.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClientFacts {
    /// The newest last; at most two.
    secrets: Vec<ClientSecret>,
    /// How often its tokens were revoked.
    epoch: u64,
    /// Outlives changes of the spec: applying a manifest again doesn't let anybody in again.
    disabled: bool,
}

/// What is asked of a client besides its spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedOfClient {
    /// A new secret; the one before is taken for so many seconds more.
    RotateSecret {
        /// 0: not at all.
        previous_valid_s: u64,
    },
    /// All secrets and all tokens end at once.
    Revoke,
    /// It gets no token, and its tokens are refused, until it is enabled.
    Disable,
    /// It may get tokens again. Those that it has are valid again, too, unless they were revoked.
    Enable,
}

/// How a secret is rotated.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Rotation {
    previous_valid_seconds: u64,
}

impl Default for Rotation {
    fn default() -> Self {
        Self { previous_valid_seconds: OVERLAP_DEFAULT_S }
    }
}

impl Rotation {
    pub(crate) fn asked(&self) -> Result<AskedOfClient, Error> {
        match self.previous_valid_seconds {
            previous_valid_s @ 0..=OVERLAP_MAX_S => Ok(AskedOfClient::RotateSecret { previous_valid_s }),
            other => Err(Error::BadRequest(format!(
                "previousValidSeconds is {other}, but at most {OVERLAP_MAX_S} are allowed"
            ))),
        }
    }
}

impl Control {
    /// Does it. The client as it is then, and its new secret where one was made: nobody else ever sees it.
    pub async fn ask_client(
        &self,
        name: &str,
        asked: AskedOfClient,
    ) -> Result<(Resource, Option<Secret>), Error> {
        let key = client_key(name);
        let _one_at_a_time = self.writes.lock().await;
        let document = self.store.get(&key).await?.ok_or_else(|| not_found(&key))?;
        let mut client = resource(&document)?;
        let mut wanted: ClientFacts = facts(&client)?;
        let before = wanted.clone();
        let now = self.authorizer.now();
        let mut made = None;
        match asked {
            AskedOfClient::RotateSecret { previous_valid_s } => {
                let secret = Secret::generate().map_err(|e| Error::Conflict(e.to_string()))?;
                wanted.secrets.retain(|secret| secret.until.is_none());
                if previous_valid_s == 0 {
                    wanted.secrets.clear();
                }
                for secret in &mut wanted.secrets {
                    secret.until = Some(now + previous_valid_s);
                }
                let digest = secret.digest();
                wanted.secrets.push(ClientSecret { digest, created_at: now, until: None });
                made = Some(secret);
            }
            AskedOfClient::Revoke => {
                wanted.secrets.clear();
                wanted.epoch += 1;
            }
            AskedOfClient::Disable => wanted.disabled = true,
            AskedOfClient::Enable => wanted.disabled = false,
        }
        if wanted != before {
            client.status = serde_json::to_value(&wanted).expect("texts, numbers and lists of them");
            client.metadata.generation += 1;
            client.metadata.updated_at = jiff::Timestamp::now();
            let expected = Expected::Revision(document.revision);
            client.metadata.revision = self.store.put(&key, expected, &body(&client)).await?;
            self.authorizer.put_client(known(&client)?);
            let what = match asked {
                AskedOfClient::RotateSecret { .. } => "rotateSecret",
                AskedOfClient::Revoke => "revoke",
                AskedOfClient::Disable => "disable",
                AskedOfClient::Enable => "enable",
            };
            crate::metrics::changed(key.kind.as_str(), what);
            tracing::info!(client = name, action = what, "asked of a client");
        }
        self.add_seen(&mut client);
        Ok((client, made))
    }

    /// The authorizer's table anew, from the store: at the start, and where another process may have written.
    pub async fn publish_clients(&self) -> Result<(), Error> {
        let _one_at_a_time = self.writes.lock().await;
        let all = self.all(Some(NO_WORKSPACE), Some(Kind::Client)).await?;
        self.authorizer.publish(all.iter().map(known).collect::<Result<Clients, _>>()?);
        Ok(())
    }

    /// After a write of a client, under the lock of writes.
    pub(crate) fn client_was_put(&self, client: &Resource) -> Result<(), Error> {
        self.authorizer.put_client(known(client)?);
        Ok(())
    }
}

/// As the authorizer knows it.
fn known(client: &Resource) -> Result<Client, Error> {
    let Spec::Client(ClientSpec { workspaces, scopes, topics, token_lifetime_s }) = spec(client)? else {
        return Err(Error::Conflict(format!("{} is a {}", client.metadata.name, client.kind)));
    };
    let ClientFacts { secrets, epoch, disabled } = facts(client)?;
    Ok(Client {
        name: client.metadata.name.clone(),
        uid: client.metadata.uid.to_string(),
        grant: Grant { workspaces, scopes, topics },
        token_lifetime_s,
        is_disabled: disabled,
        epoch,
        secrets,
    })
}

/// What is shown of a client's status: no digest.
pub(crate) fn shown(status: &Value) -> Value {
    let Ok(ClientFacts { secrets, epoch: _, disabled }) = serde_json::from_value(status.clone()) else {
        return Value::Null;
    };
    let time = |seconds: u64| i64::try_from(seconds).ok().and_then(|s| jiff::Timestamp::from_second(s).ok());
    let secrets: Vec<Value> = secrets
        .iter()
        .map(|ClientSecret { digest: _, created_at, until }| {
            json!({ "createdAt": time(*created_at), "validUntil": until.and_then(time) })
        })
        .collect();
    json!({ "state": if disabled { "Disabled" } else { "Active" }, "secrets": secrets })
}
