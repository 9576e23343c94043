//! The prompt in a terminal: completion, history, help, colours, progress, and Ctrl-C.

use std::fs;
use std::time::{Duration, Instant};

use super::CommandFixture;
use crate::harness::{
    Client, FakeTree, Fault, Program, ProgramBuilder, Proxy, Pty, SOON, content, eventually,
};

/// A client at a terminal that has shown its first prompt.
struct PromptTerminal {
    pty: Pty,
    program: Program,
}

impl PromptTerminal {
    #[track_caller]
    fn start(setup: ProgramBuilder) -> Self {
        let (pty, program) = Pty::start_with_stderr(setup);
        pty.screen.wait_for(SOON, "the prompt", |screen| screen.contains("> ").then_some(()));
        Self { pty, program }
    }

    fn press(&mut self, keys: &str) {
        self.pty.press(keys);
    }

    /// Waits until the screen shows this after its first `from` bytes.
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

impl Drop for PromptTerminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the screen\n{:?}", self.pty.screen.text());
        }
    }
}

#[test]
fn tab_completes_commands_and_names_on_both_sides() {
    let fixture = CommandFixture::new(&[
        ("two words.txt", b"far"),
        ("it's $5 \"now\".txt", b"quotes"),
        ("sub/deeper/file", b"deep"),
        ("unique", b"u"),
    ]);
    fixture.local("near by.txt", b"near");
    let mut terminal = PromptTerminal::start(fixture.client.setup(&[]));
    let arrives = |name: &str, bytes: &[u8]| {
        eventually(SOON, name, || {
            (fs::read(fixture.client.folder().join(name)).ok()? == bytes).then_some(())
        });
    };
    terminal.press("get two\t\r");
    arrives("two words.txt", b"far");
    terminal.press("get it\t\r");
    arrives("it's $5 \"now\".txt", b"quotes");
    // Inside quotes, and in subfolders.
    terminal.press("get 'two w\t-o quoted\r");
    arrives("quoted", b"far");
    terminal.press("get su\tde\tfi\t\r");
    arrives("file", b"deep");
    terminal.press("put nea\t\r");
    eventually(SOON, "the local name", || fixture.serves("near by.txt").then_some(()));
    terminal.press("mkd\tmade\r");
    eventually(SOON, "the command", || fixture.serves("made").then_some(()));
    // A new name is completed at once.
    terminal.press("rm mad\t\r");
    eventually(SOON, "the new name", || (!fixture.serves("made")).then_some(()));
    // `cd` completes only folders.
    terminal.press("cd s\t\r");
    terminal.press("get dee\tf\t-o again\r");
    arrives("again", b"deep");
    terminal.leave();
}

#[test]
fn tab_in_a_folder_of_100_000_names_answers_within_a_second() {
    let mut tree = FakeTree::new().folder("many");
    for n in 0..100_000 {
        tree = tree.raw("many", format!("file-{n:06}-end").as_bytes(), 0, 4);
    }
    let server = tree.lying(|_| None);
    let client = Client::new(server.addr);
    let mut terminal = PromptTerminal::start(client.setup(&[]));
    terminal.press("cd many\r");
    terminal.shows(0, "/many");
    for n in ["012345", "099999", "000000"] {
        let from = terminal.seen();
        terminal.press(&format!("stat file-{n}"));
        terminal.shows(from, n);
        let began = Instant::now();
        terminal.press("\t");
        terminal.shows(from, "-end");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        terminal.press("\x15");
    }
    // All names match: some are shown, without a wait.
    let from = terminal.seen();
    let began = Instant::now();
    terminal.press("stat file-\t\t");
    terminal.shows(from, "--More--");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    // The client does not count names that it does not show.
    assert!(!terminal.pty.screen.text()[from..].contains("possibilities"));
    terminal.press("q\x15");
    terminal.leave();
}

#[test]
fn remote_names_do_not_control_the_prompt() {
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
    let mut terminal = PromptTerminal::start(client.setup(&[]));
    let from = terminal.seen();
    terminal.press("get plain\r");
    terminal.shows(from, "owned");
    terminal.press("get \t\t");
    terminal.press("\x15ls\r");
    let screen = terminal.leave();
    assert!(
        !screen.contains("\u{1b}]") && !screen.contains('\u{7}') || !screen.contains(evil),
        "{screen:?}"
    );
    assert!(!screen.contains(evil) && !screen.contains('\u{202e}'), "{screen:?}");
}

