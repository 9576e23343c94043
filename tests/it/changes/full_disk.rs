//! A disk without space or inodes: the change fails, the old content stays, the space is freed.

use std::fs;
use std::path::PathBuf;

use relais_proto::{ErrorCode, PutRequest};

use super::{open, tree};
use crate::harness::{
    SOON, Standalone, TestDir, Volume, content, eventually, make_folder, put, remove, wait_unstaged,
};

/// A slave whose root lies on a small file system. The fields are dropped in this order.
struct FullDiskFixture {
    slave: Standalone,
    volume: Volume,
}

impl FullDiskFixture {
    fn new(options: &str) -> Self {
        let volume = Volume::mount(options);
        fs::create_dir(volume.path().join("root")).unwrap();
        let slave = Standalone::start_in(
            TestDir::new(),
            volume.inside().join("root"),
            &["--workers", "1"],
            &volume.under(),
        );
        Self { slave, volume }
    }

    /// Returns the path of the slave's root for the test.
    fn root(&self) -> PathBuf {
        self.volume.path().join("root")
    }

    /// Fills the disk except for `left` bytes, outside of the slave's root.
    fn fill(&self, left: u64) {
        let room = usize::try_from(self.volume.free() - left).unwrap();
        fs::write(self.volume.path().join("filler"), vec![1; room]).unwrap();
    }

    fn free_filler(&self) {
        fs::remove_file(self.volume.path().join("filler")).unwrap();
    }

    /// Waits until the free space is about `before` again; the catalogue may have grown a little.
    #[track_caller]
    fn wait_freed(&self, before: u64) {
        wait_unstaged(&self.root());
        eventually(SOON, "the space is freed", || {
            (self.volume.free() + (256 << 10) >= before).then_some(())
        });
    }
}

#[test]
fn no_space_for_an_upload() {
    let fixture = FullDiskFixture::new("size=16m");
    let (old, new) = (content(1, 1 << 20), content(2, 3 << 20));
    let mut wire = open(&fixture.slave);
    wire.put("f", &old).unwrap();
    wait_unstaged(&fixture.root());
    fixture.fill(2 << 20);
    let (before, free) = (tree(&fixture.root()), fixture.volume.free());
    for request in
        [put("f", new.len()), put("g", new.len()), PutRequest { size: None, ..put("f", 0) }]
    {
        assert_eq!(
            wire.upload(&request, &new).unwrap_err().code,
            ErrorCode::NoSpace,
            "{request:?}"
        );
        fixture.wait_freed(free);
        assert!(tree(&fixture.root()) == before);
        // Reads and the session continue.
        assert!(wire.fetch("f").unwrap() == old);
    }
    // A file that fits is accepted.
    wire.put("small", b"fits").unwrap();
    // The client reports a clear error.
    let client = fixture.slave.client();
    fs::write(client.folder().join("f"), &new).unwrap();
    let json = client.command("put f").fails(1).json();
    assert_eq!(json["error"]["code"], "no-space", "{json}");
    fixture.wait_freed(free);
    assert!(wire.fetch("f").unwrap() == old);
    // Changes succeed again without a restart.
    fixture.free_filler();
    wire.put("f", &new).unwrap();
    assert!(wire.fetch("f").unwrap() == new);
    client.command("put f -o again").ok();
    fixture.wait_freed(0);
}

#[test]
fn space_that_ends_in_the_middle_of_an_upload() {
    let fixture = FullDiskFixture::new("size=16m");
    let old = content(3, 100_000);
    let new = content(4, 4 << 20);
    let mut wire = open(&fixture.slave);
    wire.put("f", &old).unwrap();
    // The size is unknown, so the slave cannot refuse before the bytes arrive.
    let request = PutRequest { size: None, ..put("f", 0) };
    wire.send(&[relais_proto::Request::Put(request)]);
    wire.raw(&crate::harness::data(&new[..1 << 20]));
    eventually(SOON, "bytes are staged", || {
        (crate::harness::staged_bytes(&fixture.root()) >= 1 << 20).then_some(())
    });
    let free = fixture.volume.free();
    fixture.fill(1 << 20);
    wire.raw(&crate::harness::data(&new[1 << 20..]));
    wire.send(&[crate::harness::put_end(&new)]);
    assert_eq!(wire.committed().unwrap_err().code, ErrorCode::NoSpace);
    assert!(wire.fetch("f").unwrap() == old);
    fixture.free_filler();
    fixture.wait_freed(free);
    wire.put("f", &new).unwrap();
}

