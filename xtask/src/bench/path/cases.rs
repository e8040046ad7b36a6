//! What is measured on each engine, and what is to be reached.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::super::{Better, Figure};
use super::baselines::Baselines;
use super::load::{self, CONNECTIONS, Pace};
use super::platform::{Platform, connector, pipeline, topic};
use super::process::Binaries;
use super::receiver::{REFUSED, Receiver};
use crate::engine::report;

/// Bodies of ingest, in bytes.
pub(super) const BODIES: [usize; 2] = [1 << 10, 10 << 10];
/// Different keys.
const KEYS: usize = 200;
/// Records of a batch that fills a topic.
const FILL: usize = 200;
/// The fixed rate of ingest, a second.
const RATE: u32 = 2_000;
const LATENCY: Duration = Duration::from_millis(20);
/// What `http.in.flight.max` is unless said: how many deliveries are under way at once.
const IN_FLIGHT: f64 = 64.0;
/// Pipelines, and as many connectors, that have nothing to do.
const IDLE: usize = 50;

/// Where cases are measured.
pub(super) struct Bed<'a> {
    pub(super) binaries: &'a Binaries,
    pub(super) figures: Vec<Figure>,
    quick: bool,
    only: Vec<String>,
    streams: usize,
}

/// One case's figures.
struct Case<'a> {
    name: String,
    figures: &'a mut Vec<Figure>,
}

impl Case<'_> {
    fn add(
        &mut self,
        metric: &str,
        unit: &str,
        better: Better,
        ours: f64,
        goal: Option<f64>,
        baselines: &[(&str, f64)],
    ) {
        report(&format!("{}: {metric} {ours:.2} {unit}", self.name));
        let mut figure = Figure::new(&self.name, metric, unit, better, ours, baselines);
        if let Some(goal) = goal {
            figure = figure.goal("ours", goal);
        }
        self.figures.push(figure);
    }

    fn rate(&mut self, ours: f64, goal: Option<f64>, baselines: &[(&str, f64)]) {
        self.add("rate", "1/s", Better::Higher, ours, goal, baselines);
    }

    fn cpu(&mut self, seconds: f64, records: usize, goal: Option<f64>, baselines: &[(&str, f64)]) {
        let ours = seconds * 100_000.0 / records as f64;
        self.add("CPU per 100k", "s", Better::Lower, ours, goal, baselines);
    }

    /// Goals for the median, the 95th and the 99th percentile, in milliseconds; what others had as the 99th.
    fn latencies(
        &mut self,
        quantile_ms: impl Fn(f64) -> f64,
        goals: [Option<f64>; 3],
        p99_of_others: &[(&str, f64)],
    ) {
        for ((name, q), goal) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)].into_iter().zip(goals) {
            let others = if name == "p99" { p99_of_others } else { &[] };
            self.add(name, "ms", Better::Lower, quantile_ms(q), goal, others);
        }
    }

    fn peak(&mut self, mib: f64, goal: Option<f64>, baselines: &[(&str, f64)]) {
        self.add("peak memory", "MiB", Better::Lower, mib, goal, baselines);
    }
}

impl<'a> Bed<'a> {
    pub(super) fn new(binaries: &'a Binaries, quick: bool, only: Vec<String>) -> Self {
        Self { binaries, figures: Vec::new(), quick, only, streams: 0 }
    }

