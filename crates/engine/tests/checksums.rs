//! Checksums of whole files and of ranges.

#![allow(clippy::unwrap_used, reason = "a test may fail by panicking, in its helper functions too")]

mod host;

use std::fs;
use std::ops::Range;
use std::time::Duration;

use relais_cluster::{Entry, FileContent};
use relais_engine::{Checksum, ChecksumAlgorithm, Located, Session};
use relais_proto::{
    ChangeId, Digest, ErrorCode, FileTime, Lsn, Mode, PutRequest, Refusal, TreePath,
};

use self::host::{Fixture, Waiting};

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn patient() -> Waiting {
    Waiting::at_most(Duration::from_secs(30))
}

fn put(session: &mut Session, name: &str, bytes: &[u8]) {
    let request = PutRequest::new(ChangeId([1; 16]), path(name));
    let mut upload = session.begin_upload(request, &mut patient()).unwrap();
    upload.write(bytes).unwrap();
    let change = upload.finish(None, &mut patient()).unwrap();
    session.commit(change, &mut patient()).unwrap();
}

fn checksum(
    session: &Session,
    algorithm: ChecksumAlgorithm,
    range: Option<Range<u64>>,
) -> Result<(Range<u64>, String), Refusal> {
    match session.checksum(&path("f"), algorithm, range, &mut patient())? {
        Located::Here(Checksum { range, value }) => {
            Ok((range, value.iter().map(|byte| format!("{byte:02x}")).collect()))
        }
        Located::Elsewhere(holders) => panic!("{holders:?}"),
    }
}

#[test]
fn checksums_are_those_of_the_standards() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut session = fixture.session("ann");
        put(&mut session, "f", b"abc");
        let expected = [
            (
                ChecksumAlgorithm::Sha256,
                "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            ),
            (
                ChecksumAlgorithm::Blake3,
                "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
            ),
            (ChecksumAlgorithm::Md5, "900150983cd24fb0d6963f7d28e17f72"),
            (ChecksumAlgorithm::Crc32, "352441c2"),
        ];
        for (algorithm, value) in expected {
            assert_eq!(checksum(&session, algorithm, None).unwrap(), (0..3, value.to_owned()));
            let (range, part) = checksum(&session, algorithm, Some(0..9)).unwrap();
            assert_eq!((range, part.as_str()), (0..3, value), "a range ends with the file");
        }
        let md5 = |range| checksum(&session, ChecksumAlgorithm::Md5, Some(range));
        assert_eq!(md5(1..2).unwrap(), (1..2, "92eb5ffee6ae2fec3ad71c777531578f".to_owned()));
        assert_eq!(md5(3..3).unwrap(), (3..3, "d41d8cd98f00b204e9800998ecf8427e".to_owned()));
        assert_eq!(md5(4..5).unwrap_err().code, ErrorCode::BadOffset);
        assert_eq!(md5(Range { start: 2, end: 1 }).unwrap_err().code, ErrorCode::BadOffset);
    });
}

#[test]
fn checksum_of_many_pieces_can_be_cancelled() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        let mut session = fixture.session("ann");
        let content: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_be_bytes).collect();
        put(&mut session, "f", &content);
        let (range, value) =
            checksum(&session, ChecksumAlgorithm::Blake3, Some(5..3_999_999)).unwrap();
        assert_eq!(range, 5..3_999_999);
        assert_eq!(value, blake3::hash(&content[5..3_999_999]).to_hex().as_str());
        let mut gone = Waiting::at_most(Duration::ZERO);
        let cancelled = session.checksum(&path("f"), ChecksumAlgorithm::Md5, None, &mut gone);
        assert_eq!(cancelled.unwrap_err().code, ErrorCode::Cut);
        assert!(session.disk_space().unwrap() > 0);
    });
}

#[test]
fn known_digest_is_not_computed_and_other_content_is_not_answered() {
    let fixture = Fixture::new();
    let mut session = fixture.session("ann");
    fixture.with_writer(|| put(&mut session, "f", b"abc"));
    let mut gone = Waiting::at_most(Duration::ZERO);
    session.checksum(&path("f"), ChecksumAlgorithm::Blake3, None, &mut gone).unwrap();
    // Another slave has a newer version.
    let version = Lsn { epoch: 1, number: 9 };
    let mtime = FileTime { seconds: 1, nanos: 0 };
    let content = FileContent { put: version, digest: Digest([5; 32]), size: 7, mtime };
    let entry = Entry { version, mode: Mode::new(0o644), content: Some(content) };
    fixture.complete_catalogue().put_entry(&path("f"), &entry, None, &[]).unwrap();
    let found = session.checksum(&path("f"), ChecksumAlgorithm::Md5, None, &mut patient());
    assert!(matches!(found.unwrap(), Located::Elsewhere(_)));
    assert_eq!(fs::read(fixture.root().join("f")).unwrap(), b"abc");
}
