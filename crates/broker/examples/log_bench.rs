//! Measures the layout of the log: appends that are acknowledged when they are durable, over 1, 12 and 100 partitions, into the shared
//! write-ahead log, and into a file per partition that is synced itself. The file layout gets the same group commit, with one thread
//! as the log has (each file is acknowledged as soon as it is synced), and with a thread per partition, where the file system may
//! merge their syncs. Layouts take turns, so that what else the machine does hits them alike.
//!
//! `cargo run --release -p broker --example log_bench -- [DIR] [ROUNDS] [PRODUCERS]`: closed loop, each producer has one batch of
//! 1 KiB under way. Prints throughput, latency, and the ratio of the shared log to each of the others.

#![expect(clippy::print_stdout, reason = "printing figures is what it is for")]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use broker::log::{Config, Log, OsDisk, Partition, PartitionConfig, RawBatch};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;
use uuid::Uuid;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const PAYLOAD_BYTES: usize = 1024;

/// A batch of one record of filler.
fn batch() -> Bytes {
    let mut out = vec![0x5a; 61 + PAYLOAD_BYTES];
    out[..61].fill(0);
    let length = u32::try_from(out.len() - 12).unwrap_or(0);
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[16] = 2;
    out[43..57].fill(0xff);
    out[57..61].copy_from_slice(&1u32.to_be_bytes());
    let crc = crc32c::crc32c(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.into()
}

/// Latencies, and how long it took.
type Figures = (Vec<Duration>, Duration);

struct Summary {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

fn figures(mut latencies: Vec<Duration>, took: Duration) -> Summary {
    latencies.sort_unstable();
    let at = |share: usize| latencies.get(latencies.len() * share / 100).copied().unwrap_or_default();
    #[expect(clippy::cast_precision_loss, reason = "a count of a few million")]
    let count = latencies.len() as f64;
    Summary { per_second: count / took.as_secs_f64(), p50: at(50), p99: at(99) }
}

/// Runs the producers for the time; each calls `append` again when its last one is durable.
async fn drive<F, Fut>(producers: usize, time: Duration, append: F) -> Result<Figures, Failure>
where
    F: Fn(usize) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send,
{
    let started = Instant::now();
    let tasks: Vec<_> = (0..producers)
        .map(|producer| {
            let append = append.clone();
            tokio::spawn(async move {
                let mut latencies = Vec::new();
                while started.elapsed() < time {
                    let begun = Instant::now();
                    append(producer).await?;
                    latencies.push(begun.elapsed());
                }
                Ok::<_, Failure>(latencies)
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    Ok((latencies, started.elapsed()))
}

async fn shared(dir: &Path, partitions: usize, producers: usize, time: Duration) -> Result<Figures, Failure> {
    let log = Log::open(Arc::new(OsDisk), dir, Config::default(), Vec::new())?;
    let topic = Uuid::from_u128(1);
    let config = PartitionConfig { timestamp_after_max_ms: None, ..PartitionConfig::default() };
    let (_, created) = log.frame().create_partitions(topic, i32::try_from(partitions)?, config).commit()?;
    log.synced(created).await?;
    let handles: Vec<Arc<Partition>> =
        (0..partitions).filter_map(|index| log.partition(topic, i32::try_from(index).ok()?)).collect();
    let (handles, bytes) = (Arc::new(handles), batch());
    let appender = Arc::clone(&log);
    let result = drive(producers, time, move |producer| {
        let (log, handles, bytes) = (Arc::clone(&appender), Arc::clone(&handles), bytes.clone());
        async move {
            let info = handles[producer % handles.len()].append(RawBatch::parse(bytes)?)?;
            Ok(log.synced(info.position).await?)
        }
    })
    .await;
    log.close()?;
    result
}

type Append = (usize, Bytes, oneshot::Sender<()>);

#[derive(Default)]
struct Queue {
    appends: Mutex<Vec<Append>>,
    filled: Condvar,
    stop: AtomicBool,
}

/// The baseline: a thread writes and syncs, file by file, what came in during its last round.
fn sync_files(queue: &Queue, mut files: BTreeMap<usize, File>) -> Result<(), Failure> {
    loop {
        let taken = {
            let mut appends = queue.appends.lock();
            while appends.is_empty() {
                if queue.stop.load(Ordering::Acquire) {
                    return Ok(());
                }
                queue.filled.wait_for(&mut appends, Duration::from_millis(50));
            }
            std::mem::take(&mut *appends)
        };
        let mut groups: BTreeMap<usize, (Vec<u8>, Vec<oneshot::Sender<()>>)> = BTreeMap::new();
        for (partition, bytes, done) in taken {
            let (group, waiting) = groups.entry(partition).or_default();
            group.extend_from_slice(&bytes);
            waiting.push(done);
        }
        for (partition, (group, waiting)) in groups {
            if let Some(file) = files.get_mut(&partition) {
                file.write_all(&group)?;
                file.sync_data()?;
            }
            for done in waiting {
                let _gone = done.send(());
            }
        }
    }
}

async fn per_file(
    dir: &Path,
    partitions: usize,
    threads: usize,
    producers: usize,
    time: Duration,
) -> Result<Figures, Failure> {
    std::fs::create_dir_all(dir)?;
    let queues: Arc<Vec<Queue>> = Arc::new((0..threads).map(|_| Queue::default()).collect());
    let mut running = Vec::new();
    for thread in 0..threads {
        let mut files = BTreeMap::new();
        for index in (thread..partitions).step_by(threads) {
            files.insert(index, File::create(dir.join(format!("{index}.log")))?);
        }
        let queues = Arc::clone(&queues);
        running.push(std::thread::spawn(move || sync_files(&queues[thread], files)));
    }
    let (appended, bytes) = (Arc::clone(&queues), batch());
    let result = drive(producers, time, move |producer| {
        let (queues, bytes) = (Arc::clone(&appended), bytes.clone());
        async move {
            let batch = RawBatch::parse(bytes)?;
            let (done, synced) = oneshot::channel();
            let partition = producer % partitions;
            let queue = &queues[partition % queues.len()];
            queue.appends.lock().push((partition, batch.bytes().clone(), done));
            queue.filled.notify_one();
            Ok(synced.await?)
        }
    })
    .await;
    for queue in queues.iter() {
        queue.stop.store(true, Ordering::Release);
    }
    for thread in running {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    result
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().map_or_else(std::env::temp_dir, Into::into);
    let rounds: usize = arguments.next().map_or(Ok(5), |text| text.parse())?;
    let producers: usize = arguments.next().map_or(Ok(100), |text| text.parse())?;
    let dir = tempfile::tempdir_in(dir)?;
    println!("{producers} producers, batches of {PAYLOAD_BYTES} bytes, {rounds} rounds of 1 s");
    println!("{:>10} {:>20} {:>10} {:>10} {:>10}", "partitions", "layout", "batches/s", "p50 ms", "p99 ms");
    for partitions in [1, 12, 100] {
        let names = ["shared WAL", "files, one thread", "files, thread each"];
        let mut totals = names.map(|name| (name, Vec::new(), Duration::ZERO));
        for round in 0..rounds {
            for (layout, (_, latencies, took)) in totals.iter_mut().enumerate() {
                let dir = dir.path().join(format!("{partitions}-{round}-{layout}"));
                let threads = if layout == 1 { 1 } else { partitions };
                let time = Duration::from_secs(1);
                let (more, lasted) = match layout {
                    0 => shared(&dir, partitions, producers, time).await?,
                    _ => per_file(&dir, partitions, threads, producers, time).await?,
                };
                latencies.extend(more);
                *took += lasted;
                std::fs::remove_dir_all(&dir)?;
            }
        }
        let all = totals.map(|(name, latencies, took)| (name, figures(latencies, took)));
        let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
        for (name, Summary { per_second, p50, p99 }) in &all {
            println!("{partitions:>10} {name:>20} {per_second:>10.0} {:>10.2} {:>10.2}", ms(*p50), ms(*p99));
        }
        let (_, log) = &all[0];
        for (name, baseline) in &all[1..] {
            println!(
                "{:>10} {:>20} {:>10.2} {:>10.2} {:>10.2}",
                "ratio to",
                name,
                log.per_second / baseline.per_second,
                ms(log.p50) / ms(baseline.p50),
                ms(log.p99) / ms(baseline.p99)
            );
        }
    }
    Ok(())
}
