//! This side: `lcd`, `lpwd`, `lls`, `!`, comments, where commands come from, and
//! how the program ends.

use std::fs;

use nix::sys::signal::Signal;

use relais_proto::{ErrorCode, Request};

use super::Lab;
use crate::harness::{Client, FakeServer, Fault, Proxy, Setup, content, polite, refused};

#[test]
fn local_folders() {
    let lab = Lab::new(&[("a", b"from afar")]);
    lab.local("sub/x", b"12");
    let json = |commands: &[&str]| {
        let args: Vec<&str> =
            ["--json"].into_iter().chain(commands.iter().flat_map(|c| ["-c", *c])).collect();
        lab.client.run(&args).ok().objects()
    };
    let all = json(&["lpwd", "lcd sub", "lpwd", "lls", "get a", "lcd", "lpwd"]);
    let path = |at: usize| all[at]["path"].as_str().unwrap().to_owned();
    assert_eq!(path(2), format!("{}/sub", path(0)));
    assert_eq!(path(6), path(0));
    assert_eq!(fs::canonicalize(path(0)).unwrap(), fs::canonicalize(lab.client.folder()).unwrap());
    assert_eq!(all[3]["entries"][0]["name"], "x", "{:?}", all[3]);
    assert_eq!(
        (&all[3]["entries"][0]["size"], &all[3]["entries"][0]["kind"]),
        (&2.into(), &"file".into())
    );
    assert_eq!(lab.client.read("sub/a"), b"from afar");
    lab.fails("lcd nothing", "local");
    lab.fails("lcd sub/x", "local");
    lab.fails("lls nothing", "local");
    // Above the local folder is allowed: it is the user's own disk.
    lab.says("lcd ..");
    let text = lab.run(&["lls", "lls -l sub"]).ok().stdout;
    assert!(text.lines().next().unwrap() == "sub/" && text.contains(" x"), "{text:?}");
}

#[test]
fn remote_folders_end_at_the_top() {
    let lab = Lab::new(&[("d/e/f", b"1")]);
    let output = lab
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
        lab.client.command(command).fails(1);
    }
    lab.fails("cd nothing", "not-found");
    lab.fails("cd d/e/f", "not-folder");
    let kept = lab
        .client
        .run(&["--json", "--keep-going", "-c", "cd d", "-c", "cd nothing", "-c", "pwd"])
        .fails(1);
    assert_eq!(kept.objects()[2]["path"], "/d", "a cd that failed goes nowhere");
}

#[test]
fn commands_of_this_machine() {
    let lab = Lab::new(&[]);
    let folder = lab.client.folder();
    let output = lab.run(&["!echo hi | tr h H"]).ok();
    assert_eq!(output.stdout, "Hi\n", "{output:?}");
    lab.run(&["!exit 3"]).fails(1);
    lab.run(&["!kill -9 $$"]).fails(1);
    lab.run(&["!no-such-program-at-all"]).fails(1);
    let output = lab.client.run(&["--json", "-c", "!true", "-c", "!false"]).fails(1);
    let oks: Vec<bool> = output.objects().iter().map(|o| o["ok"].as_bool().unwrap()).collect();
    assert_eq!(oks, [true, false], "{output:?}");
    // Spaces, quotes and dollars are the shell's, and it runs in the local folder.
    lab.run(&["lcd ..", "!cd local && printf '%s' \"$HOME #'x'\" > said"]).ok();
    assert_eq!(
        fs::read_to_string(folder.join("said")).unwrap(),
        format!("{} #'x'", lab.client.home().display())
    );
    lab.run(&["!pwd > here"]).ok();
    assert_eq!(
        fs::read_to_string(folder.join("here")).unwrap().trim(),
        fs::canonicalize(&folder).unwrap().to_str().unwrap()
    );
    // Its standard input holds no commands of ours.
    let mut program = lab.client.setup(&["--json"]).with_stdin().start();
    program.type_in("!cat > eaten\nmkdir still-read\n");
    program.close_stdin();
    Client::finish(&mut program).ok();
    assert!(lab.serves("still-read"));
    assert_eq!(fs::read(folder.join("eaten")).unwrap(), b"");
    lab.client.run(&["--keep-going", "-c", "!"]);
}

