//! Peers that mean harm: nothing they send may stop others, or take memory without bound.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use wire::ErrorCode;
use wire::api::*;
use wire::records::{BatchBuilder, Compression, Record};

use crate::support::{Client, Started, batch, produce_request, start_with, values};

/// A client that works all the while, on a thread of its own.
struct Worker {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    thread: std::thread::JoinHandle<()>,
}

impl Worker {
    fn start(started: &Started) -> Self {
        let mut client = Client::connect(started.addr);
        client.create("work", 1, &[]);
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (stop.clone(), done.clone());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let produced = client.produce("work", 0, batch(&["work"]));
                assert_eq!(produced.error_code, ErrorCode::NONE);
                assert_eq!(client.fetch("work", 0, produced.base_offset, false).error_code, ErrorCode::NONE);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, done, thread }
    }

    /// Waits for some more rounds: it works now, after what was done to the broker.
    fn goes_on(&self) {
        let from = self.done.load(Ordering::Relaxed);
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while self.done.load(Ordering::Relaxed) < from + 3 {
            assert!(std::time::Instant::now() < deadline, "another client is starved");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn finish(self) {
        self.goes_on();
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

/// Resident memory of this process, bytes.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn limited() -> Started {
    start_with(|config| {
        config.limits.stall_max = Duration::from_secs(1);
        config.limits.request_memory_bytes = 64 << 20;
        config.limits.small_request_memory_bytes = 8 << 20;
        config.limits.produce_frame_bytes_max = 16 << 20;
        config.limits.decompressed_bytes_max = 8 << 20;
        config.limits.fetch_memory_bytes = 64 << 20;
        config.limits.connections_max = 100;
    })
}

/// Sends bytes and waits for the end of the connection, or an answer.
fn send_raw(started: &Started, bytes: &[u8]) -> Vec<u8> {
    let mut client = Client::connect(started.addr);
    // The broker may have closed it before the last byte: that is an answer too.
    let _ = client.stream.write_all(bytes);
    let _ = client.stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = client.stream.read_to_end(&mut answer);
    answer
}

#[test]
fn garbage_ends_its_own_connection_only() {
    let started = limited();
    let worker = Worker::start(&started);
    let seed = rand::rng().random::<u64>();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..300 {
        let length = random.random_range(0..200);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
        if random.random_bool(0.8) {
            // A frame of the right length, of an API there is, in a version it may have: it gets further.
            let api = wire::ApiKey::ALL[random.random_range(0..wire::ApiKey::ALL.len())] as i16;
            let mut frame = BytesMut::new();
            frame.put_i32(length + 10);
            frame.put_i16(api);
            frame.put_i16(random.random_range(0..14));
            frame.put_i32(1);
            frame.put_i16(0);
            frame.put_slice(&bytes);
            bytes = frame.to_vec();
        }
        send_raw(&started, &bytes);
    }
    worker.finish();
    let metrics = runtime::Metrics::new();
    started.guard.handle().register(&metrics);
    let text = metrics.encode().unwrap();
    let failed = text
        .lines()
        .find_map(|line| line.strip_prefix("vltava_broker_connections_ended_total{end=\"failed\"} "))
        .unwrap();
    assert!(failed.parse::<u64>().unwrap() > 100, "{text}");
    assert!(text.contains("vltava_broker_requests_total{api=\"Produce\"}"), "{text}");
}

#[test]
fn sizes_and_counts_that_lie_take_no_memory() {
    let started = limited();
    let worker = Worker::start(&started);
    let before = resident();
    // Lengths that no frame may have.
    for prefix in [i32::MAX, -1, i32::MIN, 0, 3, 17 << 20] {
        assert!(send_raw(&started, &prefix.to_be_bytes()).is_empty());
    }
    // Counts of two thousand million, in frames of a few bytes, in every API and version.
    for api in wire::ApiKey::ALL {
        for version in 0..=18i16 {
            for body in
                [&[0x7f, 0xff, 0xff, 0xff][..], &[0, 0x7f, 0xff, 0xff, 0xff], &[0xff, 0xff, 0xff, 0xff, 0x0f]]
            {
                let mut frame = BytesMut::new();
                frame.put_i32(10 + body.len() as i32);
                frame.put_i16(*api as i16);
                frame.put_i16(version);
                frame.put_i32(1);
                frame.put_i16(-1);
                frame.put_slice(body);
                send_raw(&started, &frame);
            }
        }
    }
    // Frames that are announced and never sent: 60 connections that claim 16 MiB each.
    let claims: Vec<Client> = (0..60)
        .map(|_| {
            let mut client = Client::connect(started.addr);
            client.stream.write_all(&(16i32 << 20).to_be_bytes()).unwrap();
            client.stream.write_all(&[0, 0, 0, 9, 0, 0, 0, 1]).unwrap();
            client
        })
        .collect();
    worker.goes_on();
    let grown = resident().saturating_sub(before);
    assert!(grown < 256 << 20, "{grown} bytes more are resident");
    // They are closed when they stall.
    for mut client in claims {
        let mut end = [0; 1];
        assert!(matches!(client.stream.read(&mut end), Ok(0) | Err(_)));
    }
    worker.finish();
}

#[test]
fn partial_frames_wait_for_memory_and_do_not_starve_small_requests() {
    let started = limited();
    let worker = Worker::start(&started);
    let before = resident();
    // 20 connections that send 15 of 16 MiB: five times the memory there is.
    let senders: Vec<_> = (0..20)
        .map(|_| {
            let addr = started.addr;
            std::thread::spawn(move || {
                let mut client = Client::connect(addr);
                client.stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
                let _ = client.stream.write_all(&(16i32 << 20).to_be_bytes());
                let _ = client.stream.write_all(&[0, 0, 0, 9, 0, 0, 0, 1]);
                let _ = client.stream.write_all(&vec![0; 15 << 20]);
                let mut end = [0; 1];
                let _ = client.stream.read(&mut end);
            })
        })
        .collect();
    worker.goes_on();
    let grown = resident().saturating_sub(before);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    // The test's own 20 buffers of 15 MiB are in it.
    assert!(grown < (20 * 15 + 256) << 20, "{grown} bytes more are resident");
    worker.finish();
}

#[test]
fn compression_bombs_are_refused() {
    let started = limited();
    let worker = Worker::start(&started);
    let mut client = Client::connect(started.addr);
    let bomb = Record { value: Some(Bytes::from(vec![0; 32 << 20])), ..Record::default() };
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut builder = BatchBuilder::new(codec);
        builder.push(&bomb);
        let bytes = builder.build().unwrap().into_bytes();
        let refused = client.produce("work", 0, bytes);
        assert!(
            matches!(refused.error_code, ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::CORRUPT_MESSAGE),
            "{codec:?}: {:?}",
            refused.error_code
        );
    }
    worker.finish();
}

#[test]
fn a_reader_that_does_not_read_is_closed_and_connections_are_bounded() {
    let started = limited();
    let worker = Worker::start(&started);
    let mut client = Client::connect(started.addr);
    client.create("big", 1, &[("max.message.bytes", "10000000")]);
    let value = "x".repeat(900_000);
    for _ in 0..20 {
        assert_eq!(client.produce("big", 0, batch(&[&value])).error_code, ErrorCode::NONE);
    }
    let mut slow = Client::connect(started.addr);
    slow.stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut request = crate::support::fetch_request("big", 0, 0, false, 0);
    request.topics[0].partitions[0].partition_max_bytes = 32 << 20;
    let frame = wire::header::request_frame(12, 1, "slow", &request).unwrap();
    // Asks for far more than a socket holds, and takes nothing.
    for _ in 0..200 {
        if slow.stream.write_all(&frame).is_err() {
            break;
        }
    }
    worker.goes_on();
    std::thread::sleep(Duration::from_secs(4));
    let mut rest = Vec::new();
    // Closed by the broker: the end comes, and not all 200 answers.
    let ended = slow.stream.read_to_end(&mut rest);
    assert!(!matches!(&ended, Err(error) if error.kind() == std::io::ErrorKind::WouldBlock), "still open");
    assert!(rest.len() < 200 * 18_000_000);

    // One more than there may be is closed at once; the others stay.
    let mut open: Vec<Client> = (0..120).map(|_| Client::connect(started.addr)).collect();
    let last = open.last_mut().unwrap();
    assert!(matches!(last.stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    drop(open);
    worker.finish();
}

#[test]
fn small_requests_for_large_answers_do_not_pile_up() {
    let started = start_with(|config| config.limits.fetch_memory_bytes = 64 << 20);
    let worker = Worker::start(&started);
    let mut client = Client::connect(started.addr);
    client.create("wide", 15_000, &[]);
    let all = MetadataRequest { topics: None, ..Default::default() };
    let frame = wire::header::request_frame(12, 1, "slow", &all).unwrap();
    let before = resident();
    // 20 connections, 60 requests each for half a megabyte, none of it taken: 700 MB if it were kept.
    let slow: Vec<Client> = (0..20)
        .map(|_| {
            let mut slow = Client::connect(started.addr);
            for _ in 0..60 {
                let _ = slow.stream.write_all(&frame);
            }
            slow
        })
        .collect();
    worker.goes_on();
    let mut grown = 0;
    for _ in 0..30 {
        std::thread::sleep(Duration::from_millis(100));
        grown = grown.max(resident().saturating_sub(before));
    }
    assert!(grown < 200 << 20, "{grown} bytes more are resident");
    drop(slow);
    worker.finish();
}

#[test]
fn those_who_take_nothing_give_way_to_those_who_wait() {
    let patience = Duration::from_secs(600);
    let started = start_with(|config| {
        config.limits.fetch_memory_bytes = 16 << 20;
        config.limits.stall_max = patience;
    });
    let mut client = Client::connect(started.addr);
    client.create("big", 1, &[("max.message.bytes", "10000000")]);
    let value = "x".repeat(900_000);
    for _ in 0..20 {
        assert_eq!(client.produce("big", 0, batch(&[&value])).error_code, ErrorCode::NONE);
    }
    let mut request = crate::support::fetch_request("big", 0, 0, false, 0);
    request.topics[0].partitions[0].partition_max_bytes = 16 << 20;
    let frame = wire::header::request_frame(12, 1, "slow", &request).unwrap();
    // Each of them asks for all the memory there is, and takes nothing.
    let slow: Vec<Client> = (0..4)
        .map(|_| {
            let mut slow = Client::connect(started.addr);
            slow.stream.write_all(&frame).unwrap();
            slow
        })
        .collect();
    // The first of them holds the memory once its answer has begun.
    slow[0].stream.peek(&mut [0; 1]).unwrap();
    let begun = std::time::Instant::now();
    assert!(!values(&client.fetch("big", 0, 0, false)).is_empty());
    assert!(begun.elapsed() < patience / 2, "it waited for those who take nothing: {:?}", begun.elapsed());
    drop(slow);
}

#[test]
fn a_request_that_is_cut_off_stores_nothing() {
    let started = limited();
    let mut client = Client::connect(started.addr);
    client.create("t", 1, &[]);
    let request = produce_request(None, -1, "t", 0, batch(&["whole"]));
    let frame = wire::header::request_frame(9, 1, "cut", &request).unwrap();
    for length in [5, 20, frame.len() / 2, frame.len() - 1] {
        assert!(send_raw(&started, &frame[..length]).is_empty());
    }
    assert_eq!(client.list_offset("t", 0, -1, false).0, 0);
    let metadata = client.call(9, &MetadataRequest { topics: None, ..Default::default() });
    assert_eq!(metadata.topics.len(), 1);
}
