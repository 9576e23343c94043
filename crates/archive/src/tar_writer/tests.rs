//! Archives as the crate `tar` reads them, and their bytes.

use std::io::Read;

use super::*;

fn at(seconds: i64) -> FileTime {
    FileTime { seconds, nanos: 0 }
}

/// Makes an archive of files and folders; a file's content is the path.
fn archive(paths: &[(&str, bool, i64)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut tar = TarWriter::new(&mut bytes);
    for (path, is_file, seconds) in paths {
        let kind = if *is_file { EntryKind::File(path.len() as u64) } else { EntryKind::Folder };
        let mode = if *is_file { 0o640 } else { 0o100_755 };
        tar.begin_entry(&ArchiveEntry { path, kind, modified: at(*seconds), mode }).unwrap();
        if *is_file {
            path.as_bytes().chunks(7).for_each(|bytes| tar.write_content(bytes).unwrap());
        }
    }
    tar.finish().unwrap();
    bytes
}

#[test]
fn entries_are_read_as_they_were_written() {
    let (long, deep) = ("x".repeat(255), "folder/".repeat(500) + "é");
    let entries = [
        ("files", false, 784_111_777),
        ("files/a", true, 0),
        ("files/é", true, 1_800_000_000),
        (&long, true, -5),
        (&deep, true, 1 << 40),
        (&long[..100], true, 1),
        (&long[..101], true, 1),
        (&long[..99], false, 1),
        (&long[..100], false, 1),
    ];
    let bytes = archive(&entries);
    assert_eq!(bytes.len() % BLOCK, 0);
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut read = archive.entries().unwrap();
    for (path, is_file, seconds) in entries {
        let mut entry = read.next().unwrap().unwrap();
        let slash = if is_file { "" } else { "/" };
        assert_eq!(entry.path_bytes(), format!("{path}{slash}").as_bytes());
        assert_eq!(entry.header().entry_type().is_file(), is_file);
        assert_eq!(entry.header().mode().unwrap(), if is_file { 0o640 } else { 0o755 });
        let records = entry.pax_extensions().unwrap();
        let mtime = records.into_iter().flatten().flatten().find(|r| r.key() == Ok("mtime"));
        let mtime = mtime.map(|record| record.value().unwrap().parse().unwrap());
        let header = i64::try_from(entry.header().mtime().unwrap()).unwrap();
        assert_eq!(mtime.unwrap_or(header), seconds);
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        assert_eq!(content, if is_file { path } else { "" });
    }
    assert!(read.next().is_none());
}

#[test]
fn records_count_their_own_digits() {
    for len in [1, 80, 88, 89, 90, 91, 980, 988, 989, 990, 991, 9980, 9989, 9990] {
        let mut records = Vec::new();
        add_record(&mut records, "path", &"x".repeat(len));
        let text = String::from_utf8(records).unwrap();
        let (number, _) = text.split_once(' ').unwrap();
        assert_eq!(number.parse::<usize>().unwrap(), text.len());
    }
}

#[test]
fn large_files_have_a_record() {
    let mut bytes = Vec::new();
    let mut tar = TarWriter::new(&mut bytes);
    let (kind, modified) = (EntryKind::File(USTAR_SIZE + 1), at(0));
    tar.begin_entry(&ArchiveEntry { path: "a", kind, modified, mode: 0o600 }).unwrap();
    let mut archive = tar::Archive::new(&bytes[..]);
    let entry = archive.entries().unwrap().next().unwrap().unwrap();
    assert_eq!(entry.size(), USTAR_SIZE + 1);
}

#[test]
fn contents_have_the_announced_size() {
    let mut tar = TarWriter::new(io::sink());
    let entry = ArchiveEntry { path: "a", kind: EntryKind::File(3), modified: at(0), mode: 0 };
    tar.begin_entry(&entry).unwrap();
    tar.write_content(b"ab").unwrap();
    assert!(tar.begin_entry(&entry).is_err() && tar.finish().is_err());
    assert!(tar.write_content(b"cd").is_err());
}
