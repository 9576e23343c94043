//! The prompt as a person has it, in a terminal: completion, history, help,
//! colours, progress, and Ctrl-C.

use std::fs;
use std::time::{Duration, Instant};

use super::Lab;
use crate::harness::{
    Client, FakeTree, Fault, Program, Proxy, Pty, SOON, Setup, content, eventually,
};

/// A client at a terminal, once it has shown its first prompt.
struct Seat {
    pty: Pty,
    program: Program,
}

impl Seat {
    #[track_caller]
    fn take(setup: Setup) -> Self {
        let (pty, program) = Pty::start_whole(setup);
        pty.screen.wait_for(SOON, "the prompt", |screen| screen.contains("> ").then_some(()));
        Self { pty, program }
    }

    fn press(&mut self, keys: &str) {
        self.pty.press(keys);
    }

    /// Waits until something new on the screen, behind the first `from` bytes, shows this.
    #[track_caller]
    fn shows(&self, from: usize, what: &str) {
        let what_is_new = format!("{what:?} on the screen");
        self.pty.screen.wait_for(SOON, &what_is_new, |screen| {
            screen.get(from..)?.contains(what).then_some(())
        });
    }

    fn seen(&self) -> usize {
        self.pty.screen.text().len()
    }

    #[track_caller]
    fn leave(mut self) -> String {
        self.press("bye\r");
        assert_eq!(self.program.wait(SOON), 0);
        let screen = self.pty.screen.text();
        assert!(!screen.contains("panicked"), "{screen}");
        screen
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the screen\n{:?}", self.pty.screen.text());
        }
    }
}

#[test]
fn tab_completes_commands_and_names_on_both_sides() {
    let lab = Lab::new(&[
        ("two words.txt", b"far"),
        ("it's $5 \"now\".txt", b"quotes"),
        ("sub/deeper/file", b"deep"),
        ("unique", b"u"),
    ]);
    lab.local("near by.txt", b"near");
    let mut seat = Seat::take(lab.client.setup(&[]));
    let arrives = |name: &str, bytes: &[u8]| {
        eventually(SOON, name, || {
            (fs::read(lab.client.folder().join(name)).ok()? == bytes).then_some(())
        });
    };
    seat.press("get two\t\r");
    arrives("two words.txt", b"far");
    seat.press("get it\t\r");
    arrives("it's $5 \"now\".txt", b"quotes");
    // Inside quotes, and through folders.
    seat.press("get 'two w\t-o quoted\r");
    arrives("quoted", b"far");
    seat.press("get su\tde\tfi\t\r");
    arrives("file", b"deep");
    seat.press("put nea\t\r");
    eventually(SOON, "the local name", || lab.serves("near by.txt").then_some(()));
    seat.press("mkd\tmade\r");
    eventually(SOON, "the command", || lab.serves("made").then_some(()));
    // What was just made is known at once.
    seat.press("rm mad\t\r");
    eventually(SOON, "the new name", || (!lab.serves("made")).then_some(()));
    // Only folders for cd.
    seat.press("cd s\t\r");
    seat.press("get dee\tf\t-o again\r");
    arrives("again", b"deep");
    seat.leave();
}

#[test]
fn tab_in_a_folder_of_100_000_names_answers_within_a_second() {
    let mut tree = FakeTree::new().folder("many");
    for n in 0..100_000 {
        tree = tree.raw("many", format!("file-{n:06}-end").as_bytes(), 0, 4);
    }
    let server = tree.lying(|_| None);
    let client = Client::new(server.addr);
    let mut seat = Seat::take(client.setup(&[]));
    seat.press("cd many\r");
    seat.shows(0, "/many");
    for n in ["012345", "099999", "000000"] {
        let from = seat.seen();
        seat.press(&format!("stat file-{n}"));
        seat.shows(from, n);
        let began = Instant::now();
        seat.press("\t");
        seat.shows(from, "-end");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        seat.press("\x15");
    }
    // All of them fit: some can be shown, and there is nothing to wait for.
    let from = seat.seen();
    let began = Instant::now();
    seat.press("stat file-\t\t");
    seat.shows(from, "--More--");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // Nothing counts names that are not shown.
    assert!(!seat.pty.screen.text()[from..].contains("possibilities"));
    seat.press("q\x15");
    seat.leave();
}

#[test]
fn names_from_afar_do_not_drive_the_prompt() {
    let evil = "x\u{1b}]0;owned\u{7}";
    let server =
        FakeTree::new().file("\u{202e}rtl", b"1").file("plain", b"2").lying(move |request| {
            match request {
                relais_proto::Request::Get(_) => {
                    Some(crate::harness::refused(relais_proto::ErrorCode::Storage, evil))
                }
                _ => None,
            }
        });
    let client = Client::new(server.addr);
    let mut seat = Seat::take(client.setup(&[]));
    let from = seat.seen();
    seat.press("get plain\r");
    seat.shows(from, "owned");
    seat.press("get \t\t");
    seat.press("\x15ls\r");
    let screen = seat.leave();
    assert!(
        !screen.contains("\u{1b}]") && !screen.contains('\u{7}') || !screen.contains(evil),
        "{screen:?}"
    );
    assert!(!screen.contains(evil) && !screen.contains('\u{202e}'), "{screen:?}");
}

