//! `POST .../pipelines/{name}:backtest`: a candidate over recorded input beside the active version. Nothing is written.
//!
//! The body is `{expression | version, step | transform, last, since, where, samples, timeLimit}`. What is wrong with it is
//! answered as a problem, all of it at once, and so is what can't begin. What has begun answers 200 with NDJSON: objects
//! `{"progress": {planned, done, read, compared}}`, and as the last one `{"report": ...}` or `{"error": problem}`; an
//! answer that ends without either was cut off. It ends when the client goes away, too.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use http::{StatusCode, header};
use pipeline::backtest::{Backtest, Counts, Progress, Report, Step};
use runtime::Shutdown;
use runtime::http::Problem;
use serde_json::{Value, json};

use crate::Error;
use crate::backtest::report::{millis, report_value};
use crate::backtest::{About, Begun};
use crate::error::document;

/// The media type of the answer.
const NDJSON: &str = "application/x-ndjson";

/// What is left to do.
enum State {
    Runs(Box<Backtest>, About),
    Over,
}

/// The answer of one that has begun. `stop`: of the listener, at which it ends.
pub(super) fn answer(begun: Begun, stop: Option<Shutdown>) -> Response {
    let Begun { run, about } = begun;
    let first = progress(&run.progress());
    let lines = stream::unfold(
        (State::Runs(Box::new(run), about), Some(first), stop),
        async |(state, first, stop)| {
            // At once, so that who asked sees that it has begun.
            if let Some(first) = first {
                return Some((Ok::<_, std::convert::Infallible>(line(&first)), (state, None, stop)));
            }
            let State::Runs(mut run, about) = state else { return None };
            let stopped = async {
                match &stop {
                    Some(stop) => stop.requested().await,
                    None => std::future::pending().await,
                }
            };
            let step = tokio::select! {
                step = run.next() => step.map_err(Error::from),
                () = stopped => Err(Error::Conflict("the process stops".into())),
            };
            let (said, state) = match step {
                Ok(Step::Progress(so_far)) => (progress(&so_far), State::Runs(run, about)),
                Ok(Step::Done(report)) => {
                    log(&about, &report);
                    (json!({ "report": report_value(&about, &report) }), State::Over)
                }
                Err(error) => (json!({ "error": document(&Problem::from(error)) }), State::Over),
            };
            Some((Ok(line(&said)), (state, None, stop)))
        },
    );
    (StatusCode::OK, [(header::CONTENT_TYPE, NDJSON)], Body::from_stream(lines)).into_response()
}

fn line(value: &Value) -> Bytes {
    let mut text = value.to_string();
    text.push('\n');
    text.into()
}

fn log(about: &About, report: &Report) {
    let About { workspace, pipeline, generation, steps: _ } = about;
    let Counts { same, changed, new_failures, fixed_failures, .. } = report.counts;
    let (compared, took_ms) = (report.progress.compared, millis(report.took));
    tracing::info!(
        workspace,
        pipeline,
        generation,
        compared,
        same,
        changed,
        new_failures,
        fixed_failures,
        took_ms,
        "backtest ended"
    );
}

fn progress(so_far: &Progress) -> Value {
    let Progress { planned, done, read, compared } = so_far;
    json!({ "progress": { "planned": planned, "done": done, "read": read, "compared": compared } })
}
