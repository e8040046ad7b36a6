//! What is otherwise in the engine than resources say.

use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::CHANGES;
use super::lists::workspaces;
use crate::cli::Drift;
use crate::commands::{answer, http};
use crate::output::{self, Rows, printable};

/// Characters of what one entry says.
const MESSAGE_CHARS_MAX: usize = 200;

pub(crate) async fn drift(drift: Drift) -> Result<ExitCode> {
    let Drift { workspace, exit_code, url, json } = drift;
    let url = url.url.trim_end_matches('/');
    let mut items = Vec::new();
    let mut left_out = 0;
    let client = http(url).await?;
    for workspace in workspaces(&client, url, workspace.as_deref()).await? {
        let address = format!("{url}/api/v1/workspaces/{}/drift", workspace.metadata.name);
        let mut found = answer(url, client.get(&address)).await?;
        // What was seen before stays shown where the engine is away: as of now it says nothing.
        if let Some(error) = found["error"].as_str() {
            bail!("the engine couldn't be looked at: {error}");
        }
        if found["lookedAt"].is_null() {
            bail!("nobody has looked at the engine yet: ask again in a moment");
        }
        left_out += found["leftOut"].as_u64().unwrap_or(0);
        if let Value::Array(found) = found["items"].take() {
            items.extend(found);
        }
    }
    let has_drift = left_out > 0 || items.iter().any(|item| entries(item, "drift").next().is_some());
    if json.json {
        output::json(&json!({ "items": items, "leftOut": left_out }))?;
    } else {
        print(&items, left_out);
    }
    Ok(if exit_code && has_drift { ExitCode::from(CHANGES) } else { ExitCode::SUCCESS })
}

fn entries<'a>(item: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    item[name].as_array().into_iter().flatten()
}

fn print(items: &[Value], left_out: u64) {
    if items.is_empty() {
        output::line("no drift: topics in the engine are as their resources say");
        return;
    }
    let text = |value: &Value| printable(value.as_str().unwrap_or("-"), MESSAGE_CHARS_MAX);
    let mut table = Rows::new(&["topic", "what", "pointer", "since", "says"]);
    for item in items {
        for entry in entries(item, "drift") {
            let cells = [&item["topic"], &entry["kind"], &entry["pointer"], &Value::Null, &entry["message"]];
            table.row(cells.map(text).to_vec());
        }
        for entry in entries(item, "reverted") {
            let reverted = json!("reverted");
            let cells = [&item["topic"], &reverted, &entry["pointer"], &entry["at"], &entry["message"]];
            table.row(cells.map(text).to_vec());
        }
    }
    table.print();
    if left_out > 0 {
        output::note(format_args!("and {left_out} more topics"));
    }
}
