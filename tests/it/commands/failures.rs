//! Failures during commands: full disks, closed pipes, files that change, concurrent clients.

use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use relais_proto::{Digest, Request};

use super::{CommandFixture, tree};
use crate::harness::{
    Client, FakeTree, Fault, ProgramBuilder, Proxy, Standalone, TestDir, Volume, content,
    content_answer, leftovers, make_folder, sessions,
};

/// Creates a client whose local folder is `folder`.
fn client_at(
    server: std::net::SocketAddr,
    home: &TestDir,
    folder: &std::path::Path,
    command: &str,
    under: &[String],
) -> crate::harness::Output {
    let server = server.to_string();
    let args = [&*server, "-d", folder.to_str().unwrap(), "--json", "-c", command];
    Client::finish(
        &mut ProgramBuilder::new("ftpclient", home.path()).args(args).under(under).start(),
    )
}

#[test]
fn a_local_disk_that_is_full() {
    let large = content(1, 3 << 20);
    let fixture =
        CommandFixture::new(&[("t/a", b"small"), ("t/large", &large), ("t/z", b"small too")]);
    let volume = Volume::mount("size=2m");
    let home = TestDir::new();
    fs::create_dir(volume.path().join("local")).unwrap();
    for command in ["get -r t", "mirror t t"] {
        let output = client_at(
            fixture.slave.addr,
            &home,
            &volume.inside().join("local"),
            command,
            &volume.under(),
        );
        let json = output.json();
        assert!([1, 5].contains(&output.status), "{output:?}");
        assert_eq!(json["failed"].as_array().unwrap().len(), 1, "{json}");
        assert_eq!(json["failed"][0]["remote"], "/t/large", "{json}");
        let local = volume.path().join("local");
        assert_eq!(fs::read(local.join("t/a")).unwrap(), b"small");
        assert_eq!(fs::read(local.join("t/z")).unwrap(), b"small too");
        assert!(!local.join("t/large").exists());
    }
}

#[test]
fn a_slave_whose_disk_is_full() {
    let volume = Volume::mount("size=3m");
    fs::create_dir(volume.path().join("root")).unwrap();
    let slave = Standalone::start_in(
        TestDir::new(),
        volume.inside().join("root"),
        &["--workers", "1"],
        &volume.under(),
    );
    let client = slave.client();
    let folder = client.folder();
    super::write(&folder.join("t/a"), b"small");
    super::write(&folder.join("t/large"), &content(1, 4 << 20));
    super::write(&folder.join("t/z"), b"small too");
    for command in ["put -r t", "mirror -R t t"] {
        let json = client.command(command).fails(1).json();
        assert_eq!(json["failed"].as_array().unwrap().len(), 1, "{json}");
        assert!(json["failed"][0]["remote"].as_str().unwrap().ends_with("t/large"), "{json}");
        assert_eq!(json["failed"][0]["error"]["code"], "no-space", "{json}");
        assert_eq!(tree(&volume.path().join("root")), ["t/", "t/a", "t/z"]);
    }
    assert_eq!(client.command("put t/large").fails(1).json()["error"]["code"], "no-space");
}

#[test]
fn content_cut_on_standard_output_resumes_at_the_next_byte() {
    let text: String = (0..400_000).map(|n| format!("{n:07}\n")).collect();
    let fixture = CommandFixture::new(&[("f", text.as_bytes())]);
    let proxy = Proxy::to(fixture.slave.addr);
    let client = Client::new(proxy.addr());
    for (n, command) in
        [(0, "cat f"), (1, "cat f"), (1_500_000, "get f -o -"), (3_199_999, "cat f")]
    {
        proxy.fault_at_content(n, Fault::Cut);
        let output = client.run(&["-c", command]).ok();
        assert!(proxy.struck());
        assert!(
            output.stdout == text,
            "{command} cut at {n}: {} bytes instead of {}",
            output.stdout.len(),
            text.len()
        );
    }
    // A flipped bit is detected before the program exits with success.
    proxy.fault_at_content(2_000_000, Fault::FlipBit);
    let output = client.run(&["--retry", "0", "-c", "cat f"]);
    assert!(
        output.status != 0 || output.stdout == text,
        "wrong content was printed, and the status is 0"
    );
    assert_eq!(leftovers(&client.folder(), &[]), Vec::<std::path::PathBuf>::new());
}

