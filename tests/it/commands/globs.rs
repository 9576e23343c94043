//! `mget` and `mput`: the meaning of patterns, and limits on their cost.

use std::time::{Duration, Instant};

use super::{CommandFixture, tree};
use crate::harness::quote;

const FILES: [(&str, &[u8]); 12] = [
    ("a.txt", b"1"),
    ("b.txt", b"2"),
    ("c.bin", b"3"),
    ("ab.txt", b"4"),
    (".hidden", b"5"),
    ("d1/x.txt", b"6"),
    ("d1/y.txt", b"7"),
    ("d2/z.txt", b"8"),
    ("d2/e/w.txt", b"9"),
    ("d2/.dot.txt", b"10"),
    ("é.txt", b"11"),
    ("[odd]", b"12"),
];

/// Returns the base names of the files that a pattern fetches into an empty folder.
#[track_caller]
fn fetched(fixture: &CommandFixture, words: &str) -> Vec<String> {
    let into = fixture.client.folder().join("into");
    let _ = std::fs::remove_dir_all(&into);
    std::fs::create_dir(&into).unwrap();
    fixture.run(&["lcd into", &format!("mget {words}")]).ok();
    let mut names: Vec<String> = tree(&into)
        .into_iter()
        .filter(|name| !name.ends_with('/'))
        .map(|name| name.rsplit('/').next().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn patterns_mean_what_they_mean_in_a_shell() {
    let fixture = CommandFixture::new(&FILES);
    for (words, names) in [
        ("*.txt", &["a.txt", "ab.txt", "b.txt", "é.txt"][..]),
        ("?.txt", &["a.txt", "b.txt", "é.txt"]),
        ("[ab].txt", &["a.txt", "b.txt"]),
        ("[a-b]*.txt", &["a.txt", "ab.txt", "b.txt"]),
        ("[!a]*.txt", &["b.txt", "é.txt"]),
        ("{a,c}.*", &["a.txt", "c.bin"]),
        ("{a,b,nothing}.txt", &["a.txt", "b.txt"]),
        (".h*", &[".hidden"]),
        ("*/x.txt", &["x.txt"]),
        ("d?/*.txt", &["x.txt", "y.txt", "z.txt"]),
        ("d2/*/*", &["w.txt"]),
        ("/d1/[xy].txt", &["x.txt", "y.txt"]),
        ("a.txt d1/x.txt", &["a.txt", "x.txt"]),
        ("'[[]odd]'", &["[odd]"]),
        ("a* a.txt", &["a.txt", "ab.txt"]),
    ] {
        assert_eq!(fetched(&fixture, words), names, "{words}");
    }
    for nothing in ["*.nothing", "x*/y", "d1/*/*", "[z]", "a.txt/*", "*hidden"] {
        let json = fixture.fails(&format!("mget {nothing}"), "not-found");
        assert!(json["error"]["message"].as_str().unwrap().contains(nothing), "{json}");
    }
    // Relative to the remote folder, into the local folder.
    fixture.run(&["cd d1", "mget x* ../d2/z*"]).ok();
    assert_eq!(fixture.client.read("x.txt"), b"6");
}

#[test]
fn mput_matches_local_names() {
    let fixture = CommandFixture::new(&[("there/old", b"")]);
    for (name, bytes) in FILES {
        fixture.local(name, bytes);
    }
    fixture.run(&["cd there", "mput *.txt d1/*.txt"]).ok();
    let expected = ["a.txt", "ab.txt", "b.txt", "old", "x.txt", "y.txt", "é.txt"];
    let mut put: Vec<String> = tree(&fixture.slave.root.join("there"))
        .into_iter()
        .map(|n| n.rsplit('/').next().unwrap().to_owned())
        .collect();
    put.sort();
    assert_eq!(put, expected);
    fixture.fails("mput *.nothing", "local");
    fixture.fails("mput", "usage");
    fixture.fails("mget", "usage");
    // A pattern without a match is an error; the other files are still sent.
    let output = fixture.client.command("mput c.* *.nothing").fails(1);
    assert!(fixture.serves("c.bin"), "{output:?}");
}

#[test]
fn several_names_that_would_be_one_file_are_refused() {
    let fixture = CommandFixture::new(&[("d1/same", b"1"), ("d2/same", b"2")]);
    let output = fixture.client.command("mget d?/same");
    if output.status == 0 {
        // Every file then has a different name.
        assert_eq!(
            tree(&fixture.client.folder()).iter().filter(|name| name.ends_with("same")).count(),
            2,
            "one file replaced the other"
        );
    } else {
        assert!(
            !fixture.client.folder().join("same").exists() || output.json()["failed"].is_array(),
            "{output:?}"
        );
    }
}

#[test]
fn hostile_patterns_are_answered_soon() {
    let long = "a".repeat(255);
    let names: Vec<String> = (0..64).map(|n| format!("{}{n:02}", &long[..253])).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let fixture = CommandFixture::new(&files);
    for name in &names {
        fixture.local(name, b"");
    }
    let stars = "*a".repeat(60) + "*b";
    let marks = "?*".repeat(100) + "b";
    let classes = "[a-z]*".repeat(60) + "[0-9][!0-9]";
    let braces = "{a,b,c,d}".repeat(40);
    let commas = format!("{{{}}}", ",".repeat(50_000));
    let nested = "{a,".repeat(2000) + "b" + &"}".repeat(2000);
    let open = "{".repeat(3000);
    let brackets = "[".repeat(3000);
    let steps = "*/".repeat(1000) + "x";
    let many = "* ".repeat(500) + "nothing*";
    for pattern in [&stars, &marks, &classes, &braces, &commas, &nested, &open, &brackets, &steps] {
        for command in ["mget", "mput"] {
            let began = Instant::now();
            let output = fixture.client.command(&format!("{command} {}", quote(pattern)));
            assert!([1, 2].contains(&output.status), "{command} {:.40}: {output:?}", pattern);
            assert_eq!(output.json()["ok"], false);
            assert!(
                began.elapsed() < Duration::from_secs(5),
                "{command} {:.40} took {:?}",
                pattern,
                began.elapsed()
            );
        }
    }
    let began = Instant::now();
    fixture.client.command(&format!("mget {many}")).fails(1);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
