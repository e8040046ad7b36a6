//! What is in a transaction, and how it ends.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_transaction_ends_in_one_frame() {
    for commit in [true, false] {
        let f = Fixture::new();
        let p = f.init("t").await;
        f.txns.add_partitions("t", p, &[partition(1)]).unwrap();
        f.txns.add_partitions("t", p, &[partition(0), partition(1)]).unwrap();
        f.txns.add_offsets("t", p, "g").unwrap();
        f.commit_offset("t", p, 42, false).await.unwrap();
        assert_eq!(f.offset().await, (-1, ErrorCode::UNSTABLE_OFFSET_COMMIT));
        assert_eq!(f.txns.describe("t").unwrap().partitions, [partition(0), partition(1)]);
        let before = f.journal.len();
        assert_eq!(f.end("t", p, commit).await, Ok(p));
        assert_eq!(f.journal.len(), before + 1);
        let Frame { markers, entries } = f.last_frame();
        let outcome = if commit { Outcome::Commit } else { Outcome::Abort };
        assert_eq!(markers, [marker(0, p, outcome), marker(1, p, outcome)]);
        let machines: Vec<u8> = entries.iter().map(|(machine, _)| *machine).collect();
        assert_eq!(machines, [group::GROUPS_MACHINE, group::TRANSACTIONS_MACHINE]);
        for f in [&f, &f.restarted()] {
            assert_eq!(f.offset().await, (if commit { 42 } else { -1 }, OK));
            assert_eq!(f.end("t", p, commit).await, Ok(p), "a repeated end is answered the same");
            assert_eq!(f.end("t", p, !commit).await, Err(ErrorCode::INVALID_TXN_STATE));
        }
        assert_eq!(f.journal.len(), before + 1, "and writes nothing");
        f.txns.add_partitions("t", p, &[partition(2)]).unwrap();
        assert_eq!(f.txns.describe("t").unwrap().partitions, [partition(2)], "the next starts empty");
    }
}

#[tokio::test(start_paused = true)]
async fn ending_nothing_is_an_error() {
    let f = Fixture::new();
    let p = f.init("t").await;
    assert_eq!(f.end("t", p, true).await, Err(ErrorCode::INVALID_TXN_STATE));
    assert_eq!(f.end("t", p, false).await, Err(ErrorCode::INVALID_TXN_STATE));
}

#[tokio::test(start_paused = true)]
async fn records_need_an_open_transaction_with_their_partition() {
    let f = Fixture::new();
    let p = f.init("t").await;
    let state = Err(ErrorCode::INVALID_TXN_STATE);
    assert_eq!(f.produce("t", p, 0, false), state);
    f.txns.add_partitions("t", p, &[partition(0)]).unwrap();
    assert_eq!(f.produce("t", p, 0, false), Ok(()));
    assert_eq!(f.produce("t", p, 1, false), state);
    f.end("t", p, true).await.unwrap();
    assert_eq!(f.produce("t", p, 0, false), state, "no record may come behind the marker");
    // The append isn't run where the claim is refused.
    let claim = ProduceClaim { transactional_id: "t", producer: p, partition: partition(0), adds: false };
    let mut ran = false;
    assert!(f.txns.produce(claim, || ran = true).is_err());
    assert!(!ran);
}

#[tokio::test(start_paused = true)]
async fn offsets_need_an_open_transaction_with_their_group() {
    let f = Fixture::new();
    let p = f.init("t").await;
    assert_eq!(f.commit_offset("t", p, 1, false).await, Err(ErrorCode::INVALID_TXN_STATE));
    f.txns.add_partitions("t", p, &[partition(0)]).unwrap();
    assert_eq!(f.commit_offset("t", p, 1, false).await, Err(ErrorCode::INVALID_TXN_STATE));
    f.txns.add_offsets("t", p, "g").unwrap();
    assert_eq!(f.commit_offset("t", p, 1, false).await, Ok(()));
    // KIP-447: a consumer that lost its partitions can't commit for them.
    let member = MemberRef { member_id: "gone".into(), instance_id: None, generation: 4 };
    let request = TxnCommitRequest { group: "g".into(), member, producer_id: p.id, offsets: vec![] };
    let refused = f.txns.commit_offsets("t", p.epoch, false, request).await;
    assert_eq!(refused, Err(ErrorCode::UNKNOWN_MEMBER_ID));
}

