//! Whether the engine answers: asked once for all pipelines of a process, at a fixed rate, so that also one that
//! has nothing to do says that it couldn't.

use std::sync::Arc;
use std::time::Duration;

use kafka::Admin;
use runtime::Shutdown;
use tokio::sync::watch;

/// Between two questions.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// An answer that takes longer is none.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// The client gives up first, and says why; this is for one that hangs.
const GIVE_UP: Duration = Duration::from_secs(4);

/// Why the engine doesn't answer; `None` while it does.
pub(crate) type Reach = watch::Receiver<Option<Arc<str>>>;

/// Asks until the process stops.
pub(crate) async fn ask(admin: Admin, tell: watch::Sender<Option<Arc<str>>>, stop: Shutdown) {
    let admin = admin.with_timeout(ANSWER_MAX);
    loop {
        let answer = tokio::select! {
            answer = tokio::time::timeout(GIVE_UP, admin.cluster()) => answer,
            () = stop.requested() => return,
        };
        let away = match answer {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("the engine gave no answer within {} ms", GIVE_UP.as_millis())),
        };
        tell.send_if_modified(|known| {
            let changed = known.is_some() != away.is_some();
            if changed {
                *known = away.map(Into::into);
            }
            changed
        });
        tokio::select! {
            () = tokio::time::sleep(ASK_EVERY) => {}
            () = stop.requested() => return,
        }
    }
}