#[test]
fn a_disk_that_is_full_to_the_last_byte() {
    let fixture = FullDiskFixture::new("size=16m");
    let old = content(5, 500_000);
    let mut wire = open(&fixture.slave);
    for name in ["f", "g", "h"] {
        wire.put(name, &old).unwrap();
    }
    wait_unstaged(&fixture.root());
    fixture.fill(0);
    let before = tree(&fixture.root());
    // Every answer must be true, and no process may exit.
    let answer = wire.put("f", &content(6, 500_000));
    assert_eq!(answer.unwrap_err().code, ErrorCode::NoSpace);
    let answer = wire.change(&make_folder("new"));
    assert_eq!(answer.is_ok(), fixture.root().join("new").is_dir(), "{answer:?}");
    assert!(
        answer.as_ref().err().is_none_or(|refusal| refusal.code == ErrorCode::NoSpace),
        "{answer:?}"
    );
    for (name, bytes) in &before {
        assert!(wire.fetch(name).unwrap() == *bytes, "{name}");
    }
    // A file is removed locally: then changes succeed again without a restart.
    fixture.free_filler();
    eventually(SOON, "changes succeed again", || {
        wire.change(&make_folder("later")).is_ok().then_some(())
    });
    wire.change(&remove("h", false)).unwrap();
    wire.put("f", &content(6, 500_000)).unwrap();
    wait_unstaged(&fixture.root());
}

#[test]
fn a_removal_frees_space() {
    let fixture = FullDiskFixture::new("size=16m");
    let large = content(7, 4 << 20);
    let mut wire = open(&fixture.slave);
    wire.put("large", &large).unwrap();
    wait_unstaged(&fixture.root());
    fixture.fill(1 << 20);
    assert_eq!(wire.put("f", &large[..3 << 20]).unwrap_err().code, ErrorCode::NoSpace);
    wire.change(&remove("large", false)).unwrap();
    eventually(SOON, "space is free again", || {
        wire.put("f", &large[..3 << 20]).is_ok().then_some(())
    });
    assert!(wire.fetch("f").unwrap() == large[..3 << 20]);
}

#[test]
fn no_inodes() {
    let fixture = FullDiskFixture::new("size=16m,nr_inodes=200");
    let old = content(8, 50_000);
    let mut wire = open(&fixture.slave);
    wire.put("f", &old).unwrap();
    wait_unstaged(&fixture.root());
    let fillers = fixture.volume.path().join("fillers");
    fs::create_dir(&fillers).unwrap();
    let mut made = 0;
    while fixture.volume.free_inodes() > 0 {
        fs::write(fillers.join(made.to_string()), b"").unwrap();
        made += 1;
    }
    let before = tree(&fixture.root());
    assert_eq!(wire.put("f", b"new").unwrap_err().code, ErrorCode::NoSpace);
    assert_eq!(wire.put("g", b"new").unwrap_err().code, ErrorCode::NoSpace);
    assert_eq!(wire.change(&make_folder("new")).unwrap_err().code, ErrorCode::NoSpace);
    assert!(tree(&fixture.root()) == before);
    assert!(wire.fetch("f").unwrap() == old);
    fs::remove_dir_all(&fillers).unwrap();
    eventually(SOON, "changes succeed again", || wire.put("g", b"new").is_ok().then_some(()));
    wire.change(&make_folder("new")).unwrap();
    wire.put("f", b"new").unwrap();
    assert_eq!(wire.fetch("f").unwrap(), b"new");
}

/// Kills a slave that holds a file `f`, and fills its disk to the last byte.
fn killed_on_a_full_disk() -> (FullDiskFixture, Vec<u8>) {
    let mut fixture = FullDiskFixture::new("size=16m");
    let bytes = content(9, 100_000);
    let mut wire = open(&fixture.slave);
    wire.put("f", &bytes).unwrap();
    wait_unstaged(&fixture.root());
    assert!(!fixture.root().join(".relais/folders").exists(), "one folder needs no list");
    fixture.slave.program.kill();
    fixture.fill(0);
    (fixture, bytes)
}

/// The kernel may release the locks of killed processes after the next slave has started.
#[test]
fn slave_starts_on_a_full_disk_with_the_lock_held() {
    let (mut fixture, bytes) = killed_on_a_full_disk();
    let lock = fs::File::open(fixture.root().join(".relais/lock")).unwrap();
    eventually(SOON, "the killed slave has released the lock", || lock.try_lock().ok());
    fixture.slave.restart();
    drop(lock);
    assert!(open(&fixture.slave).fetch("f").unwrap() == bytes);
}

#[test]
fn slave_starts_on_a_full_disk_again_and_again() {
    let (mut fixture, bytes) = killed_on_a_full_disk();
    for _ in 0..5 {
        fixture.slave.restart();
        assert!(open(&fixture.slave).fetch("f").unwrap() == bytes);
        assert_eq!(fixture.volume.free(), 0, "a start frees no space that the next one needs");
        fixture.slave.program.kill();
    }
}

#[test]
fn standalone_slave_restarts_on_a_full_disk() {
    let (mut fixture, bytes) = killed_on_a_full_disk();
    fixture.slave.restart();
    let mut wire = open(&fixture.slave);
    assert!(wire.fetch("f").unwrap() == bytes);
    let answer = wire.put("f", &content(10, 500_000));
    assert_eq!(answer.unwrap_err().code, ErrorCode::NoSpace);
    fixture.free_filler();
    eventually(SOON, "changes succeed again", || {
        wire.change(&make_folder("later")).is_ok().then_some(())
    });
}
