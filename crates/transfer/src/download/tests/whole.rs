//! Content that comes as it should, new and resumed, at every odd size.

use super::*;

const MIB: u64 = 1024 * 1024;

#[test]
fn every_size_around_the_blocks() {
    for block in [1_u32, 9, 4096, 65536, 1 << 20] {
        let b = u64::from(block);
        for size in [0, 1, b - 1, b, b + 1, 10 * b + 7] {
            for model in [Model::new(bytes(size), block), Model::new(bytes(size), block).unhashed()]
            {
                let server = Server::honest(&model);
                let mut run = Run::new(&[&server]);
                let fetched = run.expect(&model);
                assert_eq!(
                    (fetched.bytes_moved, fetched.resumed_from, fetched.restarted),
                    (size, 0, false)
                );
                assert_eq!(fetched.servers, [server.addr]);
                assert_eq!(run.told.events, [format!("started {size} 0")]);
                assert_eq!(server.gets(), [(0, u64::MAX)]);
            }
        }
    }
}

#[test]
fn blocks_that_cross_pieces() {
    for (size, block) in [
        (3 * MIB + 5, 4 << 20),
        (5 * MIB, (3 << 20) + 1),
        (2 * MIB, 700_001),
        (MIB + 1, 1 << 20),
        (600_000, 9),
    ] {
        let model = Model::new(bytes(size), block);
        Run::new(&[&Server::honest(&model)]).expect(&model);
    }
}

#[test]
fn what_was_there_is_kept() {
    for size in [1, 1000, MIB, 3 * MIB + 17] {
        for good in [0, 1, size / 3, size / 2, size - 1, size] {
            for model in [Model::new(bytes(size), 65536), Model::new(bytes(size), 65536).unhashed()]
            {
                let server = Server::honest(&model);
                let held = &model.content[..usize::try_from(good).unwrap()];
                let (part, resume) = part_with(&model, held, good);
                let mut run = Run::resuming(&[&server], part, Some(resume));
                let fetched = run.expect(&model);
                assert_eq!((fetched.bytes_moved, fetched.resumed_from), (size - good, good));
                assert_eq!(server.gets(), [(good, u64::MAX)]);
            }
        }
    }
}

#[test]
fn gaps_are_filled_one_by_one() {
    let model = Model::new(bytes(4 * MIB + 100), 10_000);
    let mut held = model.content.clone();
    let gaps = [(5, 10), (MIB - 3, MIB + 3), (2 * MIB, 3 * MIB), (4 * MIB, 4 * MIB + 50)];
    let (_, mut resume) = part_with(&model, &[], model.size());
    for (from, to) in gaps {
        held[usize::try_from(from).unwrap()..usize::try_from(to).unwrap()].fill(0xee);
        resume.good.remove(from..to);
    }
    let (part, _) = part_with(&model, &held, 0);
    let server = Server::honest(&model);
    let mut run = Run::resuming(&[&server], part, Some(resume));
    let missing: u64 = gaps.iter().map(|(from, to)| to - from).sum();
    assert_eq!(run.expect(&model).bytes_moved, missing);
    assert_eq!(server.gets(), gaps.map(|(from, to)| (from, to - from)));
}

#[test]
fn more_is_claimed_than_is_there() {
    let model = Model::new(bytes(2 * MIB), 65536);
    // The file is shorter than the state says, and longer than the content.
    let (part, resume) = part_with(&model, &model.content[..1000], 2 * MIB);
    let mut run = Run::resuming(&[&Server::honest(&model)], part, Some(resume));
    assert_eq!(run.expect(&model).resumed_from, 1000);
    let mut long = model.content.clone();
    long.extend_from_slice(b"more");
    let (part, resume) = part_with(&model, &long, 2 * MIB);
    let mut run = Run::resuming(&[&Server::honest(&model)], part, Some(resume));
    assert_eq!(run.expect(&model).bytes_moved, 0);
}

#[test]
fn without_a_state_the_part_file_counts_for_nothing() {
    let model = Model::new(bytes(5000), 512);
    let (part, _) = part_with(&model, &bytes(9000), 0);
    let mut run = Run::resuming(&[&Server::honest(&model)], part, None);
    assert_eq!(run.expect(&model).bytes_moved, 5000);
}

