//! The proof: what lies in the topics, read as any reader would (read_committed), against what was
//! answered 202.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use kafka::{Admin, ClientConfig, ConsumedRecord, Consumer, Event, FetchConfig, OffsetSpec, StartFrom};
use types::{TopicName, TopicPartition, names};

use crate::commands::topics::offsets;

/// How long reading a topic to its end may take.
const READ_MAX: Duration = Duration::from_secs(60);

/// Every record of a topic from its beginning to where it ends now, by `each`.
async fn read_all(
    client: &ClientConfig,
    topic: &TopicName,
    mut each: impl FnMut(&ConsumedRecord),
) -> Result<()> {
    let admin = Admin::new(client)?;
    let described = admin.describe_topics(std::slice::from_ref(topic)).await?.remove(topic);
    let Some(description) = described else { bail!("topic {topic} doesn't exist") };
    let offsets = offsets(&admin, &[description]).await?;
    let mut open: BTreeMap<TopicPartition, i64> = offsets
        .iter()
        .filter(|(_, (first, next))| first < next)
        .map(|(p, (_, next))| (p.clone(), *next))
        .collect();
    let partitions = open.keys().map(|p| (p.clone(), StartFrom::Offset(offsets[p].0))).collect();
    let fetch = FetchConfig { end_of_partition: true, ..FetchConfig::default() };
    let mut consumer = Consumer::assign(client, partitions, fetch)?;
    let read = async {
        while !open.is_empty() {
            match consumer.next().await {
                Event::Records(records) => records.iter().for_each(&mut each),
                Event::EndOfPartition(partition, at)
                    if open.get(&partition).is_some_and(|end| at >= *end) =>
                {
                    open.remove(&partition);
                }
                Event::Error(error) if error.is_fatal() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    };
    tokio::time::timeout(READ_MAX, read)
        .await
        .with_context(|| format!("{topic} couldn't be read to its end in time"))??;
    Ok(())
}

/// A topic that no transaction writes to: what its offsets span is what it holds.
pub(super) struct Source {
    admin: Admin,
    ask: Vec<(TopicPartition, OffsetSpec)>,
}

impl Source {
    pub(super) async fn new(client: &ClientConfig, topic: &TopicName) -> Result<Self> {
        let admin = Admin::new(client)?;
        let described = admin.describe_topics(std::slice::from_ref(topic)).await?.remove(topic);
        let Some(description) = described else { bail!("topic {topic} doesn't exist") };
        let partition = |number| TopicPartition::new(topic.clone(), number);
        let ask =
            description.partitions.iter().map(|p| (partition(p.partition), OffsetSpec::Latest)).collect();
        Ok(Self { admin, ask })
    }
}

/// How many records it holds now.
pub(super) async fn records(source: &Source) -> Result<u64> {
    let ends = source.admin.list_offsets(&source.ask).await?;
    Ok(ends.values().map(|end| u64::try_from(end.offset).unwrap_or(0)).sum())
}

/// How often each event id lies in a topic.
pub(super) async fn ids(client: &ClientConfig, topic: &TopicName) -> Result<HashMap<String, u64>> {
    let mut ids = HashMap::new();
    read_all(client, topic, |record| {
        let id = record.headers.get_str(names::EVENT_ID).unwrap_or("(no id)");
        *ids.entry(id.to_owned()).or_insert(0) += 1;
    })
    .await?;
    Ok(ids)
}
