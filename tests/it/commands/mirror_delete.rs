//! `mirror --delete`: the rules for removals, and when none happens.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use relais_proto::{ErrorCode, Request};

use super::mirror::{DIRECTIONS, MirrorDirection, new_fixture};
use super::{CommandFixture, bound_by_rights, set_mode, tree};
use crate::harness::{Client, FakeTree, refused};

#[test]
fn entries_only_in_the_target_are_removed() {
    for direction in DIRECTIONS {
        let fixture = new_fixture(direction, &[("a", b"1"), ("d/b", b"2")]);
        for name in ["gone", "d/gone", "x/y/z", "x/y/w"] {
            direction.add_to_target(&fixture, name, b"x");
        }
        fixture.says(&direction.command("--delete"));
        assert_eq!(tree(&direction.target(&fixture)), ["a", "d/", "d/b"], "{direction:?}");
    }
}

#[test]
fn an_unreadable_source_file_prevents_all_removals() {
    // Upwards: an unreadable local file, then an unreadable folder.
    for shut in ["bad", "shut"] {
        let fixture =
            new_fixture(MirrorDirection::Up, &[("a", b"1"), ("bad", b"2"), ("shut/x", b"3")]);
        MirrorDirection::Up.add_to_target(&fixture, "mine", b"x");
        set_mode(&fixture.client.folder().join("src").join(shut), 0);
        let mut program =
            bound_by_rights(fixture.client.setup(&["--json", "-c", "mirror -R --delete src dst"]))
                .start();
        let output = Client::finish(&mut program).fails(1);
        set_mode(&fixture.client.folder().join("src").join(shut), 0o700);
        let there = tree(&fixture.slave.root.join("dst"));
        assert!(there.contains(&"mine".to_owned()), "{shut}: {output:?}");
        assert!(there.contains(&"a".to_owned()), "the other files are missing: {there:?}");
    }
}

