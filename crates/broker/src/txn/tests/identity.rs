//! Producer ids and epochs: who is current, who is fenced, who may go on.

use std::collections::HashSet;

use super::*;

#[tokio::test(start_paused = true)]
async fn producer_ids_are_never_given_out_twice() {
    let mut f = Fixture::new();
    let mut seen = HashSet::new();
    for _ in 0..3 {
        for _ in 0..700 {
            let request = InitRequest { transactional_id: None, ..init("") };
            let producer = f.txns.init_producer_id(request).await.unwrap();
            assert_eq!(producer.epoch, 0);
            assert!(seen.insert(producer.id), "{} came twice", producer.id);
        }
        f = f.restarted();
    }
    assert!(f.journal.len() <= 6, "a journal entry reserves many: {}", f.journal.len());
}

#[tokio::test(start_paused = true)]
async fn each_initialisation_raises_the_epoch_and_fences() {
    let f = Fixture::new();
    let first = f.init("t").await;
    assert_eq!(first.epoch, 0);
    let second = f.init("t").await;
    assert_eq!(second, next(first));
    let fenced = Err(ErrorCode::PRODUCER_FENCED);
    assert_eq!(f.txns.add_partitions("t", first, &[partition(0)]), fenced);
    assert_eq!(f.txns.add_offsets("t", first, "g"), fenced);
    assert_eq!(f.end("t", first, true).await, Err(ErrorCode::PRODUCER_FENCED));
    assert_eq!(f.produce("t", first, 0, false), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
    assert_eq!(f.commit_offset("t", first, 1, false).await, Err(ErrorCode::INVALID_PRODUCER_EPOCH));
    assert_eq!(f.init_as("t", first).await, Err(ErrorCode::PRODUCER_FENCED));
    assert_eq!(f.restarted().init("t").await, next(second));
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_refused() {
    let f = Fixture::new();
    assert_eq!(f.txns.init_producer_id(init("")).await, Err(ErrorCode::INVALID_REQUEST));
    for timeout_ms in [-1, 0, 900_001, i32::MAX] {
        let result = f.txns.init_producer_id(InitRequest { timeout_ms, ..init("t") }).await;
        assert_eq!(result, Err(ErrorCode::INVALID_TRANSACTION_TIMEOUT), "{timeout_ms}");
    }
    assert_eq!(f.init_as("t", Producer { id: 1, epoch: -1 }).await, Err(ErrorCode::INVALID_REQUEST));
    assert_eq!(f.init_as("t", Producer { id: -1, epoch: 1 }).await, Err(ErrorCode::INVALID_REQUEST));
    let p = f.init("t").await;
    let other = Producer { id: p.id + 1, ..p };
    let unknown = ErrorCode::INVALID_PRODUCER_ID_MAPPING;
    for (id, producer) in [("t", other), ("none", p)] {
        assert_eq!(f.txns.add_partitions(id, producer, &[partition(0)]), Err(unknown));
        assert_eq!(f.txns.add_offsets(id, producer, "g"), Err(unknown));
        assert_eq!(f.end(id, producer, true).await, Err(unknown));
        assert_eq!(f.produce(id, producer, 0, true), Err(unknown));
        assert_eq!(f.commit_offset(id, producer, 1, true).await, Err(unknown));
    }
    assert_eq!(f.end("", p, true).await, Err(ErrorCode::INVALID_REQUEST));
}

#[tokio::test(start_paused = true)]
async fn a_producer_goes_on_from_its_own_identity() {
    let f = Fixture::new();
    let first = f.init("t").await;
    let second = f.init_as("t", first).await.unwrap();
    assert_eq!(second, next(first));
    assert_eq!(f.init_as("t", first).await, Ok(second), "the answer was lost: the same again");
    assert_eq!(f.restarted().init_as("t", first).await, Ok(second), "over a restart too");
    let third = f.init_as("t", second).await.unwrap();
    assert_eq!(f.init_as("t", first).await, Err(ErrorCode::PRODUCER_FENCED), "older than the last");
    let foreign = f.init("t").await;
    assert_eq!(foreign, next(third));
    assert_eq!(f.init_as("t", third).await, Err(ErrorCode::PRODUCER_FENCED), "somebody else took over");
    let recovering = f.init_as("new", Producer { id: 4_711, epoch: 3 }).await.unwrap();
    assert_eq!(recovering.epoch, 0, "an id that the broker forgot starts anew");
}

#[tokio::test(start_paused = true)]
async fn a_stale_producer_does_not_abort_the_open_transaction() {
    let f = Fixture::new();
    let first = f.init("t").await;
    let second = f.init_as("t", first).await.unwrap();
    f.txns.add_partitions("t", second, &[partition(0)]).unwrap();
    assert_eq!(f.init_as("t", first).await, Err(ErrorCode::PRODUCER_FENCED));
    assert_eq!(f.state("t"), TransactionState::Ongoing);
}

#[tokio::test(start_paused = true)]
async fn used_up_epochs_lead_to_a_new_producer_id() {
    let f = Fixture::new();
    f.init("t").await;
    f.set_epoch("t", i16::MAX - 2);
    let last = f.init("t").await;
    assert_eq!(last.epoch, i16::MAX - 1);
    let fresh = f.init_as("t", last).await.unwrap();
    assert!(fresh.id > last.id && fresh.epoch == 0);
    assert_eq!(f.init_as("t", last).await, Ok(fresh), "the answer was lost");
    assert_eq!(f.txns.add_partitions("t", last, &[]), Err(ErrorCode::INVALID_PRODUCER_ID_MAPPING));

    // With an open transaction the markers carry the one epoch that is kept for fencing.
    let last = f.set_epoch("t", i16::MAX - 1);
    f.txns.add_partitions("t", last, &[partition(0)]).unwrap();
    let fresh = f.init("t").await;
    assert!(fresh.id > last.id && fresh.epoch == 0);
    assert_eq!(f.last_frame().markers, [marker(0, next(last), Outcome::Abort)]);
}

#[tokio::test(start_paused = true)]
async fn initialising_aborts_the_open_transaction_first() {
    let f = Fixture::new();
    let p = f.init("t").await;
    f.txns.add_partitions("t", p, &[partition(0), partition(1)]).unwrap();
    f.txns.add_offsets("t", p, "g").unwrap();
    f.commit_offset("t", p, 5, false).await.unwrap();
    let before = f.journal.len();
    let fencing = f.init("t").await;
    assert_eq!(fencing, next(p));
    assert_eq!(f.journal.len(), before + 1, "one frame");
    let expected: Vec<Marker> = [0, 1].map(|n| marker(n, fencing, Outcome::Abort)).into();
    assert_eq!(f.last_frame().markers, expected);
    assert_eq!(f.state("t"), TransactionState::Empty);
    assert_eq!(f.offset().await, (-1, OK));
    assert_eq!(f.produce("t", p, 0, false), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
}

#[tokio::test(start_paused = true)]
async fn ids_that_nobody_uses_are_forgotten() {
    let f = Fixture::new();
    let week = 7 * 24 * 3_600_000;
    let (old, open) = (f.init("old").await, f.init("open").await);
    sleep_ms(week - 1_000).await;
    f.txns.add_partitions("open", open, &[partition(0)]).unwrap();
    sleep_ms(3_700_000).await;
    assert_eq!(f.state("old"), TransactionState::Dead);
    assert_eq!(f.state("open"), TransactionState::CompleteAbort);
    for f in [&f, &f.restarted()] {
        let fresh = f.init_as("old", old).await.unwrap();
        assert!(fresh.id > old.id && fresh.epoch == 0);
    }
}

#[tokio::test(start_paused = true)]
async fn ids_partitions_and_groups_are_bounded() {
    let f = Fixture::with(Config { ids_max: 1, partitions_max: 2, groups_max: 1, ..Config::default() });
    let p = f.init("t").await;
    let over = Err(ErrorCode::POLICY_VIOLATION);
    assert_eq!(f.txns.init_producer_id(init("u")).await.map(|_| ()), over);
    assert_eq!(f.txns.add_partitions("t", p, &[partition(0), partition(1)]), Ok(()));
    assert_eq!(f.txns.add_partitions("t", p, &[partition(1), partition(0)]), Ok(()), "they are in already");
    assert_eq!(f.txns.add_partitions("t", p, &[partition(2)]), over);
    assert_eq!(f.txns.add_offsets("t", p, "g"), Ok(()));
    assert_eq!(f.txns.add_offsets("t", p, "h"), over);
    f.end("t", p, true).await.unwrap();
    assert_eq!(f.txns.add_partitions("t", p, &[partition(2)]), Ok(()), "a new transaction starts empty");
}

#[test]
fn old_clients_are_told_an_error_that_they_know() {
    use wire::ApiKey;
    let (fenced, old) = (ErrorCode::PRODUCER_FENCED, ErrorCode::INVALID_PRODUCER_EPOCH);
    for (api, since) in [
        (ApiKey::InitProducerId, 4),
        (ApiKey::AddPartitionsToTxn, 2),
        (ApiKey::AddOffsetsToTxn, 2),
        (ApiKey::EndTxn, 2),
    ] {
        assert_eq!(code_for_version(api, since - 1, fenced), old);
        assert_eq!(code_for_version(api, since, fenced), fenced);
        assert_eq!(code_for_version(api, 0, ErrorCode::INVALID_TXN_STATE), ErrorCode::INVALID_TXN_STATE);
    }
}
