//! Several entries in one request.

use relais_proto::{EntryResult, ErrorCode, FrameType, Kind, Reply, Request, limits};

use crate::harness::{RawClient, SOON, Standalone, encoded, make_folder, path, sessions};

fn stat_many(names: &[&str]) -> Request {
    Request::StatMany { paths: names.iter().map(|name| path(name)).collect() }
}

/// Reads an answer; returns its results and how many frames have them.
#[track_caller]
fn results(wire: &mut RawClient) -> (Vec<EntryResult>, usize) {
    let (mut all, mut frames) = (Vec::new(), 0);
    loop {
        match wire.reply() {
            Reply::EntryResults { results } => {
                all.extend(results);
                frames += 1;
            }
            Reply::Done { .. } => return (all, frames),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn each_path_has_its_own_result() {
    let slave = Standalone::start(&[], &[]);
    let mut wire = sessions(slave.addr, 1).remove(0);
    let put = wire.put("f", b"content").unwrap();
    wire.change(&make_folder("d")).unwrap();
    wire.send(&[stat_many(&["f", "none", "d", "", "f/x", "f"])]);
    let all: Vec<_> = results(&mut wire)
        .0
        .into_iter()
        .map(|result| match result {
            EntryResult::Found { entry, digest } => Ok((entry, digest)),
            EntryResult::Refused(refusal) => Err(refusal.code),
        })
        .collect();
    let [Ok(file), Err(ErrorCode::NotFound), Ok(folder), Ok(top), Err(ErrorCode::NotFolder), last] =
        &all[..]
    else {
        panic!("{all:?}")
    };
    assert_eq!((file.0.name.as_str(), file.0.size, file.0.version), ("f", 7, Some(put)));
    assert_eq!(file.1.map(|digest| digest.0), Some(blake3::hash(b"content").into()));
    assert_eq!((folder.0.name.as_str(), folder.0.kind, folder.1), ("d", Kind::Folder, None));
    assert_eq!((top.0.name.as_str(), top.0.kind), ("", Kind::Folder));
    assert_eq!(last.as_ref(), Ok(file));
    wire.send(&[stat_many(&[])]);
    assert_eq!(results(&mut wire).0, []);
}

#[test]
fn an_invalid_path_rejects_the_whole_request() {
    let slave = Standalone::start(&[], &[]);
    let mut wire = sessions(slave.addr, 1).remove(0);
    wire.put("f", b"content").unwrap();
    let request = encoded(&[stat_many(&["f", "xx", "f"])]);
    let at = request.windows(2).position(|bytes| bytes == b"xx").unwrap();
    for invalid in [b"..", b"./", b"/x", b"\n\n"] {
        let mut frame = request.clone();
        frame[at..at + 2].copy_from_slice(invalid);
        wire.raw(&frame);
        let reply = wire.reply();
        assert!(
            matches!(&reply, Reply::Error(r) if r.code == ErrorCode::BadName),
            "{invalid:?}: {reply:?}"
        );
        // There is no other answer, and the session continues.
        wire.ping();
    }
}

#[test]
fn the_number_of_paths_is_limited() {
    let slave = Standalone::start(&[], &[]);
    let mut wire = sessions(slave.addr, 1).remove(0);
    wire.put("f", b"content").unwrap();
    wire.send(&[stat_many(&vec!["f"; limits::STAT_PATHS])]);
    let (all, frames) = results(&mut wire);
    assert_eq!(all.len(), limits::STAT_PATHS);
    assert!(all.iter().all(|result| matches!(result, EntryResult::Found { .. })));
    assert!(frames > 1, "all results are in one frame");
    // One path more, all of them empty.
    let count = limits::STAT_PATHS + 1;
    let length = u32::try_from(2 + 2 * count).unwrap().to_be_bytes();
    let mut frame = [&length[..], &[FrameType::StatMany.number()]].concat();
    frame.extend(u16::try_from(count).unwrap().to_be_bytes());
    frame.extend(vec![0; 2 * count]);
    wire.raw(&frame);
    let reply = wire.reply();
    assert!(matches!(&reply, Reply::Error(r) if r.code == ErrorCode::BadRequest), "{reply:?}");
    wire.closed_within(SOON);
}
