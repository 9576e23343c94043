//! Single files: `put`, `get -o`, `cat`, and their output.

use std::io::Write;

use super::{CommandFixture, mode, set_mode, set_time, time};
use crate::harness::{Client, content, digest, leftovers};

#[test]
fn a_put_keeps_content_time_and_executable_bit() {
    let fixture = CommandFixture::new(&[]);
    let bytes = content(1, 3_000_000);
    fixture.local("tool", &bytes);
    let path = fixture.client.folder().join("tool");
    set_mode(&path, 0o6755);
    set_time(&path, 1_600_000_000_123_456_789);
    let json = fixture.says("put tool");
    assert_eq!(
        (&json["command"], &json["remote"], &json["bytes"]),
        (&"put".into(), &"/tool".into(), &3_000_000.into()),
        "{json}"
    );
    assert!(fixture.served("tool") == bytes);
    let served = fixture.slave.root.join("tool");
    assert_eq!(time(&served), time(&path));
    assert_eq!(mode(&served) & 0o7000, 0, "the set-user-id bit was kept");
    assert_eq!(mode(&served) & 0o100, 0o100);
    // Visible at once, with the version that the put returned.
    let entry = fixture.stat("tool");
    assert_eq!(
        (&entry["digest"], &entry["version"], &entry["size"]),
        (&digest(&bytes).into(), &json["version"], &3_000_000.into()),
        "{entry}"
    );
    assert!(json["version"].as_str().unwrap().starts_with("1-"), "{json}");
    assert_eq!(entry["mtime"], "2020-09-13T12:26:40.123456789Z", "{entry}");
    assert_eq!(fixture.says("hash tool")["entries"][0]["digest"], digest(&bytes));
    fixture.says("get tool -o back");
    assert!(fixture.client.read("back") == bytes);
    assert_eq!(
        leftovers(&fixture.client.folder(), &["tool", "back"]),
        [] as [std::path::PathBuf; 0]
    );
}

#[test]
fn sizes_around_blocks_and_pieces_arrive() {
    let fixture = CommandFixture::new(&[]);
    for size in [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5_000_000] {
        let bytes = content(size as u64, size);
        fixture.local("f", &bytes);
        let json = fixture.says("put f");
        assert_eq!(json["bytes"], size, "{json}");
        assert!(fixture.served("f") == bytes, "{size} bytes arrived changed");
        assert_eq!(fixture.stat("f")["version"], json["version"], "two puts have the same version");
    }
}

#[test]
fn a_put_resolves_its_target() {
    let fixture = CommandFixture::new(&[("there/x", b"x"), ("file", b"old")]);
    fixture.local("a.txt", b"some text");
    fixture.local("sub/b.txt", b"more text");
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
        fixture.run(commands).ok();
        assert_eq!(fixture.served(remote), b"some text", "{commands:?}");
    }
    fixture.says("put sub/b.txt");
    assert_eq!(fixture.served("b.txt"), b"more text");
    // A put creates no folders and does not turn a file into one.
    fixture.fails("put a.txt -o nowhere/x", "not-found");
    fixture.fails("put a.txt -o nowhere/", "not-found");
    fixture.fails("put a.txt -o file/", "not-folder");
    fixture.fails("put a.txt -o file/x", "not-folder");
    fixture.fails("put a.txt -o /../x", "bad-name");
    assert!(!fixture.serves("nowhere"));
}

#[test]
fn several_files_are_put_and_each_failure_is_reported() {
    let fixture = CommandFixture::new(&[("d/x", b"x")]);
    fixture.local("a", b"12");
    fixture.local("b", b"345");
    let output = fixture.client.command("put a nothing b -o d/").fails(1);
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
    assert_eq!((fixture.served("d/a"), fixture.served("d/b")), (b"12".to_vec(), b"345".to_vec()));
    // The target is not a folder: no file is sent.
    fixture.client.command("put a b -o new").fails(1);
    assert!(!fixture.serves("new"));
    let text = fixture.run(&["put a nothing b -o d/"]).fails(1);
    assert!(text.stderr.contains("nothing"), "{text:?}");
}

