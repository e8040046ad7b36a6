//! Who may come in: the keys of tokens on disk, the first client, the gates of listeners.
//!
//! Invariants: what is in `keys/` is readable by its owner alone, and a file there is the old one or the new one, never a part.
//! A secret is written to no log.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use auth::{Authorizer, Clock, Demand, Issuer, KeySet, RotateError, Secret, TokenGate, UnixSeconds};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use control::{AskedOfClient, Control, Precondition, Write, client_key};
use http::StatusCode;
use parking_lot::Mutex;
use runtime::http::{Gate, Problem};
use serde::Deserialize;
use serde_json::json;
use types::{InstallationId, Scope};

use crate::settings::{AuthMode, Settings};

/// In the data directory.
const FOLDER: &str = "keys";
/// The keys that sign tokens.
const TOKEN_KEYS: &str = "tokens.json";
/// The secret of the first client.
const FIRST_CLIENT: &str = "admin.env";
/// Its name.
const FIRST_CLIENT_NAME: &str = "admin";

/// The process' clocks.
struct System(Instant);

impl Clock for System {
    fn now(&self) -> UnixSeconds {
        unix_now()
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn unix_now() -> UnixSeconds {
    // A clock before 1970 is a clock that isn't set: tokens of its time are refused later.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Who may come in.
pub(super) struct Door {
    pub(super) authorizer: Arc<Authorizer>,
    /// What this process shows to itself.
    pub(super) own: Secret,
    mode: AuthMode,
    folder: PathBuf,
    /// One rotation at a time.
    rotation: Arc<Mutex<()>>,
}

impl Door {
    /// Reads the keys, and makes them where there are none.
    pub(super) fn open(settings: &Settings, installation: InstallationId) -> Result<Self> {
        let folder = settings.data_dir.join(FOLDER);
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("{} can't be made", folder.display()))?;
        let path = folder.join(TOKEN_KEYS);
        let now = unix_now();
        let keys = match fs::read_to_string(&path) {
            Ok(text) => KeySet::from_document(&text).with_context(|| path.display().to_string())?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let keys = KeySet::generate(settings.auth_algorithm, now)?;
                write_private(&path, keys.to_document().as_bytes())?;
                keys
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let keys = if keys.algorithm() == settings.auth_algorithm {
            keys
        } else {
            // Tokens of the other algorithm are valid until they expire.
            let keys = keys.rotate(settings.auth_algorithm, now, true)?;
            write_private(&path, keys.to_document().as_bytes())?;
            keys
        };
        let own = Secret::generate()?;
        let issuer = Issuer::installation(installation);
        let clock = System(Instant::now());
        let authorizer = Arc::new(Authorizer::new(issuer, keys, own.digest(), clock));
        Ok(Self { authorizer, own, mode: settings.auth_mode, folder, rotation: Arc::default() })
    }

    /// Where tokens are demanded, somebody must be able to get one: makes the first client, unless there is one that may
    /// administer.
    pub(super) async fn first_client(&self, control: &Control) -> Result<()> {
        control.publish_clients().await.context("clients can't be read")?;
        if self.mode != AuthMode::Required || self.authorizer.has_client_with(Scope::Admin) {
            return Ok(());
        }
        let key = client_key(FIRST_CLIENT_NAME);
        if let Ok(existing) = control.get(&key).await
            && existing.status["state"] == "Disabled"
        {
            tracing::warn!(
                client = FIRST_CLIENT_NAME,
                "no client may administer: start with auth.mode = \"local\" and `vltava clients enable` it"
            );
            return Ok(());
        }
        let manifest = json!({
            "apiVersion": resources::API_VERSION,
            "kind": "Client",
            "metadata": { "name": FIRST_CLIENT_NAME },
            "spec": { "scopes": ["admin"], "workspaces": ["*"], "topics": ["*"] },
        });
        control
            .put(&key, &manifest, Precondition::None, Write::default())
            .await
            .context("the first client")?;
        let asked = AskedOfClient::RotateSecret { previous_valid_s: 0 };
        let (_, secret) = control.ask_client(FIRST_CLIENT_NAME, asked).await.context("the first client")?;
        let secret = secret.context("the first client got no secret")?;
        let path = self.folder.join(FIRST_CLIENT);
        let text =
            format!("VLTAVA_CLIENT_ID={FIRST_CLIENT_NAME}\nVLTAVA_CLIENT_SECRET={}\n", secret.reveal());
        write_private(&path, text.as_bytes())?;
        tracing::warn!(
            client = FIRST_CLIENT_NAME,
            file = %path.display(),
            "made the first client: its secret is in the file, which is for you to keep elsewhere and delete"
        );
        Ok(())
    }

    /// Whether nobody comes in without a token.
    pub(super) fn is_guarded(&self) -> bool {
        self.mode == AuthMode::Required
    }

    /// Whom a listener lets in.
    pub(super) fn gate(&self) -> Arc<dyn Gate> {
        let demand = match self.mode {
            AuthMode::Local => Demand::OfOthers,
            AuthMode::Required => Demand::OfAll,
        };
        Arc::new(TokenGate::new(Arc::clone(&self.authorizer), demand))
    }

    /// The authorizer's routes, and the one that rotates its keys.
    pub(super) fn router(&self) -> Router {
        let keys = Keys {
            authorizer: Arc::clone(&self.authorizer),
            path: self.folder.join(TOKEN_KEYS),
            rotation: Arc::clone(&self.rotation),
        };
        let keys = Router::new().route("/api/v1/keys:rotate", post(rotate)).with_state(keys);
        auth::http::router(Arc::clone(&self.authorizer))
            .merge(auth::http::for_installation(keys, Scope::Admin))
    }
}

#[derive(Clone)]
struct Keys {
    authorizer: Arc<Authorizer>,
    path: PathBuf,
    rotation: Arc<Mutex<()>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rotation {
    /// Also where it ends the tokens of the key before the present one.
    force: bool,
}

/// `POST /api/v1/keys:rotate`, `?force=true`.
async fn rotate(State(keys): State<Keys>, Query(Rotation { force }): Query<Rotation>) -> Response {
    let done = tokio::task::spawn_blocking(move || {
        let _one_at_a_time = keys.rotation.lock();
        let now = keys.authorizer.now();
        let before = keys.authorizer.keys();
        let set = before.rotate(before.algorithm(), now, force).map_err(|error| match error {
            RotateError::TwoValid { until } => Problem::new(StatusCode::CONFLICT, "two_keys_valid")
                .detail(format!("{error} (?force=true), which ends the tokens of that key"))
                .with("validUntil", until),
            RotateError::Keys(error) => failed(&error.into()),
        })?;
        // On disk before it signs: a token must outlive a restart.
        write_private(&keys.path, set.to_document().as_bytes()).map_err(|error| failed(&error))?;
        keys.authorizer.set_keys(set.clone());
        tracing::info!(kid = set.current_kid(), "the keys of tokens were rotated");
        Ok(Json(json!({ "kid": set.current_kid(), "algorithm": set.algorithm().as_str() })).into_response())
    });
    match done.await {
        Ok(Ok(response)) => response,
        Ok(Err(problem)) => Problem::into_response(problem),
        Err(error) => failed(&error.into()).into_response(),
    }
}

fn failed(error: &anyhow::Error) -> Problem {
    tracing::error!(error = format!("{error:#}"), "keys can't be rotated");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "keys_not_rotated")
        .detail("the keys can't be rotated; the process's log says why")
}

/// The whole file or none of it, for its owner's eyes.
fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = (|| {
        let new = path.with_extension("new");
        // What a crash left has the mode that it was made with.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    })();
    written.with_context(|| format!("{} can't be written", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_written_is_whole_and_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        for text in ["one", "another"] {
            fs::write(path.with_extension("new"), "left over").unwrap();
            write_private(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert!(!path.with_extension("new").exists());
        }
    }

    #[test]
    fn keys_are_made_once_and_follow_the_algorithm() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings { data_dir: folder.path().into(), ..Settings::default() };
        let id = InstallationId::new();
        let kid = |settings: &Settings| {
            Door::open(settings, id).unwrap().authorizer.keys().current_kid().to_owned()
        };
        let first = kid(&settings);
        assert_eq!(kid(&settings), first);
        settings.auth_algorithm = auth::Algorithm::Es256;
        let second = kid(&settings);
        assert_ne!(second, first);
        assert_eq!(kid(&settings), second);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.path().join(FOLDER)), 0o700);
        assert_eq!(mode(&folder.path().join(FOLDER).join(TOKEN_KEYS)), 0o600);
        fs::write(folder.path().join(FOLDER).join(TOKEN_KEYS), "{").unwrap();
        let error = format!("{:#}", Door::open(&settings, id).err().unwrap());
        assert!(error.contains("tokens.json") && error.contains("broken"), "{error}");
    }
}
