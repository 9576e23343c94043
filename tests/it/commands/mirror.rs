//! `mirror`: comparison of files, `--checksum`, `--dry-run`, and repeated runs.

use std::fs;

use super::{CommandFixture, set_mode, set_time, time, tree};

const SECOND: u64 = 1_000_000_000;

/// The direction of a mirror; every test runs in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MirrorDirection {
    Down,
    Up,
}

pub const DIRECTIONS: [MirrorDirection; 2] = [MirrorDirection::Down, MirrorDirection::Up];

impl MirrorDirection {
    pub fn source(self, fixture: &CommandFixture) -> std::path::PathBuf {
        if self == Self::Down {
            fixture.slave.root.join("src")
        } else {
            fixture.client.folder().join("src")
        }
    }

    pub fn target(self, fixture: &CommandFixture) -> std::path::PathBuf {
        if self == Self::Down {
            fixture.client.folder().join("dst")
        } else {
            fixture.slave.root.join("dst")
        }
    }

    /// Returns the command line with these options.
    pub fn command(self, options: &str) -> String {
        let reverse = if self == Self::Down { "" } else { "-R " };
        format!("mirror {reverse}{options} src dst")
    }

    /// Creates a file in the target: locally, or by a put.
    #[track_caller]
    pub fn add_to_target(self, fixture: &CommandFixture, name: &str, bytes: &[u8]) {
        if self == Self::Down {
            fixture.local(&format!("dst/{name}"), bytes);
            return;
        }
        fixture.local("aside", bytes);
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        fixture.says(&format!("mkdir -p dst/{folder}"));
        fixture.says(&format!("put aside -o {}", crate::harness::quote(&format!("dst/{name}"))));
        fs::remove_file(fixture.client.folder().join("aside")).unwrap();
    }

    /// Changes a file of the source directly on the disk; waits until the slave has seen it, if it
    /// is the slave's.
    #[track_caller]
    pub fn change_source(self, fixture: &CommandFixture, name: &str, bytes: &[u8], nanos: u64) {
        let aside = fixture.slave.dir.path().join("aside");
        fs::write(&aside, bytes).unwrap();
        set_time(&aside, nanos);
        fs::rename(&aside, self.source(fixture).join(name)).unwrap();
        if self == Self::Down {
            fixture.wait_shown(&format!("src/{name}"), nanos, bytes);
        }
    }
}

/// Creates a fixture whose source has these files.
pub fn new_fixture(direction: MirrorDirection, files: &[(&str, &[u8])]) -> CommandFixture {
    let named: Vec<(String, &[u8])> =
        files.iter().map(|(name, bytes)| (format!("src/{name}"), *bytes)).collect();
    let refs: Vec<(&str, &[u8])> =
        named.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    if direction == MirrorDirection::Down {
        return CommandFixture::new(&refs);
    }
    let fixture = CommandFixture::new(&[]);
    refs.iter().for_each(|(name, bytes)| fixture.local(name, bytes));
    fixture
}

#[track_caller]
fn mirrored(direction: MirrorDirection, fixture: &CommandFixture, options: &str) -> (u64, u64) {
    let json = fixture.says(&direction.command(options));
    (json["files"].as_u64().unwrap(), json["bytes"].as_u64().unwrap())
}

#[test]
fn the_second_time_there_is_nothing_to_do() {
    for direction in DIRECTIONS {
        let fixture = new_fixture(
            direction,
            &[("a", b"1"), ("d/b", b"22"), ("d/e/c", b"333"), ("tool", b"4444")],
        );
        fs::create_dir_all(direction.source(&fixture).join("empty")).unwrap();
        set_mode(&direction.source(&fixture).join("tool"), 0o755);
        set_time(&direction.source(&fixture).join("a"), 1_400_000_000 * SECOND + 987_654_321);
        if direction == MirrorDirection::Down {
            fixture.wait_shown("src/a", 1_400_000_000 * SECOND + 987_654_321, b"1");
            crate::harness::eventually(crate::harness::SOON, "the empty folder", || {
                fixture.ls("src").contains(&"empty".to_owned()).then_some(())
            });
        }
        assert_eq!(mirrored(direction, &fixture, ""), (4, 10), "{direction:?}");
        assert_eq!(
            tree(&direction.target(&fixture)),
            ["a", "d/", "d/b", "d/e/", "d/e/c", "empty/", "tool"],
            "{direction:?}"
        );
        assert_eq!(
            time(&direction.target(&fixture).join("a")),
            time(&direction.source(&fixture).join("a"))
        );
        for options in ["", "--checksum", "--delete", "--delete --checksum"] {
            assert_eq!(mirrored(direction, &fixture, options), (0, 0), "{direction:?} {options}");
            let output = fixture.run(&[&direction.command(options)]).ok();
            assert_eq!(output.stdout, "nothing to do\n", "{direction:?} {options}");
        }
        // Only the changed file.
        direction.change_source(&fixture, "d/b", b"twenty-two", 1_600_000_000 * SECOND);
        assert_eq!(mirrored(direction, &fixture, ""), (1, 10), "{direction:?}");
        assert_eq!(fs::read(direction.target(&fixture).join("d/b")).unwrap(), b"twenty-two");
        assert!(!fixture.client.folder().join(".log").exists());
    }
}

