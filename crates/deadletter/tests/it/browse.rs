use deadletter::{Action, Reason, Selection};

use crate::desk::Desk;

#[tokio::test]
async fn letters_are_listed_grouped_and_shown() {
    let desk = Desk::new().await;
    desk.letters(0..10, "pipeline/demo/p/s@1", Reason::InvalidJson).await;
    desk.letters(10..14, "connector/demo/crm", Reason::Expired).await;
    let dlq = desk.dlq();

    let summary = dlq.summary(&Selection::default()).await.unwrap();
    assert_eq!((summary.letters, summary.unsettled, summary.groups.len()), (14, 14, 2));
    let first = &summary.groups[0];
    assert_eq!((first.stage.as_str(), first.reason.as_str()), ("pipeline/demo/p/s@1", "invalid_json"));
    assert_eq!((first.unsettled, first.settled), (10, 0));
    assert!(first.message.starts_with("failed at"));

    let selection = Selection { reason: Some("expired".into()), limit: Some(3), ..Selection::default() };
    let listing = dlq.list(&selection, false).await.unwrap();
    assert_eq!((listing.matched, listing.letters.len()), (4, 3));
    let (letter, settled) = &listing.letters[0];
    assert!(!settled);
    assert_eq!(letter.origin.as_ref().unwrap().topic, desk.topic("src"));
    let (shown, _) = dlq.show(&letter.id()).await.unwrap().unwrap();
    assert_eq!(shown.record, letter.record);
    let beyond = format!("{}/0/9999", desk.dlq).parse().unwrap();
    assert!(dlq.show(&beyond).await.unwrap().is_none());

    let plan = desk.plan("d", Action::Discard, selection).await;
    assert_eq!(plan.routable, 3, "the limit");
    desk.run(&plan).await.unwrap();
    let all = Selection { reason: Some("expired".into()), ..Selection::default() };
    let listing = dlq.list(&all, false).await.unwrap();
    assert_eq!((listing.matched, listing.hidden), (1, 3));
    assert_eq!(dlq.list(&all, true).await.unwrap().letters.iter().filter(|(_, settled)| *settled).count(), 3);
    assert_eq!(dlq.summary(&all).await.unwrap().groups[0].settled, 3);
}

#[tokio::test]
async fn a_topic_that_is_not_there_is_named() {
    let desk = Desk::new().await;
    let dlq = deadletter::Dlq::new(&desk.client, desk.topic("nowhere")).unwrap();
    let error = dlq.list(&Selection::default(), false).await.unwrap_err();
    assert!(error.to_string().contains(desk.topic("nowhere").as_str()), "{error}");
}
