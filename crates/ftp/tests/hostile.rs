//! Random and hostile bytes through lines and commands: no panic, and time linear in the input.

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use relais_ftp::pattern::Pattern;
use relais_ftp::{COMMANDS, Command, LineBuffer, path};
use relais_proto::TreePath;

/// Feeds bytes in pieces and does with each line what a session does before it executes it.
fn feed(bytes: &[u8], piece: usize) -> usize {
    let mut buffer = LineBuffer::default();
    let mut lines = 0;
    for piece in bytes.chunks(piece) {
        buffer.push(piece);
        while let Some(line) = buffer.next_line() {
            lines += 1;
            let reply = match line {
                Err(error) => error.reply(),
                Ok(line) => {
                    if let Ok(text) = std::str::from_utf8(&line) {
                        let _ = path::resolve(&TreePath::root(), text);
                        let _ = Pattern::parse(text).map(|pattern| pattern.matches("name"));
                    }
                    match Command::parse(&line) {
                        Ok(command) => relais_ftp::help(Some(command.info().name)),
                        Err(error) => error.reply(),
                    }
                }
            };
            let sent = reply.to_bytes();
            assert!(sent.ends_with(b"\r\n") && sent.len() > 5);
        }
    }
    lines
}

/// Lines that are nearly commands.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let names: Vec<&str> = COMMANDS.iter().map(|info| info.name).collect();
    let name = proptest::sample::select(names);
    let word = proptest::sample::select(
        &[
            " ",
            "  ",
            "a",
            "\"",
            "\\",
            "*",
            "[",
            "{a,",
            "..",
            "/",
            "-la",
            "--",
            "|1|",
            "1",
            "0",
            ",",
            "18446744073709551616",
            "20260101000000",
            "UTC",
            "R",
            "UTF8",
            "CHMOD",
            "é",
            "\0",
            "\r",
        ][..],
    );
    let tail = vec(word, 0..8).prop_map(|words| words.concat());
    (name, tail, proptest::sample::select(&["\r\n", "\n", "\r"][..]))
        .prop_map(|(name, tail, end)| format!("{name} {tail}{end}").into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_are_survived(bytes in vec(any::<u8>(), 0..2000), piece in 1_usize..100) {
        let ends = bytes.iter().filter(|byte| **byte == b'\n').count();
        prop_assert!(feed(&bytes, piece) <= ends);
    }

    #[test]
    fn nearly_commands_are_survived(lines in vec(nearly(), 0..8), piece in 1_usize..50) {
        feed(&lines.concat(), piece);
    }
}

#[test]
fn hostile_lines_take_linear_time() {
    let begun = Instant::now();
    let fill = |text: &str| text.repeat(4000 / text.len());
    for line in [
        fill("x"),
        format!("LIST {}", fill("*a")),
        format!("LIST {}", fill("{a,")),
        format!("LIST {}", fill("-a ")),
        format!("LIST {}b", fill("[a-z]*")),
        format!("CWD {}", fill("../")),
        format!("CWD {}", fill("a/../")),
        format!("XCRC {}", fill("\"\"")),
        format!("XCRC {}", fill("1 ")),
        format!("OPTS MLST {}", fill("type;")),
        format!("EPRT {}", fill("|")),
        format!("PORT {}", fill("1,")),
        format!("SITE UTIME {}", fill("20260101000000 ")),
        fill("\u{7f}"),
    ] {
        assert_eq!(feed(format!("{line}\r\n").repeat(20).as_bytes(), 1000), 20);
    }
    assert_eq!(feed(&b"\n".repeat(100_000), 4096), 100_000);
    assert_eq!(feed(&b"\xff".repeat(1_000_000), 4096), 0);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
