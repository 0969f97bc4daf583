//! What was accepted stays accepted: on disk, once, in order; what has to go goes by policy and is reported.

use std::time::{Duration, Instant};

use aerie::outbox::{ALL, Ask, Class, Options, Outbox, OutboxError, Payload, Resend, Settlement};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::small_disk::SmallDisk;
use crate::support::*;

#[tokio::test]
async fn what_was_accepted_survives_the_end_of_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let digest = outbox.store_picture(b"a picture").await.unwrap();
    let mut picture = note("p", Class::Evidence, "c1", 0);
    picture.payload = Payload::File(digest);
    outbox.accept(vec![case_record("c1", 1), case_record("c1", 2), picture.clone()]).await.unwrap();
    drop(outbox);

    let outbox = reopen(dir.path()).await;
    assert_eq!(outbox.stats().borrow().queued, 3);
    let next = outbox.next(10, u64::MAX).await.unwrap();
    assert_eq!(next.iter().map(|q| q.record.id.as_str()).collect::<Vec<_>>(), ["c1/1", "p"]);
    assert_eq!(next[1].record, picture);
    assert!(outbox.check().await.unwrap().is_sound());
}

#[tokio::test]
async fn two_stations_never_share_an_outbox() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Outbox::open(dir.path()).unwrap();
    assert!(matches!(Outbox::open(dir.path()), Err(OutboxError::InUse(_))));
}

#[tokio::test]
async fn the_same_id_is_accepted_once_even_after_it_was_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox.accept(vec![case_record("c1", 1), case_record("c1", 1)]).await.unwrap();
    outbox.accept(vec![case_record("c1", 1)]).await.unwrap();
    assert_eq!(outbox.stats().borrow().queued, 1);

    let next = outbox.next(10, u64::MAX).await.unwrap();
    deliver(&outbox, next[0].seq).await;
    outbox.accept(vec![case_record("c1", 1)]).await.unwrap();
    let stats = outbox.stats().borrow().clone();
    assert_eq!((stats.queued, stats.delivered), (0, 1));
}

#[tokio::test]
async fn a_batch_is_accepted_as_a_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let mut missing = note("p", Class::Evidence, "c1", 0);
    missing.payload = Payload::File("0".repeat(64));
    // Beside it a good one, which may share its transaction and must not share its fate.
    let (bad, good) =
        tokio::join!(outbox.accept(vec![case_record("c1", 1), missing]), outbox.accept(vec![case_record("c2", 1)]));
    assert!(matches!(bad, Err(OutboxError::PictureMissing { .. })), "{bad:?}");
    good.unwrap();
    let ids: Vec<String> = outbox.list(10).await.unwrap().into_iter().map(|one| one.id).collect();
    assert_eq!(ids, ["c2/1"]);
}

#[tokio::test]
async fn classes_go_by_priority_and_a_stream_never_overtakes_itself() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox
        .accept(vec![
            note("big", Class::Evidence, "e1", 200_000),
            note("small", Class::Evidence, "e2", 1_000),
            note("sortie", Class::Sortie, "s1", 10),
            case_record("c1", 1),
            case_record("c1", 2),
            note("lost", Class::Loss, "loss", 10),
        ])
        .await
        .unwrap();
    let next = outbox.next(10, u64::MAX).await.unwrap();
    let ids: Vec<&str> = next.iter().map(|q| q.record.id.as_str()).collect();
    assert_eq!(ids, ["lost", "c1/1", "sortie", "small", "big"], "c1/2 waits for c1/1");
    assert!(outbox.next(10, u64::MAX).await.unwrap().is_empty(), "what is out is not handed out again");

    // Refused for an hour: its stream waits with it.
    let retry_at = Timestamp::now() + SignedDuration::from_hours(1);
    outbox.settle(vec![Settlement::Later { seq: next[1].seq, reason: "quota".into(), retry_at }]).await.unwrap();
    assert!(outbox.next(10, u64::MAX).await.unwrap().is_empty());

    // A new session: all that was out comes again, in the same order; the refused one still waits.
    outbox.restart_session(ALL, None).await.unwrap();
    let again: Vec<String> = outbox.next(10, u64::MAX).await.unwrap().into_iter().map(|q| q.record.id).collect();
    assert_eq!(again, ["lost", "sortie", "small", "big"]);
}

