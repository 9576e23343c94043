//! `--json`: one object for each command, with fixed keys for scripts.

use serde_json::Value;

use super::CommandFixture;
use crate::harness::Cluster;

fn keys(json: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

const ONE: [&str; 9] =
    ["bytes", "command", "local", "ok", "remote", "resumed_from", "seconds", "slaves", "verified"];
const MANY: [&str; 8] =
    ["bytes", "command", "failed", "files", "folders", "ok", "seconds", "slaves"];

#[test]
fn each_command_has_one_object_with_its_keys() {
    let fixture = CommandFixture::new(&[("a", b"1"), ("d/b", b"22")]);
    fixture.local("f", b"333");
    fixture.local("t/g", b"4444");
    let mut put = [ONE.as_slice(), &["version", "copies"]].concat();
    put.sort_unstable();
    for (command, expected) in [
        ("get a", ONE.to_vec()),
        ("put f", put),
        ("get a d/b", MANY.to_vec()),
        ("put f t/g", MANY.to_vec()),
        ("get -r d -o e", MANY.to_vec()),
        ("put -r t", MANY.to_vec()),
        ("mget a*", MANY.to_vec()),
        ("mput f*", MANY.to_vec()),
        ("ls", vec!["command", "entries", "ok"]),
        ("stat a", vec!["command", "entries", "ok"]),
        ("hash a", vec!["command", "entries", "ok"]),
        ("mkdir m", vec!["command", "ok", "version"]),
        ("mv f n", vec!["command", "ok", "version"]),
        ("rm n", vec!["command", "ok", "version"]),
        ("pwd", vec!["command", "ok", "path"]),
        ("lpwd", vec!["command", "ok", "path"]),
    ] {
        let json = fixture.says(command);
        let found: Vec<&str> = keys(&json).into_iter().filter(|key| *key != "skipped").collect();
        assert_eq!(found, expected, "{command}: {json}");
        assert_eq!(json["command"], command.split(' ').next().unwrap(), "{json}");
    }
    for command in [
        "help",
        "help get",
        "cd d",
        "lcd .",
        "lls",
        "status",
        "bye",
        "mirror d here",
        "mirror -R t there",
    ] {
        let json = fixture.says(command);
        assert_eq!(json["command"], command.split(' ').next().unwrap(), "{json}");
    }
}

#[test]
fn entries_and_errors_have_their_keys() {
    let fixture = CommandFixture::on_disk(&[("d/a", b"1")]);
    fixture.local("f", b"333");
    let version = fixture.says("put f -o d/")["version"].clone();
    let listed = fixture.says("ls d");
    assert_eq!(
        keys(&listed["entries"][0]),
        ["kind", "mode", "mtime", "name", "size", "version"],
        "{listed}"
    );
    assert!(listed["entries"][0]["version"].is_null());
    assert_eq!(listed["entries"][1]["version"], version);
    let stat = fixture.says("stat d/f d");
    assert!(
        keys(&stat["entries"][0])
            .starts_with(&["digest", "holders", "kind", "mode", "mtime", "name"]),
        "{stat}"
    );
    assert_eq!(stat["entries"][0]["holders"][0], fixture.slave.addr.to_string(), "{stat}");
    assert_eq!(stat["entries"][1]["kind"], "folder", "{stat}");
    let hash = fixture.says("hash d/f");
    assert_eq!(hash["entries"][0]["digest"], crate::harness::digest(b"333"));
    let failed = fixture.fails("stat d/nothing", "not-found");
    assert_eq!(keys(&failed["error"]), ["code", "message"], "{failed}");
    let failed = fixture.client.command("rm d/nothing d/nobody").fails(1).json();
    assert_eq!(keys(&failed["failed"][0]), ["error", "remote"], "{failed}");
    assert_eq!(failed["error"]["code"], "not-found", "{failed}");
}

#[test]
fn standard_output_has_only_objects() {
    let fixture = CommandFixture::new(&[("a", b"1")]);
    fixture.local("t/x", b"22");
    std::os::unix::fs::symlink("x", fixture.client.folder().join("t/link")).unwrap();
    let commands = [
        "get a",
        "put -r t",
        "nonsense",
        "get nothing",
        "mirror --dry-run / m",
        "get -r t -o u",
        "rm nothing t/x",
        "'",
        "bye",
    ];
    let args: Vec<&str> = ["--json", "--keep-going"]
        .into_iter()
        .chain(commands.iter().flat_map(|c| ["-c", *c]))
        .collect();
    let output = fixture.client.run(&args).fails(2);
    assert_eq!(output.objects().len(), commands.len(), "{output:?}");
}

#[test]
fn clusters_have_the_same_keys() {
    let cluster = Cluster::of(2).shared().file("a", b"1").file("d/b", b"22").start();
    cluster.wait_hashed();
    let client = cluster.client();
    for (command, expected) in
        [("get a", &ONE[..]), ("get -r d", &MANY), ("mget a", &MANY), ("get a d/b", &MANY)]
    {
        let json = client.command(command).ok().json();
        assert_eq!(keys(&json), expected, "{command}: {json}");
        assert!(json["slaves"].as_array().is_some_and(|all| !all.is_empty()), "{json}");
    }
    assert_eq!(client.run(&["-c", "cat d/b"]).ok().stdout, "22");
    client.command("mirror / all").ok();
    assert_eq!(client.read("all/d/b"), b"22");
}
