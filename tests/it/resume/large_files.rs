//! Files larger than 2 and 4 GiB, where 31-bit and 32-bit numbers overflow.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::{DownloadFixture, GET, NAME, NOTHING};
use crate::harness::{Proxy, Standalone, leftovers};

#[test]
#[ignore = "5 GiB through the loopback, killed again and again: some minutes and 5 GiB of room"]
fn a_sparse_file_of_5_gib_resumes() {
    const SIZE: u64 = 5 << 30;
    for block in ["65536", "4194304"] {
        let slave = Standalone::start(&["--block-size", block], &[]);
        let path = slave.root.join(NAME);
        let file = File::create(&path).unwrap();
        file.set_len(SIZE).unwrap();
        for at in [0, (1 << 31) - 5, (1 << 32) - 5, SIZE - 11] {
            file.write_all_at(b"not a hole\n", at).unwrap();
        }
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600)).unwrap();
        drop(file);
        let proxy = Proxy::to(slave.addr);
        let fixture = DownloadFixture { slave, proxy };
        let client = fixture.client();
        let began = Instant::now();
        let points = [1, (1 << 31) - 1, 1 << 31, (1 << 31) + 65_537, (1 << 32) - 1, (1 << 32) + 1];
        let mut fetched = 0;
        for total in points {
            // Counted over all runs; repeated bytes make the next stop come slightly early.
            let Some(left) = u64::checked_sub(total, fetched) else { continue };
            let (mut program, frozen) = fixture.freeze(&client, GET, left);
            assert!(
                frozen,
                "the transfer ended before the stop at {total}, after {left} more bytes"
            );
            program.kill();
            fixture.proxy.cut_all();
            fetched += fixture.proxy.take_content_bytes();
        }
        client.run(GET).ok();
        fetched += fixture.proxy.take_content_bytes();
        let rate = fetched as f64 / began.elapsed().as_secs_f64();
        let twice = (fetched - SIZE) as f64;
        let allowed = points.len() as f64 * (2.0 * rate).max(f64::from(4 << 20));
        assert!(twice <= allowed, "{twice} bytes came twice at {rate} bytes a second");
        assert!(are_equal(&path, &client.folder().join(NAME)), "the copy differs");
        assert_eq!(leftovers(&client.folder(), &[NAME]), NOTHING);
    }
}

/// Returns whether two large files are equal.
fn are_equal(a: &std::path::Path, b: &std::path::Path) -> bool {
    let digest = |path| {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(File::open(path).unwrap()).unwrap();
        hasher.finalize()
    };
    digest(a) == digest(b)
}
