//! Bytes that are not what they should be: on the way, in the part file, at the server.

use super::*;

const MIB: u64 = 1024 * 1024;

/// Flips a bit on the way in the first `times` answers that carry the byte at `at`.
fn flipping(model: &Model, at: u64, mut times: u32) -> Server {
    let model = model.clone();
    Server::saying(move |request| {
        let mut out = model.answer(request);
        let Request::Get(get) = request else { return out };
        if times > 0
            && model.fits(get.if_match)
            && (get.offset..get.offset.saturating_add(get.length)).contains(&at)
        {
            times -= 1;
            let block = u64::from(model.block);
            let before = encode(&[
                Reply::Wait(relais_proto::WaitReason::Scanning),
                Reply::ContentHeader(model.header(0, 0)),
            ])
            .len();
            let into = at - get.offset;
            let place = before as u64 + into + (into / block + 1) * relais_proto::HEADER_LEN as u64;
            out[usize::try_from(place).unwrap()] ^= 4;
        }
        out
    })
}

#[test]
fn a_flipped_bit_costs_one_piece() {
    for model in
        [Model::new(bytes(5 * MIB + 77), 65536), Model::new(bytes(5 * MIB + 77), 65536).unhashed()]
    {
        for at in [0, 3 * MIB + 5, 5 * MIB + 76] {
            let server = flipping(&model, at, 1);
            let mut run = Run::new(&[&server]);
            let fetched = run.expect(&model);
            let piece = if at < 5 * MIB { MIB } else { 77 };
            assert_eq!(fetched.bytes_moved, model.size() + piece);
            assert!(run.failures.is_empty());
        }
    }
}

#[test]
fn a_small_file_is_repaired_as_well() {
    let model = Model::new(bytes(1000), 9);
    let mut run = Run::new(&[&flipping(&model, 500, 2)]);
    assert_eq!(run.expect(&model).bytes_moved, 3000);
}

#[test]
fn a_flipped_bit_in_the_part_file_is_found() {
    for model in
        [Model::new(bytes(4 * MIB + 9), 65536), Model::new(bytes(4 * MIB + 9), 65536).unhashed()]
    {
        for good in [3 * MIB + 1000, 4 * MIB + 9] {
            for at in [0, MIB, 3 * MIB + 999] {
                let mut held = model.content.clone();
                held[usize::try_from(at).unwrap()] ^= 1;
                let (part, resume) =
                    part_with(&model, &held[..usize::try_from(good).unwrap()], good);
                let server = Server::honest(&model);
                let mut run = Run::resuming(&[&server], part, Some(resume));
                let fetched = run.expect(&model);
                assert_eq!(fetched.bytes_moved, model.size() - good + MIB);
                assert!(!fetched.restarted && run.failures.is_empty());
            }
        }
    }
}

#[test]
fn a_rotten_copy_leads_to_another_server() {
    let model = Model::new(bytes(3 * MIB), 65536);
    let damaged = flipping(&model, 2 * MIB, u32::MAX);
    let sound = Server::honest(&model);
    let mut run = Run::new(&[&damaged, &sound]);
    let fetched = run.expect(&model);
    assert_eq!(fetched.servers, [damaged.addr, sound.addr]);
    assert_eq!(run.failures.len(), 1);
    assert_eq!(sound.gets().last(), Some(&(2 * MIB, u64::MAX)));
    // The file rotted on the server's disk: its piece values are those of the rotten bytes.
    let mut disk = Model { claimed: Some(model.digest()), ..model.clone() };
    disk.content[5] ^= 1;
    let damaged = Server::honest(&disk);
    let mut run = Run::new(&[&damaged, &sound]);
    assert_eq!(run.expect(&model).bytes_moved, 4 * MIB);
    assert!(
        damaged.gets().len() == 1
            && run.failures == ["the server's content does not have its digest"]
    );
    let mut alone = Run::new(&[&damaged]);
    assert!(
        alone.result.as_ref().is_err_and(|e| e.code() == ErrorCode::Damaged)
            && alone.told.saved.is_some()
    );
    assert_eq!(alone.part_bytes(), disk.content);
}

#[test]
fn nobody_has_it_whole() {
    let model = Model::new(bytes(2 * MIB), 65536);
    let run = Run::new(&[&flipping(&model, 5, u32::MAX), &flipping(&model, 5, u32::MAX)]);
    assert!(run.result.as_ref().is_err_and(|e| e.code() == ErrorCode::Damaged), "{:?}", run.result);
    let saved = run.told.saved.unwrap();
    // The bad piece does not count.
    assert!(saved.good.contains(&(MIB..2 * MIB)) && saved.digest == Some(model.digest()));
    let mut run = Run::resuming(&[&Server::honest(&model)], run.part, Some(saved));
    assert!(run.expect(&model).bytes_moved <= MIB);
}