#[test]
fn history_comes_back_in_the_next_run() {
    let lab = Lab::new(&[]);
    let trace = lab.client.folder().join("trace");
    let lines = || fs::read_to_string(&trace).unwrap_or_default().lines().count();
    let mut seat = Seat::take(lab.client.setup(&[]));
    seat.press("!echo ran >> trace\r");
    eventually(SOON, "the first run", || (lines() == 1).then_some(()));
    seat.leave();
    let mut seat = Seat::take(lab.client.setup(&[]));
    // This is written once the terminal passes every key on: before it Ctrl-R would be the terminal's own.
    let reading = "\u{1b}[?2004h";
    seat.shows(0, reading);
    let from = seat.seen();
    // The last line is bye, the one before it is wanted.
    seat.press("\x1b[A\x1b[A\r");
    eventually(SOON, "the same from the history", || (lines() == 2).then_some(()));
    seat.shows(from, reading);
    // And found by Ctrl-R.
    seat.press("\x12echo\r");
    eventually(SOON, "the same by search", || (lines() == 3).then_some(()));
    seat.leave();
}

#[test]
fn help_suggestions_and_commands_of_this_machine() {
    let lab = Lab::new(&[]);
    let mut seat = Seat::take(lab.client.setup(&[]));
    for (keys, shown) in [
        ("gte x\r", "did you mean get?"),
        ("mirorr\r", "did you mean mirror?"),
        ("help get\r", "Example: get "),
        ("help mirror\r", "--delete"),
        ("!echo hi | tr h H\r", "Hi\r\n"),
        ("get\r", "usage: get"),
        ("cd ..\r", "top"),
    ] {
        let from = seat.seen();
        seat.press(keys);
        seat.shows(from, shown);
    }
    seat.leave();
}

#[test]
fn colours_only_where_they_are_wanted() {
    let lab = Lab::new(&[("folder/x", b"1"), ("file", b"2")]);
    for (no_color, coloured) in [("", true), ("1", false)] {
        let mut seat = Seat::take(lab.client.setup(&[]).env("NO_COLOR", no_color));
        let from = seat.seen();
        seat.press("ls\r");
        seat.shows(from, "file");
        seat.press("gte\r");
        seat.shows(from, "did you mean");
        let screen = seat.leave();
        let has =
            screen.contains("\x1b[3") || screen.contains("\x1b[1;3") || screen.contains("\x1b[0;3");
        assert_eq!(has, coloured, "NO_COLOR={no_color:?}: {screen:?}");
    }
}

#[test]
fn progress_of_a_whole_tree_tells_files_and_bytes() {
    let bytes = content(1, 3 << 20);
    let lab = Lab::new(&[("t/a", &bytes), ("t/b", &bytes), ("t/c", b"1")]);
    let line = Proxy::to(lab.slave.addr);
    line.throttle(Some(4 << 20));
    let client = Client::new(line.addr());
    for command in ["get -r t", "put -r t"] {
        if command == "put -r t" {
            line.throttle_up(Some(4 << 20));
        }
        let mut seat = Seat::take(client.setup(&[]));
        let from = seat.seen();
        seat.press(&format!("{command}\r"));
        // While it goes: how many files of how many, how many bytes of how many.
        seat.pty.screen.wait_for(SOON, "files and bytes", |screen| {
            let now = screen.get(from..)?;
            (now.contains("/3") && now.contains("MiB") && now.contains("/s")).then_some(())
        });
        seat.shows(from, "3 files");
        seat.leave();
    }
}

#[test]
fn ctrl_c_ends_the_command_and_not_the_program() {
    for command in ["put big", "put -r t", "get -r t"] {
        let bytes = content(4, 12 << 20);
        let get = command.starts_with("get");
        let lab = Lab::new(&if get {
            vec![("t/big", bytes.as_slice()), ("t/small", b"1")]
        } else {
            Vec::new()
        });
        let line = Proxy::to(lab.slave.addr);
        let client = Client::new(line.addr());
        if get {
            line.fault_at_content(2 << 20, Fault::Stall);
        } else {
            super::write(&client.folder().join("big"), &bytes);
            super::write(&client.folder().join("t/big"), &bytes);
            super::write(&client.folder().join("t/small"), b"1");
            line.fault_at_data(2 << 20, Fault::Stall);
        }
        let mut seat = Seat::take(client.setup(&[]));
        let from = seat.seen();
        seat.press(&format!("{command}\r"));
        line.wait_struck();
        seat.press("\x03");
        seat.shows(from, "interrupted");
        line.cut_all();
        let after = seat.seen();
        seat.press("mkdir after\r");
        eventually(SOON, "the program goes on", || lab.serves("after").then_some(()));
        seat.shows(after, "> ");
        assert!(!lab.serves("big") && !client.folder().join("after").exists());
        seat.leave();
        assert!(client.folder().join(".log").exists(), "{command}");
        // The next prompt resumes it.
        client.resume_at_a_prompt();
        let name = if command == "put big" { "big" } else { "t/big" };
        assert!(lab.served(name) == bytes && client.read(name) == bytes, "{command}");
        assert!(!client.folder().join(".log").exists(), "{command}");
    }
}

