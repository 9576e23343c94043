//! Requires that the tests that `tests/FAILURES.md` names exist and run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A row: the failure, and the tests of its result.
struct FailureRow {
    what: String,
    tests: Vec<String>,
}

/// Returns the rows of all tables whose last column is `test`.
fn rows() -> Vec<FailureRow> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/FAILURES.md"))
        .unwrap();
    let (mut rows, mut in_table) = (Vec::new(), false);
    for line in text.lines() {
        let Some(inner) = line.strip_prefix("| ").and_then(|line| line.strip_suffix(" |")) else {
            in_table &= line.starts_with('|');
            continue;
        };
        let mut cells: Vec<&str> = inner.split(" | ").map(str::trim).collect();
        let last = cells.pop().unwrap();
        if last == "test" {
            in_table = true;
        } else if in_table {
            let tests = last.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            rows.push(FailureRow { what: cells.join(" | "), tests });
        }
    }
    rows
}

/// Returns every test of the workspace by its path, and whether it is ignored.
fn tests() -> BTreeMap<String, bool> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = tests_below(&top.join("tests/it"));
    found.extend(tests_below(&top.join("tests/clients")));
    found.extend(tests_below(&top.join("crates")));
    found
}

/// Returns the test of this path, whose first modules may be left out, and whether it is ignored.
fn is_ignored(tests: &BTreeMap<String, bool>, path: &str) -> Option<bool> {
    let end = format!("::{path}");
    let found = |(name, _): &(&String, &bool)| *name == path || name.ends_with(&end);
    tests.iter().find(found).map(|(_, ignored)| *ignored)
}

fn tests_below(top: &Path) -> BTreeMap<String, bool> {
    let (mut found, mut open) = (BTreeMap::new(), vec![top.to_owned()]);
    while let Some(folder) = open.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let module = path
                    .strip_prefix(top)
                    .unwrap()
                    .with_extension("")
                    .to_str()
                    .unwrap()
                    .replace('/', "::");
                let module = module.trim_end_matches("::mod").to_owned();
                for (name, ignored) in tests_in(&fs::read_to_string(&path).unwrap()) {
                    found.insert(format!("{module}::{name}"), ignored);
                }
            }
        }
    }
    found
}

/// Returns the functions after a line `#[test]`, and whether they are ignored.
fn tests_in(source: &str) -> Vec<(String, bool)> {
    let (mut found, mut test, mut ignored) = (Vec::new(), false, false);
    for line in source.lines() {
        match line {
            "#[test]" => test = true,
            line if line.starts_with("#[ignore") => ignored = true,
            line if line.starts_with("#[") || line.starts_with("//") => {}
            line => {
                // Tests that another module runs too are public.
                let line = line.strip_prefix("pub ").unwrap_or(line);
                if let Some(name) =
                    line.strip_prefix("fn ").and_then(|rest| rest.split_once('(')).filter(|_| test)
                {
                    found.push((name.0.to_owned(), ignored));
                }
                (test, ignored) = (false, false);
            }
        }
    }
    found
}

#[test]
fn each_failure_has_a_test_that_runs() {
    let (rows, tests) = (rows(), tests());
    assert!(
        tests.contains_key("cluster::table::each_failure_has_a_test_that_runs"),
        "no tests were found"
    );
    assert!(rows.len() > 30, "only {} rows are read", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        if row.tests.is_empty() {
            wrong.push(format!("no test: {}", row.what));
        }
        for test in &row.tests {
            match is_ignored(&tests, test) {
                None => wrong.push(format!("there is no test {test}: {}", row.what)),
                Some(true) => wrong.push(format!("{test} is ignored: {}", row.what)),
                Some(false) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn tests_and_ignored_tests_are_parsed() {
    let source = "#[test]\npub fn one() {\n}\nfn no_test() {\n#[test]\n#[ignore = \"slow\"]\nfn two() {\n#[ignore]\n#[test]\nfn three() {\n";
    let found = tests_in(source);
    assert_eq!(
        found,
        [("one".to_owned(), false), ("two".to_owned(), true), ("three".to_owned(), true)]
    );
}
