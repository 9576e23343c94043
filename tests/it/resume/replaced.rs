//! The file is another one when the download goes on, or becomes one while it
//! is sent.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use super::{GET, Lab, NAME, NOTHING, never_a_part};
use crate::harness::{Client, SOON, content, eventually, leftovers};

/// Interrupted, replaced, carried on: the new version, whole.
fn replaced_by(new: &[u8]) {
    let lab = Lab::new(4096, &content(9, 12_000_000));
    let before = fs::metadata(lab.slave.root.join(NAME)).unwrap().modified().unwrap();
    let client = lab.killed(9_000_000);
    lab.replace(new);
    let path = lab.slave.root.join(NAME);
    File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
    eventually(SOON, "the new version arrives", || {
        let output = client.run(GET);
        never_a_part(&client, new);
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

/// Interrupted, and then there is no such file any more.
fn gone(make: impl Fn(&std::path::Path)) {
    let lab = Lab::new(4096, &content(13, 12_000_000));
    let client = lab.killed(9_000_000);
    fs::remove_file(lab.slave.root.join(NAME)).unwrap();
    make(&lab.slave.root.join(NAME));
    eventually(SOON, "the loss is told", || {
        let output = client.run(GET);
        assert_ne!(output.status, 0, "{output:?}");
        assert!(!client.folder().join(NAME).exists());
        (output.status == 1).then_some(())
    });
    assert_eq!(leftovers(&client.folder(), &[]), NOTHING, "what is gone is dropped");
}

#[test]
fn replaced_by_a_folder() {
    gone(|path| fs::create_dir(path).unwrap());
}

#[test]
pub fn replaced_by_nothing() {
    gone(|_| {});
}

#[test]
fn overwritten_in_place_while_it_is_sent() {
    // More than all buffers on the way hold.
    let (old, new) = (content(14, 48 << 20), content(15, 48 << 20));
    let lab = Lab::new(64 << 10, &old);
    let client = lab.client();
    let (mut program, frozen) = lab.freeze(&client, GET, 1 << 20);
    assert!(frozen);
    File::options()
        .write(true)
        .open(lab.slave.root.join(NAME))
        .unwrap()
        .write_all_at(&new, 0)
        .unwrap();
    lab.line.release();
    let output = Client::finish(&mut program);
    never_a_part(&client, &new);
    assert!(output.status == 0 || !client.folder().join(NAME).exists(), "{output:?}");
    eventually(SOON, "the new version arrives", || (client.run(GET).status == 0).then_some(()));
    assert!(client.read(NAME) == new);
}

#[test]
fn cut_short_while_it_is_sent() {
    let old = content(16, 48 << 20);
    let lab = Lab::new(64 << 10, &old);
    let client = lab.client();
    let (mut program, frozen) = lab.freeze(&client, GET, 1 << 20);
    assert!(frozen);
    File::options().write(true).open(lab.slave.root.join(NAME)).unwrap().set_len(20 << 20).unwrap();
    lab.line.release();
    let _ = Client::finish(&mut program);
    never_a_part(&client, &old[..20 << 20]);
    eventually(SOON, "the new version arrives", || (client.run(GET).status == 0).then_some(()));
    assert!(client.read(NAME) == old[..20 << 20]);
}

#[test]
fn other_rights_or_names_while_it_is_sent_do_not_start_it_again() {
    let bytes = content(17, 48 << 20);
    let lab = Lab::new(64 << 10, &bytes);
    let client = lab.client();
    let path = lab.slave.root.join(NAME);
    eventually(SOON, "the digest is known", || {
        let entry = client.command("stat 'big file.bin'").ok().json()["entries"][0].clone();
        entry["digest"].is_string().then_some(())
    });
    let (mut program, frozen) = lab.freeze(&client, GET, 20 << 20);
    assert!(frozen);
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
    fs::hard_link(&path, lab.slave.dir.path().join("second name")).unwrap();
    lab.line.release();
    let output = Client::finish(&mut program).ok();
    assert!(!output.stderr.contains("restarting"), "{output:?}");
    assert!(client.read(NAME) == bytes);
}
