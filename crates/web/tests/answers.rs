//! Answers as clients receive them: framing, ranges of files, and what makes them end early.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

mod common;

use std::fs::File;
use std::io::{self, Read, Write};
use std::time::Duration;

use common::{Pair, split};
use relais_http::range::{self, Ranges};
use relais_http::{Response, Status};
use relais_web::{BodyWriter, FileRanges, ResponseBody, WebError};

/// A connection with a request.
fn request(line: &str) -> Pair {
    request_from(line, |_| ())
}

fn request_from(line: &str, prepare: impl FnOnce(&mut relais_net::Stream)) -> Pair {
    let mut pair = Pair::with(format!("{line}\r\nHost: a\r\n\r\n").as_bytes(), prepare);
    pair.head();
    pair
}

/// A file with bytes that differ.
fn file(len: u32) -> (File, Vec<u8>) {
    let bytes: Vec<u8> =
        (0..len).flat_map(|n| (n / 4 * 7919).to_be_bytes()).take(len as usize).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    (file, bytes)
}

fn whole(pair: Pair) -> (String, Vec<u8>) {
    let answer = pair.rest().unwrap();
    let (head, body) = split(&answer);
    (head, body.to_vec())
}

#[test]
fn head_and_content_leave_in_one_packet() {
    let (file, bytes) = file(4096);
    let mut pair = request("GET / HTTP/1.1");
    let response = Response::new(Status::OK);
    let ranges = FileRanges::One(0..4096);
    pair.server.respond(&response, ResponseBody::File { file: &file, ranges: &ranges }).unwrap();
    let mut received = vec![0; 10_000];
    let got = pair.client.read(&mut received).unwrap();
    let (head, body) = split(&received[..got]);
    assert_eq!(body, bytes);
    assert!(head.contains("Content-Length: 4096\r\n") && head.contains("\r\nDate: "), "{head}");
    assert!(!head.contains("Connection:"));
}

#[test]
fn each_way_of_sending_a_file_sends_its_ranges() {
    let size = 300_000;
    let (file, bytes) = file(size);
    // The first peer is local, so that bytes are copied; sendfile is used for others.
    let peers = ["127.0.0.1:1", "192.0.2.1:1"];
    for peer in peers {
        for field in [
            None,
            Some("bytes=0-0"),
            Some("bytes=-100000"),
            Some("bytes=5-,0-3"),
            Some("bytes=0-9,100000-299998,1000-1999"),
        ] {
            let mut pair =
                request_from("GET / HTTP/1.1", |stream| stream.peer = peer.parse().unwrap());
            let mut response = Response::new(Status::OK).with("Content-Type", "text/x");
            let chosen = range::parse(field, size.into());
            let ranges = FileRanges::choose(chosen.clone(), size.into(), &mut response).unwrap();
            let mut client = pair.client.try_clone().unwrap();
            let reader = std::thread::spawn(move || {
                let mut answer = Vec::new();
                client.read_to_end(&mut answer).unwrap();
                answer
            });
            let body = ResponseBody::File { file: &file, ranges: &ranges };
            pair.server.respond(&response, body).unwrap();
            assert!(pair.server.is_kept());
            drop(pair.server);
            let answer = reader.join().unwrap();
            let (head, body) = split(&answer);
            assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
            let part = |range: &std::ops::Range<u64>| {
                bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
                    .to_vec()
            };
            match &chosen {
                Ranges::Whole => assert!(head.starts_with("HTTP/1.1 200 ") && body == bytes),
                Ranges::Partial(list) if list.len() == 1 => {
                    assert!(
                        head.starts_with("HTTP/1.1 206 ") && head.contains("Content-Range: bytes ")
                    );
                    assert!(head.contains("Content-Type: text/x\r\n") && body == part(&list[0]));
                }
                Ranges::Partial(list) => {
                    assert!(
                        head.contains("Content-Type: multipart/byteranges; boundary="),
                        "{head}"
                    );
                    let mut expected = Vec::new();
                    let FileRanges::Several(multipart) = &ranges else { panic!("one range") };
                    for ((head, _), range) in multipart.parts().iter().zip(list) {
                        expected.extend(head);
                        expected.extend(part(range));
                    }
                    expected.extend(multipart.end());
                    assert!(body == expected, "{field:?}");
                }
                Ranges::Unsatisfiable => panic!("{field:?}"),
            }
        }
    }
}

