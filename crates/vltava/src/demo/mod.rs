//! `vltava demo`: the whole path at work, and the proof that nothing was lost.
//!
//! The demo is a user: it applies manifests, sends events and redrives by the same HTTP API that
//! everybody has, and reads topics by Kafka's protocol. What it proves it reads back from the
//! topics and from its own receiver, never from a counter of the platform.

mod events;
mod proof;
mod receiver;
mod sender;
mod show;

use std::collections::HashMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use deadletter::Dlq;
use runtime::{Listen, Shutdown, StageState, StageStatus};
use serde::Serialize;
use serde_json::Value;
use types::TopicName;
use uuid::Uuid;

use self::receiver::Received;
use self::sender::Sent;
use self::show::Show;
use crate::cli::Demo;
use crate::commands::{answer, check, dlq, gitops, http_local};
use crate::output;
use crate::platform::Platform;
use crate::settings::{AuthMode, Settings};

/// Where the events come in, in the manifests of `examples/webhooks`.
const SOURCE: &str = "dev.demo.github.raw";
const TARGET: &str = "dev.demo.github.enriched";
const DLQ: &str = "dev.demo.github.dlq";
const WORKSPACE: &str = "demo";
const RECEIVER: &str = "http.url: http://127.0.0.1:9900/hooks";

/// Without any progress for so long, the demo has failed.
const STALL_MAX: Duration = Duration::from_secs(60);
/// How often the table is drawn anew, and the platform asked.
const REFRESH: Duration = Duration::from_millis(200);

const FLOW: [(&str, &str); 4] = [
    ("topics.yaml", include_str!("../../../../examples/webhooks/topics.yaml")),
    ("normalize.yaml", include_str!("../../../../examples/webhooks/normalize.yaml")),
    ("pipeline.yaml", include_str!("../../../../examples/webhooks/pipeline.yaml")),
    ("deliver.yaml", include_str!("../../../../examples/webhooks/deliver.yaml")),
];
const FLOW_FIXED: [(&str, &str); 4] = [
    ("topics.yaml", include_str!("../../../../examples/webhooks-fixed/topics.yaml")),
    ("normalize.yaml", include_str!("../../../../examples/webhooks-fixed/normalize.yaml")),
    ("pipeline.yaml", include_str!("../../../../examples/webhooks-fixed/pipeline.yaml")),
    ("deliver.yaml", include_str!("../../../../examples/webhooks-fixed/deliver.yaml")),
];

/// The last line of `--json`.
#[derive(Debug, Serialize)]
struct Summary {
    /// Events answered 202.
    sent: u64,
    /// Their ids in the source topic.
    stored: u64,
    /// Their ids in the target topic.
    transformed: u64,
    /// Their ids at the receiver.
    delivered: u64,
    /// Records in the DLQ before the redrive.
    dead_lettered: u64,
    /// Of them, given back.
    redriven: u64,
    /// Ids answered 202 and never received.
    lost: u64,
    /// Ids that lie twice in target and unsettled DLQ, or twice in the source.
    duplicated: u64,
    /// Deliveries of an id that had come before (at least once allows them).
    repeated_deliveries: u64,
    /// From the start of the process until it was ready.
    ready_ms: u64,
    /// From the start of the process until the receiver had the first event.
    first_delivery_ms: u64,
    /// From ingest to delivery, of what passed the first expression.
    p50_ms: f64,
    /// The same, 99th percentile.
    p99_ms: f64,
    /// The most that the process held at any moment.
    rss_mib: u64,
}

impl Summary {
    fn holds(&self) -> bool {
        self.lost == 0
            && self.duplicated == 0
            && self.redriven == self.dead_lettered
            && self.stored == self.sent
            && self.delivered == self.sent
    }
}

