//! The commands that need no data connection.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use relais_proto::{ErrorCode, Lsn, Refusal};

use super::host::Fixture;
use super::{TestRenewal, TestSession, put, with_session};
use crate::front::ftp::serve::SessionExit;

#[test]
fn clients_walk_the_folders() {
    with_session(|client, _| {
        client.expect("PWD", "257 \"/\" ");
        client.expect("MKD a b", "257 \"/a b\" ");
        client.expect("MKD a b", "550 ");
        client.expect("XMKD a b/\"q\"", "257 \"/a b/\"\"q\"\"\" ");
        client.expect("CWD a b", "250 ");
        client.expect("CWD nothing", "550 /a b/nothing: ");
        client.expect("XPWD", "257 \"/a b\" ");
        client.expect("CDUP", "250 ");
        client.expect("CDUP", "550 ");
        client.expect("CWD ../..", "550 ");
        client.expect("CWD .relais", "550 no such file or folder");
        client.expect("PWD", "257 \"/\" ");
    });
}

#[test]
fn changes_are_made_before_their_reply() {
    with_session(|client, fixture| {
        put(fixture, "f", b"12345");
        let root = fixture.root();
        client.expect("MKD d", "257 ");
        assert!(root.join("d").is_dir());
        client.expect("RMD f", "550 /f: not a folder");
        client.expect("DELE d", "550 /d: a folder");
        client.expect("DELE /", "550 ");
        client.expect("RMD /", "550 ");
        client.expect("RNTO g", "503 ");
        client.expect("RNFR nothing", "550 ");
        client.expect("RNFR f", "350 ");
        client.expect("NOOP", "200 ");
        client.expect("RNTO g", "503 ");
        client.expect("RNFR f", "350 ");
        client.expect("RNTO d/g", "250 ");
        assert!(root.join("d/g").is_file());
        client.expect("SITE CHMOD 600 d/g", "200 ");
        let mode = fs::metadata(root.join("d/g")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        client.expect("DELE d/g", "250 ");
        assert!(!root.join("d/g").exists());
        client.expect("DELE d/g", "550 ");
        client.expect("RMD d", "250 ");
        assert!(!root.join("d").exists());
    });
}

#[test]
fn facts_of_files_are_told_and_set() {
    with_session(|client, fixture| {
        put(fixture, "f", b"12345");
        client.expect("SIZE f", "213 5");
        client.expect("TYPE I", "200 ");
        client.expect("SIZE f", "213 5");
        client.expect("SIZE /", "550 ");
        client.expect("MFMT 20010203040506 f", "213 Modify=20010203040506; /f");
        client.expect("MDTM f", "213 20010203040506");
        client.expect("MDTM 20020203040506 f", "213 Modify=20020203040506; /f");
        client.expect("SITE UTIME 20030203040506 f", "200 ");
        client.expect("MDTM f", "213 20030203040506");
        client.expect("MDTM nothing", "550 ");
        client.expect("MFMT yesterday f", "501 ");
    });
}

#[test]
fn parameters_are_checked_and_kept() {
    with_session(|client, _| {
        for (line, reply) in [
            ("TYPE A", "200 "),
            ("TYPE L 8", "200 "),
            ("TYPE E", "504 "),
            ("STRU F", "200 "),
            ("STRU R", "504 "),
            ("MODE S", "200 "),
            ("MODE Z", "504 "),
            ("ALLO 5", "200 "),
            ("ALLO 9223372036854775807", "552 "),
            ("AVBL", "213 "),
            ("AVBL nothing", "550 "),
            ("REST 5", "350 "),
            ("REST -1", "501 "),
            ("RANG 0 9", "350 The next transfer has bytes 0 to 9"),
            ("RANG 1 0", "350 "),
            ("OPTS UTF8 ON", "200 "),
            ("OPTS UTF8 OFF", "504 "),
            ("OPTS MLST type;size;", "200 MLST OPTS type;size;"),
            ("OPTS HASH", "200 SHA-256"),
            ("OPTS HASH MD5", "200 MD5"),
            ("OPTS HASH", "200 MD5"),
            ("CLNT \u{1b}test", "200 "),
            ("HOST example.org", "503 "),
            ("LANG EN", "200 "),
            ("AUTH TLS", "503 "),
            ("PBSZ 0", "503 "),
            ("PROT P", "503 "),
            ("USER ann", "503 "),
            ("PASS secret", "503 "),
            ("ABOR", "225 "),
            ("SYST", "215 UNIX Type: L8"),
            ("NOOP", "200 "),
            ("STAT", "211-"),
            ("HELP", "214-"),
            ("HELP retr", "214 Usage: RETR <path>"),
            ("HELP nothing", "501 "),
            ("SITE HELP", "214-"),
            ("SITE HELP CHMOD", "214 "),
            ("SITE EXEC ls", "500 "),
            ("CCC", "502 "),
            ("ACCT x", "502 "),
            ("UNKNOWN", "500 "),
            ("", "500 "),
        ] {
            client.expect(line, reply);
        }
    });
}

#[test]
fn listings_over_the_control_connection() {
    with_session(|client, fixture| {
        client.expect("MKD d", "257 ");
        for name in ["d/.h", "d/a b", "d/b.txt", "d/[x]"] {
            put(fixture, name, b"12345");
        }
        client.expect("MFMT 20010203040506 d/b.txt", "213 ");
        let line = format!("-rw-r--r--   1 ftp      ftp      {:>12} Feb  3  2001 b.txt", 5);
        assert_eq!(client.ask("STAT d/b.txt"), format!("213-Listing|{line}|213 End"));
        let names = |reply: &str| {
            let lines: Vec<_> = reply.split('|').collect();
            let lines = lines[1..lines.len() - 1].iter();
            lines.map(|line| line[59..].to_owned()).collect::<Vec<_>>()
        };
        for (line, shown) in [
            ("STAT d", vec!["[x]", "a b", "b.txt"]),
            ("STAT -la d", vec![".h", "[x]", "a b", "b.txt"]),
            ("STAT d/*", vec!["[x]", "a b", "b.txt"]),
            ("STAT d/?.t*", vec!["b.txt"]),
            ("STAT d/[x]", vec!["[x]"]),
            ("STAT d/[ab]*", vec!["a b", "b.txt"]),
            ("STAT d/.*", vec![".h"]),
            ("STAT d/z*", vec![]),
        ] {
            assert_eq!(names(&client.ask(line)), shown, "{line}");
        }
        client.expect("STAT nothing", "550 ");
        client.expect("STAT ../*", "550 ");
        let facts = client.ask("MLST d/b.txt");
        assert!(
            facts.starts_with("250-Facts of /d/b.txt| type=file;size=5;modify=20010203040506;")
        );
        assert!(facts.ends_with("; /d/b.txt|250 End"), "{facts}");
        client.expect("OPTS MLST size;", "200 ");
        assert_eq!(client.ask("MLST d/b.txt"), "250-Facts of /d/b.txt| size=5; /d/b.txt|250 End");
        let features = client.ask("FEAT");
        for feature in
            [" MLST type;size*;", " HASH SHA-256*;", " REST STREAM", " RANG STREAM", " UTF8"]
        {
            assert!(features.contains(&format!("|{feature}")), "{features}");
        }
        // This server has no TLS.
        assert!(!features.contains("AUTH"));
    });
}

#[test]
fn checksums_are_of_files_and_ranges() {
    with_session(|client, fixture| {
        put(fixture, "f", b"123456789");
        let sha256 = "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225";
        assert_eq!(client.ask("HASH f"), format!("213 SHA-256 0-8 {sha256} f"));
        assert_eq!(client.ask("XSHA256 f"), format!("250 {sha256}"));
        assert_eq!(client.ask("XCRC f"), "250 cbf43926");
        assert_eq!(client.ask("XMD5 \"f\" 0 1"), "250 c4ca4238a0b923820dcc509a6f75849b");
        client.expect("OPTS HASH CRC32", "200 ");
        client.expect("RANG 1 3", "350 ");
        let hash = client.ask("HASH f");
        assert!(hash.starts_with("213 CRC32 1-3 "), "{hash}");
        assert_eq!(client.ask("HASH f"), "213 CRC32 0-8 cbf43926 f");
        client.expect("REST 10", "350 ");
        client.expect("HASH f", "554 ");
        client.expect("HASH nothing", "550 ");
        client.expect("HASH /", "553 ");
    });
}

#[test]
fn users_without_the_right_change_nothing() {
    let fixture = Fixture::new();
    fixture.with_writer(|| {
        put(&fixture, "f", b"1");
        let mut session = TestSession::of("eve");
        session.principal.rights = relais_auth::Rights::Read;
        session.run(&fixture, |client, _| {
            for line in ["MKD d", "RMD d", "DELE f", "SITE CHMOD 600 f", "MFMT 20010203040506 f"] {
                client.expect(line, "550 ");
            }
            client.expect("SIZE f", "213 1");
        });
        assert!(fixture.root().join("f").exists());
    });
}

#[test]
fn removed_users_are_refused_at_the_next_command() {
    let fixture = Fixture::new();
    let mut session = TestSession::of("ann");
    let refusal = Refusal::new(ErrorCode::BadTicket, "the user was removed");
    session.renewal = TestRenewal(Some(refusal));
    session.run(&fixture, |client, _| {
        client.expect("NOOP", "530 the user was removed");
        assert_eq!(client.line(), None);
    });
}

#[test]
fn slaves_that_are_behind_say_so() {
    let fixture = Fixture::new();
    let mut session = TestSession::of("ann");
    session.principal.seen_lsn = Lsn { epoch: 1, number: 1000 };
    session.run(&fixture, |client, _| {
        client.expect("PWD", "257 ");
        client.expect("SIZE f", "450 ");
    });
}

#[test]
fn quit_and_rein_end_the_session() {
    let fixture = Fixture::new();
    let end = TestSession::of("ann").run(&fixture, |client, _| {
        client.expect("QUIT", "221 ");
        assert_eq!(client.line(), None);
    });
    assert!(matches!(end, SessionExit::Closed));
    let end = TestSession::of("ann").run(&fixture, |client, _| {
        client.send(b"REIN\r\nUSER ann\r\n");
        assert!(client.reply().starts_with("220 "));
    });
    let SessionExit::Reinitialized(_, mut input) = end else { panic!("closed") };
    // What follows REIN is for the next login.
    if !input.is_empty() {
        assert_eq!(input.next_line(), Some(Ok(b"USER ann".to_vec())));
    }
}