#[test]
fn no_name_from_afar_is_a_command_of_this_machine() {
    let lab = Lab::new(&[
        ("!touch pwned", b"1"),
        ("$(touch pwned)", b"2"),
        ("`touch pwned`", b"3"),
        ("x;touch pwned", b"4"),
    ]);
    lab.run(&["mget *", "get -- '!touch pwned'", "ls", "ls -l", "stat '$(touch pwned)'"]).ok();
    lab.run(&["get -r / -o all", "mirror / mirrored"]).ok();
    lab.client.run(&["-c", "ls"]).ok();
    let (home, folder) = (lab.client.home(), lab.client.folder());
    assert!(
        !home.join("pwned").exists()
            && !folder.join("pwned").exists()
            && !folder.join("all/pwned").exists()
    );
    assert_eq!(lab.client.read("x;touch pwned"), b"4");
}

#[test]
fn comments_and_blank_lines_are_no_commands() {
    let lab = Lab::new(&[("a", b"1")]);
    let mut program = lab.client.setup(&["--json"]).with_stdin().start();
    program.type_in("# a comment\n\n   # another 'one\n   \nget a # behind a command\npwd\n");
    program.close_stdin();
    let output = Client::finish(&mut program).ok();
    assert_eq!(output.objects().len(), 2, "{output:?}");
    assert_eq!(lab.client.read("a"), b"1");
    lab.client.run(&["-c", "# nothing", "-c", ""]).ok();
    // A last line without its end is a line.
    let mut program = lab.client.setup(&["--json"]).with_stdin().start();
    program.type_in("mkdir last");
    program.close_stdin();
    Client::finish(&mut program).ok();
    assert!(lab.serves("last"));
}

#[test]
fn commands_stop_at_the_first_failure_or_go_on() {
    let lab = Lab::new(&[]);
    lab.local("f", b"1");
    lab.run(&["mkdir one", "rm nothing", "mkdir two"]).fails(1);
    assert!(lab.serves("one") && !lab.serves("two"));
    // The first failure's status, and every command.
    lab.client
        .run(&["--keep-going", "-c", "nonsense", "-c", "rm nothing", "-c", "mkdir two"])
        .fails(2);
    lab.client
        .run(&["--keep-going", "-c", "rm nothing", "-c", "nonsense", "-c", "put f -o two/"])
        .fails(1);
    assert!(lab.serves("two/f"));
    let mut program = lab.client.setup(&["--keep-going"]).with_stdin().start();
    program.type_in("rm nothing\nmkdir three\nbye\nmkdir four\n");
    program.close_stdin();
    Client::finish(&mut program).fails(1);
    assert!(lab.serves("three") && !lab.serves("four"));
}

