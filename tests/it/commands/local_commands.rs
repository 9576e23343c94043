//! Local commands: `lcd`, `lpwd`, `lls`, `!`, comments, sources of commands, and exit statuses.

use std::fs;

use nix::sys::signal::Signal;

use relais_proto::{ErrorCode, Request};

use super::CommandFixture;
use crate::harness::{Client, FakeServer, Fault, ProgramBuilder, Proxy, content, polite, refused};

#[test]
fn local_folders() {
    let fixture = CommandFixture::new(&[("a", b"from afar")]);
    fixture.local("sub/x", b"12");
    let json = |commands: &[&str]| {
        let args: Vec<&str> =
            ["--json"].into_iter().chain(commands.iter().flat_map(|c| ["-c", *c])).collect();
        fixture.client.run(&args).ok().objects()
    };
    let all = json(&["lpwd", "lcd sub", "lpwd", "lls", "get a", "lcd", "lpwd"]);
    let path = |at: usize| all[at]["path"].as_str().unwrap().to_owned();
    assert_eq!(path(2), format!("{}/sub", path(0)));
    assert_eq!(path(6), path(0));
    assert_eq!(
        fs::canonicalize(path(0)).unwrap(),
        fs::canonicalize(fixture.client.folder()).unwrap()
    );
    assert_eq!(all[3]["entries"][0]["name"], "x", "{:?}", all[3]);
    assert_eq!(
        (&all[3]["entries"][0]["size"], &all[3]["entries"][0]["kind"]),
        (&2.into(), &"file".into())
    );
    assert_eq!(fixture.client.read("sub/a"), b"from afar");
    fixture.fails("lcd nothing", "local");
    fixture.fails("lcd sub/x", "local");
    fixture.fails("lls nothing", "local");
    // Paths above the local folder are allowed: it is the user's own disk.
    fixture.says("lcd ..");
    let text = fixture.run(&["lls", "lls -l sub"]).ok().stdout;
    assert!(text.lines().next().unwrap() == "sub/" && text.contains(" x"), "{text:?}");
}

#[test]
fn remote_folders_end_at_the_top() {
    let fixture = CommandFixture::new(&[("d/e/f", b"1")]);
    let output = fixture
        .client
        .run(&[
            "--json",
            "-c",
            "cd d",
            "-c",
            "cd e/../e",
            "-c",
            "pwd",
            "-c",
            "cd ../..",
            "-c",
            "pwd",
        ])
        .ok();
    let all = output.objects();
    assert_eq!((&all[2]["path"], &all[4]["path"]), (&"/d/e".into(), &"/".into()), "{all:?}");
    for command in ["cd ..", "cd d/../..", "cd /..", "cd ../d"] {
        fixture.client.command(command).fails(1);
    }
    fixture.fails("cd nothing", "not-found");
    fixture.fails("cd d/e/f", "not-folder");
    let kept = fixture
        .client
        .run(&["--json", "--keep-going", "-c", "cd d", "-c", "cd nothing", "-c", "pwd"])
        .fails(1);
    assert_eq!(kept.objects()[2]["path"], "/d", "a failed cd changed the folder");
}

#[test]
fn shell_commands_run_in_the_local_folder() {
    let fixture = CommandFixture::new(&[]);
    let folder = fixture.client.folder();
    let output = fixture.run(&["!echo hi | tr h H"]).ok();
    assert_eq!(output.stdout, "Hi\n", "{output:?}");
    fixture.run(&["!exit 3"]).fails(1);
    fixture.run(&["!kill -9 $$"]).fails(1);
    fixture.run(&["!no-such-program-at-all"]).fails(1);
    let output = fixture.client.run(&["--json", "-c", "!true", "-c", "!false"]).fails(1);
    let oks: Vec<bool> = output.objects().iter().map(|o| o["ok"].as_bool().unwrap()).collect();
    assert_eq!(oks, [true, false], "{output:?}");
    // The shell interprets spaces, quotes and dollars, and runs in the local folder.
    fixture.run(&["lcd ..", "!cd local && printf '%s' \"$HOME #'x'\" > said"]).ok();
    assert_eq!(
        fs::read_to_string(folder.join("said")).unwrap(),
        format!("{} #'x'", fixture.client.home().display())
    );
    fixture.run(&["!pwd > here"]).ok();
    assert_eq!(
        fs::read_to_string(folder.join("here")).unwrap().trim(),
        fs::canonicalize(&folder).unwrap().to_str().unwrap()
    );
    // The shell does not read the commands on standard input.
    let mut program = fixture.client.setup(&["--json"]).with_stdin().start();
    program.type_in("!cat > eaten\nmkdir still-read\n");
    program.close_stdin();
    Client::finish(&mut program).ok();
    assert!(fixture.serves("still-read"));
    assert_eq!(fs::read(folder.join("eaten")).unwrap(), b"");
    fixture.client.run(&["--keep-going", "-c", "!"]);
}