#[test]
fn an_unsatisfiable_range_has_no_content() {
    let (file, _) = file(10);
    let mut pair = request("GET / HTTP/1.1");
    let mut response = Response::new(Status::OK);
    let ranges = FileRanges::choose(Ranges::Unsatisfiable, 10, &mut response).unwrap();
    pair.server.respond(&response, ResponseBody::File { file: &file, ranges: &ranges }).unwrap();
    let (head, body) = whole(pair);
    assert!(head.starts_with("HTTP/1.1 416 ") && head.contains("Content-Range: bytes */10\r\n"));
    assert!(head.contains("Content-Length: 0\r\n") && body.is_empty());
}

/// Writes pieces of all sizes.
fn write_pieces(writer: &mut BodyWriter<'_>) -> io::Result<()> {
    [1, 10, 40_000, 1, 0, 100_000, 5].iter().try_for_each(|len| writer.write(&vec![b'x'; *len]))
}

/// The number of bytes of [`write_pieces`].
const PIECES: usize = 140_017;

#[test]
fn content_of_unknown_length_is_framed_by_version() {
    for (line, framing) in [
        ("GET / HTTP/1.1", "Transfer-Encoding: chunked\r\n"),
        ("GET / HTTP/1.0\r\nConnection: keep-alive", "Connection: close\r\n"),
    ] {
        let mut pair = request(line);
        let mut client = pair.client.try_clone().unwrap();
        let reader = std::thread::spawn(move || {
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).unwrap();
            answer
        });
        let body = ResponseBody::Stream { length: None, write: &mut write_pieces };
        pair.server.respond(&Response::new(Status::OK), body).unwrap();
        let is_chunked = framing.contains("chunked");
        assert_eq!(pair.server.is_kept(), is_chunked);
        drop(pair);
        let answer = reader.join().unwrap();
        let (head, body) = split(&answer);
        assert!(head.contains(framing) && !head.contains("Content-Length"), "{head}");
        let mut content: Vec<u8> = Vec::new();
        if is_chunked {
            let (mut decoder, mut rest) = (relais_http::ChunkedDecoder::default(), body);
            while !decoder.has_ended() {
                let progress = decoder.decode(rest).unwrap();
                content.extend(&rest[progress.skip..progress.skip + progress.data]);
                rest = &rest[progress.skip + progress.data..];
                assert!(progress.data > 0 || progress.has_ended);
            }
            assert!(rest.is_empty());
        } else {
            content.extend(body);
        }
        assert!(content == vec![b'x'; PIECES]);
    }
}

#[test]
fn answers_without_content_have_none() {
    let never = &mut |_: &mut BodyWriter<'_>| -> io::Result<()> { panic!("it has no content") };
    for (line, status, field) in [
        ("HEAD / HTTP/1.1", Status::OK, Some("Content-Length: 7\r\n")),
        ("GET / HTTP/1.1", Status::NOT_MODIFIED, None),
        ("DELETE / HTTP/1.1", Status::NO_CONTENT, None),
    ] {
        let mut pair = request(line);
        let body = ResponseBody::Stream { length: Some(7), write: never };
        pair.server.respond(&Response::new(status), body).unwrap();
        assert!(pair.server.is_kept());
        let (head, body) = whole(pair);
        assert!(body.is_empty());
        assert_eq!(head.contains("Content-Length"), field.is_some(), "{head}");
        assert!(field.is_none_or(|field| head.contains(field)), "{head}");
    }
    let mut pair = request("HEAD / HTTP/1.1");
    let body = ResponseBody::Stream { length: None, write: never };
    pair.server.respond(&Response::new(Status::OK), body).unwrap();
    let (head, body) = whole(pair);
    assert!(head.contains("Transfer-Encoding: chunked\r\n") && body.is_empty());
}

