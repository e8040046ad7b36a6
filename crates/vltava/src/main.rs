//! The binary: reads the command line and the configuration, composes the crates, prints.
//!
//! Only here: environment variables, `anyhow`, standard output. Errors go to standard error with
//! exit status 1, usage errors with 2.

mod cli;
mod commands;
mod demo;
mod output;
mod platform;
mod settings;
mod up;

use std::process::ExitCode;

use clap::Parser as _;
use cli::{Cli, Command, ConfigCommand};
use serde_json::json;

/// Why: ARCHITECTURE.md.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// `NAME:PASS`: where a process under test dies; see [`runtime::kill_points`].
const KILL_POINT: &str = "VLTAVA_TEST_KILL_POINT";

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Ok(text) = std::env::var(KILL_POINT)
        && let Err(error) = runtime::kill_points::arm(&text)
    {
        output::note(format_args!("error: {KILL_POINT}: {error}"));
        return ExitCode::FAILURE;
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(format_args!("error: the runtime can't start: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(cli.command));
    // What still blocks a thread (a read from a terminal) must not hold the end back.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            output::note(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Up(up) => up::run(up).await?,
        Command::Demo(demo) => return demo::run(demo).await,
        Command::Plan(plan) => return commands::gitops::plan(plan).await,
        Command::Apply(apply) => return commands::gitops::apply(apply).await,
        Command::Export(export) => commands::gitops::export(export).await?,
        Command::Drift(drift) => return commands::gitops::drift(drift).await,
        Command::Topics(topics) => commands::topics::run(topics.command).await?,
        Command::Send(send) => commands::send::run(send).await?,
        Command::Tail(tail) => commands::tail::run(tail).await?,
        Command::Status(status) => commands::status::run(&status.url, status.json.json).await?,
        Command::Pipelines(pipelines) => commands::stages::pipelines(pipelines.command).await?,
        Command::Backtest(backtest) => return commands::backtest::run(backtest).await,
        Command::Connectors(connectors) => commands::stages::connectors(connectors.command).await?,
        Command::Dlq(dlq) => commands::dlq::run(dlq.command).await?,
        Command::Jsonata(jsonata) => return commands::jsonata::run(jsonata.command),
        Command::Clients(clients) => commands::clients::run(clients.command).await?,
        Command::Token(url) => commands::credentials::print(&url.url).await?,
        Command::Config(config) => {
            let ConfigCommand::Check { settings, json } = config.command;
            commands::check::run(&settings, json.json)?;
        }
        Command::Version(json) => version(&json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn version(json: &cli::Json) -> anyhow::Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    if json.json {
        return output::json(&json!({ "name": "vltava", "version": version }));
    }
    output::line(format_args!("vltava {version}"));
    Ok(())
}
