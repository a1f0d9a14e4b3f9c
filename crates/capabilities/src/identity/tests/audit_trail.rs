//! The audit trail: what is in it, and how tampering shows.

use futures_util::future::join_all;
use opsroom_core::Effect;
use sea_query::{Expr, ExprTrait, Iden, Query, UpdateStatement};

use super::*;

#[derive(Clone, Copy, Iden)]
enum AuditRecords {
    Table,
    Seq,
    Outcome,
    PrevHash,
    Hash,
}

#[derive(Clone, Copy, Iden)]
enum AuditHead {
    Table,
    Seq,
    Hash,
}

fn entry(action: &str) -> AuditEntry {
    AuditEntry::action(&operator(), action, Effect::Write, &json!({ "a": 1 })).ok()
}

async fn write(identity: &Identity, count: usize) {
    let writes = (0..count).map(|n| identity.audit(entry(&format!("do_{n}"))));
    for result in join_all(writes).await {
        result.unwrap();
    }
}

async fn verdict(room: &Room) -> Verdict {
    room.identity.verify_audit(&Verify::default(), &Progress::silent()).await.unwrap()
}

async fn broken(room: &Room) -> Broken {
    let verdict = verdict(room).await;
    assert!(!verdict.intact);
    verdict.broken.unwrap()
}

fn change(seq: i64) -> UpdateStatement {
    Query::update().table(AuditRecords::Table).and_where(Expr::col(AuditRecords::Seq).eq(seq)).to_owned()
}

async fn remove(room: &Room, from: i64) {
    let delete = Query::delete()
        .from_table(AuditRecords::Table)
        .and_where(Expr::col(AuditRecords::Seq).gte(from))
        .to_owned();
    room.test.db.run(&delete).await.unwrap();
}

