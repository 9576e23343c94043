//! Downloads of whole files: sizes around the block size, names, targets, output and exit statuses.

use std::fs;

use crate::harness::{
    Client, Cluster, ProgramBuilder, SOON, Standalone, TestDir, content, digest, eventually,
    leftovers, quote,
};

/// Returns sizes at which an off-by-one error would show.
fn sizes(block: usize) -> Vec<usize> {
    vec![0, 1, block - 1, block, block + 1, 10 * block + 7]
}

fn all_sizes_arrive(block: usize) {
    let files: Vec<(String, Vec<u8>)> =
        sizes(block).into_iter().map(|n| (format!("f{n}"), content(n as u64, n))).collect();
    let refs: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), b.as_slice())).collect();
    let slave = Standalone::start(&["--block-size", &block.to_string()], &refs);
    let client = slave.client();
    for (name, bytes) in &files {
        let json = client.get(name);
        assert!(client.read(name) == *bytes, "{name} with blocks of {block} arrived changed");
        assert_eq!(json["bytes"], bytes.len(), "{json}");
        assert_eq!(json["resumed_from"], 0, "{json}");
        assert_eq!(json["slaves"], serde_json::json!([slave.addr.to_string()]), "{json}");
    }
    let names: Vec<&str> = refs.iter().map(|(n, _)| *n).collect();
    assert_eq!(leftovers(&client.folder(), &names), [] as [std::path::PathBuf; 0]);
}

#[test]
fn blocks_of_1_byte() {
    all_sizes_arrive(1);
}

#[test]
fn blocks_of_9_bytes() {
    all_sizes_arrive(9);
}

#[test]
fn blocks_of_4_kib() {
    all_sizes_arrive(4096);
}

#[test]
fn blocks_of_64_kib() {
    all_sizes_arrive(64 << 10);
}

#[test]
fn blocks_of_1_mib() {
    all_sizes_arrive(1 << 20);
}

#[test]
fn blocks_of_4_mib() {
    all_sizes_arrive(4 << 20);
}

#[test]
fn block_sizes_out_of_range_are_a_usage_error() {
    let home = TestDir::new();
    for bad in ["0", "4194305", "x", "-1"] {
        let mut slave = ProgramBuilder::new("ftpslave", home.path())
            .args([
                "0",
                "--standalone",
                "--root",
                home.folder("root").to_str().unwrap(),
                "--block-size",
                bad,
            ])
            .start();
        assert_eq!(slave.wait(SOON), 2, "--block-size {bad}");
    }
}

#[test]
fn names_of_all_kinds() {
    let long = "n".repeat(255);
    let names = [
        "with space",
        "ünï-日本語.txt",
        "-r",
        "--json",
        "'quoted'",
        "\"double\"",
        "back\\slash",
        "$HOME",
        "*",
        "~",
        "#hash",
        "a;b",
        ".hidden",
        long.as_str(),
        "deep/er/and deeper/file",
    ];
    let files: Vec<(&str, &[u8])> = names.iter().map(|n| (*n, n.as_bytes())).collect();
    let slave = Standalone::start(&[], &files);
    let client = slave.client();
    for name in names {
        let last = name.rsplit('/').next().unwrap();
        let json = client.command(&format!("get -- {}", quote(name))).ok().json();
        assert_eq!(json["remote"], format!("/{name}"), "{json}");
        assert_eq!(client.read(last), name.as_bytes(), "{name}");
    }
}

#[test]
fn a_remote_log_does_not_overwrite_the_log() {
    let slave = Standalone::start(&[], &[(".log", b"from afar")]);
    let client = slave.client();
    let output = client.command("get .log");
    assert_ne!(output.status, 0, "{output:?}");
    assert!(!client.folder().join(".log").exists());
    client.command("get .log -o elsewhere").ok();
    assert_eq!(client.read("elsewhere"), b"from afar");
}

