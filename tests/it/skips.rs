//! The list of tests that `make test` skips, so that none is skipped by accident.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Tests that `make test-long` runs.
const LONG: &[&str] = &[
    "a_folder_with_100_000_files_lists_at_once",
    "a_listing_waits_a_minute_for_a_scan_and_no_longer",
    "a_sparse_file_of_5_gib_resumes",
    "a_storm_of_a_minute",
    "beside_500_flooding_sessions_no_put_fails",
    "local_files_survive_thousands_of_changes",
    "a_hundred_thousand_staged_files_do_not_slow_a_put",
    "half_an_hour_of_mixed_load_leaves_nothing_behind",
    "seven_hundred_guessing_addresses_lock_out_no_user",
    "masses_of_overwrites_and_moves_cost_bounded_memory",
];
/// Not tests: they regenerate files of the repository on demand.
const WRITERS: &[&str] = &["write_corpus", "write_examples"];

#[test]
fn only_known_tests_are_ignored_and_with_a_reason() {
    let mut found = BTreeSet::new();
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["tests", "crates"] {
        search(&top.join(folder), &mut found);
    }
    assert_eq!(found, [LONG, WRITERS].concat().iter().map(|s| (*s).to_owned()).collect());
}

fn search(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            search(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            ignored_in(&path, found);
        }
    }
}

fn ignored_in(path: &Path, found: &mut BTreeSet<String>) {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        if !line.starts_with("#[ignore") {
            continue;
        }
        assert!(
            line.starts_with("#[ignore = \""),
            "{}: an ignored test without a reason",
            path.display()
        );
        let name = lines.find_map(|l| l.strip_prefix("fn ")).and_then(|l| l.split('(').next());
        found.insert(name.unwrap_or("?").to_owned());
    }
}
