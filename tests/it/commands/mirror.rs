//! `mirror`: what counts as the same, and what it leaves where all is done.

use std::fs;

use super::{Lab, set_mode, set_time, time, tree};

const SECOND: u64 = 1_000_000_000;

/// Both directions of a mirror, alike to the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Down,
    Up,
}

pub const WAYS: [Way; 2] = [Way::Down, Way::Up];

impl Way {
    pub fn source(self, lab: &Lab) -> std::path::PathBuf {
        if self == Self::Down {
            lab.slave.root.join("src")
        } else {
            lab.client.folder().join("src")
        }
    }

    pub fn target(self, lab: &Lab) -> std::path::PathBuf {
        if self == Self::Down {
            lab.client.folder().join("dst")
        } else {
            lab.slave.root.join("dst")
        }
    }

    /// The command line with these options.
    pub fn command(self, options: &str) -> String {
        let reverse = if self == Self::Down { "" } else { "-R " };
        format!("mirror {reverse}{options} src dst")
    }

    /// Puts a file into the target, in the way in which files get there.
    #[track_caller]
    pub fn add_to_target(self, lab: &Lab, name: &str, bytes: &[u8]) {
        if self == Self::Down {
            lab.local(&format!("dst/{name}"), bytes);
            return;
        }
        lab.local("aside", bytes);
        let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        lab.says(&format!("mkdir -p dst/{folder}"));
        lab.says(&format!("put aside -o {}", crate::harness::quote(&format!("dst/{name}"))));
        fs::remove_file(lab.client.folder().join("aside")).unwrap();
    }

    /// Changes a file of the source behind everybody's back, and lets the slave see it where it is the slave's.
    #[track_caller]
    pub fn change_source(self, lab: &Lab, name: &str, bytes: &[u8], nanos: u64) {
        let aside = lab.slave.dir.path().join("aside");
        fs::write(&aside, bytes).unwrap();
        set_time(&aside, nanos);
        fs::rename(&aside, self.source(lab).join(name)).unwrap();
        if self == Self::Down {
            lab.wait_shown(&format!("src/{name}"), nanos, bytes);
        }
    }
}

/// A lab with a source of this many files.
pub fn lab(way: Way, files: &[(&str, &[u8])]) -> Lab {
    let named: Vec<(String, &[u8])> =
        files.iter().map(|(name, bytes)| (format!("src/{name}"), *bytes)).collect();
    let refs: Vec<(&str, &[u8])> =
        named.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect();
    if way == Way::Down {
        return Lab::new(&refs);
    }
    let lab = Lab::new(&[]);
    refs.iter().for_each(|(name, bytes)| lab.local(name, bytes));
    lab
}

#[track_caller]
fn mirrored(way: Way, lab: &Lab, options: &str) -> (u64, u64) {
    let json = lab.says(&way.command(options));
    (json["files"].as_u64().unwrap(), json["bytes"].as_u64().unwrap())
}

#[test]
fn the_second_time_there_is_nothing_to_do() {
    for way in WAYS {
        let lab = lab(way, &[("a", b"1"), ("d/b", b"22"), ("d/e/c", b"333"), ("tool", b"4444")]);
        fs::create_dir_all(way.source(&lab).join("empty")).unwrap();
        set_mode(&way.source(&lab).join("tool"), 0o755);
        set_time(&way.source(&lab).join("a"), 1_400_000_000 * SECOND + 987_654_321);
        if way == Way::Down {
            lab.wait_shown("src/a", 1_400_000_000 * SECOND + 987_654_321, b"1");
            crate::harness::eventually(crate::harness::SOON, "the empty folder", || {
                lab.ls("src").contains(&"empty".to_owned()).then_some(())
            });
        }
        assert_eq!(mirrored(way, &lab, ""), (4, 10), "{way:?}");
        assert_eq!(
            tree(&way.target(&lab)),
            ["a", "d/", "d/b", "d/e/", "d/e/c", "empty/", "tool"],
            "{way:?}"
        );
        assert_eq!(time(&way.target(&lab).join("a")), time(&way.source(&lab).join("a")));
        for options in ["", "--checksum", "--delete", "--delete --checksum"] {
            assert_eq!(mirrored(way, &lab, options), (0, 0), "{way:?} {options}");
            let output = lab.run(&[&way.command(options)]).ok();
            assert_eq!(output.stdout, "nothing to do\n", "{way:?} {options}");
        }
        // Only what changed.
        way.change_source(&lab, "d/b", b"twenty-two", 1_600_000_000 * SECOND);
        assert_eq!(mirrored(way, &lab, ""), (1, 10), "{way:?}");
        assert_eq!(fs::read(way.target(&lab).join("d/b")).unwrap(), b"twenty-two");
        assert!(!lab.client.folder().join(".log").exists());
    }
}