#[test]
fn a_get_resolves_its_target() {
    let slave = Standalone::start(&[], &[("a.txt", b"some text"), ("sub/b.txt", b"more text")]);
    let client = slave.client();
    fs::create_dir(client.folder().join("there")).unwrap();
    for (command, local) in [
        ("get a.txt", "a.txt"),
        ("get /a.txt -o other", "other"),
        ("get -o first a.txt", "first"),
        ("get a.txt -o there", "there/a.txt"),
        ("get a.txt -o there/", "there/a.txt"),
        ("get a.txt -o there/c", "there/c"),
        ("get sub/../a.txt -o d", "d"),
    ] {
        client.command(command).ok();
        assert_eq!(client.read(local), b"some text", "{command}");
        fs::remove_file(client.folder().join(local)).unwrap();
    }
    client.command("get sub/b.txt").ok();
    assert_eq!(client.read("b.txt"), b"more text");
    client.run(&["-c", "cd sub", "-c", "get b.txt -o from-cd"]).ok();
    assert_eq!(client.read("from-cd"), b"more text");
    let json = client.command("get a.txt").ok().json();
    assert!(json["local"].as_str().unwrap().ends_with("a.txt"), "{json}");
}

#[test]
fn an_existing_file_is_replaced_only_by_a_whole_one() {
    let slave = Standalone::start(&[], &[("a.txt", b"new text")]);
    let client = slave.client();
    fs::write(client.folder().join("a.txt"), "old text, and longer than the new one").unwrap();
    client.get("a.txt");
    assert_eq!(client.read("a.txt"), b"new text");

    fs::write(client.folder().join("gone"), "kept").unwrap();
    client.command("get gone").fails(1);
    assert_eq!(client.read("gone"), b"kept");
}

#[test]
fn a_missing_name_suggests_an_existing_one() {
    let slave = Standalone::start(&[], &[("apples.txt", b"a"), ("pears.txt", b"p")]);
    slave.wait_listed("apples.txt", true);
    let client = slave.client();
    let output = client.run(&["-c", "get aples.txt"]).fails(1);
    assert!(
        output.stderr.contains("aples.txt") && output.stderr.contains("apples.txt"),
        "{output:?}"
    );
    let json = client.command("get aples.txt").fails(1).json();
    assert_eq!(
        (&json["ok"], &json["error"]["code"]),
        (&false.into(), &"not-found".into()),
        "{json}"
    );
    assert_eq!(json["command"], "get");
    assert_eq!(leftovers(&client.folder(), &[]), [] as [std::path::PathBuf; 0]);
}

#[test]
fn a_missing_name_does_not_stop_the_other_gets() {
    let slave = Standalone::start(&[], &[("a", b"12"), ("b", b"345")]);
    let client = slave.client();
    let json = client.command("get a nothing b").fails(1).json();
    assert_eq!(json["ok"], false, "{json}");
    assert_eq!((&json["files"], &json["bytes"]), (&2.into(), &5.into()), "{json}");
    let failed = json["failed"].as_array().unwrap();
    assert_eq!(failed.len(), 1, "{json}");
    assert_eq!(failed[0]["remote"], "/nothing", "{json}");
    assert_eq!((client.read("a"), client.read("b")), (b"12".to_vec(), b"345".to_vec()));

    let json = client.command("get a b").ok().json();
    assert_eq!(
        (&json["ok"], &json["files"], &json["failed"]),
        (&true.into(), &2.into(), &serde_json::json!([])),
        "{json}"
    );
}

#[test]
fn the_last_line_shows_bytes_and_slave() {
    let slave = Standalone::start(&[], &[("a.txt", b"some text")]);
    let output = slave.client().run(&["-c", "get a.txt"]).ok();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.len(), 1, "{output:?}");
    assert!(
        lines[0].contains('9')
            && lines[0].contains(&slave.addr.to_string())
            && lines[0].contains("verified"),
        "{output:?}"
    );
}

#[test]
fn commands_stop_at_the_first_failure_without_keep_going() {
    let slave = Standalone::start(&[], &[("a", b"12")]);
    let client = slave.client();
    client.run(&["-c", "get nothing", "-c", "get a"]).fails(1);
    assert!(!client.folder().join("a").exists());
    client.run(&["--keep-going", "-c", "get nothing", "-c", "get a"]).fails(1);
    assert_eq!(client.read("a"), b"12");

    let mut program = client.setup(&["--json"]).with_stdin().start();
    program.type_in("get nothing\nget a\n");
    program.close_stdin();
    Client::finish(&mut program).fails(1);
    let mut program = client.setup(&["--json"]).with_stdin().start();
    program.type_in("get a\n\nstat a\nbye\nget nothing\n");
    program.close_stdin();
    let output = Client::finish(&mut program).ok();
    assert!(!output.stdout.contains("> "), "a prompt was printed: {output:?}");
}

