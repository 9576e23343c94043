//! What changes the tree and is no transfer: `mkdir`, `rm`, `mv`.

use super::{Lab, tree};

#[test]
fn folders_are_made() {
    let lab = Lab::new(&[("file", b"1")]);
    let json = lab.says("mkdir a");
    assert!(json["version"].as_str().unwrap().starts_with("1-"), "{json}");
    lab.fails("mkdir a", "exists");
    lab.fails("mkdir file", "not-folder");
    lab.fails("mkdir b/c", "not-found");
    lab.fails("mkdir file/c", "not-folder");
    lab.fails("mkdir -p file/c", "not-folder");
    lab.says("mkdir -p b/c/d");
    assert!(lab.says("mkdir -p b/c/d")["version"].is_null(), "nothing had to be made");
    lab.says("mkdir -p /");
    lab.fails("mkdir /", "exists");
    lab.fails("mkdir ..", "bad-name");
    lab.fails("mkdir .relais", "bad-name");
    lab.fails("mkdir", "usage");
    let json = lab.client.command("mkdir e a f").fails(1).json();
    assert_eq!(json["failed"].as_array().unwrap().len(), 1, "{json}");
    assert_eq!(json["failed"][0]["remote"], "/a", "{json}");
    assert_eq!(tree(&lab.slave.root), ["a/", "b/", "b/c/", "b/c/d/", "e/", "f/", "file"]);
    lab.run(&["cd b/c", "mkdir ../x"]).ok();
    assert!(lab.serves("b/x"));
}

#[test]
fn files_and_folders_are_removed() {
    let lab = Lab::new(&[("a", b"1"), ("b", b"2"), ("d/e/f", b"3"), ("d/g", b"4"), ("keep", b"5")]);
    assert!(lab.says("rm a")["version"].as_str().unwrap().starts_with("1-"));
    lab.fails("rm a", "not-found");
    lab.fails("rm d", "not-empty");
    let json = lab.client.command("rm b nothing").fails(1).json();
    assert_eq!(json["failed"][0]["remote"], "/nothing", "{json}");
    assert_eq!(tree(&lab.slave.root), ["d/", "d/e/", "d/e/f", "d/g", "keep"]);
    lab.says("rm -r d");
    lab.says("mkdir empty");
    // rmdir and rm are one.
    lab.says("rm empty");
    for top in ["rm -r /", "rm -r .", "rm /"] {
        let output = lab.client.command(top);
        assert!([1, 2].contains(&output.status), "{top}: {output:?}");
    }
    lab.client.command("rm -r ..").fails(1);
    lab.fails("rm -r .relais", "bad-name");
    assert_eq!(tree(&lab.slave.root), ["keep"]);
    assert!(lab.slave.root.join(".relais").is_dir());
}

#[test]
fn rm_r_takes_a_thousand_names_as_one_change() {
    let names: Vec<String> = (0..1000).map(|n| format!("d/{}/f{n}", n % 10)).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    let lab = Lab::on_disk(&files);
    lab.local("f", b"1");
    let number =
        |json: &serde_json::Value| json["version"].as_str().unwrap()[2..].parse::<u64>().unwrap();
    let before = number(&lab.says("put f"));
    let removed = number(&lab.says("rm -r d"));
    assert_eq!(removed, before + 1);
    assert_eq!(tree(&lab.slave.root), ["f"]);
}

#[test]
fn mv_is_a_rename() {
    let lab =
        Lab::new(&[("a", b"1"), ("b", b"2"), ("d/x", b"3"), ("d/e/y", b"4"), ("full/z", b"5")]);
    lab.says("mkdir empty");
    lab.says("mv a c");
    lab.says("mv c b");
    assert_eq!(lab.served("b"), b"1", "a file is replaced");
    lab.says("mv d/x top");
    lab.says("mv d moved");
    assert_eq!(lab.served("moved/e/y"), b"4");
    for (command, code) in [
        ("mv moved b", "exists"),
        ("mv nothing x", "not-found"),
        ("mv b nowhere/x", "not-found"),
        ("mv b top/x", "not-folder"),
    ] {
        let json = lab.client.command(command).fails(1).json();
        let found = json["error"]["code"].as_str().unwrap();
        // Onto a folder: what is told is that a folder is there, or that the name is taken.
        let alike = code == "exists" && ["is-folder", "exists", "not-folder"].contains(&found);
        assert!(found == code || alike, "{command}: {json}");
    }
    for into_itself in ["mv moved moved/e/in", "mv moved moved/in", "mv / x", "mv moved /.."] {
        let output = lab.client.command(into_itself);
        assert!([1, 2].contains(&output.status), "{into_itself}: {output:?}");
        assert_eq!(output.json()["ok"], false);
    }
    // An existing folder takes what is moved to it, unless it has that name already.
    lab.says("mv b full");
    lab.says("mv full/b empty/");
    lab.says("mv empty full");
    assert_eq!(lab.served("full/empty/b"), b"1");
    lab.says("mv full/empty /");
    lab.says("mv empty/b .");
    lab.says("mkdir full/empty");
    lab.fails("mv empty full", "exists");
    lab.says("rm full/empty");
    lab.fails("mv b", "usage");
    lab.fails("mv b top nothing", "not-found");
    lab.fails("mv b top moved/e/y", "not-folder");
    lab.run(&["cd moved/e", "mv y ../../out"]).ok();
    assert_eq!(
        tree(&lab.slave.root),
        ["b", "empty/", "full/", "full/z", "moved/", "moved/e/", "out", "top"]
    );
    // A name goes with its content, and what is told of it.
    assert_eq!(lab.stat("out")["digest"], crate::harness::digest(b"4"));
}

#[test]
fn what_was_changed_shows_in_the_same_session_at_once() {
    let lab = Lab::new(&[]);
    lab.local("f", b"1");
    let output = lab.client.run(&[
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