#[test]
fn checksum_finds_what_size_and_time_do_not_show() {
    for way in WAYS {
        let lab = lab(way, &[("a", b"first"), ("b", b"other")]);
        way.change_source(&lab, "a", b"First", 1_500_000_000 * SECOND);
        lab.says(&way.command(""));
        way.change_source(&lab, "a", b"fIRST", 1_500_000_000 * SECOND);
        assert_eq!(mirrored(way, &lab, "").0, 0, "{way:?}");
        assert_eq!(fs::read(way.target(&lab).join("a")).unwrap(), b"First");
        assert_eq!(mirrored(way, &lab, "--checksum"), (1, 5), "{way:?}");
        assert_eq!(fs::read(way.target(&lab).join("a")).unwrap(), b"fIRST");
    }
}

#[test]
fn the_same_content_with_another_time_is_no_transfer_by_checksum() {
    for way in WAYS {
        let lab = lab(way, &[("a", b"first")]);
        lab.says(&way.command(""));
        way.change_source(&lab, "a", b"first", 1_500_000_000 * SECOND);
        assert_eq!(mirrored(way, &lab, "--checksum").0, 0, "{way:?}");
        mirrored(way, &lab, "");
        assert_eq!(fs::read(way.target(&lab).join("a")).unwrap(), b"first");
    }
}

#[test]
fn a_dry_run_tells_everything_and_changes_nothing() {
    for way in WAYS {
        let lab = lab(way, &[("new", b"1"), ("d/newer", b"22"), ("changed", b"333")]);
        way.add_to_target(&lab, "changed", b"old one");
        way.add_to_target(&lab, "gone", b"x");
        way.add_to_target(&lab, "e/gone-too", b"x");
        let before = tree(&way.target(&lab));
        let output = lab.run(&[&way.command("--delete --dry-run")]).ok();
        let told = format!("{}{}", output.stdout, output.stderr);
        for name in ["new", "d/newer", "changed", "gone", "e/gone-too"] {
            assert!(told.contains(name), "{way:?}: {name} is not told: {output:?}");
        }
        lab.says(&way.command("--delete --dry-run"));
        assert_eq!(tree(&way.target(&lab)), before, "{way:?}");
        assert_eq!(fs::read(way.target(&lab).join("changed")).unwrap(), b"old one");
        // And then it is as it was told.
        let output = lab.run(&[&way.command("--delete")]).ok();
        assert!(output.stdout.contains(", 3 deleted"), "{way:?}: {output:?}");
        assert_eq!(tree(&way.target(&lab)), ["changed", "d/", "d/newer", "new"], "{way:?}");
    }
}

#[test]
fn without_delete_nothing_goes() {
    for way in WAYS {
        let lab = lab(way, &[("a", b"1")]);
        way.add_to_target(&lab, "mine", b"x");
        lab.says(&way.command(""));
        assert_eq!(tree(&way.target(&lab)), ["a", "mine"], "{way:?}");
    }
}

#[test]
fn a_mirror_of_the_top_and_onto_itself() {
    let lab = Lab::new(&[("a", b"1"), ("d/b", b"2")]);
    lab.says("mirror / all");
    assert_eq!(tree(&lab.client.folder().join("all")), ["a", "d/", "d/b"]);
    lab.says("mirror --delete / all");
    // Here, into the folder where the .log lies.
    lab.says("mirror d .");
    assert_eq!(lab.client.read("b"), b"2");
    lab.says("mirror -R --delete all /");
    assert_eq!(tree(&lab.slave.root), ["a", "d/", "d/b"]);
    assert!(lab.slave.root.join(".relais").is_dir());
    lab.fails("mirror a", "usage");
    lab.fails("mirror a b c", "usage");
    lab.fails("mirror", "usage");
}