#[test]
fn content_with_another_digest_is_shown_with_an_error() {
    let server = FakeTree::new().file("f", b"good").lying(|request| match request {
        Request::Get(get) => Some(content_answer(get, b"evil", Digest([1; 32]))),
        _ => None,
    });
    let client = Client::new(server.addr);
    let output = client.run(&["--retry", "0", "-c", "cat f"]);
    assert!(output.status != 0 && !output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_closed_pipe_ends_the_program_quietly() {
    let bytes = "x".repeat(16 << 20);
    let fixture = CommandFixture::new(&[("f", bytes.as_bytes())]);
    let mut wire = sessions(fixture.slave.addr, 1).remove(0);
    wire.change(&make_folder("d")).unwrap();
    (0..200).for_each(|n| {
        wire.change(&make_folder(&format!("d/{}{n:03}", "n".repeat(200)))).unwrap();
    });
    for command in ["cat f", "get f -o -", "ls -l d"] {
        let script = r#"set -o pipefail; "$0" "$@" | head -c 5 >/dev/null; echo "status ${PIPESTATUS[0]}" >&2"#;
        let setup = fixture.client.setup(&["-c", command]).under(&["bash", "-c", script]);
        let output = Client::finish(&mut setup.start());
        assert!(!output.stderr.contains("panicked"), "{output:?}");
        let status = output.stderr.lines().last().unwrap_or_default();
        assert!(["status 1", "status 141", "status 0"].contains(&status), "{command}: {output:?}");
    }
}

#[test]
fn two_clients_put_the_same_tree_at_once() {
    let fixture = CommandFixture::new(&[]);
    for n in 0..150 {
        fixture.local(&format!("t/{}/{n}", n % 6), &content(n, 2000));
    }
    fixture.local("t/large", &content(999, 5 << 20));
    let args: &[&str] = &["--json", "-c", "put -r t"];
    let mut programs = [fixture.client.start(args), fixture.client.start(args)];
    let outputs = programs.each_mut().map(Client::finish);
    // One client may find the file locked by the other; the final tree is whole.
    assert!(
        outputs.iter().any(|output| output.status == 0)
            || outputs.iter().all(|output| output.status == 1),
        "{outputs:?}"
    );
    fixture.client.run(&["-c", "put -r t"]).ok();
    let (here, there) = (fixture.client.folder().join("t"), fixture.slave.root.join("t"));
    assert_eq!(tree(&here), tree(&there));
    for name in tree(&here).iter().filter(|name| !name.ends_with('/')) {
        assert!(
            fs::read(here.join(name)).unwrap() == fs::read(there.join(name)).unwrap(),
            "{name}"
        );
    }
    assert!(!fixture.client.folder().join(".log").exists());
}

#[test]
fn files_replaced_during_a_get_arrive_in_one_version() {
    let versions: Vec<Vec<u8>> =
        (0..4_u8).map(|n| vec![b'a' + n; 300_000 + 700_000 * usize::from(n % 2)]).collect();
    let files: Vec<(String, &[u8])> =
        (0..6).map(|n| (format!("t/{n}"), versions[0].as_slice())).collect();
    let fixture = CommandFixture::new(
        &files.iter().map(|(name, bytes)| (name.as_str(), *bytes)).collect::<Vec<_>>(),
    );
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut wire = sessions(fixture.slave.addr, 1).remove(0);
            for n in 0_usize.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                wire.put(&format!("t/{}", n % 6), &versions[n / 6 % 4]).unwrap();
            }
        });
        for _ in 0..6 {
            for command in ["get -r t", "mirror --checksum t m"] {
                let output = fixture.client.command(command);
                // A file that changes constantly may be given up, with an error.
                assert!(
                    output.status == 0 || !output.json()["failed"].as_array().unwrap().is_empty(),
                    "{output:?}"
                );
            }
            for name in leftovers(&fixture.client.folder(), &[".log"]) {
                let bytes = fs::read(fixture.client.folder().join(&name)).unwrap();
                let temporary = name.to_str().unwrap().contains(".relais-");
                assert!(temporary || versions.contains(&bytes), "{} is a mixture", name.display());
            }
        }
        stop.store(true, Ordering::SeqCst);
        writer.join().unwrap();
    });
    fixture.client.command("get -r t").ok();
}

#[test]
fn local_files_replaced_during_a_put_arrive_in_one_version() {
    let versions: Vec<Vec<u8>> =
        (0..4_u8).map(|n| vec![b'a' + n; 300_000 + 1_700_000 * usize::from(n % 2)]).collect();
    let fixture = CommandFixture::new(&[]);
    (0..6).for_each(|n| fixture.local(&format!("t/{n}"), &versions[0]));
    let (folder, stop) = (fixture.client.folder(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0_usize.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                fs::write(folder.join("aside"), &versions[n / 6 % 4]).unwrap();
                fs::rename(folder.join("aside"), folder.join(format!("t/{}", n % 6))).unwrap();
            }
        });
        for _ in 0..6 {
            let output = fixture.client.command("put -r t");
            assert!(
                output.status == 0 || !output.json()["failed"].as_array().unwrap().is_empty(),
                "{output:?}"
            );
            for name in tree(&fixture.slave.root.join("t")) {
                assert!(
                    versions.contains(&fixture.served(&format!("t/{name}"))),
                    "{name} is a mixture"
                );
            }
        }
        stop.store(true, Ordering::SeqCst);
        writer.join().unwrap();
    });
}

