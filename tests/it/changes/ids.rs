//! Change ids: a change sent again with its id has the same number and is made only once.

use relais_proto::{ErrorCode, Reply, Request};

use super::{open, tree, with_files};
use crate::harness::{
    Standalone, content, make_folder, put, remove, rename, resume, wait_unstaged,
};

fn slave() -> Standalone {
    with_files(&[], &[("gone", b"1"), ("from", b"2"), ("folder/x", b"3")])
}

fn changes() -> [Request; 4] {
    [make_folder("made"), remove("gone", false), remove("folder", true), rename("from", "to")]
}

#[test]
fn repeated_changes_keep_their_numbers() {
    let slave = slave();
    let mut wire = open(&slave);
    for change in changes() {
        let first = wire.change(&change).unwrap();
        let after = tree(&slave.root);
        assert_eq!(wire.change(&change), Ok(first), "{change:?}");
        assert_eq!(open(&slave).change(&change), Ok(first), "{change:?}");
        assert_eq!(tree(&slave.root), after);
    }
}

#[test]
fn repeated_changes_keep_their_numbers_after_a_restart() {
    let mut slave = slave();
    let bytes = content(1, 300_000);
    let request = put("f", bytes.len());
    let mut wire = open(&slave);
    let mut made: Vec<_> =
        changes().into_iter().map(|change| (wire.change(&change).unwrap(), change)).collect();
    made.push((wire.upload(&request, &bytes).unwrap(), resume(&request)));
    let after = tree(&slave.root);
    slave.program.kill();
    slave.restart();
    let mut wire = open(&slave);
    for (number, change) in &made {
        assert_eq!(wire.change(change), Ok(*number), "{change:?}");
    }
    assert_eq!(wire.upload(&request, &bytes), Ok(made[4].0));
    assert_eq!(tree(&slave.root), after);
    wait_unstaged(&slave.root);
    // The next change has a new number.
    assert!(made.iter().all(|(number, _)| *number < wire.put("g", b"new").unwrap()));
}

#[test]
fn a_repeated_put_has_its_number_and_is_not_made_twice() {
    let slave = slave();
    let (first, second) = (content(2, 70_000), content(3, 70_000));
    let (one, two) = (put("f", first.len()), put("f", second.len()));
    let mut wire = open(&slave);
    let number = wire.upload(&one, &first).unwrap();
    let later = wire.upload(&two, &second).unwrap();
    assert!(later > number);
    // The content that was replaced meanwhile does not come back.
    assert_eq!(wire.upload(&one, &first), Ok(number));
    assert_eq!(wire.change(&resume(&one)), Ok(number));
    assert!(wire.fetch("f").unwrap() == second);
    wait_unstaged(&slave.root);
}

#[test]
fn an_id_belongs_to_one_upload() {
    let slave = slave();
    let bytes = content(4, 100_000);
    let request = put("f", bytes.len());
    let mut wire = open(&slave);
    let mut cut = open(&slave);
    cut.raw(&crate::harness::upload(&request, &bytes, 1000)[..50_000]);
    drop(cut);
    crate::harness::eventually(crate::harness::SOON, "bytes are staged", || {
        (wire.staged(&request) > 0).then_some(())
    });
    // An upload with another path or size does not share the staged bytes.
    for other in
        [relais_proto::PutRequest { path: crate::harness::path("g"), ..request.clone() }, {
            relais_proto::PutRequest { size: Some(bytes.len() as u64 + 1), ..request.clone() }
        }]
    {
        assert_eq!(wire.staged(&other), 0, "{other:?}");
    }
    assert!(wire.staged(&request) > 0);
}

#[test]
fn a_lost_connection_leaves_nothing_of_what_was_put_meanwhile() {
    let slave = slave();
    let bytes = content(5, 100_000);
    let request = put("f", bytes.len());
    let mut wire = open(&slave);
    let number = wire.upload(&request, &bytes).unwrap();
    // The bytes of an older, cut connection are read only now.
    let mut late = open(&slave);
    late.raw(&crate::harness::upload(&request, &bytes, 1000)[..50_000]);
    crate::harness::eventually(crate::harness::SOON, "bytes are staged", || {
        (crate::harness::staged_bytes(&slave.root) > 0).then_some(())
    });
    drop(late);
    wait_unstaged(&slave.root);
    assert_eq!(wire.change(&resume(&request)), Ok(number));
}

#[test]
fn a_used_id_with_other_content_is_refused() {
    let slave = slave();
    let mut wire = open(&slave);
    for (name, size) in [("small", 3), ("large", 2 << 20)] {
        let (one, two) = (content(6, size), content(7, size));
        let request = put(name, size);
        let number = wire.upload(&request, &one).unwrap();
        assert_eq!(wire.upload(&request, &two).unwrap_err().code, ErrorCode::Conflict, "{name}");
        wire.ping();
        assert!(wire.fetch(name).unwrap() == one, "{name}");
        let says = |reply: Reply| match reply {
            Reply::Committed { version, digest, current, .. } => (version, digest, current),
            other => panic!("{other:?}"),
        };
        let stored = relais_proto::Digest(blake3::hash(&one).into());
        assert_eq!(says(wire.ask(&resume(&request))), (number, Some(stored), true));
        wire.put(name, &two).unwrap();
        assert_eq!(says(wire.ask(&resume(&request))), (number, Some(stored), false));
        // The same content under the id is the earlier change, and the answer says that its version
        // was replaced.
        wire.raw(&crate::harness::upload(&request, &one, 1 << 20));
        assert_eq!(says(wire.reply()), (number, Some(stored), false));
        assert!(wire.fetch(name).unwrap() == two, "{name}");
    }
    wait_unstaged(&slave.root);
}

#[test]
fn numbers_rise_with_every_change() {
    let slave = slave();
    let mut wire = open(&slave);
    let mut last = relais_proto::Lsn::default();
    for n in 0..20 {
        let number = if n % 2 == 0 {
            wire.put("f", format!("{n}").as_bytes())
        } else {
            wire.change(&make_folder(&format!("d{n}")))
        };
        let number = number.unwrap();
        assert!(number > last, "{number} after {last}");
        last = number;
    }
    // A refused change takes no number.
    assert_eq!(wire.change(&make_folder("d1")).unwrap_err().code, ErrorCode::Exists);
    let next = wire.put("f", b"x").unwrap();
    assert_eq!((next.epoch, next.number), (last.epoch, last.number + 1));
    match wire.ask(&Request::Stat(crate::harness::path("f"))) {
        Reply::Details { entry, .. } => assert_eq!(entry.version, Some(next)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_id_belongs_to_one_change() {
    let slave = slave();
    let mut wire = open(&slave);
    let (one, bytes) = (put("f", 3), b"abc");
    let number = wire.upload(&one, bytes).unwrap();
    // Another request with the same id is another change.
    let other = relais_proto::PutRequest { path: crate::harness::path("g"), ..one.clone() };
    assert_eq!(wire.staged(&other), 0, "the completed change has another path");
    assert!(wire.upload(&other, bytes).unwrap() > number);
    assert!(
        wire.change(&Request::Remove {
            id: one.id,
            path: crate::harness::path("f"),
            recursive: false,
            expect: relais_proto::Expect::Any,
        })
        .unwrap()
            > number
    );
    assert_eq!(wire.upload(&one, bytes), Ok(number), "the change was made before");
    assert_eq!(tree(&slave.root).iter().filter(|(name, _)| name == "f" || name == "g").count(), 1);
}
