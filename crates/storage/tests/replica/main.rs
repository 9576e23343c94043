//! A replica on a real folder, driven by values: no process, socket or thread of a slave.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

mod annotations;
mod fetched;
mod harness;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;

use relais_cluster::HistoryHash;
use relais_proto::{Change, ChangeId, LinkMessage, Lsn, Mode, ToMaster, ToSlave};
use relais_storage::{LinkEvent, Output, Proposal, SessionRequests, StagedName};
use relais_tree::set_times;

use self::harness::{
    MTIME, OTHER, Replica, committed, digest, fetches, id, lsn, path, proposed, put,
};

#[test]
fn committed_entries_are_applied_fetched_and_listed() {
    let mut replica = Replica::new();
    let folder = Change::MakeFolder { path: path("d"), mode: Mode::new(0o755) };
    let outputs = replica.commit(vec![committed(1, folder), committed(2, put("d/f", "content"))]);
    assert_eq!(fetches(&outputs), [lsn(2)]);
    assert_eq!(replica.progress.applied(), lsn(2));
    assert!(!replica.host("d/f").exists());
    assert_eq!((replica.names(""), replica.names("d")), (vec!["d".into()], vec!["f".into()]));
    replica.deliver(2, "content");
    assert_eq!(replica.read("d/f"), "content");
    let moved = Change::Move { from: path("d"), to: path("e") };
    let gone = Change::Remove { path: path("e/f"), recursive: false };
    replica.commit(vec![committed(3, moved), committed(4, gone)]);
    assert_eq!((replica.names(""), replica.names("e")), (vec!["e".into()], Vec::new()));
    assert!(replica.host("e").is_dir() && !replica.host("e/f").exists());
    assert_eq!(replica.quarantined(), 0);
}

#[test]
fn upload_of_a_session_is_published_and_answered() {
    let mut replica = Replica::new();
    let staged = Some(replica.stage(id(1), "f", "content"));
    let proposal = Proposal { staged, ..Proposal::new(id(1), put("f", "content")) };
    let repeated = proposal.clone();
    let requests = SessionRequests { proposals: vec![(5, proposal)], ..SessionRequests::default() };
    let outputs = replica.run(Vec::new(), requests, Vec::new());
    assert_eq!(proposed(&outputs), [put("f", "content")]);
    let outputs = replica.commit(vec![committed(1, put("f", "content"))]);
    let answer = outputs.iter().find_map(|output| match output {
        Output::Answer(channel, answer) => Some((*channel, answer.clone().unwrap())),
        _ => None,
    });
    let (channel, receipt) = answer.unwrap();
    assert_eq!((channel, receipt.version, receipt.digest), (5, lsn(1), Some(digest("content"))));
    assert_eq!(replica.read("f"), "content");
    assert!(fetches(&outputs).is_empty());
    // A repeated put is answered once as many disks as it wants have the content.
    let again = |copies| {
        let proposal = Proposal { staged: None, copies, ..repeated.clone() };
        SessionRequests { proposals: vec![(6, proposal)], ..SessionRequests::default() }
    };
    let answer = |outputs: &[Output]| {
        outputs.iter().find_map(|output| match output {
            Output::Answer(6, answer) => Some(answer.clone().unwrap()),
            _ => None,
        })
    };
    let outputs = replica.run(Vec::new(), again(1), Vec::new());
    assert_eq!(answer(&outputs).map(|receipt| receipt.copies), Some(1));
    let outputs = replica.run(Vec::new(), again(2), Vec::new());
    assert_eq!((proposed(&outputs), answer(&outputs)), (vec![put("f", "content")], None));
    let messages = [
        ToSlave::ProposalResult { id: id(1), answer: Ok(lsn(1)) },
        ToSlave::Copies { put: lsn(1), copies: 2 },
    ];
    let outputs = replica.run(
        messages.map(LinkEvent::Message).into(),
        SessionRequests::default(),
        Vec::new(),
    );
    let receipt = answer(&outputs).unwrap();
    assert_eq!((receipt.version, receipt.copies, receipt.fresh), (lsn(1), 2, false));
}

#[test]
fn proposal_whose_content_is_gone_is_refused() {
    let mut replica = Replica::new();
    let staged = Some(StagedName::new(id(1), "ann", &path("f"), Some(7)).sealed());
    let proposal = Proposal { staged, ..Proposal::new(id(1), put("f", "content")) };
    let closed = BTreeSet::from([8]);
    let requests =
        SessionRequests { proposals: vec![(5, proposal)], closed, holders: vec![(6, lsn(1))] };
    let outputs = replica.run(Vec::new(), requests, Vec::new());
    assert!(proposed(&outputs).is_empty());
    assert!(outputs.iter().any(|output| matches!(output, Output::Answer(5, Err(_)))));
}

