//! Files that are replaced before a download is resumed, or while it is sent.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use super::{DownloadFixture, GET, NAME, NOTHING, assert_absent_or_whole};
use crate::harness::{Client, SOON, content, eventually, leftovers};

/// Interrupts a get, replaces the file and resumes: the new version arrives whole.
fn replaced_by(new: &[u8]) {
    let fixture = DownloadFixture::new(4096, &content(9, 12_000_000));
    let before = fs::metadata(fixture.slave.root.join(NAME)).unwrap().modified().unwrap();
    let client = fixture.killed(9_000_000);
    fixture.replace(new);
    let path = fixture.slave.root.join(NAME);
    File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
    eventually(SOON, "the new version arrives", || {
        let output = client.run(GET);
        assert_absent_or_whole(&client, new);
        (output.status == 0).then_some(())
    });
    assert!(client.read(NAME) == new);
    assert_eq!(leftovers(&client.folder(), &[NAME]), NOTHING);
}

#[test]
fn replaced_by_one_of_the_same_size_and_time() {
    replaced_by(&content(10, 12_000_000));
}

#[test]
pub fn replaced_by_a_shorter_one() {
    replaced_by(&content(11, 50_000));
    replaced_by(&content(9, 12_000_000)[..1_500_000]);
}

#[test]
fn replaced_by_an_empty_one() {
    replaced_by(b"");
}

#[test]
fn replaced_by_a_longer_one_that_begins_the_same() {
    let mut longer = content(9, 12_000_000);
    longer.extend(content(12, 70_000));
    replaced_by(&longer);
}

/// Interrupts a get and removes the file.
fn interrupted_then_removed(make: impl Fn(&std::path::Path)) {
    let fixture = DownloadFixture::new(4096, &content(13, 12_000_000));
    let client = fixture.killed(9_000_000);
    fs::remove_file(fixture.slave.root.join(NAME)).unwrap();
    make(&fixture.slave.root.join(NAME));
    eventually(SOON, "the client reports the loss", || {
        let output = client.run(GET);
        assert_ne!(output.status, 0, "{output:?}");
        assert!(!client.folder().join(NAME).exists());
        (output.status == 1).then_some(())
    });
    assert_eq!(
        leftovers(&client.folder(), &[]),
        NOTHING,
        "files of the removed download were left"
    );
}

#[test]
fn replaced_by_a_folder() {
    interrupted_then_removed(|path| fs::create_dir(path).unwrap());
}

#[test]
pub fn replaced_by_nothing() {
    interrupted_then_removed(|_| {});
}

#[test]
fn overwritten_in_place_while_it_is_sent() {
    // More than all buffers between slave and client hold.
    let (old, new) = (content(14, 48 << 20), content(15, 48 << 20));
    let fixture = DownloadFixture::new(64 << 10, &old);
    let client = fixture.client();
    let (mut program, frozen) = fixture.freeze(&client, GET, 1 << 20);
    assert!(frozen);
    File::options()
        .write(true)
        .open(fixture.slave.root.join(NAME))
        .unwrap()
        .write_all_at(&new, 0)
        .unwrap();
    fixture.proxy.release();
    let output = Client::finish(&mut program);
    assert_absent_or_whole(&client, &new);
    assert!(output.status == 0 || !client.folder().join(NAME).exists(), "{output:?}");
    eventually(SOON, "the new version arrives", || (client.run(GET).status == 0).then_some(()));
    assert!(client.read(NAME) == new);
}

#[test]
fn cut_short_while_it_is_sent() {
    let old = content(16, 48 << 20);
    let fixture = DownloadFixture::new(64 << 10, &old);
    let client = fixture.client();
    let (mut program, frozen) = fixture.freeze(&client, GET, 1 << 20);
    assert!(frozen);
    File::options()
        .write(true)
        .open(fixture.slave.root.join(NAME))
        .unwrap()
        .set_len(20 << 20)
        .unwrap();
    fixture.proxy.release();
    let _ = Client::finish(&mut program);
    assert_absent_or_whole(&client, &old[..20 << 20]);
    eventually(SOON, "the new version arrives", || (client.run(GET).status == 0).then_some(()));
    assert!(client.read(NAME) == old[..20 << 20]);
}

#[test]
fn metadata_changes_during_a_download_do_not_restart_it() {
    let bytes = content(17, 48 << 20);
    let fixture = DownloadFixture::new(64 << 10, &bytes);
    let client = fixture.client();
    let path = fixture.slave.root.join(NAME);
    // `stat` computes an unknown digest; the version comes with the digest of the catalogue.
    eventually(SOON, "the catalogue has the digest", || {
        let entry = client.command("stat 'big file.bin'").ok().json()["entries"][0].clone();
        entry["version"].is_string().then_some(())
    });
    let (mut program, frozen) = fixture.freeze(&client, GET, 20 << 20);
    assert!(frozen);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    fs::hard_link(&path, fixture.slave.dir.path().join("second name")).unwrap();
    fixture.proxy.release();
    let output = Client::finish(&mut program).ok();
    assert!(!output.stderr.contains("restarting"), "{output:?}");
    assert!(client.read(NAME) == bytes);
}
