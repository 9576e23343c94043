//! Hashing of real files.

use std::fs::File;
use std::io;
use std::io::Write;

use relais_proto::limits::PIECE;

use crate::{hash_file, piece_value, piece_values};

fn file_of(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file
}

#[test]
fn a_file_has_the_digest_of_its_content() {
    for len in [0, 1, 1_048_575, 1_048_576, 1_048_577, 3 * 1_048_576 + 7] {
        let content: Vec<u8> =
            (0..len).map(|i: usize| u8::try_from(i * 31 % 253).unwrap()).collect();
        let mut told = 0;
        let file = file_of(&content);
        let (digest, values) = hash_file(&file, len as u64, &mut |done| {
            told = done;
            Ok(())
        })
        .unwrap();
        assert_eq!(digest.0, *blake3::hash(&content).as_bytes());
        assert_eq!(told, len as u64);
        let again = piece_values(&file, len as u64, 1, 1024, &mut |_| Ok(())).unwrap();
        assert_eq!(again, values[1..]);
        assert_eq!(piece_values(&file, len as u64, u64::MAX, 5, &mut |_| Ok(())).unwrap(), []);
        assert_eq!(piece_values(&file, len as u64, 0, 0, &mut |_| Ok(())).unwrap(), []);
        let first = &content[..len.min(usize::try_from(PIECE).unwrap())];
        assert_eq!(piece_value(len as u64, 0, first), values.first().copied());
    }
}

#[test]
fn a_file_that_is_shorter_is_an_error() {
    let error = hash_file(&file_of(b"abc"), 4, &mut |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn hashing_ends_when_told() {
    let file = file_of(&[]);
    file.set_len(64 * PIECE).unwrap();
    let mut calls = 0;
    let result = hash_file(&file, 64 * PIECE, &mut |_| {
        calls += 1;
        if calls < 3 { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
    });
    assert_eq!((calls, result.unwrap_err().kind()), (3, io::ErrorKind::Interrupted));
}