#[test]
fn the_server_knows_that_it_is_damaged() {
    let model = Model::new(bytes(100_000), 65536);
    let broken = model.clone();
    let a = Server::saying(move |request| {
        let mut out = broken.answer(request);
        out.truncate(out.len() - 37);
        Reply::Error(Refusal::new(ErrorCode::Damaged, "rotten")).encode(&mut out);
        out
    });
    let b = Server::honest(&model);
    let mut run = Run::new(&[&a, &b]);
    assert_eq!(run.expect(&model).bytes_moved, model.size());
    let run = Run::new(&[&a]);
    assert!(matches!(run.result, Err(TransferError::Refused(r)) if r.message == "rotten"));
}

#[test]
fn a_wrong_digest_at_the_end() {
    let model = Model::new(bytes(2 * MIB), 65536).unhashed();
    let lying = model.clone();
    let a = Server::saying(move |request| {
        let mut out = lying.answer(request);
        if matches!(request, Request::Get(_)) && out.len() > 100 {
            let last = out.len() - 1;
            out[last] ^= 1;
        }
        out
    });
    let b = Server::honest(&model);
    Run::new(&[&a, &b]).expect(&model);
    // Alone it does not know the content by that digest either.
    let code = Run::new(&[&a]).result.unwrap_err().code();
    assert!(matches!(code, ErrorCode::Damaged | ErrorCode::Changed), "{code}");
    // If the header has another digest, the server contradicts itself.
    let known = Model::new(bytes(1000), 64);
    let lying = known.clone();
    let c = Server::saying(move |request| {
        let mut out = lying.answer(request);
        let last = out.len() - 1;
        out[last] ^= 1;
        out
    });
    assert!(matches!(Run::new(&[&c]).result, Err(TransferError::BadServer(_))));
    Run::new(&[&c, &Server::honest(&known)]).expect(&known);
}

#[test]
fn an_empty_file_with_another_digest() {
    let mut model = Model::new(Vec::new(), 64);
    model.claimed = Some(Digest([3; 32]));
    let a = Server::honest(&model);
    assert!(Run::new(&[&a]).result.as_ref().is_err_and(|e| e.code() == ErrorCode::Damaged));
}

#[test]
fn a_file_that_changes_while_it_is_sent() {
    let mut count = 0_u8;
    let server = |last: u8| {
        Server::saying(move |request| {
            let mut model = Model::new(bytes(50_000 + u64::from(count.min(last))), 4096).unhashed();
            model.identity = Identity([count.min(last); 16]);
            let mut out = model.answer(request);
            if let Request::Get(_) = request
                && out.len() > 100
                && count < last
            {
                count += 1;
                out.truncate(out.len() - 37);
                Reply::Error(Refusal::new(ErrorCode::Changed, "changed")).encode(&mut out);
            }
            out
        })
    };
    let mut run = Run::new(&[&server(3)]);
    let last = Model::new(bytes(50_003), 4096);
    assert!(run.expect(&last).restarted);
    assert_eq!(run.told.events.iter().filter(|e| *e == "restarted").count(), 3);
    assert!(run.failures.is_empty());
    let run = Run::new(&[&server(200)]);
    assert!(run.result.as_ref().is_err_and(|e| e.code() == ErrorCode::Changed), "{:?}", run.result);
}

#[test]
fn what_was_written_but_not_noted_is_kept_where_it_is_good() {
    for model in
        [Model::new(bytes(6 * MIB + 77), 65536), Model::new(bytes(6 * MIB + 77), 65536).unhashed()]
    {
        for (noted, held) in
            [(0, 3 * MIB + 500), (MIB + 9, 4 * MIB), (0, 6 * MIB + 77), (2 * MIB, 2 * MIB + 1)]
        {
            let mut bytes = model.content[..usize::try_from(held).unwrap()].to_vec();
            // One piece after the recorded bytes is wrong, if there is one.
            let bad = noted / MIB + 1;
            let spoilt = held / MIB > bad;
            if spoilt {
                bytes[usize::try_from(bad * MIB + 7).unwrap()] ^= 1;
            }
            let server = Server::honest(&model);
            let (part, resume) = part_with(&model, &bytes, noted);
            let mut run = Run::resuming(&[&server], part, Some(resume));
            let fetched = run.expect(&model);
            // All bytes are kept but those of the bad piece.
            let missing = model.size() - held + if spoilt { MIB } else { 0 };
            assert_eq!(fetched.bytes_moved, missing, "noted {noted}, held {held}");
        }
    }
}