#[tokio::test]
async fn a_corrupt_database_is_set_aside_reported_and_its_readable_records_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox.accept((1..=50).map(|n| case_record("c1", n)).collect()).await.unwrap();
    drop(outbox);
    drop(reopen(dir.path()).await);
    let db = dir.path().join("outbox.db");
    // The lock tells when the second owner has closed the file too.
    let deadline = Instant::now() + PATIENCE;
    while std::fs::File::open(dir.path().join("outbox.lock")).unwrap().try_lock().is_err() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut bytes = std::fs::read(&db).unwrap();
    let (len, page) = (bytes.len(), 4096);
    // The last page of the table goes; the header and the first rows stay.
    bytes[len - 3 * page..].fill(0x5a);
    std::fs::write(&db, &bytes).unwrap();

    let outbox = Outbox::open(dir.path()).unwrap();
    let stats = outbox.stats().borrow().clone();
    assert_eq!(stats.quarantined, 1);
    assert!(stats.queued > 1, "whole rows were not saved: {stats:?}");
    let next = outbox.next(1, u64::MAX).await.unwrap();
    assert_eq!(next[0].record.topic, "loss");
    let Payload::Bytes(body) = &next[0].record.payload else { panic!("a report travels in the database") };
    let event: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(event["data"]["cause"], "corrupt_database");
    let aside = std::fs::read_dir(dir.path()).unwrap().flatten();
    assert!(aside.into_iter().any(|f| { f.file_name().to_string_lossy().starts_with("outbox.db.corrupt-") }));
    drop(outbox);

    // Not even a database.
    drop(reopen(dir.path()).await);
    eventually("the file is closed", || async {
        std::fs::File::open(dir.path().join("outbox.lock")).unwrap().try_lock().is_ok()
    })
    .await;
    std::fs::write(&db, b"no database at all, but long enough to be looked at by anybody").unwrap();
    let outbox = reopen(dir.path()).await;
    assert_eq!(outbox.stats().borrow().quarantined, 1);
    outbox.accept(vec![case_record("c9", 1)]).await.unwrap();
}

#[tokio::test]
async fn a_full_outbox_drops_pictures_before_sorties_before_cases_and_reports_each_loss() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { budget_bytes: 100_000, source: "aerie/v1/s1".into(), ..Options::default() };
    let outbox = Outbox::open_with(dir.path(), options).unwrap();
    let digest = outbox.store_picture(&[7; 30_000]).await.unwrap();
    let mut first = note("picture-1", Class::Evidence, "", 0);
    first.payload = Payload::File(digest.clone());
    outbox.accept(vec![first]).await.unwrap();
    outbox.accept(vec![note("picture-2", Class::Evidence, "", 30_000)]).await.unwrap();
    outbox.accept(vec![note("sortie-1", Class::Sortie, "s", 20_000)]).await.unwrap();
    outbox.accept(vec![note("case-1", Class::Case, "c", 40_000)]).await.unwrap();

    let state = |listed: &[aerie::outbox::Listed], id: &str| {
        listed.iter().find(|one| one.id == id).map(|one| one.state).unwrap_or("absent")
    };
    let listed = outbox.list(20).await.unwrap();
    assert_eq!(state(&listed, "picture-1"), "evicted", "the oldest picture goes first");
    assert_eq!(state(&listed, "picture-2"), "queued");
    assert!(!outbox.picture_path(&digest).exists(), "its file gives the space back");
    let losses = || async {
        let mut lost = Vec::new();
        for queued in outbox.next(1, u64::MAX).await.unwrap() {
            let Payload::Bytes(body) = &queued.record.payload else { panic!() };
            let event: Value = serde_json::from_slice(body).unwrap();
            assert_eq!(event["source"], "aerie/v1/s1");
            let named = event["data"]["lost"].as_array().unwrap();
            lost.extend(named.iter().map(|one| one["id"].as_str().unwrap().to_owned()));
            deliver(&outbox, queued.seq).await;
        }
        lost
    };
    assert_eq!(losses().await, ["picture-1"]);

    outbox.accept(vec![note("case-2", Class::Case, "c", 45_000)]).await.unwrap();
    assert_eq!(losses().await, ["picture-2", "sortie-1"], "both had to go, in one report");
    let listed = outbox.list(20).await.unwrap();
    assert_eq!((state(&listed, "case-1"), state(&listed, "case-2")), ("queued", "queued"));

    // Nothing else left: now the oldest case, and that is reported too.
    outbox.accept(vec![note("case-3", Class::Case, "c", 40_000)]).await.unwrap();
    assert_eq!(losses().await, ["case-1"]);
    assert!(outbox.stats().borrow().bytes <= 100_000);
    // An evicted id is not taken a second time.
    outbox.accept(vec![note("case-1", Class::Case, "c", 40_000)]).await.unwrap();
    assert_eq!(state(&outbox.list(20).await.unwrap(), "case-1"), "evicted");
}