async fn set_head(room: &Room, seq: i64, hash: &str) {
    let update = Query::update()
        .table(AuditHead::Table)
        .values([(AuditHead::Seq, seq.into()), (AuditHead::Hash, hash.into())])
        .to_owned();
    room.test.db.run(&update).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_verifies_after_two_servers_wrote_at_once() {
    for room in rooms().await {
        let replica = room.replica().await;
        tokio::join!(write(&room.identity, 300), write(&replica, 300));
        let verdict = verdict(&room).await;
        assert!(verdict.intact, "{:?} {verdict:?}", room.test.db.dialect());
        assert_eq!((verdict.records, verdict.head_seq), (600, 600));
    }
}

#[tokio::test]
async fn an_empty_trail_is_intact() {
    for room in rooms().await {
        let verdict = verdict(&room).await;
        assert!(verdict.intact && verdict.head_seq == 0, "{verdict:?}");
    }
}

#[tokio::test]
async fn a_changed_field_shows() {
    for room in rooms().await {
        write(&room.identity, 5).await;
        room.test.db.run(change(3).value(AuditRecords::Outcome, "forbidden")).await.unwrap();
        let broken = broken(&room).await;
        assert_eq!(broken.seq, 3);
        assert!(broken.reason.contains("changed after it was written"), "{}", broken.reason);
    }
}

#[tokio::test]
async fn a_changed_field_with_its_hash_made_anew_shows_at_the_next_record() {
    for room in rooms().await {
        write(&room.identity, 5).await;
        let rows = store::audit::rows_after(&room.test.db, 2, 1).await.unwrap();
        let mut record = store::audit::read(&rows[0]).unwrap();
        record.outcome = "forbidden".to_owned();
        let update = change(3)
            .value(AuditRecords::Outcome, "forbidden")
            .value(AuditRecords::Hash, record.computed_hash())
            .to_owned();
        room.test.db.run(&update).await.unwrap();
        let broken = broken(&room).await;
        assert_eq!(broken.seq, 4);
        assert!(broken.reason.contains("does not follow"), "{}", broken.reason);
    }
}

#[tokio::test]
async fn a_removed_row_shows() {
    for room in rooms().await {
        write(&room.identity, 5).await;
        let delete = Query::delete()
            .from_table(AuditRecords::Table)
            .and_where(Expr::col(AuditRecords::Seq).is_in([2i64, 3]))
            .to_owned();
        room.test.db.run(&delete).await.unwrap();
        let broken = broken(&room).await;
        assert_eq!(broken.seq, 2);
        assert!(broken.reason.contains("up to 3 are missing"), "{}", broken.reason);
    }
}

#[tokio::test]
async fn rows_that_changed_places_show() {
    for room in rooms().await {
        write(&room.identity, 5).await;
        for (from, to) in [(2i64, 100i64), (3, 2), (100, 3)] {
            room.test.db.run(change(from).value(AuditRecords::Seq, to)).await.unwrap();
        }
        assert_eq!(broken(&room).await.seq, 2);
    }
}

#[tokio::test]
async fn a_tail_that_was_cut_off_shows_by_the_head() {
    for room in rooms().await {
        write(&room.identity, 5).await;
        remove(&room, 4).await;
        let broken = broken(&room).await;
        assert_eq!(broken.seq, 4);
        assert!(broken.reason.contains("to 5 were cut off"), "{}", broken.reason);
        remove(&room, 1).await;
        assert_eq!(super::audit_trail::broken(&room).await.seq, 1);
    }
}

#[tokio::test]
async fn a_head_that_was_set_back_or_removed_shows() {
    for room in rooms().await {
        write(&room.identity, 5).await;
        let rows = store::audit::rows_after(&room.test.db, 2, 1).await.unwrap();
        let third = store::audit::read(&rows[0]).unwrap();
        set_head(&room, 3, &third.hash).await;
        let found = broken(&room).await;
        assert_eq!(found.seq, 4);
        assert!(found.reason.contains("set back"), "{}", found.reason);
        set_head(&room, 5, &third.hash).await;
        assert_eq!(broken(&room).await.seq, 5);
        room.test.db.run(&Query::delete().from_table(AuditHead::Table).to_owned()).await.unwrap();
        assert!(broken(&room).await.reason.contains("head row is missing"));
        // And nothing is answered that cannot be chained.
        let error = room.identity.audit(entry("do_more")).await.unwrap_err();
        assert!(error.message.contains("head row"), "{}", error.message);
    }
}

#[tokio::test]
async fn a_trail_that_was_rewritten_shows_by_a_noted_hash() {
    for room in rooms().await {
        write(&room.identity, 3).await;
        let before = verdict(&room).await;
        let noted = Verify { known_seq: Some(before.head_seq), known_hash: Some(before.head_hash) };
        write(&room.identity, 2).await;
        let check = async || room.identity.verify_audit(&noted, &Progress::silent()).await.unwrap();
        assert!(check().await.intact);
        remove(&room, 1).await;
        set_head(&room, 0, audit::GENESIS).await;
        room.clock.advance_seconds(1);
        write(&room.identity, 5).await;
        assert!(verdict(&room).await.intact, "the new chain is right in itself");
        assert_eq!(check().await.broken.unwrap().seq, 3);
        remove(&room, 1).await;
        set_head(&room, 0, audit::GENESIS).await;
        assert!(check().await.broken.unwrap().reason.contains("record 3 was noted"));
    }
}

#[tokio::test]
async fn half_of_a_noted_record_is_refused() {
    let room = Room::new(sqlite().await).await;
    for input in [json!({ "known_seq": 1 }), json!({ "known_seq": 0, "known_hash": "x" })] {
        let error = room.call(&operator(), "verify_audit", input).await.unwrap_err();
        assert_eq!(error.kind, Kind::Invalid);
        assert!(error.message.contains("known_seq"), "{}", error.message);
    }
}

#[tokio::test]
async fn a_row_that_is_no_record_shows_and_does_not_stop_the_check() {
    // SQLite keeps what does not fit the column's type.
    let room = Room::new(sqlite().await).await;
    write(&room.identity, 3).await;
    room.test.db.run(change(2).value(AuditRecords::PrevHash, vec![0xffu8])).await.unwrap();
    let broken = broken(&room).await;
    assert_eq!((broken.seq, broken.reason.as_str()), (2, "its row cannot be read as a record"));
}

#[tokio::test]
async fn the_trail_is_listed_by_team_and_filter_newest_first() {
    for room in rooms().await {
        let refused = Error::forbidden("no luck");
        room.identity.audit(entry("create_thing")).await.unwrap();
        room.clock.advance_seconds(10);
        let failed = entry("delete_thing").failed(&refused).job("job-1").request("r-1");
        room.identity.audit(failed).await.unwrap();
        let stranger = Caller { teams: vec!["other".to_owned()], subject: "key:x".to_owned(), ..operator() };
        let theirs = AuditEntry::action(&stranger, "create_thing", Effect::Write, &json!({})).ok();
        room.identity.audit(theirs).await.unwrap();

        let all = room.call(&operator(), "list_audit", json!({})).await.unwrap();
        let operations: Vec<_> = all["items"].as_array().unwrap().iter().map(|r| &r["operation"]).collect();
        assert_eq!(operations, ["delete_thing", "create_thing"]);
        let record = &all["items"][0];
        assert_eq!((&record["outcome"], &record["message"]), (&json!("forbidden"), &json!("no luck")));
        assert_eq!((&record["job_id"], &record["request_id"]), (&json!("job-1"), &json!("r-1")));
        assert_eq!(record["input"], json!({ "a": 1 }));

        let later = START.plus_seconds(10).to_rfc3339();
        for (filter, expected) in [
            (json!({ "operation": "create_thing" }), 1),
            (json!({ "outcome": "forbidden" }), 1),
            (json!({ "subject": "operator" }), 2),
            (json!({ "subject": "key:x" }), 0),
            (json!({ "since": later }), 1),
            (json!({ "until": later }), 1),
            (json!({ "limit": 1, "cursor": "2" }), 1),
        ] {
            let page = room.call(&operator(), "list_audit", filter.clone()).await.unwrap();
            assert_eq!(page["items"].as_array().unwrap().len(), expected, "{filter}");
        }
        let page = room.call(&operator(), "list_audit", json!({ "limit": 1 })).await.unwrap();
        assert_eq!(page["next"], "2");
        for bad in
            [json!({ "since": "yesterday" }), json!({ "cursor": "x" }), json!({ "operation": "\u{0}" })]
        {
            let error = room.call(&operator(), "list_audit", bad.clone()).await.unwrap_err();
            assert_eq!(error.kind, Kind::Invalid, "{bad}");
        }
    }
}

#[tokio::test]
async fn a_trail_that_cannot_be_written_is_an_error() {
    for room in rooms().await {
        room.test.db.close().await;
        let error = room.identity.audit(entry("do_it")).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable);
        assert!(error.message.contains("answer is withheld"), "{}", error.message);
    }
}

