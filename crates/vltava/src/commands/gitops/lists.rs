//! The API's lists, page by page.

use anyhow::{Context as _, Result, ensure};
use resources::{Kind, MANIFESTS_MAX, Resource};
use serde::Deserialize;

use crate::commands::{answer, http};

/// Items of a page; the most that the API gives.
const PAGE: usize = 500;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    items: Vec<Resource>,
    next_cursor: Option<String>,
}

/// Where resources of a kind lie; [`Kind::Workspace`] lies in none.
fn address(url: &str, kind: Kind, workspace: &str) -> String {
    let url = url.trim_end_matches('/');
    match kind {
        Kind::Workspace => format!("{url}/api/v1/workspaces"),
        kind => format!("{url}/api/v1/workspaces/{workspace}/{}", kind.plural()),
    }
}

/// All resources of a kind in a workspace, by name.
pub(super) async fn list(url: &str, kind: Kind, workspace: &str) -> Result<Vec<Resource>> {
    let address = address(url, kind, workspace);
    let mut found: Vec<Resource> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        // A cursor is the last one's name, in which nothing has to be escaped.
        let after = cursor.as_ref().map_or_else(String::new, |name| format!("&cursor={name}"));
        let request = http(url).await?.get(format!("{address}?limit={PAGE}{after}"));
        let page: Page = serde_json::from_value(answer(url, request).await?)
            .with_context(|| format!("{address}: not the list that it should be"))?;
        found.extend(page.items);
        ensure!(found.len() <= MANIFESTS_MAX, "{address} has more than {MANIFESTS_MAX} resources");
        match page.next_cursor {
            // The same one again would never end.
            Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
            _ => return Ok(found),
        }
    }
}

/// The workspaces that are meant: the one that is named, or all.
pub(super) async fn workspaces(url: &str, named: Option<&str>) -> Result<Vec<Resource>> {
    let Some(named) = named else { return list(url, Kind::Workspace, "").await };
    ensure!(resources::name(named).is_ok(), "--workspace {named:?}: no name that a workspace can have");
    let address = format!("{}/{named}", address(url, Kind::Workspace, ""));
    let found = answer(url, http(url).await?.get(&address)).await?;
    let found = serde_json::from_value(found).with_context(|| format!("{address}: not a workspace"))?;
    Ok(vec![found])
}
