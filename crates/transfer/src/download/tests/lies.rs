//! Servers that break the protocol.

use std::os::unix::fs::MetadataExt;

use super::*;

fn with_header(model: &Model, change: impl Fn(&mut ContentHeader) + Send + 'static) -> Server {
    let model = model.clone();
    Server::saying_once(move |request| {
        let Request::Get(get) = request else { return model.answer(request) };
        let mut header = model.header(get.offset, get.length);
        change(&mut header);
        let mut out = encode(&[Reply::ContentHeader(header)]);
        encode_frame(&mut out, FrameType::Block, |to| to.extend_from_slice(&model.content[..100]));
        out
    })
}

#[test]
fn an_announced_size_takes_no_room() {
    let model = Model::new(bytes(100), 100);
    for size in [1_u64 << 40, 1 << 60, i64::MAX as u64] {
        let server = with_header(&model, move |header| {
            (header.size, header.length, header.digest) = (size, size - header.offset, None)
        });
        let run = Run::new(&[&server]);
        assert!(
            matches!(run.result, Err(TransferError::Unreachable(_) | TransferError::BadServer(_))),
            "{:?}",
            run.result
        );
        let meta = run.part.metadata().unwrap();
        assert!(
            meta.len() <= 4000 && meta.blocks() <= 8,
            "{} bytes, {} blocks",
            meta.len(),
            meta.blocks()
        );
    }
}

#[test]
fn headers_that_answer_another_question() {
    let model = Model::new(bytes(100), 100);
    let changes: [fn(&mut ContentHeader); 3] =
        [|header| header.offset = 1, |header| header.length = 50, |header| header.block_size = 99];
    for change in changes {
        let run = Run::new(&[&with_header(&model, change)]);
        assert!(matches!(run.result, Err(TransferError::BadServer(_))), "{:?}", run.result);
        Run::new(&[&with_header(&model, change), &Server::honest(&model)]).expect(&model);
    }
}

/// Sends content of 100 bytes in blocks of these lengths, then the end.
fn in_blocks(lengths: &'static [usize]) -> Server {
    let model = Model::new(bytes(100), 30);
    Server::saying(move |request| {
        let Request::Get(get) = request else { return model.answer(request) };
        let mut out = encode(&[Reply::ContentHeader(model.header(get.offset, get.length))]);
        for length in lengths {
            encode_frame(&mut out, FrameType::Block, |to| to.resize(to.len() + length, 7));
        }
        Reply::End { digest: model.digest() }.encode(&mut out);
        out
    })
}

#[test]
fn blocks_of_other_lengths() {
    let model = Model::new(bytes(100), 30);
    for lengths in [
        &[31, 30, 30, 9][..],
        &[29],
        &[0],
        &[30, 30, 30, 11],
        &[30, 30, 30, 9],
        &[100],
        &[],
        &[30],
        &[30, 30, 30, 10, 0],
        &[30, 30, 30, 10, 30],
    ] {
        let run = Run::new(&[&in_blocks(lengths)]);
        assert!(
            matches!(run.result, Err(TransferError::BadServer(_))),
            "{lengths:?}: {:?}",
            run.result
        );
        Run::new(&[&in_blocks(lengths), &Server::honest(&model)]).expect(&model);
    }
}

#[test]
fn answers_to_other_requests() {
    let model = Model::new(bytes(100), 30);
    for wrong in
        [Reply::Pong, Reply::End { digest: Digest([0; 32]) }, Reply::Done { lsn: Lsn::default() }]
    {
        let text = encode(&[wrong]);
        let server = Server::saying(move |_| text.clone());
        assert!(matches!(Run::new(&[&server]).result, Err(TransferError::BadServer(_))));
        Run::new(&[&server, &Server::honest(&model)]).expect(&model);
    }
    let garbage = Server::saying(|_| b"HTTP/1.1 200 OK\r\n\r\n".to_vec());
    assert!(matches!(Run::new(&[&garbage]).result, Err(TransferError::BadServer(_))));
}

#[test]
fn piece_values_that_are_wrong() {
    let model = Model::new(bytes(3 << 20), 65536);
    let answers: [fn(&Model) -> Reply; 4] = [
        |_| Reply::PieceValues { first: 0, values: Vec::new() },
        |_| Reply::PieceValues { first: 0, values: vec![Digest([1; 32]); 3] },
        |m| Reply::PieceValues { first: 1, values: m.values() },
        |_| Reply::Error(Refusal::new(ErrorCode::Unsupported, "no pieces here")),
    ];
    for answer in answers {
        let lying = model.clone();
        let a = Server::saying(move |request| match request {
            Request::Pieces { .. } => encode(&[answer(&lying)]),
            Request::Get(_) => {
                let mut out = lying.answer(request);
                if let Some(byte) = out.get_mut(1000) {
                    *byte ^= 1;
                }
                out
            }
            other => lying.answer(other),
        });
        let b = Server::honest(&model);
        Run::new(&[&a, &b]).expect(&model);
        let alone = Run::new(&[&a]);
        assert!(
            alone
                .result
                .as_ref()
                .is_err_and(|e| matches!(e.code(), ErrorCode::BadServer | ErrorCode::Damaged)),
            "{:?}",
            alone.result
        );
    }
}

#[test]
fn any_cut_and_flip_of_an_answer_ends() {
    // For each wrong byte of an answer, the content is right or there is an error.
    let model = Model::new(bytes(40), 9);
    let whole = model.answer(&Request::Get(relais_proto::GetRequest {
        path: path(),
        offset: 0,
        length: u64::MAX,
        if_match: IfMatch::Any,
    }));
    for at in 0..whole.len() {
        let lying = model.clone();
        let mut first = true;
        let server = Server::saying(move |request| {
            let mut out = lying.answer(request);
            if std::mem::take(&mut first) {
                out[at] ^= 0x10;
            }
            out
        });
        let mut run = Run::new(&[&server]);
        match &run.result {
            Ok(_) => assert_eq!(run.part_bytes(), model.content, "byte {at}"),
            Err(e) => assert!(
                matches!(e, TransferError::Unreachable(_) | TransferError::Refused(_)),
                "byte {at}: {e:?}"
            ),
        }
    }
}