/// Mirrors a fake tree with the files `a` and `bad` and the folder `d` over a local folder with
/// `mine`.
#[track_caller]
fn mirrored_from(
    lie: impl Fn(&Request) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> (Client, crate::harness::Output) {
    let server = FakeTree::new()
        .file("src/a", b"1")
        .file("src/bad", b"2")
        .folder("src/d")
        .folder("src")
        .file("src/d/e", b"3")
        .lying(lie);
    let client = Client::new(server.addr);
    super::write(&client.folder().join("dst/mine"), b"x");
    super::write(&client.folder().join("dst/d/mine"), b"x");
    let output = client.run(&["--retry", "0", "--json", "-c", "mirror --delete src dst"]);
    (client, output)
}

#[test]
fn an_incomplete_remote_source_prevents_all_removals() {
    let said = |output: &crate::harness::Output| output.json()["ok"].as_bool().unwrap();
    // The correct case, as a control.
    let (client, output) = mirrored_from(|_| None);
    assert!(said(&output), "{output:?}");
    assert_eq!(tree(&client.folder().join("dst")), ["a", "bad", "d/", "d/e"]);
    // A missing file, an unreadable one, permanently damaged content.
    for code in [ErrorCode::NotFound, ErrorCode::Storage, ErrorCode::Damaged, ErrorCode::Denied] {
        let (client, output) = mirrored_from(move |request| match request {
            Request::Get(get) if get.path.as_str() == "src/bad" => Some(refused(code, "no")),
            _ => None,
        });
        assert!(!said(&output) && output.status != 0, "{code}: {output:?}");
        let there = tree(&client.folder().join("dst"));
        assert!(
            there.contains(&"mine".to_owned()) && there.contains(&"d/mine".to_owned()),
            "{code}: {there:?}"
        );
        assert!(
            there.contains(&"a".to_owned()) && there.contains(&"d/e".to_owned()),
            "{code}: the other files are missing: {there:?}"
        );
    }
    // A folder that cannot be listed: refused, or cut short.
    let partial = crate::harness::pages(&[crate::harness::raw_entry(b"e", 0, 1)]);
    for answer in [
        refused(ErrorCode::Storage, "no"),
        [partial.clone(), refused(ErrorCode::Storage, "no")].concat(),
    ] {
        let (client, output) = mirrored_from(move |request| match request {
            Request::List { path, .. } if path.as_str() == "src/d" => Some(answer.clone()),
            _ => None,
        });
        assert!(!said(&output), "{output:?}");
        let there = tree(&client.folder().join("dst"));
        assert!(
            there.contains(&"mine".to_owned()) && there.contains(&"d/mine".to_owned()),
            "{there:?}"
        );
    }
}

#[test]
fn removals_come_last() {
    // The server checks the local folder when the last content is requested.
    let seen: Arc<Mutex<Vec<bool>>> = Arc::default();
    let place: Arc<Mutex<Option<std::path::PathBuf>>> = Arc::default();
    let (saw, at) = (Arc::clone(&seen), Arc::clone(&place));
    let tree_there = FakeTree::new().folder("src").file("src/a", b"1").file("src/b", b"2");
    let server = tree_there.lying(move |request| {
        if matches!(request, Request::Get(_)) {
            let mine = at.lock().unwrap().clone().unwrap();
            saw.lock().unwrap().push(mine.exists());
        }
        None
    });
    let client = Client::new(server.addr);
    let mine = client.folder().join("dst/mine");
    super::write(&mine, b"x");
    *place.lock().unwrap() = Some(mine.clone());
    client.command("mirror --delete src dst").ok();
    assert_eq!(*seen.lock().unwrap(), [true, true]);
    assert!(!mine.exists());
}

#[test]
fn links_and_reserved_files_are_never_removed() {
    let fixture = new_fixture(MirrorDirection::Down, &[("a", b"1"), ("d/b", b"2")]);
    let dst = fixture.client.folder().join("dst");
    fixture.local("outside/precious", b"p");
    for name in [
        ".log",
        ".relais-0123456789abcdef.part",
        "d/.log",
        "only/.LOG",
        "only/x",
        "hold/link-below/x",
    ] {
        fixture.local(&format!("dst/{name}"), b"ours");
    }
    symlink("../outside", dst.join("linked")).unwrap();
    symlink("nothing", dst.join("d/dangling")).unwrap();
    symlink("../../outside/precious", dst.join("hold/file-link")).unwrap();
    nix::unistd::mkfifo(&dst.join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let output = fixture.client.command("mirror --delete src dst");
    let mut left: Vec<String> = tree(&dst);
    left.retain(|name| !name.ends_with('/'));
    for name in [
        ".relais-0123456789abcdef.part",
        "d/.log",
        "only/.LOG",
        "linked@",
        "d/dangling@",
        "hold/file-link@",
        "fifo",
        "a",
        "d/b",
    ] {
        assert!(left.contains(&name.to_owned()), "{name} was removed: {left:?} {output:?}");
    }
    assert!(dst.join(".log").exists());
    assert_eq!(fixture.client.read("outside/precious"), b"p");
    // The other direction: local links in the source protect the slave's files of that name.
    let fixture = new_fixture(MirrorDirection::Up, &[("a", b"1")]);
    MirrorDirection::Up.add_to_target(&fixture, "linked", b"x");
    MirrorDirection::Up.add_to_target(&fixture, "other", b"x");
    symlink("a", fixture.client.folder().join("src/linked")).unwrap();
    fixture.says("mirror -R --delete src dst");
    assert_eq!(tree(&fixture.slave.root.join("dst")), ["a", "linked"]);
}

#[test]
fn a_missing_source_is_an_error_and_an_empty_one_needs_force() {
    for direction in DIRECTIONS {
        let fixture = new_fixture(direction, &[]);
        direction.add_to_target(&fixture, "mine", b"x");
        direction.add_to_target(&fixture, "d/mine", b"x");
        let full = tree(&direction.target(&fixture));
        let no_source = fixture.client.command(&direction.command("--delete"));
        assert_eq!(no_source.status, 1, "{direction:?}: {no_source:?}");
        fixture.client.command(&direction.command("--delete --force")).fails(1);
        assert_eq!(tree(&direction.target(&fixture)), full, "{direction:?}: a missing source");
        if direction == MirrorDirection::Down {
            fixture.says("mkdir src");
        } else {
            fs::create_dir(direction.source(&fixture)).unwrap();
        }
        let empty = fixture.client.command(&direction.command("--delete")).fails(1);
        assert!(
            empty.json()["error"]["message"].as_str().unwrap().contains("--force"),
            "{empty:?}"
        );
        assert_eq!(tree(&direction.target(&fixture)), full, "{direction:?}: an empty source");
        fixture.says(&direction.command(""));
        assert_eq!(tree(&direction.target(&fixture)), full, "{direction:?}");
        fixture.says(&direction.command("--delete --force"));
        assert_eq!(tree(&direction.target(&fixture)), Vec::<String>::new(), "{direction:?}");
        // A file cannot be a source.
        fixture.local("plain", b"1");
        fixture.client.command("put plain").ok();
        for command in [
            "mirror --delete plain dst",
            "mirror -R --delete plain dst",
            "mirror -R --delete nowhere dst",
        ] {
            fixture.client.command(command).fails(1);
        }
    }
}

#[test]
fn a_source_with_only_skipped_entries_removes_nothing() {
    let fixture = new_fixture(MirrorDirection::Up, &[]);
    fs::create_dir(fixture.client.folder().join("src")).unwrap();
    symlink("/etc", fixture.client.folder().join("src/mine")).unwrap();
    MirrorDirection::Up.add_to_target(&fixture, "mine", b"x");
    let _ = fixture.client.command("mirror -R --delete src dst");
    assert_eq!(tree(&fixture.slave.root.join("dst")), ["mine"]);
}

#[test]
fn delete_replaces_entries_of_another_kind() {
    for direction in DIRECTIONS {
        let fixture = new_fixture(
            direction,
            &[("was-folder", b"file now"), ("was-file/x", b"folder now"), ("z", b"1")],
        );
        direction.add_to_target(&fixture, "was-folder/old", b"x");
        direction.add_to_target(&fixture, "was-file", b"x");
        let before = fixture.client.command(&direction.command(""));
        assert_eq!(before.status, 1, "{direction:?}: {before:?}");
        assert_eq!(
            before.json()["failed"].as_array().unwrap().len(),
            2,
            "{direction:?}: {before:?}"
        );
        assert_eq!(
            tree(&direction.target(&fixture)),
            ["was-file", "was-folder/", "was-folder/old", "z"],
            "{direction:?}"
        );
        fixture.says(&direction.command("--delete"));
        assert_eq!(
            tree(&direction.target(&fixture)),
            ["was-file/", "was-file/x", "was-folder", "z"],
            "{direction:?}"
        );
        assert_eq!(fs::read(direction.target(&fixture).join("was-folder")).unwrap(), b"file now");
    }
    // A folder with a link or a `.log` is not replaced.
    let fixture = new_fixture(MirrorDirection::Down, &[("x", b"file now"), ("y", b"file now")]);
    fixture.local("dst/x/.log", b"ours");
    fs::create_dir_all(fixture.client.folder().join("dst/y")).unwrap();
    symlink("/etc", fixture.client.folder().join("dst/y/link")).unwrap();
    fixture.client.command("mirror --delete src dst").fails(1);
    assert_eq!(tree(&fixture.client.folder().join("dst")), ["x/", "x/.log", "y/", "y/link@"]);
}

#[test]
fn new_entries_of_the_target_are_kept() {
    // The server creates the local file after the target was listed: at the first content.
    let made = Arc::new(AtomicBool::new(false));
    let place: Arc<Mutex<Option<std::path::PathBuf>>> = Arc::default();
    let at = Arc::clone(&place);
    let server = FakeTree::new().folder("src").file("src/a", b"1").lying(move |request| {
        if matches!(request, Request::Get(_)) && !made.swap(true, Ordering::SeqCst) {
            super::write(&at.lock().unwrap().clone().unwrap(), b"just came");
        }
        None
    });
    let client = Client::new(server.addr);
    super::write(&client.folder().join("dst/old"), b"x");
    *place.lock().unwrap() = Some(client.folder().join("dst/new"));
    client.command("mirror --delete src dst").ok();
    assert_eq!(tree(&client.folder().join("dst")), ["a", "new"]);
}

#[test]
fn an_interrupted_mirror_removes_nothing() {
    let bytes = crate::harness::content(3, 4 << 20);
    let fixture = CommandFixture::new(&[("src/large", &bytes), ("src/a", b"1")]);
    let proxy = crate::harness::Proxy::to(fixture.slave.addr);
    let client = Client::new(proxy.addr());
    super::write(&client.folder().join("dst/mine"), b"x");
    proxy.fault_at_content(2 << 20, crate::harness::Fault::Stall);
    let mut program = client.start(&["--json", "-c", "mirror --delete src dst"]);
    proxy.wait_struck();
    program.signal(nix::sys::signal::Signal::SIGINT);
    Client::finish(&mut program).fails(130);
    assert!(client.folder().join("dst/mine").exists());
    proxy.cut_all();
    client.command("mirror --delete src dst").ok();
    assert_eq!(tree(&client.folder().join("dst")), ["a", "large"]);
}
