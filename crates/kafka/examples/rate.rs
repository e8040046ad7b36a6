//! Records by Kafka's protocol at a fixed rate, written and read at once, each checked to come once:
//! `rate BOOTSTRAP TOPIC BYTES RATE SECONDS`. Prints one JSON object.

use std::error::Error;
use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kafka::{
    ClientConfig, Consumer, ConsumerConfig, Event, FetchConfig, Producer, ProducerConfig, StartFrom,
};
use tokio::sync::{mpsc, oneshot};
use types::{Headers, Record, TopicName};

/// Different keys, which spread over the partitions.
const KEYS: u64 = 1000;
/// How long the last records may take.
const LAST: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let [_, bootstrap, topic, bytes, rate, seconds] = args.as_slice() else {
        return Err("usage: rate BOOTSTRAP TOPIC BYTES RATE SECONDS".into());
    };
    let topic = TopicName::new(topic)?;
    let (bytes, rate, seconds): (usize, u64, u64) = (bytes.parse()?, rate.parse()?, seconds.parse()?);
    let total = rate * seconds;
    let client = ClientConfig::new(bootstrap, "rate");

    let (ready, is_ready) = oneshot::channel();
    let reader = tokio::spawn(read(client.clone(), topic.clone(), total, ready));
    is_ready.await?;
    let producer = Producer::new(&client.named("in"), ProducerConfig::default())?;
    let (sent, mut deliveries) = mpsc::unbounded_channel();
    let acknowledged = tokio::spawn(async move {
        let mut latencies = Vec::new();
        while let Some((at, delivery)) = deliveries.recv().await {
            let (at, delivery): (Instant, kafka::Delivery) = (at, delivery);
            delivery.await?;
            latencies.push(micros(at.elapsed()));
        }
        Ok::<_, kafka::Error>(latencies)
    });

    let begun = Instant::now();
    let mut number = 0;
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    while number < total {
        ticks.tick().await;
        let due = (begun.elapsed().as_secs_f64() * rate as f64) as u64;
        while number < due.min(total) {
            let record = record(number, bytes);
            sent.send((Instant::now(), producer.send(&topic, None, record)?))?;
            number += 1;
        }
    }
    drop(sent);
    let mut acks = acknowledged.await??;
    let wrote = begun.elapsed();
    let (mut arrivals, first, last) = tokio::time::timeout(LAST, reader).await???;
    writeln!(
        std::io::stdout(),
        "{{\"records\":{total},\"in_per_s\":{:.0},\"out_per_s\":{:.0},\"ack_p99_ms\":{:.2},\"read_p50_ms\":{:.2},\"read_p99_ms\":{:.2}}}",
        total as f64 / wrote.as_secs_f64(),
        total as f64 / last.duration_since(first).as_secs_f64(),
        quantile(&mut acks, 0.99),
        quantile(&mut arrivals, 0.5),
        quantile(&mut arrivals, 0.99),
    )?;
    Ok(())
}

fn record(number: u64, bytes: usize) -> Record {
    let mut value = format!("{{\"n\":{number},\"at\":{},\"text\":\"", now_micros());
    while value.len() + 2 < bytes {
        // Text that compresses as text does, not as zeros do.
        value.push_str(&format!("{:x} ", (number + value.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    }
    value.truncate(bytes.max(60) - 2);
    value.push_str("\"}");
    Record {
        key: Some(Bytes::from(format!("key-{}", number % KEYS))),
        value: Some(value.into()),
        headers: Headers::new(),
        timestamp: None,
    }
}

/// Latencies from send to arrival, and when the first and the last record came. Each must come once.
async fn read(
    client: ClientConfig,
    topic: TopicName,
    total: u64,
    ready: oneshot::Sender<()>,
) -> Result<(Vec<u32>, Instant, Instant), String> {
    let config = ConsumerConfig {
        fetch: FetchConfig { buffer_bytes_max: 16 << 20, ..FetchConfig::default() },
        ..ConsumerConfig::new(format!("rate-{}", now_micros()), vec![(topic, StartFrom::Latest)])
    };
    let mut consumer = Consumer::subscribe(&client.named("out"), config).map_err(|e| e.to_string())?;
    let mut ready = Some(ready);
    let mut seen = vec![false; usize::try_from(total).map_err(|e| e.to_string())?];
    let mut latencies = Vec::new();
    let mut first = None;
    while latencies.len() < seen.len() {
        match consumer.next().await {
            Event::Assigned(_) => {
                if let Some(ready) = ready.take() {
                    // The writer is waiting for it, or the process is ending.
                    let _ = ready.send(());
                }
            }
            Event::Records(records) => {
                first.get_or_insert_with(Instant::now);
                let now = now_micros();
                for record in records {
                    let value = record.value.unwrap_or_default();
                    let (number, at) = stamp(&value).ok_or("a record that nobody wrote")?;
                    let slot = usize::try_from(number).ok().and_then(|n| seen.get_mut(n));
                    if std::mem::replace(slot.ok_or("a record that nobody wrote")?, true) {
                        return Err(format!("record {number} came twice"));
                    }
                    latencies.push(u32::try_from(now.saturating_sub(at)).unwrap_or(u32::MAX));
                }
            }
            Event::Error(error) => return Err(error.to_string()),
            Event::Revoked { .. } | Event::EndOfPartition(..) => {}
        }
    }
    let last = Instant::now();
    Ok((latencies, first.unwrap_or(last), last))
}

/// `n` and `at` of a record.
fn stamp(value: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(value).ok()?.strip_prefix("{\"n\":")?;
    let (number, rest) = text.split_once(",\"at\":")?;
    let (at, _) = rest.split_once(',')?;
    Some((number.parse().ok()?, at.parse().ok()?))
}

fn now_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// In milliseconds.
fn quantile(micros: &mut [u32], q: f64) -> f64 {
    if micros.is_empty() {
        return 0.0;
    }
    micros.sort_unstable();
    f64::from(micros[((micros.len() - 1) as f64 * q) as usize]) / 1000.0
}