#[tokio::test]
async fn delivered_records_give_way_before_anything_that_is_owed() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open_with(dir.path(), Options { budget_bytes: 100_000, ..Options::default() }).unwrap();
    outbox.accept(vec![note("old", Class::Case, "c", 60_000)]).await.unwrap();
    let seq = outbox.next(1, u64::MAX).await.unwrap()[0].seq;
    deliver(&outbox, seq).await;
    outbox.accept(vec![note("new", Class::Evidence, "", 60_000)]).await.unwrap();
    let listed = outbox.list(10).await.unwrap();
    assert_eq!(listed.iter().map(|one| (one.id.as_str(), one.state)).collect::<Vec<_>>(), [("new", "queued")]);
}

#[tokio::test]
async fn what_a_broker_forgot_comes_again_in_its_order_under_its_ids() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    let digest = outbox.store_picture(b"a picture").await.unwrap();
    let mut picture = note(&format!("evidence/{digest}"), Class::Evidence, "", 0);
    picture.payload = Payload::File(digest.clone());
    outbox.accept(vec![case_record("c1", 1), case_record("c1", 2), case_record("c10", 1), picture]).await.unwrap();
    let all = async || -> Vec<String> {
        let mut ids = Vec::new();
        loop {
            let next = outbox.next(10, u64::MAX).await.unwrap();
            if next.is_empty() {
                return ids;
            }
            for queued in next {
                ids.push(queued.record.id.clone());
                deliver(&outbox, queued.seq).await;
            }
        }
    };
    let before = Timestamp::now();
    assert_eq!(all().await.len(), 4);

    let case = Resend::Stream { key: "c1".into(), ids: vec![format!("evidence/{digest}")] };
    assert_eq!(outbox.resend(case.clone()).await.unwrap(), 3);
    assert_eq!(outbox.stats().borrow().queued, 3);
    // Once more while it waits: nothing to add.
    assert_eq!(outbox.resend(case).await.unwrap(), 0);
    assert_eq!(all().await, ["c1/1".to_owned(), format!("evidence/{digest}"), "c1/2".to_owned()]);

    assert_eq!(outbox.resend(Resend::Since(before)).await.unwrap(), 4);
    assert_eq!(all().await.len(), 4);
    assert_eq!(outbox.resend(Resend::Since(Timestamp::now() + SignedDuration::from_secs(1))).await.unwrap(), 0);
}

#[tokio::test]
async fn records_are_counted_too_and_the_oldest_of_the_least_class_goes_first() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open_with(dir.path(), Options { budget_records: 100, ..Options::default() }).unwrap();
    let pictures = (0..60).map(|n| note(&format!("p{n}"), Class::Evidence, "", 10));
    outbox.accept(pictures.chain((0..40).map(|n| case_record(&format!("c{n}"), 1))).collect()).await.unwrap();
    assert_eq!(outbox.stats().borrow().evicted, 0);
    outbox.accept(vec![case_record("last", 1)]).await.unwrap();
    let listed = outbox.list(200).await.unwrap();
    let evicted: Vec<&str> = listed.iter().rev().filter(|r| r.state == "evicted").map(|r| r.id.as_str()).collect();
    assert_eq!(evicted, ["p0", "p1", "p2", "p3", "p4", "p5"], "down to 95 of 100");
    assert_eq!(listed.iter().filter(|row| row.class == Class::Loss).count(), 1);
}

#[tokio::test]
async fn a_database_that_breaks_in_use_is_begun_anew_and_what_is_under_way_settles_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox.accept((1..=200).map(|n| case_record(&format!("c{n}"), 1)).collect()).await.unwrap();
    let out = outbox.next(1, u64::MAX).await.unwrap().remove(0);
    // Into the file itself, and nothing is left that could repair it.
    let db = dir.path().join("outbox.db");
    let other = rusqlite::Connection::open(&db).unwrap();
    other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(other);
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(&db).unwrap();
    let pages = file.metadata().unwrap().len() / 4096;
    for page in 4..pages {
        file.write_all_at(&[0x5a; 4096], page * 4096).unwrap();
    }
    // The owner's cache may hide it for a while; by the time it is seen, nothing has been refused.
    for n in 0..200 {
        outbox.accept(vec![case_record(&format!("d{n}"), 1)]).await.unwrap();
        outbox.next(100, u64::MAX).await.unwrap();
        if outbox.stats().borrow().quarantined == 1 {
            break;
        }
    }
    let stats = outbox.stats().borrow().clone();
    assert_eq!(stats.quarantined, 1, "{stats:?}");
    assert!(outbox.list(1000).await.unwrap().iter().any(|row| row.class == Class::Loss), "the loss is reported");
    // The acknowledgement of before: its number belongs to nobody else now.
    let before = outbox.list(1000).await.unwrap().iter().filter(|row| row.state == "delivered").count();
    deliver(&outbox, out.seq).await;
    let rows = outbox.list(1000).await.unwrap();
    let delivered: Vec<&str> = rows.iter().filter(|r| r.state == "delivered").map(|r| r.id.as_str()).collect();
    assert!(delivered.len() - before <= 1 && delivered.iter().all(|id| *id == out.record.id), "{delivered:?}");
}

