use std::os::unix::fs::FileExt;

use super::*;

fn content(length: u64) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at % 251) ^ (at / 65_536 % 256)).unwrap()).collect()
}

fn digest(bytes: &[u8]) -> Digest {
    Digest(blake3::hash(bytes).into())
}

/// Returns a hasher of these bytes, which also computes SHA-256.
fn hashed(bytes: &[u8]) -> StagedHasher {
    let mut hasher = StagedHasher::new(true, None);
    hasher.update(bytes);
    hasher
}

/// Writes `bytes` at `at` in writes of `step` bytes.
fn write(hasher: &mut UploadHasher, file: &File, bytes: &[u8], at: u64, step: usize) {
    let mut at = at;
    for piece in bytes.chunks(step) {
        file.write_all_at(piece, at).unwrap();
        hasher.update(piece, file, at).unwrap();
        at += piece.len() as u64;
    }
}

/// Returns what the hashing thread shares with the writer.
fn shared(hasher: &UploadHasher) -> Arc<Progress> {
    hasher.follower.as_ref().unwrap().progress.clone()
}

#[test]
fn digests_of_odd_sizes_are_equal() {
    let file = tempfile::tempfile().unwrap();
    let sizes = [0, 1, INLINE - 1, INLINE, INLINE + 1, INLINE + STEP - 1, INLINE + STEP];
    for (size, step) in sizes.into_iter().chain([9 * INLINE + 77]).zip([1000, 65_537].repeat(4)) {
        let bytes = content(size);
        let mut hasher = UploadHasher::new(hashed(&[]));
        write(&mut hasher, &file, &bytes, 0, step);
        assert_eq!(hasher.finish().unwrap(), digest(&bytes), "{size} bytes");
    }
}

#[test]
fn hashing_continues_after_a_prefix_and_after_a_digest() {
    let file = tempfile::tempfile().unwrap();
    let bytes = content(5 * INLINE + 3);
    let (prefix, rest) = bytes.split_at(1_234_567);
    file.write_all_at(prefix, 0).unwrap();
    let mut hasher = UploadHasher::new(hashed(prefix));
    let (first, second) = rest.split_at(2_500_001);
    write(&mut hasher, &file, first, prefix.len() as u64, 100_000);
    let at = (prefix.len() + first.len()) as u64;
    assert_eq!(hasher.finish().unwrap(), digest(&bytes[..prefix.len() + first.len()]));
    write(&mut hasher, &file, second, at, 100_000);
    assert_eq!(hasher.finish().unwrap(), digest(&bytes));
    assert_eq!(hasher.finish().unwrap(), digest(&bytes));
    assert_eq!(hasher.hashes(), hashed(&bytes).hashes());
    assert_eq!(hasher.hashes().unwrap().pieces.len(), 6);
}

#[test]
fn small_uploads_start_no_thread_and_large_ones_end_it() {
    let file = tempfile::tempfile().unwrap();
    let bytes = content(INLINE + 1);
    let mut hasher = UploadHasher::new(hashed(&[]));
    write(&mut hasher, &file, &bytes[..bytes.len() - 1], 0, 4096);
    assert!(hasher.is_beside() && hasher.follower.is_none());
    hasher.update(&bytes[..1], &file, INLINE).unwrap();
    let progress = shared(&hasher);
    hasher.stop();
    assert_eq!(Arc::strong_count(&progress), 1);
    hasher.follow(&file, 0, INLINE).unwrap();
    let progress = shared(&hasher);
    drop(hasher);
    assert_eq!(Arc::strong_count(&progress), 1);
}

#[test]
fn file_that_is_too_short_fails_the_writer_and_the_end() {
    let file = tempfile::tempfile().unwrap();
    let mut hasher = UploadHasher::new(hashed(&[]));
    hasher.follow(&file, 0, INLINE).unwrap();
    assert_eq!(hasher.finish().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    // The writer hears of it, at the latest when it would wait for the thread.
    let mut hasher = UploadHasher::new(hashed(&[]));
    let failed = (0..=MAX_LEAD / INLINE + 1)
        .find_map(|piece| hasher.follow(&file, piece * INLINE, INLINE).err());
    assert_eq!(failed.unwrap().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn panic_of_the_thread_is_an_error() {
    let position = Position { written: 0, hashed: 0, goal: Goal::Follow, has_ended: false };
    let progress = Arc::new(Progress { position: Mutex::new(position), moved: Condvar::new() });
    let ending = Ending(progress.clone());
    let thread = std::thread::spawn(move || {
        let _ending = ending;
        panic!("a test")
    });
    let mut hasher = UploadHasher::new(hashed(&[]));
    hasher.follower = Some(Follower { progress, thread });
    let file = tempfile::tempfile().unwrap();
    let failed = hasher.follow(&file, 0, MAX_LEAD + 1).unwrap_err();
    assert!(failed.to_string().contains("the thread that hashes failed"), "{failed}");
}
