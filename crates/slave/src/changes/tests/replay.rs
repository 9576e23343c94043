//! What a start makes of a folder whose slave was killed at any step.

use relais_storage::CommitReceipt;

use super::*;

/// A folder with `old` in `f` (change 1) and a folder `d` (change 2).
fn rig() -> Rig {
    let mut rig = Rig::new();
    assert_eq!(rig.made(&[rig.put(1, "f", "old"), mkdir(2, "d")]), [1, 2]);
    rig
}

fn remove_catalogue(rig: &mut Rig) {
    rig.stop();
    for end in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(rig.host(&format!(".relais/catalogue.db{end}")));
    }
}

#[test]
fn what_the_journal_has_and_the_disk_lacks_is_made() {
    let mut rig = rig();
    let asked = [
        rig.put(3, "f", "new"),
        rig.put(4, "d/new", "x"),
        mkdir(5, "e"),
        rig.put(6, "e/g", "y"),
        rm(7, "d/new", false),
    ];
    rig.number_only(&asked);
    assert_eq!(rig.content("f").as_deref(), Some("old"));
    rig.start();
    rig.check_file("f", "new", 3, 3);
    rig.check_gone("d/new");
    rig.check_folder("e", 5);
    rig.check_file("e/g", "y", 6, 6);
    assert_eq!(rig.staged(), 0);
    for alone in [mv(8, "e", "d/e"), rm(9, "d", true)] {
        rig.number_only(&[alone]);
        rig.start();
    }
    rig.check_gone("e");
    rig.check_gone("d");
    assert_eq!(rig.made(&asked), [3, 4, 5, 6, 7], "all are known by their ids");
    assert_eq!(rig.made(&[mkdir(10, "next")]), [10]);
}

#[test]
fn what_is_on_the_disk_already_is_only_noted() {
    let mut rig = rig();
    let asked = [
        rig.put(3, "f", "new"),
        rig.put(4, "d/new", "x"),
        mkdir(5, "e"),
        rig.put(6, "gone", "z"),
        rm(7, "gone", false),
    ];
    rig.number_only(&asked);
    rig.exchange(&asked[0], "f");
    let staged =
        |n: usize| rig.host(".relais/staging").join(asked[n].staged.as_ref().unwrap().as_str());
    fs::rename(staged(1), rig.host("d/new")).unwrap();
    fs::create_dir(rig.host("e")).unwrap();
    fs::rename(staged(3), rig.host(".relais/removed/1-7")).unwrap();
    assert_eq!(rig.staged(), 1, "the former content");
    rig.start();
    rig.check_file("f", "new", 3, 3);
    rig.check_file("d/new", "x", 4, 4);
    rig.check_folder("e", 5);
    rig.check_gone("gone");
    assert_eq!(rig.staged(), 0);
}

#[test]
fn a_moved_folder_that_was_not_noted_keeps_what_is_known_of_its_content() {
    let mut rig = rig();
    rig.made(&[rig.put(3, "d/x", "x"), mkdir(4, "d/sub"), rig.put(5, "d/sub/y", "y")]);
    rig.number_only(&[mv(6, "d", "moved")]);
    fs::rename(rig.host("d"), rig.host("moved")).unwrap();
    // Somebody has made a new one meanwhile.
    fs::create_dir(rig.host("d")).unwrap();
    rig.start();
    rig.check_folder("moved", 6);
    rig.check_file("moved/x", "x", 6, 3);
    rig.check_folder("moved/sub", 6);
    rig.check_file("moved/sub/y", "y", 6, 5);
    assert!(rig.host("d").exists());
    assert_eq!(rig.store().row(&path("d")).unwrap(), None, "the scan finds it");
}

#[test]
fn the_same_bytes_with_other_times_are_not_taken_for_content_that_is_still_staged() {
    let mut rig = rig();
    let again = rig.put_at(3, "f", "old", 2000);
    rig.number_only(std::slice::from_ref(&again));
    rig.exchange(&again, "f");
    rig.start();
    rig.check_file("f", "old", 3, 3);
    assert_eq!(fs::metadata(rig.host("f")).unwrap().mtime(), 2000);
    assert_eq!(rig.staged(), 0);
}

