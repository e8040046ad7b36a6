//! The API's lists, page by page.

use anyhow::{Result, bail};
use serde_json::Value;

use super::answer;

/// Items of a page; the most that the API gives.
const PAGE: usize = 500;

/// Gives each item of the list at this address to `item`, in the list's order.
pub(crate) async fn each(
    client: &reqwest::Client,
    address: &str,
    mut item: impl FnMut(Value) -> Result<()>,
) -> Result<()> {
    let mut cursor: Option<String> = None;
    loop {
        // A cursor is the last one's name, in which nothing has to be escaped.
        let after = cursor.as_ref().map_or_else(String::new, |name| format!("&cursor={name}"));
        let mut page = answer(address, client.get(format!("{address}?limit={PAGE}{after}"))).await?;
        let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) else {
            bail!("{address}: not the list that it should be");
        };
        items.into_iter().try_for_each(&mut item)?;
        match page["nextCursor"].as_str() {
            // The same one again would never end.
            Some(next) if cursor.as_deref() != Some(next) => cursor = Some(next.to_owned()),
            _ => return Ok(()),
        }
    }
}