#[test]
fn remote_names_are_never_shell_commands() {
    let fixture = CommandFixture::new(&[
        ("!touch pwned", b"1"),
        ("$(touch pwned)", b"2"),
        ("`touch pwned`", b"3"),
        ("x;touch pwned", b"4"),
    ]);
    fixture.run(&["mget *", "get -- '!touch pwned'", "ls", "ls -l", "stat '$(touch pwned)'"]).ok();
    fixture.run(&["get -r / -o all", "mirror / mirrored"]).ok();
    fixture.client.run(&["-c", "ls"]).ok();
    let (home, folder) = (fixture.client.home(), fixture.client.folder());
    assert!(
        !home.join("pwned").exists()
            && !folder.join("pwned").exists()
            && !folder.join("all/pwned").exists()
    );
    assert_eq!(fixture.client.read("x;touch pwned"), b"4");
}

#[test]
fn comments_and_blank_lines_are_no_commands() {
    let fixture = CommandFixture::new(&[("a", b"1")]);
    let mut program = fixture.client.setup(&["--json"]).with_stdin().start();
    program.type_in("# a comment\n\n   # another 'one\n   \nget a # behind a command\npwd\n");
    program.close_stdin();
    let output = Client::finish(&mut program).ok();
    assert_eq!(output.objects().len(), 2, "{output:?}");
    assert_eq!(fixture.client.read("a"), b"1");
    fixture.client.run(&["-c", "# nothing", "-c", ""]).ok();
    // A last line without a line feed is a command.
    let mut program = fixture.client.setup(&["--json"]).with_stdin().start();
    program.type_in("mkdir last");
    program.close_stdin();
    Client::finish(&mut program).ok();
    assert!(fixture.serves("last"));
}

#[test]
fn commands_stop_at_the_first_failure_or_continue() {
    let fixture = CommandFixture::new(&[]);
    fixture.local("f", b"1");
    fixture.run(&["mkdir one", "rm nothing", "mkdir two"]).fails(1);
    assert!(fixture.serves("one") && !fixture.serves("two"));
    // The status of the first failure, and all commands.
    fixture
        .client
        .run(&["--keep-going", "-c", "nonsense", "-c", "rm nothing", "-c", "mkdir two"])
        .fails(2);
    fixture
        .client
        .run(&["--keep-going", "-c", "rm nothing", "-c", "nonsense", "-c", "put f -o two/"])
        .fails(1);
    assert!(fixture.serves("two/f"));
    let mut program = fixture.client.setup(&["--keep-going"]).with_stdin().start();
    program.type_in("rm nothing\nmkdir three\nbye\nmkdir four\n");
    program.close_stdin();
    Client::finish(&mut program).fails(1);
    assert!(fixture.serves("three") && !fixture.serves("four"));
}

#[test]
fn each_way_to_end_has_its_exit_status() {
    let bytes = content(9, 8 << 20);
    let fixture = CommandFixture::new(&[("big", &bytes)]);
    fixture.run(&["pwd"]).ok();
    fixture.run(&["rm nothing"]).fails(1);
    for usage in
        ["nonsense", "get", "put", "mv a", "mirror a", "get 'a", "rm", "mkdir --what", "get -r"]
    {
        fixture.run(&[usage]).fails(2);
    }
    for code in [ErrorCode::LoginNeeded, ErrorCode::LoginRefused] {
        let server = FakeServer::start(move |request| match request {
            Request::Login(_) => (refused(code, "not you"), true),
            other => (polite(other), false),
        });
        let json = Client::new(server.addr)
            .run(&["--retry", "0", "--json", "-c", "put x"])
            .fails(4)
            .json();
        assert_eq!(json["error"]["code"], code.text(), "{json}");
    }
    let unreachable = Client::new("127.0.0.1:1");
    let json = unreachable.run(&["--retry", "0", "--json", "-c", "put x"]).fails(3).json();
    assert_eq!(
        (&json["command"], &json["error"]["code"]),
        (&"put".into(), &"unreachable".into()),
        "{json}"
    );
    for command in ["get big", "put big"] {
        let proxy = Proxy::to(fixture.slave.addr);
        let client = Client::new(proxy.addr());
        fs::write(client.folder().join("big"), &bytes).unwrap();
        let arm = |fault| {
            if command == "get big" {
                proxy.fault_at_content(3 << 20, fault)
            } else {
                proxy.fault_at_data(3 << 20, fault)
            }
        };
        arm(Fault::Stall);
        let mut program = client.start(&["--json", "-c", command]);
        proxy.wait_struck();
        program.signal(Signal::SIGINT);
        let json = Client::finish(&mut program).fails(130).json();
        assert_eq!(json["error"]["code"], "interrupted", "{json}");
        assert!(client.folder().join(".log").exists(), "{command}");
        proxy.cut_all();
        client.run(&["-c", command]).ok();
    }
}