#[tokio::test]
async fn an_entry_is_written_though_its_caller_goes_away_and_the_server_stops() {
    for room in rooms().await {
        {
            let mut write = Box::pin(room.identity.audit(entry("do_it")));
            assert!(futures_util::poll!(&mut write).is_pending());
        }
        room.life.finish(std::time::Duration::from_secs(30)).await.unwrap();
        assert_eq!(verdict(&room).await.records, 1);
    }
}

#[tokio::test]
async fn hostile_text_in_an_entry_is_kept_and_chained() {
    for room in rooms().await {
        let caller = Caller {
            name: "x\0'); DROP TABLE audit_records; --\u{1b}[2J".to_owned(),
            subject: "é".repeat(1000),
            ..operator()
        };
        let input = json!({ "text": "\u{0}\u{1}\"\\ 🙂", "deep": [[[{}]]] });
        let error = Error::invalid(format!("bad\0 {}", "🙂".repeat(10_000)));
        let entry = AuditEntry::action(&caller, &"o".repeat(1000), Effect::Write, &input).failed(&error);
        room.identity.audit(entry).await.unwrap();
        let verdict = verdict(&room).await;
        assert!(verdict.intact && verdict.records == 1, "{:?} {verdict:?}", room.test.db.dialect());
        let listed = room.call(&operator(), "list_audit", json!({})).await.unwrap();
        assert_eq!(listed["items"][0]["input"], input);
    }
}

#[tokio::test]
async fn what_a_crash_cut_off_from_its_record_is_on_record_as_interrupted() {
    for room in rooms().await {
        let begun = room.identity.begin_audit(entry("make_something")).await.unwrap();
        let lost = room.identity.begin_audit(entry("make_another")).await.unwrap();
        room.identity.audit(begun).await.unwrap();
        drop(lost);
        // Where servers share a database, another one may still be at it.
        room.clock.advance_seconds(3601);
        room.identity.recover_audit().await.unwrap();
        room.identity.recover_audit().await.unwrap();
        let page = room.call(&operator(), "list_audit", json!({})).await.unwrap();
        let told: Vec<(&str, &str)> = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| (item["operation"].as_str().unwrap(), item["outcome"].as_str().unwrap()))
            .collect();
        assert_eq!(told, [("make_another", "interrupted"), ("make_something", "ok")]);
        assert!(page["items"][0]["message"].as_str().unwrap().contains("may have taken effect"));
        assert!(verdict(&room).await.intact);
    }
}

#[tokio::test]
async fn old_records_go_and_the_rest_verifies_but_not_when_somebody_else_cut_the_chain() {
    for room in rooms().await {
        write(&room.identity, 5).await;
        room.clock.advance_seconds(10 * 86_400);
        write(&room.identity, 5).await;
        let config = AuditConfig { keep_days: 5, ..AuditConfig::default() };
        audit::remove_old(&room.test.db, &room.clock, &config).await.unwrap();
        audit::remove_old(&room.test.db, &room.clock, &config).await.unwrap();
        let after = verdict(&room).await;
        assert_eq!((after.intact, after.head_seq), (true, 11), "{after:?}");
        let page = room.call(&operator(), "list_audit", json!({})).await.unwrap();
        let items = page["items"].as_array().unwrap();
        assert_eq!((items.len(), &items[0]["operation"]), (6, &json!("remove_old_audit")));
        // Somebody removes two more, and moves the base along.
        let rows = store::audit::rows_after(&room.test.db, 0, 10).await.unwrap();
        let record = store::audit::read(&rows[1]).unwrap();
        let mut on = room.test.db.begin().await.unwrap();
        store::audit::set_base(&mut on, &record.as_head()).await.unwrap();
        store::audit::remove_until(&mut on, record.seq).await.unwrap();
        on.commit().await.unwrap();
        assert!(broken(&room).await.reason.contains("no record says"));
    }
}