#[test]
fn two_changes_of_one_path_in_one_batch_end_with_the_later() {
    // How many of them were on the disk when everything was killed.
    for made in 0..=3 {
        let mut rig = rig();
        let asked = [
            rig.put(3, "f", "one"),
            rig.put(4, "f", "two"),
            rm(5, "f", false),
            rig.put(6, "f", "one"),
        ];
        rig.number_only(&asked[..2]);
        if made >= 1 {
            rig.exchange(&asked[0], "f");
        }
        if made >= 2 {
            rig.exchange(&asked[1], "f");
        }
        rig.start();
        rig.check_file("f", "two", 4, 4);
        rig.number_only(&asked[2..]);
        if made >= 1 {
            fs::rename(rig.host("f"), rig.host(".relais/removed/1-5")).unwrap();
        }
        if made >= 2 {
            fs::rename(
                rig.host(".relais/staging").join(asked[3].staged.as_ref().unwrap().as_str()),
                rig.host("f"),
            )
            .unwrap();
        }
        rig.start();
        rig.check_file("f", "one", 6, 6);
        assert_eq!(rig.staged(), 0);
    }
}

#[test]
fn somebody_elses_file_in_the_place_is_left_alone_and_the_change_withdrawn() {
    let mut rig = rig();
    rig.made(&[rig.put(3, "source", "source")]);
    let asked = [rig.put(4, "new", "ours"), rig.put(5, "f", "ours"), rig.put(6, "g", "ours")];
    rig.number_only(&asked);
    fs::write(rig.host("new"), "theirs").unwrap();
    fs::write(rig.host("f"), "edited by them").unwrap();
    rig.start();
    assert_eq!(rig.content("new").as_deref(), Some("theirs"));
    assert_eq!(rig.content("f").as_deref(), Some("edited by them"));
    rig.check_file("g", "ours", 6, 6);
    assert_eq!((rig.number("f"), rig.scoreboard.applied_lsn()), (Some(8), version(8)));
    assert_eq!([4, 5].map(|n| rig.store().commit_of(id(n)).unwrap()), [None, None]);
    assert_eq!(rig.staged(), 2, "asked for again it is there");
    rig.publish("new", "theirs");
    assert_eq!(rig.made(&asked[..1]), [9]);
    rig.check_file("new", "ours", 9, 9);

    rig.number_only(&[mv(10, "source", "d/taken")]);
    fs::write(rig.host("d/taken"), "theirs").unwrap();
    rig.start();
    assert_eq!(rig.content("d/taken").as_deref(), Some("theirs"));
    assert_eq!(rig.content("source").as_deref(), Some("source"));
    rig.number_only(&[rm(11, "source", false)]);
    fs::write(rig.host("source"), "edited by them").unwrap();
    rig.start();
    assert_eq!(rig.content("source").as_deref(), Some("edited by them"));
}

#[test]
fn a_move_over_a_file_that_was_cut_off_between_its_two_steps_is_made() {
    let mut rig = rig();
    rig.made(&[rig.put(3, "source", "source")]);
    rig.number_only(&[mv(4, "source", "f")]);
    fs::hard_link(rig.host("f"), rig.host(".relais/removed/1-4")).unwrap();
    rig.start();
    rig.check_file("f", "source", 4, 3);
    rig.check_gone("source");
}

#[test]
fn what_cannot_be_made_any_more_is_withdrawn_and_keeps_its_content() {
    let mut rig = rig();
    let asked = [rig.put(3, "d/x", "x"), mkdir(4, "d/y"), mkdir(5, "e")];
    rig.number_only(&asked);
    fs::remove_dir(rig.host("d")).unwrap();
    rig.start();
    assert_eq!(rig.scoreboard.applied_lsn(), version(7));
    assert_eq!(
        [3, 4, 5].map(|n| rig.store().commit_of(id(n)).unwrap().is_some()),
        [false, false, true]
    );
    assert_eq!(rig.staged(), 1);
    fs::create_dir(rig.host("d")).unwrap();
    rig.start();
    assert_eq!(rig.content("d/x"), None, "it is not made at a later start");
    assert_eq!(rig.made(&[asked[0].clone()]), [8]);
    rig.check_file("d/x", "x", 8, 8);
}

#[test]
fn what_is_not_sealed_is_never_given_a_name() {
    let mut rig = rig();
    let put = rig.put(3, "g", "x");
    rig.number_only(std::slice::from_ref(&put));
    let sealed = put.staged.unwrap();
    let open = StagedName::new(id(3), "", &path("g"), Some(1));
    rig.staging.staged.rename(sealed.as_str(), open.as_str()).unwrap();
    rig.start();
    assert_eq!(rig.content("g"), None);
}