#[test]
fn a_local_tree_deeper_than_any_path_is_an_error() {
    let fixture = CommandFixture::new(&[]);
    fixture.local("t/a", b"1");
    let script = r#"cd "$1" && n=$(printf '%0200d' 0) && for i in $(seq 25); do mkdir $n && cd $n || exit 1; done && echo deep > f"#;
    let made = Command::new("bash")
        .args(["-c", script, "bash"])
        .arg(fixture.client.folder().join("t"))
        .status()
        .unwrap();
    assert!(made.success());
    for command in ["put -r t", "mirror -R t t"] {
        let output = fixture.client.command(command);
        let json = output.json();
        let told = json["failed"].as_array().unwrap().len()
            + json["skipped"].as_array().map_or(0, Vec::len);
        assert!(told > 0 && output.status <= 1, "{command}: {output:?}");
        assert_eq!(fixture.served("t/a"), b"1");
    }
    // And back again, as deep as paths may be.
    let output = fixture.client.command("get -r t -o back");
    assert!(output.status <= 1, "{output:?}");
    assert_eq!(fixture.client.read("back/a"), b"1");
    fixture.client.command("rm -r t").ok();
    Command::new("rm").arg("-rf").arg(fixture.client.folder()).status().unwrap();
}

#[test]
fn a_server_that_refuses_changes_in_the_middle_of_a_tree() {
    // All changes succeed except one folder, one file and one removal.
    let server =
        FakeTree::new().folder("m").file("m/gone", b"1").file("m/stays", b"2").lying(|request| {
            match request {
                Request::MakeFolder { path, .. }
                    if path.as_str() == "t/no" || path.as_str() == "m/no" =>
                {
                    Some(crate::harness::refused(relais_proto::ErrorCode::Denied, "not here"))
                }
                Request::Remove { path, .. } if path.as_str() == "m/stays" => {
                    Some(crate::harness::refused(relais_proto::ErrorCode::Denied, "not this"))
                }
                _ => None,
            }
        });
    let client = Client::new(server.addr);
    for name in ["t/a", "t/no/b", "t/no/c/d", "t/z/e"] {
        super::write(&client.folder().join(name), b"1");
    }
    let json = client.command("put -r t").fails(1).json();
    assert_eq!(json["files"], 2, "{json}");
    assert!(json["failed"].to_string().contains("/t/no"), "{json}");
    assert_eq!(json["error"]["code"], "denied", "{json}");
    // A failed transfer prevents all removals.
    let json = client.command("mirror -R --delete t m").fails(1).json();
    assert_eq!(json["deleted"], 0, "{json}");
    fs::remove_dir_all(client.folder().join("t/no")).unwrap();
    let json = client.command("mirror -R --delete t m").fails(1).json();
    assert_eq!(json["deleted"], 1, "{json}");
    assert!(json["failed"].to_string().contains("stays"), "{json}");
}

#[test]
fn a_put_that_is_answered_before_its_end() {
    // Refused at once, while bytes still arrive; the other files are stored.
    let large = content(3, 3 << 20);
    for code in [
        relais_proto::ErrorCode::Denied,
        relais_proto::ErrorCode::NoSpace,
        relais_proto::ErrorCode::IsFolder,
    ] {
        let server = FakeTree::new().folder("t").lying(move |request| match request {
            Request::Put(put) if put.path.as_str() == "t/large" || put.path.as_str() == "t/m" => {
                Some(crate::harness::refused(code, "no"))
            }
            // The refusal was the answer to these frames.
            Request::PutEnd { digest }
                if *digest == Digest(blake3::hash(&content(3, 3 << 20)).into()) =>
            {
                Some(Vec::new())
            }
            Request::PutEnd { digest } if *digest == Digest(blake3::hash(b"refused").into()) => {
                Some(Vec::new())
            }
            _ => None,
        });
        let client = Client::new(server.addr);
        for (name, bytes) in
            [("t/a", &b"1"[..]), ("t/large", &large), ("t/m", b"refused"), ("t/z", b"2")]
        {
            super::write(&client.folder().join(name), bytes);
        }
        let json = client.run(&["--retry", "0", "--json", "-c", "put -r t"]).fails(1).json();
        assert_eq!(json["files"], 2, "{json}");
        let mut failed: Vec<&str> = json["failed"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f["error"]["code"].as_str().unwrap())
            .collect();
        failed.dedup();
        assert_eq!(
            (failed, json["failed"].as_array().unwrap().len()),
            (vec![code.text()], 2),
            "{json}"
        );
    }
}

#[test]
fn two_names_that_become_one_file() {
    let fixture = CommandFixture::new(&[("d1/f", b"1"), ("d2/f", b"2"), ("into/x", b"")]);
    for name in ["d1/f", "d2/f"] {
        fixture.local(name, b"x");
    }
    fixture.local("into/x", b"");
    for command in [
        "get d1/f d2/f",
        "put d1/f d2/f -o into/",
        "get -r d1/f d2/f -o into",
        "mget d?/f",
        "mput d?/f -o into/",
    ] {
        let output = fixture.client.command(command).fails(1);
        assert!(output.json()["failed"].to_string().contains("/f"), "{command}: {output:?}");
        let _ = fs::remove_file(fixture.client.folder().join("f"));
        let _ = fs::remove_file(fixture.client.folder().join("into/f"));
    }
    fixture.says("get d1/f d1/f");
}