#[test]
fn incomplete_content_ends_with_a_reset() {
    for (line, length) in
        [("GET / HTTP/1.1", Some(10)), ("GET / HTTP/1.1", None), ("GET / HTTP/1.0", None)]
    {
        let mut pair = request(line);
        let write = &mut |writer: &mut BodyWriter<'_>| {
            writer.write(b"abc")?;
            writer.flush()?;
            Err(io::Error::other("the disk fails"))
        };
        let body = ResponseBody::Stream { length, write };
        let error = pair.server.respond(&Response::new(Status::OK), body).unwrap_err();
        assert!(error.to_string() == "the disk fails" && !pair.server.is_kept());
        assert_eq!(pair.rest().unwrap_err().kind(), io::ErrorKind::ConnectionReset, "{line}");
    }
}

#[test]
fn content_has_to_have_the_announced_length() {
    for (written, kind) in [(9, io::ErrorKind::UnexpectedEof), (11, io::ErrorKind::InvalidData)] {
        let mut pair = request("GET / HTTP/1.1");
        let write = &mut |writer: &mut BodyWriter<'_>| writer.write(&vec![0; written]);
        let body = ResponseBody::Stream { length: Some(10), write };
        let error = pair.server.respond(&Response::new(Status::OK), body).unwrap_err();
        assert!(matches!(error, WebError::Io(e) if e.kind() == kind), "{written}");
    }
    let (file, _) = file(100_000);
    let mut pair =
        request_from("GET / HTTP/1.1", |stream| stream.peer = "192.0.2.1:1".parse().unwrap());
    let body = ResponseBody::File { file: &file, ranges: &FileRanges::One(0..100_001) };
    assert!(common::is_cut(&pair.server.respond(&Response::new(Status::OK), body).unwrap_err()));
}

#[test]
fn short_pieces_can_be_sent_at_once() {
    let mut pair = request("GET / HTTP/1.1");
    let mut client = pair.client.try_clone().unwrap();
    let (seen, is_seen) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut answer = vec![0; 1000];
        let got = client.read(&mut answer).unwrap();
        seen.send(split(&answer[..got]).1.to_vec()).unwrap();
    });
    let write = &mut |writer: &mut BodyWriter<'_>| {
        writer.write(b"data: 1\n\n")?;
        writer.flush()?;
        let first = is_seen.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(first, b"9\r\ndata: 1\n\n\r\n");
        Ok(())
    };
    let body = ResponseBody::Stream { length: None, write };
    pair.server.respond(&Response::new(Status::OK), body).unwrap();
    reader.join().unwrap();
}

#[test]
fn malformed_fields_are_not_sent() {
    let mut pair = request("GET / HTTP/1.1");
    let response = Response::new(Status::FOUND).with("Location", "/a\r\nSet-Cookie: x=y");
    let error = pair.server.respond(&response, ResponseBody::Empty).unwrap_err();
    assert!(matches!(error, WebError::Header(_)));
    assert!(pair.rest().unwrap().is_empty());
}

#[test]
fn interim_answers_precede_the_answer() {
    let mut pair = request("PUT / HTTP/1.1");
    let interim = Response::new(Status::UPLOAD_RESUMPTION_SUPPORTED).with("Location", "/u");
    pair.server.inform(&interim).unwrap();
    pair.server.respond(&Response::new(Status::CREATED), ResponseBody::Empty).unwrap();
    let answers = String::from_utf8(pair.rest().unwrap()).unwrap();
    let head = "HTTP/1.1 104 Upload Resumption Supported\r\nLocation: /u\r\n\r\nHTTP/1.1 201 ";
    assert!(answers.starts_with(head), "{answers}");
}