#[test]
fn crash_between_rename_and_record_loses_nothing() {
    let mut replica = Replica::new();
    let changes = vec![committed(1, put("f", "one")), committed(2, put("g", "two"))];
    replica.commit(changes.clone());
    replica.deliver(1, "one");
    replica.deliver(2, "two");
    // The batch was done on the disk when the power failed, and not recorded in the catalogue.
    let batch = vec![
        committed(3, put("f", "new")),
        committed(4, Change::Move { from: path("g"), to: path("h") }),
    ];
    let mut replica = replica.reopen(lsn(4), |dir| {
        let file = fs::File::create(dir.path().join("f")).unwrap();
        (&file).write_all(b"new").unwrap();
        set_times(&file, MTIME).unwrap();
        fs::rename(dir.path().join("g"), dir.path().join("h")).unwrap();
    });
    assert_eq!(replica.progress.applied(), lsn(2));
    let outputs = replica.commit(batch.clone());
    assert_eq!(replica.progress.applied(), lsn(4));
    assert!(fetches(&outputs).is_empty(), "the content is there already");
    assert_eq!((replica.read("f"), replica.read("h")), ("new".into(), "two".into()));
    assert_eq!((replica.names(""), replica.quarantined()), (vec!["f".into(), "h".into()], 0));
    // A repeated batch changes nothing.
    let mut replica = replica.reopen(lsn(4), |_| {});
    replica.commit(batch);
    assert_eq!((replica.progress.applied(), replica.read("f")), (lsn(4), "new".into()));
}

#[test]
fn a_local_removal_that_is_repeated_after_a_crash_removes_no_restored_file() {
    // Account 0 marks a local change.
    for (by, remains) in [(ChangeId([0; 16]), true), (id(2), false)] {
        let mut replica = Replica::sole();
        fs::write(replica.host("f"), "content").unwrap();
        replica.commit(vec![committed(1, put("f", "content"))]);
        // The user has moved the file away, and the slave dies once the removal is in the journal.
        let away = tempfile::tempdir_in(replica.dir.path().parent().unwrap()).unwrap();
        let mut replica = replica.reopen(lsn(2), |dir| {
            fs::rename(dir.path().join("f"), away.path().join("f")).unwrap();
            fs::rename(away.path().join("f"), dir.path().join("f")).unwrap();
        });
        let mut removal = committed(2, Change::Remove { path: path("f"), recursive: true });
        removal.entry.id = by;
        replica.commit(vec![removal]);
        assert_eq!((replica.progress.applied(), replica.names("")), (lsn(2), Vec::new()));
        assert_eq!(replica.host("f").exists(), remains);
        assert_eq!(replica.quarantined(), 0);
    }
}

#[test]
fn file_of_a_user_at_the_path_is_quarantined() {
    let mut replica = Replica::new();
    fs::write(replica.host("f"), "of a user").unwrap();
    replica.commit(vec![committed(1, put("f", "content"))]);
    replica.deliver(1, "content");
    assert_eq!((replica.read("f"), replica.quarantined()), ("content".into(), 1));
}

#[test]
fn damaged_content_is_fetched_again() {
    let mut replica = Replica::new();
    replica.commit(vec![committed(1, put("f", "content"))]);
    replica.deliver(1, "content");
    replica.link(vec![LinkEvent::Scrub(3)]);
    let files = replica.driver.take_unhashed(8, |_| true);
    assert_eq!(files.iter().map(|file| file.path.clone()).collect::<Vec<_>>(), [path("f")]);
    let store = &replica.scanner.store;
    replica.driver.handle_digest(&files[0], Some(digest("damaged")), store).unwrap();
    let outputs = replica.link(Vec::new());
    assert_eq!(replica.quarantined(), 1);
    // The replica asks which folders have the content.
    let asks = |output: &Output| {
        matches!(output, Output::Send(1, LinkMessage::ToMaster(ToMaster::FindHolders { put }))
            if *put == lsn(1))
    };
    assert!(outputs.iter().any(asks), "{outputs:?}");
    let holders = ToSlave::Holders { put: lsn(1), holders: vec![OTHER] };
    let outputs = replica.link(vec![LinkEvent::Message(holders)]);
    assert_eq!(fetches(&outputs), [lsn(1)]);
    replica.deliver(1, "content");
    assert_eq!(replica.read("f"), "content");
}

#[test]
fn new_replica_has_no_history() {
    let replica = Replica::new();
    let position = replica.scanner.store.position().unwrap();
    assert_eq!((position.applied, position.chain), (Lsn::default(), HistoryHash::default()));
    assert!(replica.names("").is_empty());
}