#[test]
fn replaced_content_starts_again() {
    let old = Model::new(bytes(3 * MIB), 65536);
    for hashed in [true, false] {
        let mut new = Model::new(bytes(2 * MIB + 1), 65536);
        (new.identity, new.hashed) = (Identity([9; 16]), hashed);
        let mut old = old.clone();
        old.hashed = hashed;
        let (part, resume) = part_with(&old, &old.content[..2_500_000], 2_500_000);
        let mut run = Run::resuming(&[&Server::honest(&new)], part, Some(resume));
        let fetched = run.expect(&new);
        assert!(fetched.restarted && fetched.resumed_from == 0);
        assert_eq!(run.told.events, ["restarted".to_owned(), format!("started {} 0", new.size())]);
        assert!(run.failures.is_empty());
    }
}

#[test]
fn a_state_with_wrong_numbers_does_no_harm() {
    let model = Model::new(bytes(MIB + 5), 65536);
    for hashed in [true, false] {
        for size in [0, 1, MIB, u64::MAX] {
            let mut model = model.clone();
            model.hashed = hashed;
            let (part, mut resume) = part_with(&model, &bytes(MIB + 100), 0);
            (resume.size, resume.good) = (size, Ranges::up_to(u64::MAX));
            let mut run = Run::resuming(&[&Server::honest(&model)], part, Some(resume));
            run.expect(&model);
        }
    }
}

#[test]
fn an_interruption_keeps_what_came() {
    let model = Model::new(bytes(20 * MIB), 65536);
    let told = Recorder { interrupt_at: Some(MIB), ..Recorder::default() };
    // An interruption shuts the socket down; here the server does.
    let server = Server::cutting(&model, [usize::try_from(3 * MIB).unwrap(); 6]);
    let mut run = Run::with(&[&server], tempfile::tempfile().unwrap(), None, told);
    assert!(matches!(run.result, Err(TransferError::Interrupted)));
    let saved = run.told.saved.clone().unwrap();
    assert!(saved.good.prefix() >= MIB && saved.digest == Some(model.digest()));
    let good = usize::try_from(saved.good.total()).unwrap();
    assert_eq!(run.part_bytes()[..good], model.content[..good]);
    let mut run = Run::resuming(&[&server], run.part, Some(saved));
    assert_eq!(run.expect(&model).resumed_from, good as u64);
}

/// Tells a server when a save point has come.
struct Watcher(Recorder, std::sync::mpsc::Sender<u64>);

impl Progress for Watcher {
    fn checkpoint(&mut self, state: &Resume) {
        self.0.checkpoint(state);
        // The server may have ended.
        let _ = self.1.send(state.good.prefix());
    }
}

#[test]
fn a_slow_transfer_is_saved_on_the_way() {
    for (size, held_back) in [(3_500_000_u64, 2_000_000_u64), (200_000, 65_536)] {
        let model = Model::new(bytes(size), 4096);
        let (saved, saves) = std::sync::mpsc::channel();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let sender = model.clone();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let request = Connection::new(stream.try_clone().unwrap())
                .unwrap()
                .read_request()
                .unwrap()
                .unwrap();
            let out = sender.answer(&request);
            let blocks = usize::try_from((size - held_back) / 4096).unwrap();
            let start = encode(&[
                Reply::Wait(relais_proto::WaitReason::Scanning),
                Reply::ContentHeader(sender.header(0, size)),
            ])
            .len();
            let (now, later) = out.split_at(start + blocks * (4096 + relais_proto::HEADER_LEN));
            stream.write_all(now).unwrap();
            // No further block before all that went out is saved.
            while saves.recv_timeout(Duration::from_millis(100)) != Ok(blocks as u64 * 4096) {
                stream
                    .write_all(&encode(&[Reply::Wait(relais_proto::WaitReason::Scanning)]))
                    .unwrap();
            }
            stream.write_all(later).unwrap();
            blocks as u64 * 4096
        });
        let mut sessions = sessions(&[&Server { addr, requests: Arc::default() }]);
        let part = tempfile::tempfile().unwrap();
        let mut watcher = Watcher(Recorder::default(), saved);
        let result = download(&mut sessions, &path(), &part, None, &mut watcher);
        let before = server.join().unwrap();
        let state = watcher.0.saved.unwrap();
        assert!(state.good.prefix() >= before && state.digest == Some(model.digest()));
        Run {
            part,
            told: Recorder::default(),
            failures: sessions.failures.clone(),
            sessions,
            result,
        }
        .expect(&model);
    }
}
