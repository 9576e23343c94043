//! `mirror --delete`: rule by rule, what is never removed, and when nothing is.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use relais_proto::{ErrorCode, Request};

use super::mirror::{WAYS, Way, lab};
use super::{Lab, bound_by_rights, set_mode, tree};
use crate::harness::{Client, FakeTree, refused};

#[test]
fn what_only_the_target_has_goes() {
    for way in WAYS {
        let lab = lab(way, &[("a", b"1"), ("d/b", b"2")]);
        for name in ["gone", "d/gone", "x/y/z", "x/y/w"] {
            way.add_to_target(&lab, name, b"x");
        }
        lab.says(&way.command("--delete"));
        assert_eq!(tree(&way.target(&lab)), ["a", "d/", "d/b"], "{way:?}");
    }
}

#[test]
fn nothing_goes_where_one_file_of_the_source_cannot_be_read() {
    // Up: a local file that may not be read, then a folder.
    for shut in ["bad", "shut"] {
        let lab = lab(Way::Up, &[("a", b"1"), ("bad", b"2"), ("shut/x", b"3")]);
        Way::Up.add_to_target(&lab, "mine", b"x");
        set_mode(&lab.client.folder().join("src").join(shut), 0);
        let mut program =
            bound_by_rights(lab.client.setup(&["--json", "-c", "mirror -R --delete src dst"]))
                .start();
        let output = Client::finish(&mut program).fails(1);
        set_mode(&lab.client.folder().join("src").join(shut), 0o700);
        let there = tree(&lab.slave.root.join("dst"));
        assert!(there.contains(&"mine".to_owned()), "{shut}: {output:?}");
        assert!(there.contains(&"a".to_owned()), "the others went all the same: {there:?}");
    }
}

/// Mirrors a made-up tree with the files `a` and `bad` and the folder `d` over a local folder with `mine`.
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
fn nothing_goes_where_the_server_does_not_give_all() {
    let said = |output: &crate::harness::Output| output.json()["ok"].as_bool().unwrap();
    // As it should be, to know that the others prove something.
    let (client, output) = mirrored_from(|_| None);
    assert!(said(&output), "{output:?}");
    assert_eq!(tree(&client.folder().join("dst")), ["a", "bad", "d/", "d/e"]);
    // A file that vanished, one that cannot be read, content that is damaged for good.
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
            "{code}: the others came: {there:?}"
        );
    }
    // A folder that could not be listed: refused, or cut off in the middle.
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
    // The server looks at the local folder when the last content is asked for.
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
fn links_and_our_own_files_never_go() {
    let lab = lab(Way::Down, &[("a", b"1"), ("d/b", b"2")]);
    let dst = lab.client.folder().join("dst");
    lab.local("outside/precious", b"p");
    for name in [
        ".log",
        ".relais-0123456789abcdef.part",
        "d/.log",
        "only/.LOG",
        "only/x",
        "hold/link-below/x",
    ] {
        lab.local(&format!("dst/{name}"), b"ours");
    }
    symlink("../outside", dst.join("linked")).unwrap();
    symlink("nothing", dst.join("d/dangling")).unwrap();
    symlink("../../outside/precious", dst.join("hold/file-link")).unwrap();
    nix::unistd::mkfifo(&dst.join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let output = lab.client.command("mirror --delete src dst");
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
        assert!(left.contains(&name.to_owned()), "{name} is gone: {left:?} {output:?}");
    }
    assert!(dst.join(".log").exists());
    assert_eq!(lab.client.read("outside/precious"), b"p");
    // The other direction: local links of the source do not make the slave's files of that name go.
    let lab = super::mirror::lab(Way::Up, &[("a", b"1")]);
    Way::Up.add_to_target(&lab, "linked", b"x");
    Way::Up.add_to_target(&lab, "other", b"x");
    symlink("a", lab.client.folder().join("src/linked")).unwrap();
    lab.says("mirror -R --delete src dst");
    assert_eq!(tree(&lab.slave.root.join("dst")), ["a", "linked"]);
}