#[test]
fn how_it_ends() {
    let bytes = content(9, 8 << 20);
    let lab = Lab::new(&[("big", &bytes)]);
    lab.run(&["pwd"]).ok();
    lab.run(&["rm nothing"]).fails(1);
    for usage in
        ["nonsense", "get", "put", "mv a", "mirror a", "get 'a", "rm", "mkdir --what", "get -r"]
    {
        lab.run(&[usage]).fails(2);
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
    let nobody = Client::new("127.0.0.1:1");
    let json = nobody.run(&["--retry", "0", "--json", "-c", "put x"]).fails(3).json();
    assert_eq!(
        (&json["command"], &json["error"]["code"]),
        (&"put".into(), &"unreachable".into()),
        "{json}"
    );
    for command in ["get big", "put big"] {
        let line = Proxy::to(lab.slave.addr);
        let client = Client::new(line.addr());
        fs::write(client.folder().join("big"), &bytes).unwrap();
        let arm = |fault| {
            if command == "get big" {
                line.fault_at_content(3 << 20, fault)
            } else {
                line.fault_at_data(3 << 20, fault)
            }
        };
        arm(Fault::Stall);
        let mut program = client.start(&["--json", "-c", command]);
        line.wait_struck();
        program.signal(Signal::SIGINT);
        let json = Client::finish(&mut program).fails(130).json();
        assert_eq!(json["error"]["code"], "interrupted", "{json}");
        assert!(client.folder().join(".log").exists(), "{command}");
        line.cut_all();
        client.run(&["-c", command]).ok();
    }
}

#[test]
fn a_cut_that_can_be_resumed_is_status_5() {
    let bytes = content(9, 8 << 20);
    for command in ["get big", "put big", "get -r t", "put -r t"] {
        let get = command.starts_with("get");
        let both: [(&str, &[u8]); 2] = [("big", &bytes), ("t/big", &bytes)];
        let lab = Lab::new(if get { &both } else { &[] });
        let line = Proxy::to(lab.slave.addr);
        let client = Client::new(line.addr());
        if get {
            line.fault_at_content(3 << 20, Fault::Stall);
        } else {
            super::write(&client.folder().join("big"), &bytes);
            super::write(&client.folder().join("t/big"), &bytes);
            line.fault_at_data(3 << 20, Fault::Stall);
        }
        let mut program = client.start(&["--retry", "0", "--json", "-c", command]);
        line.wait_struck();
        line.refuse(true);
        line.cut_all();
        let json = Client::finish(&mut program).fails(5).json();
        assert_eq!(
            (&json["ok"], &json["error"]["code"]),
            (&false.into(), &"cut".into()),
            "{command}: {json}"
        );
        assert!(client.folder().join(".log").exists(), "{command}");
        line.refuse(false);
        client.run(&["-c", command]).ok();
        assert!(!client.folder().join(".log").exists(), "{command}");
        let name = command.rsplit(' ').next().unwrap();
        let name = if name == "t" { "t/big" } else { name };
        assert!(lab.served(name) == bytes && client.read(name) == bytes, "{command}");
    }
}

#[test]
fn hosts_may_have_a_scheme_and_a_user() {
    let lab = Lab::new(&[("f", b"1")]);
    let addr = lab.slave.addr;
    let run = |words: &[&str]| {
        Client::finish(&mut Setup::new("ftpclient", lab.client.home()).args(words).start())
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
fn a_failure_names_the_command_that_fits() {
    let lab = Lab::new(&[("d/f", b"1"), ("g.txt", b"2")]);
    fs::create_dir(lab.client.folder().join("here")).unwrap();
    for (command, hint) in
        [("get d", "get -r"), ("get *.txt", "mget"), ("put here", "put -r"), ("put *.txt", "mput")]
    {
        let output = lab.run(&[command]).fails(1);
        assert!(output.stderr.contains(hint), "{command}: {output:?}");
    }
}

#[test]
fn system_errors_have_no_numbers() {
    let lab = Lab::new(&[]);
    let home = lab.client.home();
    let none = home.join("none").display().to_string();
    let taken = lab.slave.addr.to_string();
    let port = lab.slave.addr.port().to_string();
    let calls: [(&str, &[&str]); 5] = [
        ("ftpclient", &[&taken, "-d", &none, "-c", "put x"]),
        ("ftpclient", &[&taken, "--password-file", &none, "-c", "ls"]),
        ("ftpmaster", &["--listen", &taken, "--state", &none]),
        ("ftpslave", &[&port, "--standalone", "--root", &none]),
        ("ftpslave", &["0", "--standalone", "--root", &none]),
    ];
    for (program, args) in calls {
        let output = Client::finish(&mut Setup::new(program, home).args(args).start());
        assert_ne!(output.status, 0, "{program} {args:?}: {output:?}");
        assert!(!output.stderr.contains("os error"), "{program} {args:?}: {output:?}");
    }
}
