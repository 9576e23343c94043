//! Flipped bits in transit and on the disk, and a manipulated `.log`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use super::{DownloadFixture, GET, NAME, assert_absent_or_whole, converge};
use crate::harness::{Fault, content, digest, leftovers};

#[test]
fn a_bit_flipped_on_the_way_is_found() {
    let bytes = content(17, (5 << 20) + 3);
    let fixture = DownloadFixture::new(64 << 10, &bytes);
    // Before the slave knows the digest, possibly, and after that in any case.
    for n in [0, 1 << 20, (5 << 20) + 2, 700_000] {
        let client = fixture.client();
        fixture.proxy.fault_at_content(n, Fault::FlipBit);
        let output = client.run(GET);
        assert!(fixture.proxy.struck());
        assert!(matches!(output.status, 0 | 1 | 5), "{output:?}");
        assert!(output.status == 0 || !client.folder().join(NAME).exists());
        assert_absent_or_whole(&client, &bytes);
        converge(&client, &bytes);
        fixture.slave.client().command("hash 'big file.bin'").ok();
    }
}

#[test]
fn a_bit_flipped_in_the_part_that_is_there_is_found() {
    let bytes = content(18, (12 << 20) + 3);
    let fixture = DownloadFixture::new(64 << 10, &bytes);
    for at in [0, 1_500_000] {
        let client = fixture.killed(9 << 20);
        let parts = leftovers(&client.folder(), &[".log"]);
        assert_eq!(parts.len(), 1, "one part file: {parts:?}");
        let part =
            File::options().read(true).write(true).open(client.folder().join(&parts[0])).unwrap();
        let mut byte = [0];
        part.read_exact_at(&mut byte, at).unwrap();
        part.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
        converge(&client, &bytes);
    }
}

#[test]
pub fn a_part_file_that_vanished_or_shrank_is_made_anew() {
    let bytes = content(19, 12 << 20);
    let fixture = DownloadFixture::new(64 << 10, &bytes);
    for shrink in [None, Some(0), Some(1000), Some(30 << 20)] {
        let client = fixture.killed(9 << 20);
        for part in leftovers(&client.folder(), &[".log"]) {
            let part = client.folder().join(part);
            match shrink {
                None => fs::remove_file(part).unwrap(),
                Some(len) => File::options().write(true).open(part).unwrap().set_len(len).unwrap(),
            }
        }
        converge(&client, &bytes);
    }
}

/// Returns a `.log` line with a valid checksum.
fn signed(entry: &str) -> String {
    let front = format!("2 {entry} ");
    let check = digest(front.as_bytes());
    format!("{front}{}\n", &check[..16])
}

/// Returns damaged copies of the `.log`.
///
/// Each value is changed, doubled, removed or hostile, under the old checksum and under a valid
/// one. The rest is damage to the whole file by a broken disk or another program.
fn mutations(log: &str) -> Vec<Vec<u8>> {
    let line = log.lines().last().unwrap();
    // The text before the only line is for human readers.
    let words = &log[..log.len() - line.len() - 1];
    let (front, check) = line.rsplit_once(' ').unwrap();
    let entry = front.strip_prefix("2 ").unwrap();
    // A value ends where the next key or the end of an object begins.
    let starts: Vec<usize> = entry.match_indices("\":").map(|(at, key)| at + key.len()).collect();
    let mut all = Vec::new();
    for start in starts {
        let rest = &entry[start..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>();
        values.next().unwrap().unwrap();
        let (value, end) = rest.split_at(values.byte_offset());
        let mut changed = value.to_owned();
        let last = changed.find(|c: char| c.is_ascii_alphanumeric()).unwrap_or(0);
        changed.replace_range(last..=last, if &value[last..=last] == "1" { "2" } else { "1" });
        let doubled = format!("{value},{value}");
        for new in [
            &changed,
            &doubled,
            "",
            "null",
            "\"0-1000000\"",
            "18446744073709551616",
            "\"../../evil\"",
            "\"/evil\"",
            "\"..\\u002fevil\"",
            "\".log\"",
        ] {
            let entry = format!("{}{new}{end}", &entry[..start]);
            all.push(format!("{words}2 {entry} {check}\n").into_bytes());
            all.push(format!("{words}{}", signed(&entry)).into_bytes());
        }
    }
    all.push(Vec::new());
    all.push(log.as_bytes()[..log.len() / 2].to_vec());
    all.push(log.repeat(3).into_bytes());
    all.push(vec![0xff; 70_000]);
    all.push("a very long line ".repeat(100_000).into_bytes());
    all.push(format!("\u{feff}{log}\0\0\n\n{log}").into_bytes());
    all
}

#[test]
fn a_log_mutated_in_each_field_does_no_harm() {
    let bytes = content(20, 12_000_000);
    let fixture = DownloadFixture::new(64 << 10, &bytes);
    let first = fixture.killed(9_000_000);
    let log = fs::read_to_string(first.folder().join(".log")).unwrap();
    for mutated in mutations(&log) {
        let client = fixture.client();
        // The folder as the killed client left it, except for the `.log`.
        for part in leftovers(&first.folder(), &[".log"]) {
            fs::copy(first.folder().join(&part), client.folder().join(&part)).unwrap();
        }
        fs::write(client.folder().join(".log"), &mutated).unwrap();
        let output = client.run(GET);
        let shown = String::from_utf8_lossy(&mutated[..mutated.len().min(300)]).into_owned();
        assert!(matches!(output.status, 0 | 1 | 5), "{shown:?}: {output:?}");
        let control = output.stderr.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(control, None, "{shown:?}: {output:?}");
        assert_absent_or_whole(&client, &bytes);
        let outside = leftovers(client.home(), &[]);
        let evil = outside.iter().any(|p| p.to_str().unwrap().contains("evil"));
        assert!(!evil, "{shown:?} made files elsewhere: {outside:?}");
        if output.status != 0 {
            assert_eq!(
                client.run(GET).status,
                0,
                "{shown:?}: the log blocks the command: {output:?}"
            );
        }
        assert!(client.read(NAME) == bytes, "{shown:?}");
    }
}
