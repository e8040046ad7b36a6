use std::collections::BTreeMap;

use resources::{ContentHash, OnError, Source, StageTopics, StartFrom, StepKind, StepPlan, TransformPlan};
use types::{Headers, InstallationId, Uid};

use super::*;

fn topic(name: &str) -> TopicName {
    TopicName::new(name).unwrap()
}

fn plan(expressions: &[&str]) -> PipelinePlan {
    let step = |(n, expression): (usize, &&str)| StepPlan {
        name: format!("s{n}"),
        kind: StepKind::Transform(TransformPlan {
            transform: format!("t{n}"),
            version: 3,
            hash: ContentHash::of(&[expression.as_bytes()]),
            expression: (*expression).into(),
        }),
    };
    PipelinePlan {
        installation: InstallationId::new(),
        uid: Uid::new(),
        generation: 4,
        workspace: "w".into(),
        name: "p".into(),
        sources: vec![Source { topic: topic("in"), from: StartFrom::Earliest }],
        steps: expressions.iter().enumerate().map(step).collect(),
        target: topic("out"),
        target_key: None,
        on_error: OnError::DeadLetter,
        fan_out: false,
        parallelism: 1,
        topics: StageTopics { dlq: BTreeMap::from([(topic("in"), topic("in.dlq"))]), retry: topic("retry") },
        paused: false,
        restarts: 0,
    }
}

fn record(offset: Offset, value: Option<&str>) -> ConsumedRecord {
    ConsumedRecord {
        tp: TopicPartition::new(topic("in"), 7),
        offset,
        timestamp_ms: 1_700_000_000_000,
        key: Some("k".into()),
        value: value.map(|value| value.to_owned().into()),
        headers: Headers::new(),
    }
}

fn tally(active: PipelinePlan, candidate: PipelinePlan, samples: usize, records: &[ConsumedRecord]) -> Tally {
    let config = Config::default();
    let sides = Sides {
        active: Compiled::new(Arc::new(active), &config).unwrap(),
        candidate: Compiled::new(Arc::new(candidate), &config).unwrap(),
        sizes: Sizes {
            target_bytes_max: [(topic("out"), 10_000)].into(),
            dlq_bytes_max: [(topic("in.dlq"), 80_000)].into(),
        },
        predicate: None,
    };
    let (mut tally, mut evaluator) = (Tally::new(samples), Evaluator::new());
    for record in records {
        sides.compare(&mut evaluator, record, &mut tally);
    }
    tally
}

fn values(values: &[&str]) -> Vec<ConsumedRecord> {
    values.iter().enumerate().map(|(i, value)| record(i as Offset, Some(value))).collect()
}

/// By `a`, `b` and `c` each record says what either makes of it.
const ACTIVE: &str = "a = 'fail' ? $error('no') : a = 'none' ? $nothing : a";
const CANDIDATE: &str = "b = 'fail' ? $error('no') : b = 'other' ? $number('x') : b = 'none' ? $nothing : b";