#[test]
fn a_missing_source_is_an_error_and_an_empty_one_needs_force() {
    for way in WAYS {
        let lab = lab(way, &[]);
        way.add_to_target(&lab, "mine", b"x");
        way.add_to_target(&lab, "d/mine", b"x");
        let full = tree(&way.target(&lab));
        let no_source = lab.client.command(&way.command("--delete"));
        assert_eq!(no_source.status, 1, "{way:?}: {no_source:?}");
        lab.client.command(&way.command("--delete --force")).fails(1);
        assert_eq!(tree(&way.target(&lab)), full, "{way:?}: a missing source");
        if way == Way::Down {
            lab.says("mkdir src");
        } else {
            fs::create_dir(way.source(&lab)).unwrap();
        }
        let empty = lab.client.command(&way.command("--delete")).fails(1);
        assert!(
            empty.json()["error"]["message"].as_str().unwrap().contains("--force"),
            "{empty:?}"
        );
        assert_eq!(tree(&way.target(&lab)), full, "{way:?}: an empty source");
        lab.says(&way.command(""));
        assert_eq!(tree(&way.target(&lab)), full, "{way:?}");
        lab.says(&way.command("--delete --force"));
        assert_eq!(tree(&way.target(&lab)), Vec::<String>::new(), "{way:?}");
        // A file is no source.
        lab.local("plain", b"1");
        lab.client.command("put plain").ok();
        for command in [
            "mirror --delete plain dst",
            "mirror -R --delete plain dst",
            "mirror -R --delete nowhere dst",
        ] {
            lab.client.command(command).fails(1);
        }
    }
}

#[test]
fn a_source_that_holds_only_what_is_skipped_counts_as_empty_or_removes_nothing_of_it() {
    let lab = lab(Way::Up, &[]);
    fs::create_dir(lab.client.folder().join("src")).unwrap();
    symlink("/etc", lab.client.folder().join("src/mine")).unwrap();
    Way::Up.add_to_target(&lab, "mine", b"x");
    let _ = lab.client.command("mirror -R --delete src dst");
    assert_eq!(tree(&lab.slave.root.join("dst")), ["mine"]);
}

#[test]
fn another_kind_in_the_way() {
    for way in WAYS {
        let lab =
            lab(way, &[("was-folder", b"file now"), ("was-file/x", b"folder now"), ("z", b"1")]);
        way.add_to_target(&lab, "was-folder/old", b"x");
        way.add_to_target(&lab, "was-file", b"x");
        let before = lab.client.command(&way.command(""));
        assert_eq!(before.status, 1, "{way:?}: {before:?}");
        assert_eq!(before.json()["failed"].as_array().unwrap().len(), 2, "{way:?}: {before:?}");
        assert_eq!(
            tree(&way.target(&lab)),
            ["was-file", "was-folder/", "was-folder/old", "z"],
            "{way:?}"
        );
        lab.says(&way.command("--delete"));
        assert_eq!(
            tree(&way.target(&lab)),
            ["was-file/", "was-file/x", "was-folder", "z"],
            "{way:?}"
        );
        assert_eq!(fs::read(way.target(&lab).join("was-folder")).unwrap(), b"file now");
    }
    // A folder that holds a link, or our own file, does not give way.
    let lab = lab(Way::Down, &[("x", b"file now"), ("y", b"file now")]);
    lab.local("dst/x/.log", b"ours");
    fs::create_dir_all(lab.client.folder().join("dst/y")).unwrap();
    symlink("/etc", lab.client.folder().join("dst/y/link")).unwrap();
    lab.client.command("mirror --delete src dst").fails(1);
    assert_eq!(tree(&lab.client.folder().join("dst")), ["x/", "x/.log", "y/", "y/link@"]);
}

#[test]
fn what_appears_in_the_target_meanwhile_stays() {
    // The server makes the local file while the listing of the target is over: at the first content.
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
fn a_mirror_that_is_interrupted_removes_nothing() {
    let bytes = crate::harness::content(3, 4 << 20);
    let lab = Lab::new(&[("src/large", &bytes), ("src/a", b"1")]);
    let line = crate::harness::Proxy::to(lab.slave.addr);
    let client = Client::new(line.addr());
    super::write(&client.folder().join("dst/mine"), b"x");
    line.fault_at_content(2 << 20, crate::harness::Fault::Stall);
    let mut program = client.start(&["--json", "-c", "mirror --delete src dst"]);
    line.wait_struck();
    program.signal(nix::sys::signal::Signal::SIGINT);
    Client::finish(&mut program).fails(130);
    assert!(client.folder().join("dst/mine").exists());
    line.cut_all();
    client.command("mirror --delete src dst").ok();
    assert_eq!(tree(&client.folder().join("dst")), ["a", "large"]);
}
