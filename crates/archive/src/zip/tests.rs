//! Archives as a reader of the central directory, and one of the stream, sees them.

use std::io::Cursor;

use proptest::prelude::*;
use relais_proto::FileTime;

use super::fields::{dos_time, extended_time};
use super::*;

fn entry(path: &str, kind: EntryKind) -> ArchiveEntry<'_> {
    let modified = FileTime { seconds: 784_111_777, nanos: 5 };
    ArchiveEntry { path, kind, modified, mode: 0o100_644 }
}

fn archive(files: &[(&str, Vec<u8>)], piece: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut zip = ZipWriter::new(&mut bytes, Cursor::new(Vec::new()));
    zip.begin_entry(&entry("folder", EntryKind::Folder)).unwrap();
    for (path, content) in files {
        zip.begin_entry(&entry(path, EntryKind::File(content.len() as u64))).unwrap();
        content.chunks(piece).for_each(|bytes| zip.write_content(bytes).unwrap());
    }
    zip.finish().unwrap();
    bytes
}

fn number(bytes: &[u8], at: usize, len: usize) -> usize {
    bytes[at..at + len].iter().rev().fold(0, |number, byte| (number << 8) | usize::from(*byte))
}

/// An entry of the central directory: name, sum, sizes, offset.
#[derive(Debug)]
struct Listed {
    name: String,
    sum: u32,
    compressed: usize,
    size: usize,
    at: usize,
}

/// Reads the central directory from the end of an archive that needs no zip64.
fn directory(bytes: &[u8]) -> Vec<Listed> {
    let end = bytes.len() - 22;
    assert_eq!(number(bytes, end, 4), 0x0605_4b50);
    let (count, mut at) = (number(bytes, end + 10, 2), number(bytes, end + 16, 4));
    assert_eq!(at + number(bytes, end + 12, 4), end);
    (0..count)
        .map(|_| {
            assert_eq!(number(bytes, at, 4), 0x0201_4b50);
            let (name, extra) = (number(bytes, at + 28, 2), number(bytes, at + 30, 2));
            let listed = Listed {
                name: String::from_utf8(bytes[at + 46..at + 46 + name].to_vec()).unwrap(),
                sum: u32::try_from(number(bytes, at + 16, 4)).unwrap(),
                compressed: number(bytes, at + 20, 4),
                size: number(bytes, at + 24, 4),
                at: number(bytes, at + 42, 4),
            };
            at += 46 + name + extra;
            listed
        })
        .collect()
}

/// Returns the content of stored blocks, and their length.
fn inflate(bytes: &[u8]) -> (Vec<u8>, usize) {
    let (mut content, mut at) = (Vec::new(), 0);
    loop {
        let (last, len) = (bytes[at], number(bytes, at + 1, 2));
        assert_eq!(len ^ number(bytes, at + 3, 2), 0xffff);
        content.extend(&bytes[at + 5..at + 5 + len]);
        at += 5 + len;
        if last == 1 {
            return (content, at);
        }
        assert_eq!(last, 0);
    }
}

/// Checks that an archive has these files after its folder.
fn check(bytes: &[u8], files: &[(&str, Vec<u8>)]) {
    let listed = directory(bytes);
    assert_eq!(listed[0].name, "folder/");
    assert_eq!(listed.len(), files.len() + 1);
    for (listed, (name, content)) in listed[1..].iter().zip(files) {
        assert_eq!((&*listed.name, listed.size), (*name, content.len()));
        assert_eq!(listed.sum, crc32fast::hash(content));
        let at = listed.at;
        assert_eq!(number(bytes, at, 4), 0x0403_4b50);
        let data = at + 30 + number(bytes, at + 26, 2) + number(bytes, at + 28, 2);
        let method = number(bytes, at + 8, 2);
        if content.is_empty() {
            assert_eq!((method, listed.compressed), (0, 0));
            continue;
        }
        assert_eq!((method, number(bytes, at + 6, 2)), (8, 0x808));
        let (inflated, len) = inflate(&bytes[data..]);
        assert!(inflated == *content && len == listed.compressed);
        let descriptor = &bytes[data + len..data + len + 16];
        assert_eq!(number(descriptor, 0, 4), 0x0807_4b50);
        assert_eq!(number(descriptor, 4, 4), usize::try_from(listed.sum).unwrap());
        assert_eq!((number(descriptor, 8, 4), number(descriptor, 12, 4)), (len, content.len()));
    }
}

