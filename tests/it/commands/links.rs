//! Symbolic links at paths in use: no command writes, creates or removes through them.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{CommandFixture, tree};

const FILES: [(&str, &[u8]); 4] = [
    ("t/a", b"from afar"),
    ("t/d/b", b"from afar"),
    ("t/d/e/c", b"from afar"),
    ("t/z", b"from afar"),
];

/// Creates a fixture with a folder outside of all served and local folders.
fn fixture() -> (CommandFixture, std::path::PathBuf) {
    let fixture = CommandFixture::new(&FILES);
    let outside = fixture.slave.dir.folder("outside");
    super::write(&outside.join("secret"), b"mine");
    super::write(&outside.join("d/b"), b"mine");
    (fixture, outside)
}

/// Requires that the outside folder is unchanged.
#[track_caller]
fn assert_untouched(outside: &std::path::Path, what: &str) {
    assert_eq!(tree(outside), ["d/", "d/b", "secret"], "{what}");
    for name in ["d/b", "secret"] {
        assert_eq!(fs::read(outside.join(name)).unwrap(), b"mine", "{what}: {name}");
    }
}

#[test]
fn local_links_at_every_level_are_not_followed() {
    // Path and target of the link.
    let links = [
        ("t/d", ""),
        ("t/d", "d"),
        ("t/d/e", ""),
        ("t/a", "secret"),
        ("t/d/b", "d/b"),
        ("t/z", "new"),
        ("t/d/e/c", "d/new"),
        ("t/d", "nowhere"),
    ];
    let (fixture, outside) = fixture();
    for command in [
        "get -r t",
        "get -r t -o ./t/..",
        "mirror t t",
        "mirror --delete t t",
        "mget t/* -o t/",
        "get t/a t/z -o t/",
    ] {
        for (link, to) in links {
            let client = fixture.slave.client();
            let link = client.folder().join(link);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink(outside.join(to), &link).unwrap();
            let output = client.command(command);
            assert_untouched(
                &outside,
                &format!("{command} with {} -> {to}: {output:?}", link.display()),
            );
            // The mirror keeps links to folders.
            if link.ends_with("t/d") || link.ends_with("t/d/e") {
                assert!(link.is_symlink(), "{command} took {} away: {output:?}", link.display());
            }
        }
    }
}

#[test]
fn links_on_the_slave_are_not_followed() {
    for (link, to) in [("t/d", ""), ("t/d/e", "d"), ("t/a", "secret"), ("t/z", "new")] {
        let fixture = CommandFixture::new(&[("t/x", b"1")]);
        let outside = fixture.slave.dir.folder("outside");
        super::write(&outside.join("secret"), b"mine");
        super::write(&outside.join("d/b"), b"mine");
        for (name, bytes) in FILES {
            fixture.local(name, bytes);
        }
        let link = fixture.slave.root.join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(outside.join(to), &link).unwrap();
        for command in [
            "put -r t",
            "mirror -R t t",
            "mirror -R --delete t t",
            "rm -r t",
            "put t/a -o t/d/b",
            "mkdir -p t/d/e/f",
            "mv t/x t/d/b",
        ] {
            let output = fixture.client.command(command);
            assert_untouched(
                &outside,
                &format!("{command} with {} -> {to}: {output:?}", link.display()),
            );
        }
    }
}

#[test]
fn a_local_folder_swapped_for_a_link_in_a_loop_never_leads_out() {
    let (fixture, outside) = fixture();
    let top = fixture.client.folder().join("t");
    fixture.says("get -r t");
    let (d, aside, stop) = (top.join("d"), top.join("aside"), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let swapping = scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                // The client may have created a folder at the path meanwhile.
                if fs::rename(&d, &aside).is_ok() {
                    if symlink(&outside, &d).is_ok() {
                        fs::remove_file(&d).unwrap();
                    }
                    let _ = fs::remove_dir_all(&d);
                    let _ = fs::rename(&aside, &d);
                }
            }
        });
        for command in ["get -r t", "mirror --delete t t", "get -r t", "mirror t t"] {
            for _ in 0..5 {
                fixture.client.command(command);
            }
        }
        stop.store(true, Ordering::SeqCst);
        swapping.join().unwrap();
    });
    assert_untouched(&outside, "a swapped folder");
}

#[test]
fn the_users_own_link_to_a_folder_is_a_folder() {
    let (fixture, _) = fixture();
    let mine = fixture.slave.dir.folder("mine");
    symlink(&mine, fixture.client.folder().join("shortcut")).unwrap();
    fixture.says("get t/a -o shortcut/");
    assert_eq!(fs::read(mine.join("a")).unwrap(), b"from afar");
    fixture.says("get -r t -o shortcut/");
    assert_eq!(tree(&mine), ["a", "t/", "t/a", "t/d/", "t/d/b", "t/d/e/", "t/d/e/c", "t/z"]);
}