#[test]
fn a_cut_that_can_be_resumed_is_status_5() {
    let bytes = content(9, 8 << 20);
    for command in ["get big", "put big", "get -r t", "put -r t"] {
        let get = command.starts_with("get");
        let both: [(&str, &[u8]); 2] = [("big", &bytes), ("t/big", &bytes)];
        let fixture = CommandFixture::new(if get { &both } else { &[] });
        let proxy = Proxy::to(fixture.slave.addr);
        let client = Client::new(proxy.addr());
        if get {
            proxy.fault_at_content(3 << 20, Fault::Stall);
        } else {
            super::write(&client.folder().join("big"), &bytes);
            super::write(&client.folder().join("t/big"), &bytes);
            proxy.fault_at_data(3 << 20, Fault::Stall);
        }
        let mut program = client.start(&["--retry", "0", "--json", "-c", command]);
        proxy.wait_struck();
        proxy.refuse(true);
        proxy.cut_all();
        let json = Client::finish(&mut program).fails(5).json();
        assert_eq!(
            (&json["ok"], &json["error"]["code"]),
            (&false.into(), &"cut".into()),
            "{command}: {json}"
        );
        assert!(client.folder().join(".log").exists(), "{command}");
        proxy.refuse(false);
        client.run(&["-c", command]).ok();
        assert!(!client.folder().join(".log").exists(), "{command}");
        let name = command.rsplit(' ').next().unwrap();
        let name = if name == "t" { "t/big" } else { name };
        assert!(fixture.served(name) == bytes && client.read(name) == bytes, "{command}");
    }
}

#[test]
fn hosts_may_have_a_scheme_and_a_user() {
    let fixture = CommandFixture::new(&[("f", b"1")]);
    let addr = fixture.slave.addr;
    let run = |words: &[&str]| {
        Client::finish(
            &mut ProgramBuilder::new("ftpclient", fixture.client.home()).args(words).start(),
        )
    };
    for host in [format!("ftp://{addr}"), format!("ftp://{addr}/")] {
        assert_eq!(run(&[&host, "-c", "cat f"]).ok().stdout, "1", "{host}");
    }
    for bad in [
        format!("http://{addr}"),
        format!("ftp://{addr}/f"),
        format!("ann:secret@{addr}"),
        format!("@{addr}"),
    ] {
        run(&[&bad, "-c", "cat f"]).fails(2);
    }
    run(&[&format!("ann@{addr}"), "-u", "bob", "-c", "cat f"]).fails(2);
    let hint = run(&[&addr.to_string(), "ls"]).fails(2);
    assert!(hint.stderr.contains("-c 'ls'"), "{hint:?}");
}

#[test]
fn errors_name_the_right_command() {
    let fixture = CommandFixture::new(&[("d/f", b"1"), ("g.txt", b"2")]);
    fs::create_dir(fixture.client.folder().join("here")).unwrap();
    for (command, hint) in
        [("get d", "get -r"), ("get *.txt", "mget"), ("put here", "put -r"), ("put *.txt", "mput")]
    {
        let output = fixture.run(&[command]).fails(1);
        assert!(output.stderr.contains(hint), "{command}: {output:?}");
    }
}

#[test]
fn system_errors_have_no_numbers() {
    let fixture = CommandFixture::new(&[]);
    let home = fixture.client.home();
    let none = home.join("none").display().to_string();
    let taken = fixture.slave.addr.to_string();
    let port = fixture.slave.addr.port().to_string();
    let calls: [(&str, &[&str]); 5] = [
        ("ftpclient", &[&taken, "-d", &none, "-c", "put x"]),
        ("ftpclient", &[&taken, "--password-file", &none, "-c", "ls"]),
        ("ftpmaster", &["--listen", &taken, "--state", &none]),
        ("ftpslave", &[&port, "--standalone", "--root", &none]),
        ("ftpslave", &["0", "--standalone", "--root", &none]),
    ];
    for (program, args) in calls {
        let output = Client::finish(&mut ProgramBuilder::new(program, home).args(args).start());
        assert_ne!(output.status, 0, "{program} {args:?}: {output:?}");
        assert!(!output.stderr.contains("os error"), "{program} {args:?}: {output:?}");
    }
}

#[test]
fn local_commands_need_no_server() {
    let (unreachable, log) = (Client::new("127.0.0.1:1"), "ls.txt");
    fs::write(unreachable.folder().join(log), "x").unwrap();
    let local = ["transfers --drop", "transfers", "lpwd", "lcd", "lls", "help", "!true"];
    let mut args = vec!["--retry", "0"];
    args.extend(local.iter().flat_map(|command| ["-c", *command]));
    let output = unreachable.run(&args).ok();
    assert!(output.stdout.contains(log) && output.stderr.is_empty(), "{output:?}");
    args.extend(["-c", "ls", "-c", "lpwd"]);
    assert!(unreachable.run(&args).fails(3).stderr.contains("cannot be reached"));
}