#[tokio::test]
async fn pictures_may_take_a_way_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let outbox = Outbox::open(dir.path()).unwrap();
    outbox.accept(vec![case_record("c1", 1), note("p", Class::Evidence, "", 10)]).await.unwrap();
    let ids = async |classes| -> Vec<String> {
        let next = outbox.next_of(Ask { classes, limit: 10, bytes: u64::MAX }).await.unwrap();
        next.into_iter().map(|queued| queued.record.id).collect()
    };
    assert_eq!(ids(Class::Loss..=Class::Sortie).await, ["c1/1"]);
    assert_eq!(ids(Class::Evidence..=Class::Evidence).await, ["p"]);
    // A new session of the one leaves the other's alone.
    outbox.restart_session(Class::Loss..=Class::Sortie, None).await.unwrap();
    assert_eq!(ids(Class::Evidence..=Class::Evidence).await, [""; 0]);
    assert_eq!(ids(Class::Loss..=Class::Sortie).await, ["c1/1"]);
}

#[tokio::test]
async fn a_disk_that_fills_up_costs_pictures_and_no_case_is_reported_and_is_overcome() {
    let Some(disk) = SmallDisk::mount(24) else {
        eprintln!("skipped: no tmpfs can be mounted here");
        return;
    };
    let state = disk.0.join("state");
    let options = Options { reserve_bytes: 4 << 20, source: "aerie/v1/s1".into(), ..Options::default() };
    let outbox = Outbox::open_with(&state, options.clone()).unwrap();
    let mut accepted = Vec::new();
    // Somebody else takes the rest, in the middle of it all.
    let hog = disk.0.join("hog");
    for n in 0u32..120 {
        if n == 30 {
            let free = aerie::runtime::disk::free_bytes(&state).unwrap();
            std::fs::write(&hog, vec![1; usize::try_from(free).unwrap() - 200_000]).unwrap();
        }
        let picture: Vec<u8> = n.to_le_bytes().into_iter().cycle().take(100_000).collect();
        let mut records = vec![case_record(&format!("c{}", n % 10), u64::from(n / 10) + 1)];
        // A picture for which there is no room at all is missed by its case, which goes without.
        if let Ok(digest) = outbox.store_picture(&picture).await {
            let mut evidence = note(&format!("evidence/{digest}"), Class::Evidence, "", 0);
            evidence.payload = Payload::File(digest);
            records.push(evidence);
        }
        accepted.extend(records.iter().map(|record| (record.class, record.id.clone())));
        outbox.accept(records).await.unwrap_or_else(|error| panic!("event {n} was refused: {error}"));
    }
    let rows = outbox.list(usize::MAX).await.unwrap();
    let state_of = |id: &str| rows.iter().find(|row| row.id == id).map_or("absent", |row| row.state);
    let lost: std::collections::HashSet<String> = losses(&outbox).await;
    for (class, id) in &accepted {
        match state_of(id) {
            "queued" => assert!(!lost.contains(id)),
            "evicted" => assert!(*class == Class::Evidence && lost.contains(id), "{id} went, and nobody was told"),
            other => panic!("{id} is {other}"),
        }
    }
    assert!(!lost.is_empty(), "the disk was never full");
    assert!(outbox.check().await.unwrap().is_sound());

    // Space returns; so does the reserve.
    std::fs::remove_file(&hog).unwrap();
    drop(outbox);
    let outbox = reopen_with(&state, options).await;
    outbox.accept(vec![case_record("after", 1)]).await.unwrap();
    assert_eq!(std::fs::metadata(state.join("outbox.reserve")).unwrap().len(), 4 << 20);
}

/// The ids that loss reports name.
async fn losses(outbox: &Outbox) -> std::collections::HashSet<String> {
    let mut lost = std::collections::HashSet::new();
    loop {
        let next =
            outbox.next_of(Ask { classes: Class::Loss..=Class::Loss, limit: 10, bytes: u64::MAX }).await.unwrap();
        if next.is_empty() {
            return lost;
        }
        for queued in next {
            let Payload::Bytes(body) = &queued.record.payload else { panic!("a report travels in the database") };
            let event: Value = serde_json::from_slice(body).unwrap();
            let named = event["data"]["lost"].as_array().unwrap();
            lost.extend(named.iter().map(|one| one["id"].as_str().unwrap().to_owned()));
            deliver(outbox, queued.seq).await;
        }
    }
}
