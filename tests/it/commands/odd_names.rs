//! Unusual names: uploaded, downloaded, moved and removed, also in folders; and invalid names.

use super::{CommandFixture, tree};
use crate::harness::quote;

fn odd_names() -> Vec<String> {
    let mut names: Vec<String> = [
        "-r",
        "--json",
        "--",
        "-",
        "with space",
        " leading and trailing ",
        "'quoted'",
        "\"double\"",
        "back\\slash",
        "it's",
        "$HOME",
        "`id`",
        "*",
        "?",
        "[a]",
        "{a,b}",
        "~",
        "#hash",
        "!bang",
        "a;b&c|d",
        "<>",
        "ünï-日本語-😀.txt",
        "e\u{301}",
        "\u{202e}txt.exe",
        "...",
        "..a",
        ".hidden",
        "a:b",
        "%41",
        "n\u{a0}bsp",
    ]
    .map(str::to_owned)
    .to_vec();
    names.push("n".repeat(255));
    names.push("é".repeat(127));
    names
}

#[test]
fn odd_names_survive_a_round_trip() {
    let fixture = CommandFixture::new(&[]);
    fixture.says("mkdir d");
    let names = odd_names();
    for name in &names {
        fixture.local(&format!("out/{name}"), name.as_bytes());
    }
    // One command for each name, in one run: from standard input, which has only the client's own
    // quoting.
    let mut commands = String::from("lcd out\ncd d\n");
    for name in &names {
        // A single `-` means standard input, so this name needs a folder.
        let name = if name == "-" { "./-" } else { name };
        commands += &format!("put -- {}\n", quote(name));
    }
    commands += "lcd\nlcd back\n";
    for name in &names {
        commands += &format!(
            "get -- {0}\nstat -- {0}\nhash -- {0}\n",
            quote(if name == "-" { "./-" } else { name })
        );
    }
    std::fs::create_dir(fixture.client.folder().join("back")).unwrap();
    run_all(&fixture, &commands);
    for name in &names {
        assert_eq!(fixture.served(&format!("d/{name}")), name.as_bytes(), "{name}");
        assert_eq!(fixture.client.read(&format!("back/{name}")), name.as_bytes(), "{name}");
    }
    assert_eq!(tree(&fixture.slave.root.join("d")).len(), names.len());
    let mut commands = String::from("cd d\n");
    for (n, name) in names.iter().enumerate() {
        commands += &format!(
            "mv -- {} m{n}\nmv m{n} {}\n",
            quote(&format!("./{name}")),
            quote(&format!("./{name}"))
        );
        commands += &format!("rm -- {}\n", quote(&format!("./{name}")));
    }
    run_all(&fixture, &commands);
    assert_eq!(tree(&fixture.slave.root), ["d/"]);
}

#[track_caller]
fn run_all(fixture: &CommandFixture, commands: &str) {
    let mut program = fixture.client.setup(&["--json"]).with_stdin().start();
    program.type_in(commands);
    program.close_stdin();
    crate::harness::Client::finish(&mut program).ok();
}

#[test]
fn odd_names_in_whole_trees() {
    let fixture = CommandFixture::new(&[]);
    let names = odd_names();
    for name in &names {
        fixture.local(&format!("t/f/{name}"), name.as_bytes());
        fixture.local(&format!("t/d/{name}/x"), b"");
    }
    fixture.says("put -r t");
    assert_eq!(tree(&fixture.slave.root.join("t")), tree(&fixture.client.folder().join("t")));
    fixture.says("get -r t -o back");
    let back = tree(&fixture.client.folder().join("back"));
    // Into a new folder, which becomes the tree's new name.
    assert_eq!(back, tree(&fixture.slave.root.join("t")));
    fixture.says("mkdir m");
    fixture.local("g/one", b"1");
    fixture.run(&["lcd t/f", "cd m", "mput -- * .h* ..[a] ..."]).ok();
    let put = tree(&fixture.slave.root.join("m"));
    assert_eq!(put, tree(&fixture.client.folder().join("t/f")));
}

#[test]
fn invalid_names_are_refused_before_they_are_sent() {
    let fixture = CommandFixture::new(&[("d/x", b"1")]);
    fixture.local("f", b"1");
    let long = "n".repeat(256);
    let deep = vec!["d".repeat(200); 21].join("/");
    let bad = [
        "a\nb",
        "a\tb",
        "a\u{1b}[2Jb",
        "a\u{7f}",
        "a\u{9b}b",
        "a\u{85}b",
        long.as_str(),
        deep.as_str(),
        ".relais/x",
        ".RELAIS/x",
        ".relais. /x",
    ];
    for name in bad {
        for command in ["put f -o", "mkdir", "mkdir -p", "mv d/x", "get", "stat", "rm -r", "cd"] {
            let output = fixture.client.command(&format!("{command} {}", quote(name)));
            assert_eq!(output.status, 1, "{command} {name:?}: {output:?}");
            assert_eq!(output.json()["error"]["code"], "bad-name", "{command} {name:?}");
            super::assert_no_escapes(&output);
        }
    }
    assert_eq!(tree(&fixture.slave.root), ["d/", "d/x"]);
    // Empty words are not names.
    for command in ["put f -o ''", "mkdir ''", "rm ''", "get ''"] {
        assert_ne!(fixture.client.command(command).status, 0, "{command}");
    }
    assert_eq!(tree(&fixture.slave.root), ["d/", "d/x"]);
}

#[test]
fn unsendable_local_names_are_reported_and_skipped() {
    use std::os::unix::ffi::OsStrExt;
    let fixture = CommandFixture::new(&[]);
    fixture.local("t/good", b"1");
    fixture.local("t/control\u{1b}[2J", b"2");
    fixture.local("t/new\nline", b"3");
    fixture.local("t/sub/.relais-looks-alike", b"4");
    let bytes =
        fixture.client.folder().join("t").join(std::ffi::OsStr::from_bytes(b"not-utf8-\xff"));
    std::fs::write(bytes, "5").unwrap();
    let output = fixture.run(&["put -r t"]);
    super::assert_no_escapes(&output);
    assert_eq!(tree(&fixture.slave.root), ["t/", "t/good", "t/sub/", "t/sub/.relais-looks-alike"]);
    assert!(output.stderr.contains("skipped") || output.stdout.contains("skipped"), "{output:?}");
    let json = fixture.client.command("put -r t").json();
    assert_eq!(json["skipped"].as_array().unwrap().len(), 3, "{json}");
}
