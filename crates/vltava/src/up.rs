//! `vltava up`: runs until SIGTERM or Ctrl-C, then finishes what is in flight.

use anyhow::{Context as _, Result, bail};
use runtime::{Shutdown, telemetry};
use serde_json::json;

use crate::cli::Up;
use crate::commands::{check, gitops};
use crate::output;
use crate::platform::Platform;
use crate::settings::Settings;

pub(crate) async fn run(up: Up) -> Result<()> {
    let data_dir = up.data_dir.map(|dir| dir.display().to_string());
    let settings = check::sources(&up.settings).flag("data_dir", "--data-dir", data_dir).settings()?;
    start_log(&settings)?;
    let process = Shutdown::new(settings.stop_grace);
    process.stop_at_signals().context("signals can't be handled")?;
    let begun = std::time::Instant::now();
    let platform = Platform::start(&settings, &process).await?;
    let mut how = gitops::How::default();
    if let Some(source) = up.source {
        how.source = source;
    }
    let folder = up.apply.as_deref().map(|folder| (folder, how));
    let outcome = serve(&platform, folder, up.json, &process, begun).await;
    let reason = process.request().map_or_else(|| "failed to start".into(), |(reason, _)| reason);
    platform.stop(&reason).await;
    outcome?;
    if reason.starts_with("task ") {
        bail!("stopped: {reason}");
    }
    Ok(())
}

async fn serve(
    platform: &Platform,
    folder: Option<(&std::path::Path, gitops::How)>,
    as_json: bool,
    process: &Shutdown,
    begun: std::time::Instant,
) -> Result<()> {
    let ready = tokio::select! {
        ready = platform.ready() => ready,
        () = process.requested() => return Ok(()),
    };
    let ready_ms = begun.elapsed().as_millis();
    let Platform { http, metrics, bootstrap, .. } = platform;
    let shown =
        |address: &Option<std::net::SocketAddr>| address.map_or_else(|| "off".into(), |a| a.to_string());
    tracing::info!(http = shown(http), kafka = bootstrap, metrics = shown(metrics), ready, ready_ms, "up");
    if as_json {
        output::json(&json!({
            "http": http, "kafka": bootstrap, "metrics": metrics, "ready": ready, "readyMs": ready_ms,
        }))?;
    }
    if let Some((folder, how)) = folder {
        let url = platform.url().context("--apply needs the HTTP listener, and http.listen is off")?;
        let to = gitops::Own { url: &url, own: &platform.own };
        gitops::put(folder, &to, how, !as_json).await?;
    }
    process.requested().await;
    Ok(())
}

/// The process' log, to standard error.
pub(crate) fn start_log(settings: &Settings) -> Result<()> {
    let config = telemetry::Config {
        format: settings.log_format,
        filter: settings.log_filter.clone(),
        ..telemetry::Config::default()
    };
    Ok(telemetry::init(&config)?)
}
