//! The limit that ingest is held against: the same HTTP stack, which only checks that the body is JSON and answers
//! 202. Prints its address; ends when it is killed.

use std::io::Write as _;

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use http::StatusCode;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    writeln!(std::io::stdout(), "{}", listener.local_addr()?.port())?;
    axum::serve(listener, Router::new().route("/ingest/{topic}", post(check))).await?;
    Ok(())
}

async fn check(body: Bytes) -> StatusCode {
    match serde_json::from_slice::<serde::de::IgnoredAny>(&body) {
        Ok(_) => StatusCode::ACCEPTED,
        Err(_) => StatusCode::BAD_REQUEST,
    }
}