#[tokio::test(start_paused = true)]
async fn a_transaction_over_its_time_is_aborted_and_its_producer_may_go_on() {
    let f = Fixture::new();
    let p = f.init("t").await;
    f.txns.add_partitions("t", p, &[partition(0)]).unwrap();
    f.txns.add_offsets("t", p, "g").unwrap();
    f.commit_offset("t", p, 5, false).await.unwrap();
    sleep_ms(6_000).await;
    f.txns.add_partitions("t", p, &[partition(1)]).unwrap();
    sleep_ms(3_900).await;
    assert_eq!(f.state("t"), TransactionState::Ongoing);
    sleep_ms(200).await;
    assert_eq!(f.state("t"), TransactionState::CompleteAbort, "counted from its beginning");
    assert_eq!(
        f.last_frame().markers,
        [marker(0, next(p), Outcome::Abort), marker(1, next(p), Outcome::Abort)]
    );
    assert_eq!(f.offset().await, (-1, OK));
    assert_eq!(f.end("t", p, true).await, Err(ErrorCode::PRODUCER_FENCED));
    assert_eq!(f.produce("t", p, 0, false), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
    assert_eq!(f.restarted().init_as("t", p).await, Ok(next(p)), "it learns of its new epoch");
    let foreign = f.init("t").await;
    assert_eq!(foreign.epoch, p.epoch + 2);
    assert_eq!(f.init_as("t", p).await, Err(ErrorCode::PRODUCER_FENCED), "unless somebody took over");
}

#[tokio::test(start_paused = true)]
async fn an_ended_transaction_does_not_time_out() {
    let f = Fixture::new();
    let p = f.init("t").await;
    f.txns.add_partitions("t", p, &[partition(0)]).unwrap();
    sleep_ms(9_000).await;
    f.end("t", p, true).await.unwrap();
    f.txns.add_partitions("t", p, &[partition(0)]).unwrap();
    sleep_ms(9_000).await;
    assert_eq!(f.state("t"), TransactionState::Ongoing, "the second has its own time");
    f.end("t", p, true).await.unwrap();
    sleep_ms(60_000).await;
    assert_eq!(f.state("t"), TransactionState::CompleteCommit);
}

#[tokio::test(start_paused = true)]
async fn an_open_transaction_survives_a_restart() {
    let f = Fixture::new();
    let p = f.init("t").await;
    f.txns.add_partitions("t", p, &[partition(0)]).unwrap();
    f.txns.add_offsets("t", p, "g").unwrap();
    f.commit_offset("t", p, 5, false).await.unwrap();
    let committed = f.restarted();
    assert_eq!(committed.produce("t", p, 0, false), Ok(()));
    assert_eq!(committed.end("t", p, true).await, Ok(p));
    assert_eq!(committed.offset().await, (5, OK));
    let silent = f.restarted();
    sleep_ms(10_100).await;
    assert_eq!(silent.state("t"), TransactionState::CompleteAbort, "or times out");
    assert_eq!(silent.offset().await, (-1, OK));
}

#[tokio::test(start_paused = true)]
async fn what_was_over_while_the_broker_was_down_ends_at_the_start() {
    let f = Fixture::new();
    let p = f.init("t").await;
    f.txns.add_partitions("t", p, &[partition(0)]).unwrap();
    let journal = Arc::new(f.journal.after_crash());
    sleep_ms(3_600_000).await;
    let (groups, txns) = machines(&f.config, &f.clock);
    journal.replay(0, &[&*groups, &*txns]);
    let late = Fixture::start(groups, txns, journal, f.clock.clone(), f.config.clone());
    sleep_ms(1).await;
    assert_eq!(late.state("t"), TransactionState::CompleteAbort);
}

#[tokio::test(start_paused = true)]
async fn an_end_is_answered_when_it_is_durable() {
    let f = Fixture::new();
    let p = f.init("t").await;
    f.txns.add_partitions("t", p, &[partition(0)]).unwrap();
    f.txns.add_offsets("t", p, "g").unwrap();
    f.commit_offset("t", p, 5, false).await.unwrap();
    f.journal.hold(true);
    let spawn_end = || {
        let txns = f.txns.clone();
        let request =
            EndRequest { transactional_id: "t".into(), producer: p, commit: true, bumps_epoch: false };
        tokio::spawn(async move { txns.end(request).await })
    };
    let (first, repeated) = (spawn_end(), spawn_end());
    sleep_ms(1).await;
    assert!(!first.is_finished() && !repeated.is_finished());
    let crashed = f.restarted();
    assert_eq!(crashed.state("t"), TransactionState::Ongoing, "a crash now leaves it open");
    assert_eq!(crashed.offset().await, (-1, ErrorCode::UNSTABLE_OFFSET_COMMIT));
    f.journal.hold(false);
    assert_eq!((first.await.unwrap(), repeated.await.unwrap()), (Ok(p), Ok(p)));
    assert_eq!(f.offset().await, (5, OK));
}

#[tokio::test(start_paused = true)]
async fn a_full_log_is_waited_for_and_a_failed_one_is_told() {
    let f = Fixture::new();
    let p = f.init("t").await;
    f.txns.add_partitions("t", p, &[partition(0)]).unwrap();
    f.journal.busy(true);
    let txns = f.txns.clone();
    let request = EndRequest { transactional_id: "t".into(), producer: p, commit: true, bumps_epoch: false };
    let ending = tokio::spawn(async move { txns.end(request).await });
    sleep_ms(100).await;
    assert!(!ending.is_finished());
    assert_eq!(f.state("t"), TransactionState::Ongoing, "nothing changed yet");
    f.journal.busy(false);
    assert_eq!(ending.await.unwrap(), Ok(p));
    f.txns.add_partitions("t", p, &[partition(0)]).unwrap();
    f.journal.fail();
    assert_eq!(f.end("t", p, true).await, Err(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    assert_eq!(f.state("t"), TransactionState::Ongoing);
}

#[tokio::test(start_paused = true)]
async fn a_full_log_does_not_stop_timeouts_of_others() {
    let f = Fixture::new();
    for id in ["a", "b"] {
        let p = f.init(id).await;
        f.txns.add_partitions(id, p, &[partition(0)]).unwrap();
    }
    f.journal.busy(true);
    sleep_ms(20_000).await;
    f.journal.busy(false);
    sleep_ms(1).await;
    assert_eq!(
        (f.state("a"), f.state("b")),
        (TransactionState::CompleteAbort, TransactionState::CompleteAbort)
    );
}

// ---- KIP-890

#[tokio::test(start_paused = true)]
async fn producing_adds_the_partition_and_the_end_raises_the_epoch() {
    let f = Fixture::new();
    let p = f.init("t").await;
    assert_eq!(f.produce("t", p, 0, true), Ok(()));
    assert_eq!(f.produce("t", p, 1, true), Ok(()));
    assert_eq!(f.commit_offset("t", p, 8, true).await, Ok(()));
    let q = f.end_and_bump("t", p, true).await.unwrap();
    assert_eq!(q, next(p));
    let fencing: Vec<Marker> = [0, 1].map(|n| marker(n, q, Outcome::Commit)).into();
    assert_eq!(
        f.last_frame().markers,
        fencing,
        "late records of the transaction are fenced by its own marker"
    );
    assert_eq!(f.produce("t", p, 0, true), Err(ErrorCode::INVALID_PRODUCER_EPOCH));
    for f in [&f, &f.restarted()] {
        assert_eq!(f.offset().await, (8, OK));
        assert_eq!(f.end_and_bump("t", p, true).await, Ok(q), "the answer was lost");
        assert_eq!(f.end_and_bump("t", p, false).await, Err(ErrorCode::INVALID_TXN_STATE));
        assert_eq!(f.end_and_bump("t", q, true).await, Err(ErrorCode::INVALID_TXN_STATE), "nothing is open");
    }
    f.produce("t", q, 0, true).unwrap();
    assert_eq!(
        f.end_and_bump("t", p, true).await,
        Err(ErrorCode::PRODUCER_FENCED),
        "the next is open already"
    );
    assert_eq!(f.state("t"), TransactionState::Ongoing);
}

#[tokio::test(start_paused = true)]
async fn aborting_nothing_raises_the_epoch() {
    let f = Fixture::new();
    let p = f.init("t").await;
    let q = f.end_and_bump("t", p, false).await.unwrap();
    assert_eq!(q, next(p));
    assert!(f.last_frame().markers.is_empty());
    assert_eq!(f.end_and_bump("t", p, false).await, Ok(q));
    assert_eq!(f.end_and_bump("t", q, false).await, Ok(next(q)));
}

#[tokio::test(start_paused = true)]
async fn a_raised_epoch_that_is_used_up_leads_to_a_new_producer_id() {
    let f = Fixture::new();
    f.init("t").await;
    let last = f.set_epoch("t", i16::MAX - 1);
    f.produce("t", last, 0, true).unwrap();
    let fresh = f.end_and_bump("t", last, true).await.unwrap();
    assert!(fresh.id > last.id && fresh.epoch == 0);
    assert_eq!(f.last_frame().markers, [marker(0, next(last), Outcome::Commit)]);
    assert_eq!(f.end_and_bump("t", last, true).await, Ok(fresh));
    assert_eq!(f.restarted().end_and_bump("t", last, true).await, Ok(fresh));
}

#[tokio::test(start_paused = true)]
async fn before_the_log_is_open_clients_are_told_to_wait() {
    let (_groups, txns) = machines(&Config::default(), &Clock::fixed(START_MS));
    assert_eq!(txns.init_producer_id(init("t")).await, Err(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
}