#[test]
fn checksum_finds_what_size_and_time_do_not_show() {
    for direction in DIRECTIONS {
        let fixture = new_fixture(direction, &[("a", b"first"), ("b", b"other")]);
        direction.change_source(&fixture, "a", b"First", 1_500_000_000 * SECOND);
        fixture.says(&direction.command(""));
        direction.change_source(&fixture, "a", b"fIRST", 1_500_000_000 * SECOND);
        assert_eq!(mirrored(direction, &fixture, "").0, 0, "{direction:?}");
        assert_eq!(fs::read(direction.target(&fixture).join("a")).unwrap(), b"First");
        assert_eq!(mirrored(direction, &fixture, "--checksum"), (1, 5), "{direction:?}");
        assert_eq!(fs::read(direction.target(&fixture).join("a")).unwrap(), b"fIRST");
    }
}

#[test]
fn checksum_does_not_transfer_equal_content_with_another_time() {
    for direction in DIRECTIONS {
        let fixture = new_fixture(direction, &[("a", b"first")]);
        fixture.says(&direction.command(""));
        direction.change_source(&fixture, "a", b"first", 1_500_000_000 * SECOND);
        assert_eq!(mirrored(direction, &fixture, "--checksum").0, 0, "{direction:?}");
        mirrored(direction, &fixture, "");
        assert_eq!(fs::read(direction.target(&fixture).join("a")).unwrap(), b"first");
    }
}

#[test]
fn a_dry_run_lists_everything_and_changes_nothing() {
    for direction in DIRECTIONS {
        let fixture =
            new_fixture(direction, &[("new", b"1"), ("d/newer", b"22"), ("changed", b"333")]);
        direction.add_to_target(&fixture, "changed", b"old one");
        direction.add_to_target(&fixture, "gone", b"x");
        direction.add_to_target(&fixture, "e/gone-too", b"x");
        let before = tree(&direction.target(&fixture));
        let output = fixture.run(&[&direction.command("--delete --dry-run")]).ok();
        let listed = format!("{}{}", output.stdout, output.stderr);
        for name in ["new", "d/newer", "changed", "gone", "e/gone-too"] {
            assert!(listed.contains(name), "{direction:?}: {name} is not listed: {output:?}");
        }
        fixture.says(&direction.command("--delete --dry-run"));
        assert_eq!(tree(&direction.target(&fixture)), before, "{direction:?}");
        assert_eq!(fs::read(direction.target(&fixture).join("changed")).unwrap(), b"old one");
        // The real run does what the dry run announced.
        let output = fixture.run(&[&direction.command("--delete")]).ok();
        assert!(output.stdout.contains(", 3 deleted"), "{direction:?}: {output:?}");
        assert_eq!(
            tree(&direction.target(&fixture)),
            ["changed", "d/", "d/newer", "new"],
            "{direction:?}"
        );
    }
}

#[test]
fn without_delete_no_file_is_removed() {
    for direction in DIRECTIONS {
        let fixture = new_fixture(direction, &[("a", b"1")]);
        direction.add_to_target(&fixture, "mine", b"x");
        fixture.says(&direction.command(""));
        assert_eq!(tree(&direction.target(&fixture)), ["a", "mine"], "{direction:?}");
    }
}

#[test]
fn a_mirror_of_the_top_and_onto_itself() {
    let fixture = CommandFixture::new(&[("a", b"1"), ("d/b", b"2")]);
    fixture.says("mirror / all");
    assert_eq!(tree(&fixture.client.folder().join("all")), ["a", "d/", "d/b"]);
    fixture.says("mirror --delete / all");
    // Into the local folder itself, which holds the `.log`.
    fixture.says("mirror d .");
    assert_eq!(fixture.client.read("b"), b"2");
    fixture.says("mirror -R --delete all /");
    assert_eq!(tree(&fixture.slave.root), ["a", "d/", "d/b"]);
    assert!(fixture.slave.root.join(".relais").is_dir());
    fixture.fails("mirror a", "usage");
    fixture.fails("mirror a b c", "usage");
    fixture.fails("mirror", "usage");
}