#[test]
fn local_entries_other_than_files_are_refused() {
    let fixture = CommandFixture::new(&[]);
    let folder = fixture.client.folder();
    fixture.local("dir/x", b"x");
    nix::unistd::mkfifo(&folder.join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    fixture.fails("put dir", "is-folder");
    // The FIFO is not opened, because that would block.
    fixture.fails("put fifo", "local");
    fixture.fails("put missing", "local");
    fixture.fails("put", "usage");
    fixture.fails("put dir/x -o", "usage");
    fixture.fails("put dir/x --nonsense", "usage");
    assert_eq!(fixture.ls("/"), Vec::<String>::new());
}

#[test]
fn standard_input_is_put_and_content_goes_to_standard_output() {
    let fixture = CommandFixture::new(&[("d/x", b"")]);
    for (text, name) in [("", "empty"), ("no line end", "plain"), ("lines\nof\ntext\n", "d/lines")]
    {
        let mut program = fixture
            .client
            .setup(&["--json", "-c", &format!("put - -o {name}")])
            .with_stdin()
            .start();
        program.type_in(text);
        program.close_stdin();
        let json = Client::finish(&mut program).ok().json();
        assert_eq!((&json["bytes"], &json["local"]), (&text.len().into(), &"-".into()), "{json}");
        assert_eq!(fixture.served(name), text.as_bytes());
        for command in [format!("cat {name}"), format!("get {name} -o -")] {
            let output = fixture.run(&[&command]).ok();
            assert_eq!(output.stdout, text, "{output:?}");
            let output = fixture.client.command(&command).ok();
            assert_eq!(output.stdout, text, "other output than the content: {output:?}");
            let object: serde_json::Value = serde_json::from_str(output.stderr.trim())
                .unwrap_or_else(|e| panic!("{e}: {output:?}"));
            assert_eq!(
                (&object["ok"], &object["bytes"]),
                (&true.into(), &text.len().into()),
                "{object}"
            );
        }
    }
    // Without a name, or when standard input has the commands.
    fixture.fails("put -", "usage");
    let mut program = fixture.client.setup(&["--json"]).with_stdin().start();
    program.type_in("put - -o stolen\nmkdir was-content\n");
    program.close_stdin();
    Client::finish(&mut program).fails(2);
    assert!(!fixture.serves("stolen") && !fixture.serves("was-content"));
}

#[test]
fn much_standard_input_in_many_pieces() {
    let fixture = CommandFixture::new(&[]);
    let mut expected = Vec::new();
    let mut program =
        fixture.client.setup(&["--json", "-c", "put - -o piped"]).with_stdin().start();
    for n in 0..200 {
        let piece = format!("{n:05}").repeat(n * 7);
        program.type_in(&piece);
        expected.write_all(piece.as_bytes()).unwrap();
    }
    program.close_stdin();
    Client::finish(&mut program).ok();
    assert!(fixture.served("piped") == expected);
}

#[test]
fn cat_prints_several_files() {
    let fixture = CommandFixture::new(&[("a", b"first\n"), ("b", b"second\n")]);
    assert_eq!(fixture.run(&["cat a", "cat b"]).ok().stdout, "first\nsecond\n");
    let several = fixture.run(&["cat a nothing b"]).fails(1);
    assert_eq!(several.stdout, "first\nsecond\n", "{several:?}");
    assert!(several.stderr.contains("nothing"), "{several:?}");
    let failed = fixture.run(&["cat nothing"]).fails(1);
    assert_eq!(failed.stdout, "");
    fixture.run(&["cat /"]).fails(1);
}

#[test]
fn a_change_with_if_version_requires_that_version() {
    let fixture = CommandFixture::on_disk(&[("unnumbered", b"there before")]);
    fixture.local("f", b"one");
    let first = fixture.says("put f")["version"].as_str().unwrap().to_owned();
    fixture.local("f", b"two");
    let second = fixture.says(&format!("put f --if-version {first}"))["version"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_ne!(first, second);
    assert_eq!(fixture.served("f"), b"two");
    fixture.local("f", b"three");
    for stale in [first.as_str(), "1-999999", "7-1"] {
        fixture.fails(&format!("put f --if-version {stale}"), "changed");
        assert_eq!(fixture.served("f"), b"two");
    }
    fixture.fails(&format!("put f -o unnumbered --if-version {second}"), "changed");
    fixture.fails(&format!("put f -o absent --if-version {second}"), "changed");
    assert!(!fixture.serves("absent"));
    assert_eq!(fixture.served("unnumbered"), b"there before");
    fixture.fails("put f --if-version nonsense", "usage");
    let third = fixture.says(&format!("put f --if-version {second}"))["version"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(fixture.served("f"), b"three");
    fixture.fails(&format!("mv f g --if-version {second}"), "changed");
    fixture.fails(&format!("rm f --if-version {second}"), "changed");
    let moved = fixture.says(&format!("mv f g --if-version {third}"))["version"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(fixture.served("g"), b"three");
    fixture.says(&format!("rm g --if-version {moved}"));
    assert!(!fixture.serves("g"));
}