    pub(super) fn wants(&self, case: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| case.contains(only.as_str()))
    }

    /// How long a case lasts.
    pub(super) fn lasts(&self) -> Duration {
        Duration::from_secs(if self.quick { 4 } else { 12 })
    }

    pub(super) fn warm_up(&self) -> Duration {
        // V8 and the JVM compile meanwhile.
        self.lasts() / 2
    }

    /// A topic name that no case before had.
    pub(super) fn stream(&mut self, variant: &str) -> String {
        self.streams += 1;
        format!("dev.bench.c{}-{}.{variant}", std::process::id(), self.streams)
    }

    /// All cases on one engine; on the embedded one without an address.
    pub(super) fn engine(
        &mut self,
        engine: &str,
        bootstrap: Option<&str>,
        baselines: &Baselines,
    ) -> Result<()> {
        // The goals are for Vltava's process alone: the embedded broker works in it, too.
        let apart = bootstrap.is_some();
        if self.wants("ingest") {
            for bytes in BODIES {
                self.ingest(engine, bootstrap, bytes, baselines, apart)?;
            }
        }
        if self.wants("pipeline") {
            self.pipeline(engine, bootstrap)?;
        }
        if self.wants("delivery") {
            self.delivery(engine, bootstrap, apart)?;
        }
        if self.wants("end to end") {
            self.end_to_end(engine, bootstrap)?;
        }
        if self.wants("protocol") && bootstrap.is_none() {
            self.protocol(engine)?;
        }
        if self.wants("idle") {
            self.idle(engine, bootstrap)?;
        }
        Ok(())
    }

    fn ingest(
        &mut self,
        engine: &str,
        bootstrap: Option<&str>,
        bytes: usize,
        baselines: &Baselines,
        apart: bool,
    ) -> Result<()> {
        let name = self.stream("raw");
        let (warm_up, lasts) = (self.warm_up(), self.lasts());
        let platform = Platform::start(&self.binaries.vltava, bootstrap)?;
        platform.apply(&topic(&name))?;
        platform.await_topic(&name)?;
        let send = |pace| load::send(platform.http, pace, ingest_request(&name, bytes));
        send(Pace::Closed(warm_up))?;
        let before = platform.process.cpu_seconds()?;
        let sent = send(Pace::Closed(lasts))?;
        let cpu = platform.process.cpu_seconds()? - before;
        let peak = platform.process.peak_mib()?;
        let kib = bytes >> 10;
        let mut case = Case {
            name: format!("{engine}: ingest {kib} KiB, {CONNECTIONS} connections"),
            figures: &mut self.figures,
        };
        let of = |figure: fn(&super::baselines::Reached) -> f64| baselines.of(bytes, figure);
        case.rate(sent.per_second(), None, &of(|r| r.per_second));
        let goal = apart.then_some(if kib == 1 { 2.0 } else { 4.0 });
        case.cpu(cpu, sent.count(), goal, &of(|r| r.cpu_seconds));
        case.latencies(|q| sent.quantile_ms(q), [None; 3], &of(|r| r.p99_ms));
        case.peak(peak, apart.then_some(60.0), &of(|r| r.peak_mib));
        let before = platform.process.cpu_seconds()?;
        let sent = send(Pace::PerSecond(RATE, lasts))?;
        let cpu = platform.process.cpu_seconds()? - before;
        let mut case =
            Case { name: format!("{engine}: ingest {kib} KiB at {RATE}/s"), figures: &mut self.figures };
        case.rate(sent.per_second(), Some(f64::from(RATE) * 0.99), &[]);
        case.cpu(cpu, sent.count(), None, &[]);
        let p99 = if apart { 5.0 } else { 500.0 };
        case.latencies(|q| sent.quantile_ms(q), [Some(20.0), Some(100.0), Some(p99)], &[]);
        Ok(())
    }

    fn pipeline(&mut self, engine: &str, bootstrap: Option<&str>) -> Result<()> {
        let (from, to) = (self.stream("raw"), self.stream("shaped"));
        let count = if self.quick { 40_000 } else { 120_000 };
        let platform = Platform::start(&self.binaries.vltava, bootstrap)?;
        platform.apply(&(topic(&from) + &topic(&to)))?;
        platform.await_topic(&from)?;
        fill(&platform, &from, count, 1 << 10, None)?;
        let platform = platform.again(bootstrap)?;
        platform.apply(&pipeline("shape", &from, &to))?;
        let some = |part: u64| platform.wait("the pipeline", || Ok(platform.out("Pipeline")? >= part));
        let mut begun = some(1)?;
        let first = platform.out("Pipeline")?;
        begun = begun.max(Instant::now());
        let before = platform.process.cpu_seconds()?;
        // One more: the event that waited for the topic.
        let ended = some(count as u64 + 1)?;
        let cpu = platform.process.cpu_seconds()? - before;
        let done = count - usize::try_from(first)?;
        let mut case =
            Case { name: format!("{engine}: pipeline, 1 KiB, exactly once"), figures: &mut self.figures };
        case.rate(done as f64 / ended.duration_since(begun).as_secs_f64(), None, &[]);
        case.cpu(cpu, done, None, &[]);
        case.peak(platform.process.peak_mib()?, None, &[]);
        Ok(())
    }

    fn delivery(&mut self, engine: &str, bootstrap: Option<&str>, apart: bool) -> Result<()> {
        let count = if self.quick { 30_000 } else { 100_000 };
        let goal = apart.then_some(3.0);
        let at_once = self.deliver(bootstrap, count, Duration::ZERO, None)?;
        let rate = at_once.per_second;
        at_once.publish(self, format!("{engine}: delivery at once"), goal, apart, &[], None);
        let possible = IN_FLIGHT / LATENCY.as_secs_f64();
        let bare = self.bare()?;
        let some = if self.quick { 10_000 } else { 30_000 };
        let slow = self.deliver(bootstrap, some, LATENCY, None)?;
        let name = format!("{engine}: delivery, 20 ms latency");
        slow.publish(self, name, goal, apart, &[("bare posts", bare), ("64 / 20 ms", possible)], Some(0.95));
        let failing = self.deliver(bootstrap, count, Duration::ZERO, Some(7))?;
        let name = format!("{engine}: delivery, one key of {KEYS} fails");
        failing.publish(self, name, goal, apart, &[("none fails", rate)], Some(0.9));
        Ok(())
    }

    /// What a receiver that takes its time is sent a second over as many connections, by requests of the same size without anything
    /// behind them: timers and the load itself are in it.
    fn bare(&self) -> Result<f64> {
        let receiver = Receiver::start(LATENCY, 0)?;
        let body = load::event("\"n\":1", 1 << 10);
        let sent = load::send(receiver.address, Pace::Closed(self.lasts()), move |_| {
            load::post("bare", None, &body)
        })?;
        Ok(sent.per_second())
    }

    /// Delivers what lies in a topic; of the key that fails nothing is taken.
    fn deliver(
        &mut self,
        bootstrap: Option<&str>,
        count: usize,
        latency: Duration,
        fails: Option<usize>,
    ) -> Result<Delivered> {
        let from = self.stream("out");
        let receiver = Receiver::start(latency, 0)?;
        let platform = Platform::start(&self.binaries.vltava, bootstrap)?;
        platform.apply(&topic(&from))?;
        platform.await_topic(&from)?;
        fill(&platform, &from, count, 1 << 10, fails)?;
        let platform = platform.again(bootstrap)?;
        let manifests = connector("deliver", &from, receiver.address);
        platform.apply(&manifests)?;
        // One more: the event that waited for the topic.
        let all = count + 1 - fails.map_or(0, |_| count / KEYS);
        let some = |part: usize| platform.wait("deliveries", || Ok(receiver.taken() >= part as u64));
        some(all / 50)?;
        let (begun, first, before) = (Instant::now(), receiver.taken(), platform.process.cpu_seconds()?);
        let ended = some(all)?;
        let cpu = platform.process.cpu_seconds()? - before;
        if fails.is_some() {
            ensure!(receiver.refused() > 0, "the failing key was never tried");
        }
        let done = all - usize::try_from(first)?;
        Ok(Delivered {
            per_second: done as f64 / ended.duration_since(begun).as_secs_f64(),
            cpu,
            done,
            peak_mib: platform.process.peak_mib()?,
        })
    }

    /// From the send of a request to the arrival of what its event became.
    fn end_to_end(&mut self, engine: &str, bootstrap: Option<&str>) -> Result<()> {
        let (from, to) = (self.stream("raw"), self.stream("shaped"));
        let (warm_up, lasts) = (self.warm_up(), self.lasts());
        let numbers = usize::try_from(RATE)? * usize::try_from((warm_up + lasts).as_secs() + 1)?;
        let receiver = Receiver::start(Duration::ZERO, numbers)?;
        let platform = Platform::start(&self.binaries.vltava, bootstrap)?;
        let flow = topic(&from)
            + &topic(&to)
            + &pipeline("shape", &from, &to)
            + &connector("deliver", &to, receiver.address);
        platform.apply(&flow)?;
        platform.await_topic(&from)?;
        let begun: Rc<RefCell<Vec<Option<Instant>>>> = Rc::new(RefCell::new(vec![None; numbers]));
        let cpu = platform.process.cpu_seconds()?;
        let sent = load::send(platform.http, Pace::PerSecond(RATE, warm_up + lasts), {
            let (from, begun) = (from.clone(), begun.clone());
            let body = load::event("\"score\":1", 900);
            move |number| {
                if let Some(slot) = begun.borrow_mut().get_mut(number) {
                    *slot = Some(Instant::now());
                }
                let head = format!("{{\"n\":{number},\"key\":\"key-{}\",", number % KEYS);
                load::post(&from, None, &body.replacen('{', &head, 1))
            }
        })?;
        // One more: the event that waited for the topic.
        let all = sent.count() as u64 + 1;
        platform.wait("what was sent", || Ok(receiver.taken() >= all))?;
        let cpu = platform.process.cpu_seconds()? - cpu;
        let skipped = usize::try_from(RATE)? * usize::try_from(warm_up.as_secs())?;
        let begun = begun.borrow();
        let mut latencies: Vec<u32> = begun
            .iter()
            .zip(receiver.arrivals())
            .skip(skipped)
            .filter_map(|(begun, arrived)| Some(arrived?.duration_since((*begun)?)))
            .map(|took| u32::try_from(took.as_micros()).unwrap_or(u32::MAX))
            .collect();
        ensure!(latencies.len() + skipped == sent.count(), "some event came under no number");
        latencies.sort_unstable();
        let name = format!("{engine}: end to end at {RATE}/s");
        let mut case = Case { name, figures: &mut self.figures };
        case.cpu(cpu, sent.count(), None, &[]);
        case.latencies(|q| load::quantile_ms(&latencies, q), [None, Some(1000.0), None], &[]);
        case.peak(platform.process.peak_mib()?, None, &[]);
        Ok(())
    }

    /// Records by Kafka's protocol, in and out at once.
    fn protocol(&mut self, engine: &str) -> Result<()> {
        const PER_SECOND: f64 = 50_000.0;
        let name = self.stream("raw");
        let lasts = self.lasts();
        let platform = Platform::start(&self.binaries.vltava, None)?;
        platform.apply(&topic(&name))?;
        platform.await_topic(&name)?;
        let before = platform.process.cpu_seconds()?;
        let output = std::process::Command::new(&self.binaries.rate)
            .args([&platform.kafka, &name, "1024"])
            .args([PER_SECOND.to_string(), lasts.as_secs().to_string()])
            .output()?;
        ensure!(output.status.success(), "rate: {}", String::from_utf8_lossy(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout)?;
        let cpu = platform.process.cpu_seconds()? - before;
        let of = |name: &str| said[name].as_f64().with_context(|| format!("no {name} in {said}"));
        let mut case = Case {
            name: format!("{engine}: 1 KiB by Kafka's protocol, in and out"),
            figures: &mut self.figures,
        };
        case.add("in", "1/s", Better::Higher, of("in_per_s")?, Some(PER_SECOND * 0.99), &[]);
        case.add("out", "1/s", Better::Higher, of("out_per_s")?, Some(40_000.0), &[]);
        case.cpu(cpu, of("records")? as usize, None, &[]);
        case.add("acknowledged p99", "ms", Better::Lower, of("ack_p99_ms")?, None, &[]);
        case.add("read p99", "ms", Better::Lower, of("read_p99_ms")?, None, &[]);
        case.peak(platform.process.peak_mib()?, None, &[]);
        Ok(())
    }

    /// Stages that have nothing to do, in one process.
    fn idle(&mut self, engine: &str, bootstrap: Option<&str>) -> Result<()> {
        let receiver = Receiver::start(Duration::ZERO, 0)?;
        let platform = Platform::start(&self.binaries.vltava, bootstrap)?;
        let prefix = self.stream("x");
        let mut flow = String::new();
        for number in 0..IDLE {
            let (from, to) = (format!("{prefix}-from-{number}"), format!("{prefix}-to-{number}"));
            flow += &(topic(&from) + &topic(&to));
            flow += &pipeline(&format!("p{number}"), &from, &to);
            flow += &connector(&format!("c{number}"), &to, receiver.address);
        }
        platform.apply(&flow)?;
        // What starting costs is over then.
        std::thread::sleep(Duration::from_secs(10));
        let (begun, before) = (Instant::now(), platform.process.cpu_seconds()?);
        std::thread::sleep(self.lasts().max(Duration::from_secs(10)));
        let cpu = platform.process.cpu_seconds()? - before;
        let cpu = cpu / begun.elapsed().as_secs_f64() * 100.0;
        let mut case = Case {
            name: format!("{engine}: {IDLE} pipelines and {IDLE} connectors, idle"),
            figures: &mut self.figures,
        };
        case.add("CPU", "% of a core", Better::Lower, cpu, Some(2.0), &[]);
        case.add(
            "memory",
            "MiB",
            Better::Lower,
            platform.process.status("VmRSS")? / 1024.0,
            Some(150.0),
            &[],
        );
        case.add("threads", "", Better::Lower, platform.process.status("Threads")?, None, &[]);
        Ok(())
    }
}

