//! Undisturbed uploads, and changes of the source.

use std::os::unix::fs::FileExt;

use rustix::net::{AddressFamily, SocketType};

use super::*;

const SMALL: usize = 256 * 1024;

#[test]
fn content_of_any_size() {
    for size in [0, 1, 5, SMALL - 1, SMALL, SMALL + 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 17]
    {
        let (cluster, content) = (Cluster::default(), bytes(size));
        let server = Server::honest(&cluster);
        let mut run = Run::new(&[&server], &content);
        let stored = run.expect(&cluster, &content);
        assert_eq!((stored.bytes_moved, stored.resumed_from), (size as u64, 0), "{size}");
        assert_eq!(stored.servers, [server.addr]);
        assert_eq!(run.told.events, ["opened Absent".to_owned(), format!("started {size} 0")]);
        assert_eq!((run.sessions.opened, run.sessions.failures.len()), (1, 0));
        assert_eq!(run.told.sent, size as u64);
        let made = &cluster.made()[0].put;
        assert_eq!((made.mtime, made.mode, made.expect), (Some(MTIME), Some(MODE), Expect::Absent));
        assert_eq!(made.path, path());
    }
}

#[test]
fn it_goes_on_where_the_server_is() {
    let content = bytes(3 * MIB + 17);
    for size in [100, SMALL + 9, content.len()] {
        let content = &content[..size];
        for at in [0, 1, 99, size / 2, size - 1, size] {
            let cluster = Cluster::default();
            let server = Server::new(
                &cluster,
                Script { staged: content[..at].to_vec(), ..Script::default() },
            );
            let mut run = Run::new(&[&server], content);
            let stored = run.expect(&cluster, content);
            assert_eq!((stored.resumed_from, stored.bytes_moved), (at as u64, (size - at) as u64));
            assert_eq!(server.puts(), [at as u64]);
            assert_eq!(run.told.events[1], format!("started {size} {at}"));
        }
    }
}

#[test]
fn what_was_stored_in_an_earlier_call_is_only_hashed() {
    for size in [10, 2 * MIB] {
        let (cluster, content) = (Cluster::default(), bytes(size));
        let server = Server::honest(&cluster);
        Run::new(&[&server], &content).expect(&cluster, &content);
        let mut run = Run::new(&[&server], &content);
        let stored = run.expect(&cluster, &content);
        assert_eq!((stored.bytes_moved, stored.resumed_from), (0, size as u64));
        assert_eq!(stored.servers, [server.addr]);
        assert!(run.told.events.is_empty());
    }
}

#[test]
fn a_file_of_another_size_is_not_begun() {
    let cluster = Cluster::default();
    let server = Server::honest(&cluster);
    for size in [9, 11] {
        let run = Run::with(&[&server], &file_with(&bytes(10)), size, Recorder::default());
        assert!(matches!(run.result, Err(TransferError::SourceChanged)));
    }
    assert!(server.requests.lock().unwrap().is_empty());
}

/// A recorder that changes the file once so many bytes went out.
fn changing(file: &File, at: u64, change: impl Fn(&File) + Send + 'static) -> Recorder {
    let other = file.try_clone().unwrap();
    let on_advance = move |sent| {
        if sent >= at {
            change(&other);
        }
    };
    Recorder { on_advance: Some(Box::new(on_advance)), ..Recorder::default() }
}

#[test]
fn a_source_that_changes_is_never_stored() {
    const SIZE: usize = 8 * MIB;
    type Change = fn(&File);
    let changes: [Change; 3] = [
        |file| file.write_all_at(b"other", 5).unwrap(),
        |file| file.set_len(3 * MIB as u64).unwrap(),
        |file| file.set_len(SIZE as u64 + 1).unwrap(),
    ];
    for change in changes {
        for at in [MIB, SIZE] {
            let cluster = Cluster::default();
            let server = Server::honest(&cluster);
            let file = file_with(&bytes(SIZE));
            // The clock of the file system may stand still for some milliseconds.
            std::thread::sleep(Duration::from_millis(20));
            let run = Run::with(&[&server], &file, SIZE, changing(&file, at as u64, change));
            assert!(matches!(run.result, Err(TransferError::SourceChanged)), "{:?}", run.result);
            assert!(!run.result.is_err_and(|e| e.can_resume_upload()));
            assert_eq!((server.ends(), cluster.made().len()), (0, 0));
            assert!(run.sessions.open.is_none() && run.sessions.abandoned == 1);
        }
    }
}

#[test]
fn an_interruption_ends_it() {
    let (cluster, content) = (Cluster::default(), bytes(8 * MIB));
    let server = Server::honest(&cluster);
    let told = Recorder { interrupt_at: Some(2 * MIB as u64), ..Recorder::default() };
    let run = Run::with(&[&server], &file_with(&content), content.len(), told);
    assert!(matches!(run.result, Err(TransferError::Interrupted)));
    assert!(run.sessions.open.is_none() && run.sessions.failures.is_empty());
    assert_eq!(run.told.sent, 2 * MIB as u64);
    // Nothing is lost by it.
    let stored = Run::new(&[&server], &content).expect(&cluster, &content);
    assert_eq!(stored.resumed_from, 2 * MIB as u64);
}

#[test]
fn nobody_is_there() {
    // Bound, so that no other test gets the port, and not listening.
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    let gone = Server::at(rustix::net::getsockname(&socket).unwrap().try_into().unwrap());
    assert!(matches!(Run::new(&[&gone], b"x").result, Err(TransferError::Unreachable(_))));
    // One was there, and no other is.
    let cluster = Cluster::default();
    let server = Server::cutting(&cluster, [2 * MIB as u64]);
    let run = Run::new(&[&server, &gone], &bytes(4 * MIB));
    let Err(error @ TransferError::Unreachable(_)) = &run.result else {
        panic!("{:?}", run.result)
    };
    assert!(run.told.sent > 0 && error.can_resume_upload());
}