#[test]
fn a_catalogue_that_was_deleted_is_told_by_the_journal() {
    let mut rig = rig();
    rig.made(&[
        rig.put(3, "d/x", "x"),
        mkdir(4, "gone"),
        rig.put(5, "gone/y", "y"),
        mv(6, "d", "e"),
        rm(7, "gone", true),
    ]);
    let late = [rig.put(8, "f", "new"), rig.put(9, "e/late", "z")];
    rig.number_only(&late);
    for _ in 0..2 {
        // The second time as if it was killed before its scan was through.
        remove_catalogue(&mut rig);
        rig.start();
        assert_eq!(
            rig.store().applied().unwrap(),
            None,
            "not before what the scan finds has its numbers"
        );
        let known: Vec<(&str, u64)> =
            rig.memory.iter().map(|(path, entry)| (path.as_str(), entry.version.number)).collect();
        assert_eq!(known, [("e", 6), ("e/late", 9), ("e/x", 6), ("f", 8)]);
    }
    assert_eq!(
        (rig.content("f").as_deref(), rig.content("e/late").as_deref()),
        (Some("new"), Some("z"))
    );
    assert_eq!(rig.staged(), 0);
    assert_eq!(
        rig.store().commit_of(id(5)).unwrap().map(|commit| commit.version),
        Some(version(5)),
        "ids are known without the catalogue"
    );
    rig.publish("f", "edited");
    rig.store().put(&path("e/x"), Kind::File, &rig.root.stat(&path("e/x")).unwrap()).unwrap();
    for (path, remembered) in &rig.memory {
        rig.store().assign_lsn(path, &remembered.entry()).unwrap();
    }
    assert_eq!(
        (rig.number("e/x"), rig.number("f")),
        (Some(6), None),
        "what is other content now has no number"
    );
    assert_eq!(rig.made(&[mkdir(20, "next")]), [10]);
}

#[test]
fn without_its_journal_no_number_is_given_twice() {
    let mut rig = rig();
    rig.stop();
    fs::remove_file(rig.host(".relais/journal")).unwrap();
    rig.start();
    rig.start();
    let answer = rig.ask(&[mkdir(3, "e")]).remove(0).unwrap();
    assert_eq!(answer, CommitReceipt::new(Lsn { epoch: 2, number: 1 }));
    rig.start();
    assert_eq!(
        rig.ask(&[mkdir(4, "g")]).remove(0).unwrap(),
        CommitReceipt::new(Lsn { epoch: 2, number: 2 })
    );
    assert_eq!(rig.number("f"), Some(1));
}

#[test]
fn a_crash_at_any_step_of_shortening_forgets_nothing() {
    for (begun_anew, has_catalogue) in [(false, true), (true, true), (false, false), (true, false)]
    {
        let mut rig = rig();
        assert_eq!(
            rig.made(&[mkdir(3, "e"), rig.put(4, "e/g", "y"), rm(5, "d", false)]),
            [3, 4, 5]
        );
        let journal = rig.host(".relais/journal");
        let long = fs::read(&journal).unwrap();
        rig.shorten_from = Some(1);
        rig.start();
        assert_eq!(rig.made(&[mkdir(3, "e")]), [3], "it was made already");
        assert!(fs::read(&journal).unwrap().len() < long.len());
        rig.shorten_from = None;
        rig.stop();
        if !begun_anew {
            fs::write(&journal, &long).unwrap();
        }
        if !has_catalogue {
            remove_catalogue(&mut rig);
        }
        rig.start();
        if has_catalogue {
            rig.check_file("f", "old", 1, 1);
            rig.check_file("e/g", "y", 4, 4);
            rig.check_gone("d");
        } else {
            let known: Vec<(&str, u64)> = rig
                .memory
                .iter()
                .map(|(path, entry)| (path.as_str(), entry.version.number))
                .collect();
            assert_eq!(known, [("e", 3), ("e/g", 4), ("f", 1)]);
        }
        assert_eq!(rig.made(&[mkdir(3, "e"), rm(5, "d", false)]), [3, 5], "ids are known");
        assert_eq!(rig.made(&[mkdir(6, "next")]), [6]);
        rig.stop();
        rig.start();
        assert_eq!(
            rig.store().commit_of(id(6)).unwrap().map(|commit| commit.version),
            Some(version(6))
        );
    }
}