struct Delivered {
    per_second: f64,
    cpu: f64,
    done: usize,
    peak_mib: f64,
}

impl Delivered {
    fn publish(
        &self,
        bed: &mut Bed<'_>,
        name: String,
        cpu_goal: Option<f64>,
        apart: bool,
        beside: &[(&str, f64)],
        ratio: Option<f64>,
    ) {
        let mut case = Case { name, figures: &mut bed.figures };
        case.rate(self.per_second, None, beside);
        case.cpu(self.cpu, self.done, cpu_goal, &[]);
        case.peak(self.peak_mib, apart.then_some(60.0), &[]);
        if let (Some(ratio), [(baseline, _), ..]) = (ratio, beside) {
            let at = bed.figures.len() - 3;
            let rate = bed.figures.remove(at).goal(baseline, ratio);
            bed.figures.insert(at, rate);
        }
    }
}

/// Requests of ingest, prebuilt for each key.
pub(super) fn ingest_request(topic: &str, bytes: usize) -> impl Fn(usize) -> Vec<u8> + use<> {
    let body = load::event("\"action\":\"opened\"", bytes);
    let requests: Vec<_> =
        (0..KEYS).map(|key| load::post(topic, Some(&format!("key-{key}")), &body)).collect();
    move |number| requests[number % KEYS].clone()
}

/// Puts so many records into a topic, in batches. Of the key that fails all are refused by the receiver.
fn fill(platform: &Platform, topic: &str, count: usize, bytes: usize, fails: Option<usize>) -> Result<()> {
    let topic = topic.to_owned();
    let sent = load::send(platform.http, Pace::Times(count / FILL), move |batch| {
        let events: Vec<String> = (0..FILL)
            .map(|at| {
                let number = batch * FILL + at;
                let key = number % KEYS;
                let refused = if Some(key) == fails { format!("{REFUSED},") } else { String::new() };
                load::event(&format!("{refused}\"n\":{number},\"key\":\"key-{key}\""), bytes)
            })
            .collect();
        load::post(&topic, None, &format!("[{}]", events.join(",")))
    })?;
    ensure!(sent.count() == count / FILL, "filling sent {} batches", sent.count());
    Ok(())
}
