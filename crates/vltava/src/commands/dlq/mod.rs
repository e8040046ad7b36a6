//! `vltava dlq`: looking needs Kafka alone; giving back is the process' work, asked for by HTTP ([`run`]).

pub(crate) mod run;

use anyhow::Result;
use deadletter::{Dlq, Letter};
use jiff::Timestamp;
use kafka::{Admin, ClientConfig};
use serde_json::json;
use types::TopicName;

use super::tail::{as_json, text};
use super::topics::client;
use crate::cli::{DlqCommand, Engine, Selection};
use crate::output::{self, Rows, printable};

/// Of a value, so many characters are shown to people; `--json` shows all.
const VALUE_CHARS_MAX: usize = 600;

pub(crate) async fn run(command: DlqCommand) -> Result<()> {
    match command {
        DlqCommand::Ls { topic, selection, engine, json } => {
            list(topic.as_deref(), &selection, &engine, json.json).await
        }
        DlqCommand::Show { topic, selection, limit, engine, json } => {
            show(&topic, &selection, limit, &engine, json.json).await
        }
        DlqCommand::Redrive(asked) => run::redrive_command(asked).await,
        DlqCommand::Discard(asked) => run::discard_command(asked).await,
        DlqCommand::Runs { workspace, url, json } => run::list(&workspace, &url.url, json.json).await,
        DlqCommand::Pause(name) => run::ask(&name, "pause").await,
        DlqCommand::Resume(name) => run::ask(&name, "resume").await,
        DlqCommand::Cancel(name) => run::ask(&name, "cancel").await,
    }
}

/// DLQs by their name: those that end as the default policy says.
async fn dlqs(client: &ClientConfig) -> Result<Vec<TopicName>> {
    let topics = Admin::new(client)?.list_topics().await?;
    let mut names: Vec<_> =
        topics.into_iter().map(|t| t.name).filter(|n| n.as_str().ends_with(".dlq")).collect();
    names.sort();
    Ok(names)
}

fn time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".into(), |at| at.strftime("%F %T").to_string())
}

async fn list(topic: Option<&str>, selection: &Selection, engine: &Engine, as_json: bool) -> Result<()> {
    let client = client(engine);
    let topics = match topic {
        Some(topic) => vec![TopicName::new(topic)?],
        None => dlqs(&client).await?,
    };
    let mut table = Rows::new(&["topic", "stage", "reason", "open", "settled", "first", "last", "message"])
        .right(&[3, 4]);
    let mut open = 0;
    for topic in topics {
        let summary = Dlq::new(&client, topic.clone())?.summary(&selection.of(None)).await?;
        open += summary.unsettled;
        if as_json {
            output::json(&json!({ "topic": topic, "summary": summary }))?;
            continue;
        }
        for group in summary.groups.into_iter().filter(|group| group.unsettled > 0) {
            table.row(vec![
                topic.to_string(),
                printable(&group.stage, 80),
                printable(&group.reason, 40),
                group.unsettled.to_string(),
                group.settled.to_string(),
                time(group.first_at),
                time(group.last_at),
                printable(&group.message, 100),
            ]);
        }
    }
    if as_json {
        return Ok(());
    }
    if open == 0 {
        output::line("no dead letters are open");
    } else {
        table.print();
    }
    Ok(())
}

async fn show(topic: &str, selection: &Selection, limit: usize, engine: &Engine, json: bool) -> Result<()> {
    let dlq = Dlq::new(&client(engine), TopicName::new(topic)?)?;
    let listing = dlq.list(&selection.of(Some(limit as u64)), false).await?;
    for (letter, _) in &listing.letters {
        if json {
            output::json(&as_json(&letter.record))?;
            continue;
        }
        let Letter { record, stage_text, reason, message, .. } = letter;
        output::line(format_args!(
            "{}  {}",
            letter.id(),
            letter.at().map_or_else(|| "-".into(), |at| at.to_string())
        ));
        output::line(format_args!("  stage   {}", printable(stage_text, 120)));
        output::line(format_args!("  why     {}: {}", printable(reason, 40), printable(message, 1024)));
        let origin = |name| record.headers.get_str(name).unwrap_or("?");
        output::line(format_args!(
            "  origin  {} partition {} offset {}",
            printable(origin(types::names::ORIGIN_TOPIC), 249),
            printable(origin(types::names::ORIGIN_PARTITION), 12),
            printable(origin(types::names::ORIGIN_OFFSET), 20)
        ));
        output::line(format_args!("  key     {}", text(record.key.as_ref(), 120)));
        output::line(format_args!("  value   {}\n", text(record.value.as_ref(), VALUE_CHARS_MAX)));
    }
    if !json {
        let more = listing.matched.saturating_sub(listing.letters.len() as u64);
        output::line(format_args!(
            "{} shown, {more} more open, {} settled",
            listing.letters.len(),
            listing.hidden
        ));
    }
    Ok(())
}
