//! One file there and back: `put`, `get -o`, `cat`, and what is told of it.

use std::io::Write;

use super::{Lab, mode, set_mode, set_time, time};
use crate::harness::{Client, content, digest, leftovers};

#[test]
fn what_is_put_is_there_whole_with_its_time_and_its_bit() {
    let lab = Lab::new(&[]);
    let bytes = content(1, 3_000_000);
    lab.local("tool", &bytes);
    let path = lab.client.folder().join("tool");
    set_mode(&path, 0o6755);
    set_time(&path, 1_600_000_000_123_456_789);
    let json = lab.says("put tool");
    assert_eq!(
        (&json["command"], &json["remote"], &json["bytes"]),
        (&"put".into(), &"/tool".into(), &3_000_000.into()),
        "{json}"
    );
    assert!(lab.served("tool") == bytes);
    let served = lab.slave.root.join("tool");
    assert_eq!(time(&served), time(&path));
    assert_eq!(mode(&served) & 0o7000, 0, "a set-user-id bit came along");
    assert_eq!(mode(&served) & 0o100, 0o100);
    // At once, and with the number that the put told.
    let entry = lab.stat("tool");
    assert_eq!(
        (&entry["digest"], &entry["version"], &entry["size"]),
        (&digest(&bytes).into(), &json["version"], &3_000_000.into()),
        "{entry}"
    );
    assert!(json["version"].as_str().unwrap().starts_with("1-"), "{json}");
    assert_eq!(entry["mtime"], "2020-09-13T12:26:40.123456789Z", "{entry}");
    assert_eq!(lab.says("hash tool")["entries"][0]["digest"], digest(&bytes));
    lab.says("get tool -o back");
    assert!(lab.client.read("back") == bytes);
    assert_eq!(leftovers(&lab.client.folder(), &["tool", "back"]), [] as [std::path::PathBuf; 0]);
}

#[test]
fn sizes_around_blocks_and_pieces_arrive() {
    let lab = Lab::new(&[]);
    for size in [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000] {
        let bytes = content(size as u64, size);
        lab.local("f", &bytes);
        let json = lab.says("put f");
        assert_eq!(json["bytes"], size, "{json}");
        assert!(lab.served("f") == bytes, "{size} bytes arrived changed");
        assert_eq!(lab.stat("f")["version"], json["version"], "each put has a number of its own");
    }
}

#[test]
fn where_a_put_goes() {
    let lab = Lab::new(&[("there/x", b"x"), ("file", b"old")]);
    lab.local("a.txt", b"some text");
    lab.local("sub/b.txt", b"more text");
    for (commands, remote) in [
        (&["put a.txt"][..], "a.txt"),
        (&["put a.txt -o other"], "other"),
        (&["put -o first a.txt"], "first"),
        (&["put a.txt -o there"], "there/a.txt"),
        (&["put a.txt -o there/"], "there/a.txt"),
        (&["put a.txt -o there/c"], "there/c"),
        (&["put a.txt -o /there/./x/../d"], "there/d"),
        (&["put ./sub/../a.txt -o /e"], "e"),
        (&["put a.txt -o file"], "file"),
        (&["cd there", "put a.txt -o f"], "there/f"),
        (&["lcd sub", "put ../a.txt -o g"], "g"),
    ] {
        lab.run(commands).ok();
        assert_eq!(lab.served(remote), b"some text", "{commands:?}");
    }
    lab.says("put sub/b.txt");
    assert_eq!(lab.served("b.txt"), b"more text");
    // A put makes no folders, and no folder of a file.
    lab.fails("put a.txt -o nowhere/x", "not-found");
    lab.fails("put a.txt -o nowhere/", "not-found");
    lab.fails("put a.txt -o file/", "not-folder");
    lab.fails("put a.txt -o file/x", "not-folder");
    lab.fails("put a.txt -o /../x", "bad-name");
    assert!(!lab.serves("nowhere"));
}

#[test]
fn several_files_are_put_and_each_failure_is_told() {
    let lab = Lab::new(&[("d/x", b"x")]);
    lab.local("a", b"12");
    lab.local("b", b"345");
    let output = lab.client.command("put a nothing b -o d/").fails(1);
    let json = output.json();
    assert_eq!(
        (&json["ok"], &json["files"], &json["bytes"]),
        (&false.into(), &2.into(), &5.into()),
        "{json}"
    );
    let failed = json["failed"].as_array().unwrap();
    assert_eq!(failed.len(), 1, "{json}");
    assert!(
        failed[0]["remote"].as_str().unwrap().contains("nothing")
            && failed[0]["error"]["code"] == "local",
        "{json}"
    );
    assert_eq!((lab.served("d/a"), lab.served("d/b")), (b"12".to_vec(), b"345".to_vec()));
    // Into what is no folder: nothing is put at all.
    lab.client.command("put a b -o new").fails(1);
    assert!(!lab.serves("new"));
    let text = lab.run(&["put a nothing b -o d/"]).fails(1);
    assert!(text.stderr.contains("nothing"), "{text:?}");
}

