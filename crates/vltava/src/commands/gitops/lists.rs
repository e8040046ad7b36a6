//! The resources that are there.

use anyhow::{Context as _, Result, ensure};
use resources::{Kind, MANIFESTS_MAX, Resource};

use crate::commands::answer;
use crate::commands::list::each;

/// Where resources of a kind lie; [`Kind::Workspace`] lies in none.
fn address(url: &str, kind: Kind, workspace: &str) -> String {
    let url = url.trim_end_matches('/');
    match kind {
        Kind::Workspace => format!("{url}/api/v1/workspaces"),
        kind => format!("{url}/api/v1/workspaces/{workspace}/{}", kind.plural()),
    }
}

/// All resources of a kind in a workspace, by name.
pub(super) async fn list(
    client: &reqwest::Client,
    url: &str,
    kind: Kind,
    workspace: &str,
) -> Result<Vec<Resource>> {
    let address = address(url, kind, workspace);
    let mut found: Vec<Resource> = Vec::new();
    each(client, &address, |item| {
        found.push(
            serde_json::from_value(item)
                .with_context(|| format!("{address}: not the list that it should be"))?,
        );
        ensure!(found.len() <= MANIFESTS_MAX, "{address} has more than {MANIFESTS_MAX} resources");
        Ok(())
    })
    .await?;
    Ok(found)
}

/// The workspaces that are meant: the one that is named, or all.
pub(super) async fn workspaces(
    client: &reqwest::Client,
    url: &str,
    named: Option<&str>,
) -> Result<Vec<Resource>> {
    let Some(named) = named else { return list(client, url, Kind::Workspace, "").await };
    ensure!(resources::name(named).is_ok(), "--workspace {named:?}: no name that a workspace can have");
    let address = format!("{}/{named}", address(url, Kind::Workspace, ""));
    let found = answer(url, client.get(&address)).await?;
    let found = serde_json::from_value(found).with_context(|| format!("{address}: not a workspace"))?;
    Ok(vec![found])
}
