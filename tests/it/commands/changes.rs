//! Changes of the tree other than transfers: `mkdir`, `rm`, `mv`.

use super::{CommandFixture, tree};

#[test]
fn folders_are_made() {
    let fixture = CommandFixture::new(&[("file", b"1")]);
    let json = fixture.says("mkdir a");
    assert!(json["version"].as_str().unwrap().starts_with("1-"), "{json}");
    fixture.fails("mkdir a", "exists");
    fixture.fails("mkdir file", "not-folder");
    fixture.fails("mkdir b/c", "not-found");
    fixture.fails("mkdir file/c", "not-folder");
    fixture.fails("mkdir -p file/c", "not-folder");
    fixture.says("mkdir -p b/c/d");
    assert!(fixture.says("mkdir -p b/c/d")["version"].is_null(), "all folders existed");
    fixture.says("mkdir -p /");
    fixture.fails("mkdir /", "exists");
    fixture.fails("mkdir ..", "bad-name");
    fixture.fails("mkdir .relais", "bad-name");
    fixture.fails("mkdir", "usage");
    let json = fixture.client.command("mkdir e a f").fails(1).json();
    assert_eq!(json["failed"].as_array().unwrap().len(), 1, "{json}");
    assert_eq!(json["failed"][0]["remote"], "/a", "{json}");
    assert_eq!(tree(&fixture.slave.root), ["a/", "b/", "b/c/", "b/c/d/", "e/", "f/", "file"]);
    fixture.run(&["cd b/c", "mkdir ../x"]).ok();
    assert!(fixture.serves("b/x"));
}

#[test]
fn files_and_folders_are_removed() {
    let fixture = CommandFixture::new(&[
        ("a", b"1"),
        ("b", b"2"),
        ("d/e/f", b"3"),
        ("d/g", b"4"),
        ("keep", b"5"),
    ]);
    assert!(fixture.says("rm a")["version"].as_str().unwrap().starts_with("1-"));
    fixture.fails("rm a", "not-found");
    fixture.fails("rm d", "not-empty");
    let json = fixture.client.command("rm b nothing").fails(1).json();
    assert_eq!(json["failed"][0]["remote"], "/nothing", "{json}");
    assert_eq!(tree(&fixture.slave.root), ["d/", "d/e/", "d/e/f", "d/g", "keep"]);
    fixture.says("rm -r d");
    fixture.says("mkdir empty");
    // `rm` also removes empty folders.
    fixture.says("rm empty");
    for top in ["rm -r /", "rm -r .", "rm /"] {
        let output = fixture.client.command(top);
        assert!([1, 2].contains(&output.status), "{top}: {output:?}");
    }
    fixture.client.command("rm -r ..").fails(1);
    fixture.fails("rm -r .relais", "bad-name");
    assert_eq!(tree(&fixture.slave.root), ["keep"]);
    assert!(fixture.slave.root.join(".relais").is_dir());
}

#[test]
fn rm_r_takes_a_thousand_names_as_one_change() {
    let names: Vec<String> = (0..1000).map(|n| format!("d/{}/f{n}", n % 10)).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    let fixture = CommandFixture::on_disk(&files);
    fixture.local("f", b"1");
    let number =
        |json: &serde_json::Value| json["version"].as_str().unwrap()[2..].parse::<u64>().unwrap();
    fixture.says("put f");
    let removed = number(&fixture.says("rm -r d"));
    // Each file, each of eleven folders and the put have a number.
    assert_eq!(removed, 1000 + 11 + 1 + 1);
    assert_eq!(tree(&fixture.slave.root), ["f"]);
}

#[test]
fn mv_is_a_rename() {
    let fixture = CommandFixture::new(&[
        ("a", b"1"),
        ("b", b"2"),
        ("d/x", b"3"),
        ("d/e/y", b"4"),
        ("full/z", b"5"),
    ]);
    fixture.says("mkdir empty");
    fixture.says("mv a c");
    fixture.says("mv c b");
    assert_eq!(fixture.served("b"), b"1", "a file is replaced");
    fixture.says("mv d/x top");
    fixture.says("mv d moved");
    assert_eq!(fixture.served("moved/e/y"), b"4");
    for (command, code) in [
        ("mv moved b", "exists"),
        ("mv nothing x", "not-found"),
        ("mv b nowhere/x", "not-found"),
        ("mv b top/x", "not-folder"),
    ] {
        let json = fixture.client.command(command).fails(1).json();
        let found = json["error"]["code"].as_str().unwrap();
        // Onto a folder: the error is `is-folder` or `exists`.
        let alike = code == "exists" && ["is-folder", "exists", "not-folder"].contains(&found);
        assert!(found == code || alike, "{command}: {json}");
    }
    for into_itself in ["mv moved moved/e/in", "mv moved moved/in", "mv / x", "mv moved /.."] {
        let output = fixture.client.command(into_itself);
        assert!([1, 2].contains(&output.status), "{into_itself}: {output:?}");
        assert_eq!(output.json()["ok"], false);
    }
    // An existing folder receives the moved entry, unless it has an entry of that name.
    fixture.says("mv b full");
    fixture.says("mv full/b empty/");
    fixture.says("mv empty full");
    assert_eq!(fixture.served("full/empty/b"), b"1");
    fixture.says("mv full/empty /");
    fixture.says("mv empty/b .");
    fixture.says("mkdir full/empty");
    fixture.fails("mv empty full", "exists");
    fixture.says("rm full/empty");
    fixture.fails("mv b", "usage");
    fixture.fails("mv b top nothing", "not-found");
    fixture.fails("mv b top moved/e/y", "not-folder");
    fixture.run(&["cd moved/e", "mv y ../../out"]).ok();
    assert_eq!(
        tree(&fixture.slave.root),
        ["b", "empty/", "full/", "full/z", "moved/", "moved/e/", "out", "top"]
    );
    // The digest moves with the file.
    assert_eq!(fixture.stat("out")["digest"], crate::harness::digest(b"4"));
}

#[test]
fn a_session_sees_its_own_changes_at_once() {
    let fixture = CommandFixture::new(&[]);
    fixture.local("f", b"1");
    let output = fixture.client.run(&[
        "--json",
        "-c",
        "mkdir d",
        "-c",
        "put f -o d/",
        "-c",
        "ls d",
        "-c",
        "mv d/f g",
        "-c",
        "ls d",
        "-c",
        "rm g",
        "-c",
        "ls",
        "-c",
        "rm d",
        "-c",
        "ls",
    ]);
    let names = |json: &serde_json::Value| {
        json["entries"].as_array().map(|all| {
            all.iter().map(|e| e["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        })
    };
    let listed: Vec<_> = output.ok().objects().iter().filter_map(names).collect();
    assert_eq!(listed, [vec!["f".to_owned()], vec![], vec!["d".to_owned()], vec![]]);
}