#[test]
fn commands_of_this_machine_have_the_terminal() {
    let lab = Lab::new(&[]);
    let mut seat = Seat::take(lab.client.setup(&[]));
    let from = seat.seen();
    seat.press("!echo ready; read x; echo \"got $x\"\r");
    seat.shows(from, "ready\r\n");
    seat.press("hello\r");
    seat.shows(from, "got hello");
    // Ctrl-C is for it, and not for the program.
    let from = seat.seen();
    seat.press("!echo sleeping; sleep 300\r");
    seat.shows(from, "sleeping\r\n");
    let from = seat.seen();
    // A shell that is about to start a program may lose one.
    eventually(SOON, "the prompt comes back", || {
        seat.press("\x03");
        std::thread::sleep(Duration::from_millis(500));
        seat.pty.screen.text()[from..].contains("> ").then_some(())
    });
    seat.press("mkdir awake\r");
    eventually(SOON, "the program goes on", || lab.serves("awake").then_some(()));
    seat.leave();
}

#[test]
fn ways_to_leave() {
    let lab = Lab::new(&[]);
    for (keys, status) in [("\x04", 0), ("quit\r", 0), ("exit\r", 0), ("rm nothing\rbye\r", 0)] {
        let mut seat = Seat::take(lab.client.setup(&[]));
        seat.press(keys);
        assert_eq!(seat.program.wait(SOON), status, "{keys:?}");
    }
}

#[test]
fn ctrl_c_clears_the_line_and_only_a_second_one_leaves() {
    let lab = Lab::new(&[]);
    let mut seat = Seat::take(lab.client.setup(&[]));
    // Each one clears a line with text, so none of them is the second on an empty line.
    for n in 0..3 {
        let from = seat.seen();
        seat.press("mkdir dropped");
        seat.shows(from, "dropped");
        seat.press("\x03");
        seat.shows(from, "Ctrl-C again");
        seat.press(&format!("mkdir kept{n}\r"));
        eventually(SOON, "the next line runs", || lab.serves(&format!("kept{n}")).then_some(()));
        let from = seat.seen();
        seat.press("half");
        seat.shows(from, "half");
        seat.press("\x03");
        seat.shows(from, "Ctrl-C again");
        seat.shows(from, "\r\n\x1b[?2004h");
    }
    assert!(!lab.serves("dropped"));
    seat.press("\x03");
    assert_eq!(seat.program.wait(SOON), 130);
}

#[test]
fn progress_fits_forty_columns() {
    let bytes = content(1, 3 << 20);
    let name = format!("{}.bin", "long".repeat(10));
    let tree = format!("t/{name}");
    let lab = Lab::new(&[(&name, &bytes), (&tree, &bytes)]);
    let line = Proxy::to(lab.slave.addr);
    line.throttle(Some(2 << 20));
    let client = Client::new(line.addr());
    for command in [format!("get {name} -o x"), "get -r t".to_owned()] {
        let mut seat = Seat::take(client.setup(&[]));
        seat.pty.resize(40);
        let from = seat.seen();
        seat.press(&format!("{command}\r"));
        seat.pty.screen.wait_for(SOON, "a line with rate", |screen| {
            screen.get(from..)?.contains("% ").then_some(())
        });
        seat.shows(from, "3145728 bytes in");
        let screen = seat.leave();
        let drawn = console_lines(screen.get(from..).unwrap());
        let progress: Vec<_> = drawn.iter().filter(|line| line.contains("B/s ")).collect();
        assert!(!progress.is_empty(), "{screen:?}");
        assert!(progress.iter().all(|line| line.chars().count() <= 40), "{progress:?}");
    }
}

/// What was drawn between two line ends or erasures, without the sequences that steer the terminal.
fn console_lines(screen: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut chars = screen.chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => {
                let end = chars.by_ref().skip_while(|c| *c == '[').find(char::is_ascii_alphabetic);
                if end == Some('K') {
                    lines.push(String::new());
                }
            }
            '\r' | '\n' => lines.push(String::new()),
            c => lines.last_mut().unwrap().push(c),
        }
    }
    lines
}