#[test]
fn wrong_command_lines_are_status_2() {
    let client = Client::new("127.0.0.1:1");
    client.run(&["--no-such-option"]).fails(2);
    client.run(&["--retry", "soon", "-c", "bye"]).fails(2);
}

#[test]
fn paths_above_the_root_are_an_error() {
    let slave = Standalone::start(&[], &[("a", b"12")]);
    let client = slave.client();
    for command in ["get ../a", "cd ..", "ls ..", "get sub/../../a", "stat /../a"] {
        client.command(command).fails(1);
    }
    for command in ["get .relais/catalogue.db", "ls .relais", "get .Relais/lock", "stat .relais"] {
        client.command(command).fails(1);
    }
}

#[test]
fn a_folder_is_not_a_file() {
    let slave = Standalone::start(&[], &[("sub/a", b"12")]);
    let client = slave.client();
    let json = client.command("get sub").fails(1).json();
    assert_eq!(json["error"]["code"], "is-folder", "{json}");
    client.command("get sub/a/b").fails(1);
    client.command("ls sub/a/b").fails(1);
}

#[test]
fn stat_and_hash_show_size_and_digest() {
    let bytes = content(5, 3_000_000);
    let cluster = Cluster::of(1).file("big.bin", &bytes).start();
    let client = cluster.client();
    let hash = client.command("hash big.bin").ok().json();
    assert_eq!(hash["entries"][0]["digest"], digest(&bytes), "{hash}");
    // The file is too new for its first digest to be trusted. `stat` may have no digest for a
    // moment, and never a wrong one.
    let stat = eventually(SOON, "stat knows the digest", || {
        let stat = client.command("stat big.bin").ok().json();
        (!stat["entries"][0]["digest"].is_null()).then_some(stat)
    });
    let entry = &stat["entries"][0];
    assert_eq!(entry["digest"], digest(&bytes), "{stat}");
    assert_eq!(
        (&entry["name"], &entry["kind"], &entry["size"]),
        (&"big.bin".into(), &"file".into(), &3_000_000.into()),
        "{stat}"
    );
    assert!(entry["mtime"].as_str().unwrap().ends_with('Z'), "{stat}");
    // A local file has a version as soon as the master has numbered it.
    assert!(
        entry.get("version").is_some_and(|version| version.is_null() || version == "1-1"),
        "{stat}"
    );
}

#[test]
fn a_get_keeps_time_and_executable_bit() {
    let slave = Standalone::start(&[], &[("tool", b"#!/bin/sh\n")]);
    let path = slave.root.join("tool");
    let mut rights = fs::metadata(&path).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut rights, 0o755);
    fs::set_permissions(&path, rights).unwrap();
    let client = slave.client();
    client.get("tool");
    let local = fs::metadata(client.folder().join("tool")).unwrap();
    assert_eq!(local.modified().unwrap(), fs::metadata(&path).unwrap().modified().unwrap());
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&local.permissions()) & 0o100, 0o100);
}

#[test]
fn the_default_folder_is_clientroot_where_there_is_one() {
    let slave = Standalone::start(&[], &[("a", b"12")]);
    let client = slave.client();
    let run = |dir: &std::path::Path| {
        let mut program = ProgramBuilder::new("ftpclient", client.home())
            .current_dir(dir)
            .args([&slave.addr.to_string(), "-c", "get a"])
            .start();
        Client::finish(&mut program).ok();
    };
    let plain = slave.dir.folder("plain");
    run(&plain);
    assert_eq!(fs::read(plain.join("a")).unwrap(), b"12");
    let class = slave.dir.folder("class");
    fs::create_dir(class.join("_CLIENTROOT")).unwrap();
    run(&class);
    assert_eq!(fs::read(class.join("_CLIENTROOT/a")).unwrap(), b"12");
}