pub(crate) async fn run(demo: Demo) -> Result<ExitCode> {
    let begun = Instant::now();
    let events = Arc::new(events::load(demo.events.as_deref())?);
    let count = match demo.count.as_str() {
        "file" => events.len() as u64,
        text => text
            .parse()
            .ok()
            .filter(|n| *n > 0)
            .with_context(|| format!("--count {text:?}: give a number or \"file\""))?,
    };
    let temporary = tempfile::Builder::new().prefix("vltava-demo-").tempdir()?;
    let data_dir = demo.data_dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let settings = settings(&demo, &data_dir)?;
    crate::up::start_log(&settings)?;
    let process = Shutdown::new(settings.stop_grace);
    process.stop_at_signals().context("signals can't be handled")?;

    let platform = Platform::start(&settings, &process).await?;
    let outcome = tokio::select! {
        outcome = play(&demo, &platform, &process, events, count, &data_dir, begun) => outcome,
        () = process.requested() => Err(anyhow::anyhow!("stopped before the end")),
    };
    let outcome = match outcome {
        Ok(summary) if !demo.once => {
            invite(&platform);
            process.requested().await;
            Ok(summary)
        }
        outcome => outcome,
    };
    process.begin("the demo is over");
    platform.stop("the demo is over").await;
    let summary = outcome?;
    if demo.json {
        output::json(&summary)?;
    }
    Ok(if summary.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ports that nobody chose: the usual ones where they are free, else any.
fn settings(demo: &Demo, data_dir: &Path) -> Result<Settings> {
    let dir = data_dir.display().to_string();
    let mut settings = check::sources(&demo.settings).flag("data_dir", "--data-dir", Some(dir)).settings()?;
    // Whatever a configuration says of others: it listens on loopback, and is its own only caller.
    settings.auth_mode = AuthMode::Local;
    ensure!(settings.http != Listen::Off, "the demo needs the HTTP listener, and http.listen is off");
    let usual = Settings::default();
    if demo.settings.http.is_none() && settings.http == usual.http {
        settings.http = free(settings.http);
    }
    if demo.settings.broker.is_none() && settings.broker == usual.broker {
        settings.broker = free(settings.broker);
    }
    if demo.settings.log.is_none() && settings.log_filter == usual.log_filter {
        settings.log_filter = "warn".into();
    }
    Ok(settings)
}

fn free(listen: Listen) -> Listen {
    match listen {
        Listen::At(mut address) => {
            if std::net::TcpListener::bind(address).is_err() {
                address.set_port(0);
            }
            Listen::At(address)
        }
        Listen::Off => Listen::Off,
    }
}

async fn play(
    demo: &Demo,
    platform: &Platform,
    process: &Shutdown,
    events: Arc<Vec<events::Event>>,
    count: u64,
    data_dir: &Path,
    begun: Instant,
) -> Result<Summary> {
    ensure!(platform.ready().await, "the platform isn't ready in time; its log says why");
    let ready_ms = millis(begun.elapsed());
    let url = platform.url().context("the HTTP listener is off")?;
    let own = gitops::Own { url: &url, own: &platform.own };
    let client = http_local()?;
    let show = Show::new();
    show.say(format_args!("ready after {ready_ms} ms: HTTP at {url}, Kafka at {}", platform.bootstrap));

    let secret = Uuid::new_v4().simple().to_string();
    let secret_file = keep_secret(data_dir, &secret)?;
    let (receiver, received) = receiver::start(&secret, process).await?;
    let manifests = |flow: &[(&str, &str)]| -> Vec<(String, String)> {
        let here = format!(
            "http.url: http://{receiver}/hooks\n    http.signing.secret: ${{file:{}}}",
            secret_file.display()
        );
        flow.iter().map(|(name, text)| ((*name).to_owned(), text.replace(RECEIVER, &here))).collect()
    };
    gitops::put_files(&manifests(&FLOW), &own, gitops::How::default(), false)
        .await
        .context("the flow can't be applied")?;
    let stages = await_stages(&url, |stages| stages.len() >= 2 && stages.iter().all(is_running)).await?;
    show.say(format_args!("applied examples/webhooks: {} stages run; {receiver} receives", stages.len()));

    let source = TopicName::new(SOURCE)?;
    let counted = proof::Source::new(&platform.client, &source).await?;
    let sent = Sent::default();
    let sender =
        tokio::spawn(sender::send(format!("{url}/ingest/{SOURCE}"), events, count, demo.rate, sent.clone()));
    let sent_all = Instant::now();
    let before = watch(&url, &counted, &show, &sent, &received, sent_all, |counts| {
        counts.sent == count
            && counts.transformed + counts.dead_lettered >= count
            && counts.delivered >= counts.transformed
    })
    .await;
    sender.await??;
    let before = before?;
    let first_pass = received.times();

    let target = TopicName::new(TARGET)?;
    let dlq = TopicName::new(DLQ)?;
    let letters = Dlq::new(&platform.client, dlq.clone())?.list(&everything(), false).await?;
    let dead_lettered = letters.matched;
    show.say(format_args!(
        "{dead_lettered} of {} events failed the first expression and lie in {DLQ}; the last of them:",
        before.sent
    ));
    if let Some((letter, _)) = letters.letters.last() {
        show.say(format_args!("  {} ({}, {})", letter.message, letter.reason, letter.stage_text));
    }

    let generation = |stages: &[StageStatus]| {
        stages.iter().filter(|s| s.kind == "Pipeline").map(|s| s.generation_running).sum::<u64>()
    };
    let old = generation(&stages);
    gitops::put_files(&manifests(&FLOW_FIXED), &own, gitops::How::default(), false)
        .await
        .context("the mended flow can't be applied")?;
    await_stages(&url, |stages| stages.iter().all(is_running) && generation(stages) > old).await?;
    show.say(format_args!("applied examples/webhooks-fixed: the next version runs from the next batch on"));

    let redriven =
        dlq::run::redrive(&client, &url, WORKSPACE, &dlq, &dlq::run::Asked::everything(), |_| {}).await?;
    show.say(format_args!(
        "redriving {DLQ}: {} records go back to the stage that failed them",
        redriven.redriven
    ));
    watch(&url, &counted, &show, &sent, &received, sent_all, |counts| counts.delivered >= count).await?;

    let names = (&source, &target, &dlq);
    let summary =
        prove(platform, &sent, &received, &first_pass, names, dead_lettered, redriven.redriven).await?;
    let summary = Summary {
        ready_ms,
        first_delivery_ms: received.first_at().map_or(0, |at| millis(at.duration_since(begun))),
        ..summary
    };
    show.result(&summary, received.refused());
    ensure!(received.refused() == 0, "{} deliveries had a signature that doesn't hold", received.refused());
    Ok(summary)
}

/// Every letter there is.
fn everything() -> deadletter::Selection {
    deadletter::Selection { limit: Some(u64::MAX), ..deadletter::Selection::default() }
}

fn is_running(stage: &StageStatus) -> bool {
    stage.state == StageState::Running && stage.generation_running == stage.generation_wanted
}

/// The signing secret goes where a real one would: into a file that only its owner reads, and into
/// the manifest by reference.
fn keep_secret(data_dir: &Path, secret: &str) -> Result<PathBuf> {
    let path = data_dir.canonicalize()?.join("demo-signing-secret");
    let mut file =
        std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
    file.write_all(secret.as_bytes())?;
    Ok(path)
}

async fn stages(url: &str) -> Result<Vec<StageStatus>> {
    let address = format!("{url}/api/v1/status");
    let status = answer(&address, http_local()?.get(&address)).await?;
    Ok(serde_json::from_value(status.get("stages").cloned().unwrap_or(Value::Null))?)
}

async fn await_stages(url: &str, wanted: impl Fn(&[StageStatus]) -> bool) -> Result<Vec<StageStatus>> {
    let deadline = Instant::now() + STALL_MAX;
    loop {
        let now = stages(url).await?;
        if wanted(&now) {
            return Ok(now);
        }
        if Instant::now() > deadline {
            let why: Vec<String> = now
                .iter()
                .map(|s| {
                    format!("{} {}: {:?} ({})", s.kind, s.name, s.state, s.reason.as_deref().unwrap_or("-"))
                })
                .collect();
            bail!("the stages don't run: {}", why.join("; "));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the table shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    sent: u64,
    stored: u64,
    transformed: u64,
    delivered: u64,
    dead_lettered: u64,
}

/// Draws the table until `done` says so, or nothing has moved for [`STALL_MAX`].
async fn watch(
    url: &str,
    source: &proof::Source,
    show: &Show,
    sent: &Sent,
    received: &Received,
    begun: Instant,
    done: impl Fn(&Counts) -> bool,
) -> Result<Counts> {
    let mut last = (Counts::default(), Instant::now());
    loop {
        let stages = stages(url).await?;
        let pipelines = || stages.iter().filter(|s| s.kind == "Pipeline");
        let counts = Counts {
            sent: sent.count(),
            stored: proof::records(source).await?,
            transformed: pipelines().map(|s| s.out_total).sum(),
            delivered: received.unique(),
            dead_lettered: stages.iter().map(|s| s.dead_lettered_total).sum(),
        };
        show.table(&counts, &latencies(&sent.ids(), &received.times()), begun.elapsed());
        if done(&counts) {
            show.end();
            return Ok(counts);
        }
        if counts != last.0 {
            last = (counts, Instant::now());
        }
        if last.1.elapsed() > STALL_MAX {
            show.end();
            bail!("nothing has moved for {} s: {counts:?}", STALL_MAX.as_secs());
        }
        tokio::time::sleep(REFRESH).await;
    }
}

/// From ingest to delivery, in milliseconds, sorted.
fn latencies(sent: &HashMap<String, Instant>, received: &HashMap<String, Instant>) -> Vec<f64> {
    let mut all: Vec<f64> = received
        .iter()
        .filter_map(|(id, at)| Some(at.duration_since(*sent.get(id)?).as_secs_f64() * 1000.0))
        .collect();
    all.sort_by(f64::total_cmp);
    all
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    (sorted.get(index).copied().unwrap_or(0.0) * 10.0).round() / 10.0
}

async fn prove(
    platform: &Platform,
    sent: &Sent,
    received: &Received,
    first_pass: &HashMap<String, Instant>,
    (source, target, dlq): (&TopicName, &TopicName, &TopicName),
    dead_lettered: u64,
    redriven: u64,
) -> Result<Summary> {
    let ids = sent.ids();
    let client = &platform.client;
    let in_source = proof::ids(client, source).await?;
    let in_target = proof::ids(client, target).await?;
    let mut unsettled = HashMap::new();
    for (letter, _) in Dlq::new(client, dlq.clone())?.list(&everything(), false).await?.letters {
        *unsettled.entry(letter.event_id().unwrap_or("(no id)").to_owned()).or_insert(0) += 1;
    }
    let times = received.times();
    let of = |topic: &HashMap<String, u64>, id: &str| topic.get(id).copied().unwrap_or(0);
    let twice =
        ids.keys().filter(|id| of(&in_target, id) + of(&unsettled, id) > 1 || of(&in_source, id) > 1).count();
    let latencies = latencies(&ids, first_pass);
    let counted =
        |found: &HashMap<String, u64>| ids.keys().filter(|id| found.contains_key(*id)).count() as u64;
    Ok(Summary {
        sent: ids.len() as u64,
        stored: counted(&in_source),
        transformed: counted(&in_target),
        delivered: ids.keys().filter(|id| times.contains_key(*id)).count() as u64,
        dead_lettered,
        redriven,
        lost: ids.keys().filter(|id| !times.contains_key(*id)).count() as u64,
        duplicated: twice as u64,
        repeated_deliveries: received.repeated(),
        ready_ms: 0,
        first_delivery_ms: 0,
        p50_ms: percentile(&latencies, 50),
        p99_ms: percentile(&latencies, 99),
        rss_mib: peak_rss_mib(),
    })
}

/// `VmHWM` of this process: the most that was resident at once.
fn peak_rss_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(0, |kib| kib / 1024)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn invite(platform: &Platform) {
    let url = platform.url().unwrap_or_default();
    let kafka = &platform.bootstrap;
    output::note(format_args!(
        "\nIt stays up until Ctrl-C. Try in another terminal:\n\n  \
         curl -i {url}/ingest/{SOURCE} -H 'content-type: application/json' -H 'x-github-event: issues' \\\n    \
         -d '{{\"action\":\"opened\",\"issue\":{{\"number\":1,\"title\":\"Hello\",\"body\":\"World\"}}}}'\n  \
         vltava status --url {url}\n  \
         vltava tail {TARGET} --from -2 --kafka-bootstrap {kafka}\n  \
         vltava dlq ls --kafka-bootstrap {kafka}\n  \
         kcat -b {kafka} -t {SOURCE} -C -o -1 -e\n"
    ));
}
