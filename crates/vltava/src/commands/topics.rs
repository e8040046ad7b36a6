//! `vltava topics`: the engine's topics, by Kafka's protocol.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use kafka::{Admin, ClientConfig, ListedOffset, NewTopic, OffsetSpec, TopicDescription};
use serde_json::json;
use types::{TopicName, TopicPartition};

use crate::cli::{Engine, TopicsCommand};
use crate::output::{self, Rows};

/// A client for the command line.
pub(crate) fn client(engine: &Engine) -> ClientConfig {
    ClientConfig::new(&engine.kafka_bootstrap, "vltava-cli")
}

pub(crate) async fn run(command: TopicsCommand) -> Result<()> {
    match command {
        TopicsCommand::Ls { all, engine, json } => list(&engine, all, json.json).await,
        TopicsCommand::Create { topic, partitions, replication_factor, config, engine } => {
            create(&engine, &topic, partitions, replication_factor, &config).await
        }
        TopicsCommand::Describe { topic, engine, json } => describe(&engine, &topic, json.json).await,
        TopicsCommand::Delete { topic, yes, engine } => delete(&engine, &topic, yes).await,
    }
}

/// First and next offsets of every partition of these topics.
pub(crate) async fn offsets(
    admin: &Admin,
    topics: &[TopicDescription],
) -> Result<BTreeMap<TopicPartition, (i64, i64)>> {
    let partitions: Vec<TopicPartition> = topics
        .iter()
        .flat_map(|t| t.partitions.iter().map(|p| TopicPartition::new(t.name.clone(), p.partition)))
        .collect();
    let ask = |spec| partitions.iter().map(|p| (p.clone(), spec)).collect::<Vec<_>>();
    let first = admin.list_offsets(&ask(OffsetSpec::Earliest)).await?;
    let next = admin.list_offsets(&ask(OffsetSpec::Latest)).await?;
    let of = |found: &BTreeMap<TopicPartition, ListedOffset>, p| found.get(p).map_or(0, |o| o.offset);
    Ok(partitions.iter().map(|p| (p.clone(), (of(&first, p), of(&next, p)))).collect())
}

async fn list(engine: &Engine, all: bool, as_json: bool) -> Result<()> {
    let admin = Admin::new(&client(engine))?;
    let mut topics = admin.list_topics().await?;
    topics.retain(|t| all || !t.name.is_reserved());
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let offsets = offsets(&admin, &topics).await?;
    let records = |topic: &TopicDescription| -> i64 {
        offsets.iter().filter(|(p, _)| p.topic == topic.name).map(|(_, (first, next))| next - first).sum()
    };
    if as_json {
        for topic in &topics {
            output::json(&json!({
                "topic": topic.name, "partitions": topic.partitions.len(), "offsets": records(topic), "id": topic.id,
            }))?;
        }
        return Ok(());
    }
    let mut table = Rows::new(&["topic", "partitions", "offsets"]).right(&[1, 2]);
    for topic in &topics {
        table.row(vec![
            topic.name.to_string(),
            topic.partitions.len().to_string(),
            records(topic).to_string(),
        ]);
    }
    table.print();
    Ok(())
}

async fn create(
    engine: &Engine,
    topic: &str,
    partitions: i32,
    replication_factor: Option<i16>,
    config: &[String],
) -> Result<()> {
    let name = TopicName::for_caller(topic)?;
    ensure!(partitions > 0, "--partitions {partitions}: a topic has at least 1");
    let mut new = NewTopic { replication_factor, ..NewTopic::new(name.clone(), partitions) };
    for pair in config {
        let (name, value) =
            pair.split_once('=').with_context(|| format!("--config {pair:?}: give NAME=VALUE"))?;
        new = new.with(name.trim(), value.trim());
    }
    let outcome = Admin::new(&client(engine))?.create_topics(&[new], false).await?;
    for (_, made) in outcome {
        made?;
    }
    output::line(format_args!("created {name} with {partitions} partition(s)"));
    Ok(())
}

async fn describe(engine: &Engine, topic: &str, as_json: bool) -> Result<()> {
    let name = TopicName::new(topic)?;
    let admin = Admin::new(&client(engine))?;
    let found = admin.describe_topics(std::slice::from_ref(&name)).await?.remove(&name);
    let Some(topic) = found else { bail!("topic {name} doesn't exist at {}", engine.kafka_bootstrap) };
    let config = admin.describe_configs(std::slice::from_ref(&name)).await?.remove(&name).unwrap_or_default();
    let offsets = offsets(&admin, std::slice::from_ref(&topic)).await?;
    let set: BTreeMap<&String, &str> = config
        .iter()
        .filter(|(_, entry)| entry.is_set_on_topic)
        .map(|(name, entry)| (name, entry.value.as_deref().unwrap_or("***")))
        .collect();
    if as_json {
        let partitions: Vec<_> = topic
            .partitions
            .iter()
            .map(|p| {
                let (first, next) = offsets[&TopicPartition::new(name.clone(), p.partition)];
                json!({
                    "partition": p.partition, "leader": p.leader, "replicas": p.replicas, "inSync": p.in_sync,
                    "first": first, "next": next,
                })
            })
            .collect();
        return output::json(
            &json!({ "topic": name, "id": topic.id, "config": set, "partitions": partitions }),
        );
    }
    output::line(format_args!("topic   {name}\nid      {}", topic.id));
    for (name, value) in set {
        output::line(format_args!("config  {name}={value}"));
    }
    let mut table =
        Rows::new(&["partition", "leader", "replicas", "in sync", "first", "next"]).right(&[0, 1, 4, 5]);
    for p in &topic.partitions {
        let (first, next) = offsets[&TopicPartition::new(name.clone(), p.partition)];
        table.row(vec![
            p.partition.to_string(),
            p.leader.map_or_else(|| "none".into(), |l| l.to_string()),
            format!("{:?}", p.replicas),
            format!("{:?}", p.in_sync),
            first.to_string(),
            next.to_string(),
        ]);
    }
    table.print();
    Ok(())
}

async fn delete(engine: &Engine, topic: &str, yes: bool) -> Result<()> {
    let name = TopicName::for_caller(topic)?;
    ensure!(yes, "deleting {name} deletes its records for good: say --yes if that is meant");
    for (_, gone) in Admin::new(&client(engine))?.delete_topics(std::slice::from_ref(&name)).await? {
        gone?;
    }
    output::line(format_args!("deleted {name}"));
    Ok(())
}