#[test]
fn local_things_that_are_no_files_are_refused() {
    let lab = Lab::new(&[]);
    let folder = lab.client.folder();
    lab.local("dir/x", b"x");
    nix::unistd::mkfifo(&folder.join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    lab.fails("put dir", "is-folder");
    // Not even opened: that would hang.
    lab.fails("put fifo", "local");
    lab.fails("put missing", "local");
    lab.fails("put", "usage");
    lab.fails("put dir/x -o", "usage");
    lab.fails("put dir/x --nonsense", "usage");
    assert_eq!(lab.ls("/"), Vec::<String>::new());
}

#[test]
fn standard_input_is_put_and_content_goes_to_standard_output() {
    let lab = Lab::new(&[("d/x", b"")]);
    for (text, name) in [("", "empty"), ("no line end", "plain"), ("lines\nof\ntext\n", "d/lines")]
    {
        let mut program =
            lab.client.setup(&["--json", "-c", &format!("put - -o {name}")]).with_stdin().start();
        program.type_in(text);
        program.close_stdin();
        let json = Client::finish(&mut program).ok().json();
        assert_eq!((&json["bytes"], &json["local"]), (&text.len().into(), &"-".into()), "{json}");
        assert_eq!(lab.served(name), text.as_bytes());
        for command in [format!("cat {name}"), format!("get {name} -o -")] {
            let output = lab.run(&[&command]).ok();
            assert_eq!(output.stdout, text, "{output:?}");
            let output = lab.client.command(&command).ok();
            assert_eq!(output.stdout, text, "only the content: {output:?}");
            let object: serde_json::Value = serde_json::from_str(output.stderr.trim())
                .unwrap_or_else(|e| panic!("{e}: {output:?}"));
            assert_eq!(
                (&object["ok"], &object["bytes"]),
                (&true.into(), &text.len().into()),
                "{object}"
            );
        }
    }
    // Without a name, or where standard input is what commands come from.
    lab.fails("put -", "usage");
    let mut program = lab.client.setup(&["--json"]).with_stdin().start();
    program.type_in("put - -o stolen\nmkdir was-content\n");
    program.close_stdin();
    Client::finish(&mut program).fails(2);
    assert!(!lab.serves("stolen") && !lab.serves("was-content"));
}

#[test]
fn much_standard_input_in_many_pieces() {
    let lab = Lab::new(&[]);
    let mut expected = Vec::new();
    let mut program = lab.client.setup(&["--json", "-c", "put - -o piped"]).with_stdin().start();
    for n in 0..200 {
        let piece = format!("{n:05}").repeat(n * 7);
        program.type_in(&piece);
        expected.write_all(piece.as_bytes()).unwrap();
    }
    program.close_stdin();
    Client::finish(&mut program).ok();
    assert!(lab.served("piped") == expected);
}

#[test]
fn a_content_in_two_parts_for_cat() {
    let lab = Lab::new(&[("a", b"first\n"), ("b", b"second\n")]);
    assert_eq!(lab.run(&["cat a", "cat b"]).ok().stdout, "first\nsecond\n");
    let several = lab.run(&["cat a nothing b"]).fails(1);
    assert_eq!(several.stdout, "first\nsecond\n", "{several:?}");
    assert!(several.stderr.contains("nothing"), "{several:?}");
    let failed = lab.run(&["cat nothing"]).fails(1);
    assert_eq!(failed.stdout, "");
    lab.run(&["cat /"]).fails(1);
}

#[test]
fn a_put_with_a_version_wants_that_version() {
    let lab = Lab::on_disk(&[("unnumbered", b"there before")]);
    lab.local("f", b"one");
    let first = lab.says("put f")["version"].as_str().unwrap().to_owned();
    lab.local("f", b"two");
    let second =
        lab.says(&format!("put f --if-version {first}"))["version"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(lab.served("f"), b"two");
    lab.local("f", b"three");
    for stale in [first.as_str(), "1-999999", "7-1"] {
        lab.fails(&format!("put f --if-version {stale}"), "changed");
        assert_eq!(lab.served("f"), b"two");
    }
    lab.fails(&format!("put f -o unnumbered --if-version {second}"), "changed");
    lab.fails(&format!("put f -o absent --if-version {second}"), "changed");
    assert!(!lab.serves("absent"));
    assert_eq!(lab.served("unnumbered"), b"there before");
    lab.fails("put f --if-version nonsense", "usage");
    lab.says(&format!("put f --if-version {second}"));
    assert_eq!(lab.served("f"), b"three");
}