#[test]
fn history_comes_back_in_the_next_run() {
    let fixture = CommandFixture::new(&[]);
    let trace = fixture.client.folder().join("trace");
    let lines = || fs::read_to_string(&trace).unwrap_or_default().lines().count();
    let mut terminal = PromptTerminal::start(fixture.client.setup(&[]));
    terminal.press("!echo ran >> trace\r");
    eventually(SOON, "the first run", || (lines() == 1).then_some(()));
    terminal.leave();
    let mut terminal = PromptTerminal::start(fixture.client.setup(&[]));
    // The client prints this once the terminal is in raw mode. Before that Ctrl-R would belong to
    // the terminal.
    let reading = "\u{1b}[?2004h";
    terminal.shows(0, reading);
    let from = terminal.seen();
    // The last line is `bye`; the test needs the one before it.
    terminal.press("\x1b[A\x1b[A\r");
    eventually(SOON, "the same from the history", || (lines() == 2).then_some(()));
    terminal.shows(from, reading);
    // Also found by Ctrl-R.
    terminal.press("\x12echo\r");
    eventually(SOON, "the same by search", || (lines() == 3).then_some(()));
    terminal.leave();
}

#[test]
fn help_suggestions_and_shell_commands() {
    let fixture = CommandFixture::new(&[]);
    let mut terminal = PromptTerminal::start(fixture.client.setup(&[]));
    for (keys, shown) in [
        ("gte x\r", "did you mean get?"),
        ("mirorr\r", "did you mean mirror?"),
        ("help get\r", "Example: get "),
        ("help mirror\r", "--delete"),
        ("!echo hi | tr h H\r", "Hi\r\n"),
        ("get\r", "usage: get"),
        ("cd ..\r", "above the root"),
    ] {
        let from = terminal.seen();
        terminal.press(keys);
        terminal.shows(from, shown);
    }
    terminal.leave();
}

#[test]
fn no_color_turns_colours_off() {
    let fixture = CommandFixture::new(&[("folder/x", b"1"), ("file", b"2")]);
    for (no_color, coloured) in [("", true), ("1", false)] {
        let mut terminal =
            PromptTerminal::start(fixture.client.setup(&[]).env("NO_COLOR", no_color));
        let from = terminal.seen();
        terminal.press("ls\r");
        terminal.shows(from, "file");
        terminal.press("gte\r");
        terminal.shows(from, "did you mean");
        let screen = terminal.leave();
        let has =
            screen.contains("\x1b[3") || screen.contains("\x1b[1;3") || screen.contains("\x1b[0;3");
        assert_eq!(has, coloured, "NO_COLOR={no_color:?}: {screen:?}");
    }
}

#[test]
fn progress_of_a_tree_shows_files_and_bytes() {
    let bytes = content(1, 3 << 20);
    let fixture = CommandFixture::new(&[("t/a", &bytes), ("t/b", &bytes), ("t/c", b"1")]);
    let proxy = Proxy::to(fixture.slave.addr);
    proxy.throttle(Some(4 << 20));
    let client = Client::new(proxy.addr());
    for command in ["get -r t", "put -r t"] {
        if command == "put -r t" {
            proxy.throttle_up(Some(4 << 20));
        }
        let mut terminal = PromptTerminal::start(client.setup(&[]));
        let from = terminal.seen();
        terminal.press(&format!("{command}\r"));
        // During the transfer: files done and in total, bytes done and in total.
        terminal.pty.screen.wait_for(SOON, "files and bytes", |screen| {
            let now = screen.get(from..)?;
            (now.contains("/3") && now.contains("MiB") && now.contains("/s")).then_some(())
        });
        terminal.shows(from, "3 files");
        terminal.leave();
    }
}

#[test]
fn ctrl_c_ends_the_command_and_not_the_program() {
    for command in ["put big", "put -r t", "get -r t"] {
        let bytes = content(4, 12 << 20);
        let get = command.starts_with("get");
        let fixture = CommandFixture::new(&if get {
            vec![("t/big", bytes.as_slice()), ("t/small", b"1")]
        } else {
            Vec::new()
        });
        let proxy = Proxy::to(fixture.slave.addr);
        let client = Client::new(proxy.addr());
        if get {
            proxy.fault_at_content(2 << 20, Fault::Stall);
        } else {
            super::write(&client.folder().join("big"), &bytes);
            super::write(&client.folder().join("t/big"), &bytes);
            super::write(&client.folder().join("t/small"), b"1");
            proxy.fault_at_data(2 << 20, Fault::Stall);
        }
        let mut terminal = PromptTerminal::start(client.setup(&[]));
        let from = terminal.seen();
        terminal.press(&format!("{command}\r"));
        proxy.wait_struck();
        terminal.press("\x03");
        terminal.shows(from, "interrupted");
        proxy.cut_all();
        let after = terminal.seen();
        terminal.press("mkdir after\r");
        eventually(SOON, "the client runs the next command", || {
            fixture.serves("after").then_some(())
        });
        terminal.shows(after, "> ");
        assert!(!fixture.serves("big") && !client.folder().join("after").exists());
        terminal.leave();
        assert!(client.folder().join(".log").exists(), "{command}");
        // The next prompt resumes the transfer.
        client.resume_at_a_prompt();
        let name = if command == "put big" { "big" } else { "t/big" };
        assert!(fixture.served(name) == bytes && client.read(name) == bytes, "{command}");
        assert!(!client.folder().join(".log").exists(), "{command}");
    }
}