#[test]
fn each_record_is_in_one_category() {
    let of = |a: &str, b: &str| format!(r#"{{"a":"{a}","b":"{b}"}}"#);
    let mut records = Vec::new();
    for (count, a, b) in [
        (1, "x", "x"),
        (2, "x", "y"),
        (3, "x", "fail"),
        (4, "fail", "y"),
        (5, "fail", "fail"),
        (6, "fail", "other"),
        (7, "x", "none"),
        (8, "fail", "none"),
        (9, "none", "y"),
        (10, "none", "none"),
        (11, "none", "fail"),
    ] {
        records.extend(std::iter::repeat_n(of(a, b), count));
    }
    let mut records = values(&records.iter().map(String::as_str).collect::<Vec<_>>());
    // A tombstone goes on as it is, and what is no JSON fails by both.
    records.extend([record(900, None), record(901, Some("{"))]);
    let tally = tally(plan(&[ACTIVE]), plan(&[CANDIDATE]), 2, &records);
    let counts = Counts {
        same: 2,
        changed: 2,
        new_failures: 3 + 11,
        fixed_failures: 4,
        still_failing: 5 + 6 + 1,
        still_failing_otherwise: 6,
        newly_dropped: 7 + 8,
        newly_made: 9,
        still_dropped: 10,
    };
    assert_eq!(tally.counts, counts);
    assert_eq!(counts.compared(), records.len() as u64);
    assert_eq!(
        tally.active.failures,
        BTreeMap::from([("transform_error", 4 + 5 + 6 + 8), ("invalid_json", 1)])
    );
    assert_eq!(
        tally.candidate.failures,
        BTreeMap::from([("transform_error", 3 + 5 + 6 + 11), ("invalid_json", 1)])
    );

    let samples = tally.samples();
    let shown: BTreeMap<_, usize> = samples.iter().fold(BTreeMap::new(), |mut shown, sample| {
        *shown.entry(sample.category.as_str()).or_default() += 1;
        shown
    });
    assert_eq!(
        shown,
        BTreeMap::from([
            ("changed", 2),
            ("newFailure", 2),
            ("fixedFailure", 2),
            ("stillFailing", 2),
            ("newlyDropped", 2),
            ("newlyMade", 2),
        ])
    );
}

#[test]
fn a_sample_says_what_either_made_of_it_and_where_they_differ() {
    let (active, candidate) =
        ("{'id': id, 'items': items.{'p': p}}", "{'items': items.{'p': p * 2}, 'id': id}");
    let records =
        values(&[r#"{"id":1,"items":[{"p":0},{"p":2}]}"#, r#"{"id":2,"items":[{"p":"x"},{"p":1}]}"#]);
    let tally = tally(plan(&[active]), plan(&[candidate]), 5, &records);
    let [changed, failed] = &tally.samples()[..] else { panic!("{:?}", tally.samples()) };
    assert_eq!((changed.category, changed.offset), (Category::Changed, 0));
    assert_eq!(changed.input.as_ref().unwrap().bytes, records[0].value.clone().unwrap());
    let [difference] = &changed.differences[..] else { panic!("{changed:?}") };
    assert_eq!((difference.part, &*difference.pointer), (Part::Value, "/items/1/p"));
    assert_eq!((difference.active.as_deref(), difference.candidate.as_deref()), (Some("2"), Some("4")));
    let Made::Outputs(outputs, 1) = &changed.candidate else { panic!("{changed:?}") };
    assert_eq!(&*outputs[0].1.as_ref().unwrap().bytes, br#"{"items":[{"p":0},{"p":4}],"id":1}"#);
    assert_eq!(
        tally.places(),
        [Place { part: Part::Value, pattern: "/items/*/p".into(), records: 1 }],
        "elements are one place"
    );

    assert_eq!(failed.category, Category::NewFailure);
    let Made::Failed(failure) = &failed.candidate else { panic!("{failed:?}") };
    assert_eq!((failure.reason, failure.code, &*failure.step), ("transform_error", Some("T2001"), "s0"));
    assert_eq!(failure.position, Some((1, 25)), "{failure:?}");
    assert!(failure.rendered.contains('^'), "{}", failure.rendered);
}

#[test]
fn keys_and_the_number_of_outputs_count() {
    let keyed = |expression: &str| {
        let mut plan = plan(&[expression]);
        plan.target_key = Some("k".into());
        plan
    };
    let tally_of = |a: PipelinePlan, b: PipelinePlan, value: &str| tally(a, b, 1, &values(&[value]));
    let found = tally_of(keyed("{'k': a}"), keyed("{'k': b}"), r#"{"a":1,"b":2}"#);
    let places: Vec<_> = found.places().into_iter().map(|p| (p.part.as_str(), p.pattern)).collect();
    assert_eq!(places, [("value", "/k".into()), ("key", String::new())]);

    let fan = |expression: &str| PipelinePlan { fan_out: true, ..plan(&[expression]) };
    let found = tally_of(fan("a"), fan("a[$ > 1]"), r#"{"a":[1,2,3]}"#);
    let samples = found.samples();
    let [difference] = &samples[0].differences[..] else { panic!("{samples:?}") };
    assert_eq!((difference.part, difference.active.as_deref()), (Part::Outputs, Some("3")));
    let found = tally_of(fan("a"), fan("a.($ = 3 ? 4 : $)"), r#"{"a":[1,2,3]}"#);
    assert_eq!((found.samples()[0].differences[0].output, found.counts.changed), (2, 1));
    // The versions that made them don't.
    let mut other = plan(&["$"]);
    let StepKind::Transform(transform) = &mut other.steps[0].kind else { panic!("{other:?}") };
    transform.version = 1_000;
    assert_eq!(tally_of(plan(&["$"]), other, "{}").counts.same, 1);
}

#[test]
fn kinds_of_differences_come_before_doubles() {
    let candidate = "$ ~> |$|{n: 0}|";
    let names = ["a", "a", "a", "b", "a", "c", "d", "d"];
    let texts: Vec<_> = names.iter().map(|n| format!(r#"{{"n":"{n}","{n}":1}}"#)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let tally = tally(plan(&["$"]), plan(&[candidate]), 3, &values(&texts));
    let offsets: Vec<_> = tally.samples().iter().map(|s| s.offset).collect();
    assert_eq!((offsets, tally.counts.changed), (vec![0, 3, 5], 8));
}

#[test]
fn what_is_kept_of_a_record_is_bounded() {
    let text = format!(r#"{{"long":"{}"}}"#, "ü".repeat(30_000));
    let same = "$length(long)";
    let long = "long & '!'";
    let tally = tally(plan(&[same]), plan(&[long]), 9, &values(&[&text]));
    let sample = &tally.samples()[0];
    assert_eq!(sample.category, Category::NewFailure, "over max.message.bytes of the target");
    let Made::Failed(failed) = &sample.candidate else { panic!("{sample:?}") };
    assert_eq!((failed.reason, failed.code), ("output_too_large", None));
    let input = sample.input.as_ref().unwrap();
    assert_eq!((input.bytes.len(), input.length), (EXCERPT_BYTES_MAX, text.len()));

    let many = |add: &str| format!("$merge([1..500].{{'f' & $string($): $ {add}}})");
    let tally = self::tally(plan(&[&many("")]), plan(&[&many("+ 1")]), 9, &values(&["{}"]));
    assert_eq!(tally.samples()[0].differences.len(), SAMPLE_DIFFERENCES_MAX);
    assert_eq!((tally.places().len(), tally.elsewhere), (PLACES_MAX, 1));
}

#[test]
fn steps_and_what_stops_the_pipeline_are_told() {
    let records = values(&[r#"{"n":1}"#, r#"{"n":1000}"#, r#"{"n":10}"#]);
    let tally_of = |a: PipelinePlan, b: PipelinePlan| tally(a, b, 1, &records);
    let found = tally_of(plan(&["n"]), plan(&["$count([1..n].($ * 2)) > 0 ? n"]));
    assert_eq!(found.counts.same, 3);
    let (active, candidate) = (&found.active, &found.candidate);
    assert!(active.steps < candidate.steps && candidate.steps_max > 1_000, "{active:?} {candidate:?}");
    assert_eq!(candidate.steps_max_at.as_ref().unwrap().1, 1);
    assert!(candidate.time > Duration::ZERO);

    // Its dead letters have no place to go to.
    let mut homeless = plan(&["$error('no')"]);
    homeless.topics.dlq.clear();
    let found = tally_of(plan(&["n"]), homeless);
    assert_eq!((found.counts.new_failures, found.candidate.failures[STOPS]), (3, 3));
    let stops = |e: &str| PipelinePlan { on_error: OnError::Stop, ..plan(&[e]) };
    let found = tally_of(stops("n"), stops("n = 10 ? $error('no') : n"));
    assert_eq!(
        (found.counts.same, found.counts.new_failures),
        (2, 1),
        "it goes on behind what would stop a pipeline"
    );
}