#[test]
fn files_are_found_by_both_readers() {
    let sizes = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK];
    let files: Vec<_> = sizes.iter().map(|size| ("folder/é", vec![7; *size])).collect();
    for piece in [1000, BLOCK, 1 << 20] {
        check(&archive(&files, piece), &files);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn contents_do_not_depend_on_pieces(content: Vec<u8>, piece in 1_usize..200) {
        let files = [("a", content), ("b", b"b".to_vec())];
        check(&archive(&files, piece), &files);
    }
}

#[test]
fn many_entries_need_zip64() {
    for (count, is_zip64) in [(65_534, false), (65_535, true), (70_000, true)] {
        let mut bytes = Vec::new();
        let mut zip = ZipWriter::new(&mut bytes, Cursor::new(Vec::new()));
        (0..count).for_each(|_| zip.begin_entry(&entry("a", EntryKind::Folder)).unwrap());
        zip.finish().unwrap();
        let end = bytes.len() - 22;
        if is_zip64 {
            let record = end - 20 - 56;
            assert_eq!(
                (number(&bytes, end - 20, 4), number(&bytes, end - 12, 8)),
                (0x0706_4b50, record)
            );
            assert_eq!(
                (number(&bytes, record, 4), number(&bytes, record + 32, 8)),
                (0x0606_4b50, count)
            );
            assert_eq!(number(&bytes, end + 10, 2), 0xffff);
        } else {
            assert_eq!(directory(&bytes).len(), count);
        }
    }
}

#[test]
fn large_files_and_offsets_are_in_64_bits() {
    let size = 5 << 30;
    let mut large = CentralEntry::new(&entry("a", EntryKind::File(size)), 6 << 30).unwrap();
    large.compressed = size + 5;
    let local = large.local_header();
    assert_eq!((number(&local, 4, 2), number(&local, 18, 8)), (45, usize::MAX));
    assert_eq!(large.descriptor().len(), 24);
    let central = large.central_header();
    // Behind the name and the field with the time.
    let extra = 46 + 1 + 9;
    assert_eq!((number(&central, extra, 2), number(&central, extra + 2, 2)), (1, 24));
    let numbers = [4, 12, 20].map(|at| number(&central, extra + at, 8) as u64);
    assert_eq!(numbers, [size, size + 5, 6 << 30]);
    // A small file behind them needs its offset alone.
    let small = CentralEntry::new(&entry("a", EntryKind::File(1)), 6 << 30).unwrap();
    let central = small.central_header();
    assert_eq!(
        (number(&central, extra + 2, 2), number(&central, extra + 4, 8) as u64),
        (8, 6 << 30)
    );
}

#[test]
fn times_are_those_of_ms_dos_and_of_unix() {
    let at = |seconds| FileTime { seconds, nanos: 0 };
    // 6 November 1994, 08:49:37.
    assert_eq!(dos_time(at(784_111_777)), (0x4632, 0x1d66));
    assert_eq!(dos_time(at(-5)), (0, 0x21));
    assert_eq!(dos_time(at(i64::MAX)).1, 0xff9f);
    assert_eq!(extended_time(at(1)), [0x55, 0x54, 5, 0, 1, 1, 0, 0, 0]);
    assert!(extended_time(at(1 << 40)).is_empty());
}

#[test]
fn contents_have_the_announced_size() {
    let mut zip = ZipWriter::new(io::sink(), Cursor::new(Vec::new()));
    zip.begin_entry(&entry("a", EntryKind::File(3))).unwrap();
    zip.write_content(b"ab").unwrap();
    assert!(zip.write_content(b"cd").is_err());
    let mut zip = ZipWriter::new(io::sink(), Cursor::new(Vec::new()));
    zip.begin_entry(&entry("a", EntryKind::File(3))).unwrap();
    zip.write_content(b"ab").unwrap();
    assert!(zip.finish().is_err());
    let mut zip = ZipWriter::new(io::sink(), Cursor::new(Vec::new()));
    zip.begin_entry(&entry("a", EntryKind::Folder)).unwrap();
    assert!(zip.write_content(b"a").is_err());
    assert!(zip.begin_entry(&entry(&"x".repeat(70_000), EntryKind::Folder)).is_err());
}

#[test]
fn names_lead_to_no_other_folder_on_windows() {
    let names: Vec<_> =
        directory(&archive(&[("folder/..\\..\\a", b"x".to_vec())], 1)).into_iter().collect();
    assert_eq!(names[1].name, "folder/..\u{ff3c}..\u{ff3c}a");
}