#[test]
fn shell_commands_have_the_terminal() {
    let fixture = CommandFixture::new(&[]);
    let mut terminal = PromptTerminal::start(fixture.client.setup(&[]));
    let from = terminal.seen();
    terminal.press("!echo ready; read x; echo \"got $x\"\r");
    terminal.shows(from, "ready\r\n");
    terminal.press("hello\r");
    terminal.shows(from, "got hello");
    // Ctrl-C reaches the command and not the client.
    let from = terminal.seen();
    terminal.press("!echo sleeping; sleep 300\r");
    terminal.shows(from, "sleeping\r\n");
    let from = terminal.seen();
    // A shell that is about to start a program may lose a Ctrl-C.
    eventually(SOON, "the prompt comes back", || {
        terminal.press("\x03");
        std::thread::sleep(Duration::from_millis(500));
        terminal.pty.screen.text()[from..].contains("> ").then_some(())
    });
    terminal.press("mkdir awake\r");
    eventually(SOON, "the client runs the next command", || fixture.serves("awake").then_some(()));
    terminal.leave();
}

#[test]
fn ways_to_leave() {
    let fixture = CommandFixture::new(&[]);
    for (keys, status) in [("\x04", 0), ("quit\r", 0), ("exit\r", 0), ("rm nothing\rbye\r", 0)] {
        let mut terminal = PromptTerminal::start(fixture.client.setup(&[]));
        terminal.press(keys);
        assert_eq!(terminal.program.wait(SOON), status, "{keys:?}");
    }
}

#[test]
fn ctrl_c_clears_the_line_and_only_a_second_one_leaves() {
    let fixture = CommandFixture::new(&[]);
    let mut terminal = PromptTerminal::start(fixture.client.setup(&[]));
    // Each Ctrl-C clears a line with text, so none is the second one on an empty line.
    for n in 0..3 {
        let from = terminal.seen();
        terminal.press("mkdir dropped");
        terminal.shows(from, "dropped");
        terminal.press("\x03");
        terminal.shows(from, "Ctrl-C again");
        terminal.press(&format!("mkdir kept{n}\r"));
        eventually(SOON, "the next line runs", || {
            fixture.serves(&format!("kept{n}")).then_some(())
        });
        let from = terminal.seen();
        terminal.press("half");
        terminal.shows(from, "half");
        terminal.press("\x03");
        terminal.shows(from, "Ctrl-C again");
        terminal.shows(from, "\r\n\x1b[?2004h");
    }
    assert!(!fixture.serves("dropped"));
    terminal.press("\x03");
    assert_eq!(terminal.program.wait(SOON), 130);
}

#[test]
fn progress_fits_forty_columns() {
    let bytes = content(1, 3 << 20);
    let name = format!("{}.bin", "long".repeat(10));
    let tree = format!("t/{name}");
    let fixture = CommandFixture::new(&[(&name, &bytes), (&tree, &bytes)]);
    let proxy = Proxy::to(fixture.slave.addr);
    proxy.throttle(Some(2 << 20));
    let client = Client::new(proxy.addr());
    for command in [format!("get {name} -o x"), "get -r t".to_owned()] {
        let mut terminal = PromptTerminal::start(client.setup(&[]));
        terminal.pty.resize(40);
        let from = terminal.seen();
        terminal.press(&format!("{command}\r"));
        terminal.pty.screen.wait_for(SOON, "a line with rate", |screen| {
            screen.get(from..)?.contains("% ").then_some(())
        });
        terminal.shows(from, "3145728 bytes in");
        let screen = terminal.leave();
        let drawn = console_lines(screen.get(from..).unwrap());
        let progress: Vec<_> = drawn.iter().filter(|line| line.contains("B/s ")).collect();
        assert!(!progress.is_empty(), "{screen:?}");
        assert!(progress.iter().all(|line| line.chars().count() <= 40), "{progress:?}");
    }
}

/// Returns the lines drawn between line ends or erasures, without escape sequences.
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
