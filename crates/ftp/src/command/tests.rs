use relais_proto::{FileTime, Mode, limits};

use super::*;
use crate::facts::FactSet;
use crate::hash::HashAlgorithm;
use crate::list_options::ListOptions;
use crate::password::Password;
use crate::range::ByteRange;

/// An example of each command of both tables.
const EXAMPLES: &[&str] = &[
    "ABOR",
    "ALLO 10 R 5",
    "APPE a",
    "AUTH TLS",
    "AVBL",
    "CDUP",
    "CLNT x",
    "CWD a",
    "DELE a",
    "EPRT |1|127.0.0.1|2000|",
    "EPSV",
    "FEAT",
    "HASH a",
    "HELP",
    "HOST example.org",
    "LANG",
    "LIST",
    "MDTM a",
    "MFMT 20260101000000 a",
    "MKD a",
    "MLSD",
    "MLST",
    "MODE S",
    "NLST",
    "NOOP",
    "OPTS UTF8 ON",
    "PASS x",
    "PASV",
    "PBSZ 0",
    "PORT 127,0,0,1,8,0",
    "PROT P",
    "PWD",
    "QUIT",
    "RANG 0 9",
    "REIN",
    "REST 5",
    "RETR a",
    "RMD a",
    "RNFR a",
    "RNTO a",
    "SITE CHMOD 644 a",
    "SITE HELP",
    "SITE UTIME 202601010000 a",
    "SIZE a",
    "STAT",
    "STOR a",
    "STOU",
    "STRU F",
    "SYST",
    "TYPE I",
    "USER ann",
    "XCRC a",
    "XCUP",
    "XCWD a",
    "XMD5 a",
    "XMKD a",
    "XPWD",
    "XRMD a",
    "XSHA256 a",
];

fn parsed(line: &str) -> Result<Command, u16> {
    Command::parse(line.as_bytes()).map_err(|error| error.code())
}

#[test]
fn each_row_is_parsed_and_found_again() {
    for info in COMMANDS.iter().chain(SITE_COMMANDS) {
        let is_of = |line: &&&str| {
            let rest = line.strip_prefix(info.name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let example = EXAMPLES.iter().find(is_of).expect(info.name);
        let command = parsed(example).expect(example);
        assert_eq!(parsed(&lower_name(example)), Ok(command.clone()), "{example}");
        let name = match info.name {
            "XCUP" => "CDUP",
            "SITE" => "SITE CHMOD",
            x @ ("XCWD" | "XMKD" | "XPWD" | "XRMD") => &x[1..],
            other => other,
        };
        assert_eq!(command.info().name, name, "{example}");
    }
    assert!(COMMANDS.is_sorted_by_key(|info| info.name));
}

fn lower_name(line: &str) -> String {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    format!("{} {rest}", name.to_lowercase()).trim_end().to_owned()
}

#[test]
fn unknown_and_known_names_differ() {
    for (line, code) in [
        ("", 500),
        (" NOOP", 500),
        ("XYZZY", 500),
        ("NOOPS", 500),
        ("GET / HTTP/1.1", 500),
        ("é", 500),
        ("ACCT x", 502),
        ("ccc", 502),
        ("SMNT /", 502),
        ("RETR", 501),
        ("RETR ", 501),
        ("USER", 501),
        ("SITE", 501),
        ("SITE EXEC ls", 500),
        ("NOOP x", 501),
        ("FEAT x", 501),
        ("PASV 1", 501),
    ] {
        assert_eq!(parsed(line), Err(code), "{line}");
    }
    assert_eq!(parsed("NOOP  "), Ok(Command::Noop));
    let usage = Command::parse(b"mkd").unwrap_err().reply();
    assert_eq!(usage.to_bytes(), b"501 Usage: MKD <path>\r\n");
}

#[test]
fn paths_stay_as_they_are() {
    assert_eq!(parsed("RETR  a b "), Ok(Command::Retr(" a b ".to_owned())));
    assert_eq!(parsed("CWD ..\\\"x\""), Ok(Command::Cwd("..\\\"x\"".to_owned())));
    assert_eq!(parsed("STOR naïve/日本"), Ok(Command::Stor("naïve/日本".to_owned())));
    assert_eq!(parsed("MLST "), Ok(Command::Mlst(None)));
    assert_eq!(parsed("STOU name"), Ok(Command::Stou(Some("name".to_owned()))));
    let latin = Command::parse(b"RETR na\xefve").unwrap_err();
    assert_eq!(latin.reply().to_bytes(), b"501 Names are sent in UTF-8.\r\n");
}

#[test]
fn passwords_are_bytes_and_never_shown() {
    let bytes = Command::parse(b"PASS  s\xe9cret ").unwrap();
    assert_eq!(bytes, Command::Pass(Password::new(&b" s\xe9cret "[..])));
    assert_eq!(format!("{bytes:?}"), "Pass(Password(..))");
    assert_eq!(parsed("PASS"), Ok(Command::Pass(Password::new(&b""[..]))));
    assert!(parsed(&format!("PASS {}", "x".repeat(limits::PASSWORD))).is_ok());
    let long = Command::parse(format!("PASS {}", "x".repeat(limits::PASSWORD + 1)).as_bytes());
    let text = format!("{:?}", long.unwrap_err());
    assert!(text.contains("501") && !text.contains("xxx"), "{text}");
    assert_eq!(parsed(&format!("USER {}", "x".repeat(limits::USER + 1))), Err(501));
}

#[test]
fn representation_is_checked() {
    for (line, result) in [
        ("TYPE A", Ok(Command::Type(TransferType::Ascii))),
        ("TYPE a n", Ok(Command::Type(TransferType::Ascii))),
        ("TYPE i", Ok(Command::Type(TransferType::Image))),
        ("TYPE L 8", Ok(Command::Type(TransferType::Image))),
        ("TYPE L8", Ok(Command::Type(TransferType::Image))),
        ("TYPE E", Err(504)),
        ("TYPE A T", Err(504)),
        ("TYPE L 36", Err(504)),
        ("TYPE L", Err(501)),
        ("TYPE X", Err(501)),
        ("TYPE", Err(501)),
        ("TYPE I I", Err(501)),
        ("STRU f", Ok(Command::Stru)),
        ("STRU R", Err(504)),
        ("STRU X", Err(501)),
        ("MODE S", Ok(Command::Mode)),
        ("MODE Z", Err(504)),
        ("MODE", Err(501)),
    ] {
        assert_eq!(parsed(line), result, "{line}");
    }
}

#[test]
fn numbers_are_checked() {
    let range = |start, end| RangeRequest::Bytes(ByteRange { start, end: Some(end) });
    for (line, result) in [
        ("ALLO 0", Ok(Command::Allo(0))),
        ("ALLO 18446744073709551615", Ok(Command::Allo(u64::MAX))),
        ("ALLO 10 r 5", Ok(Command::Allo(10))),
        ("ALLO 18446744073709551616", Err(501)),
        ("ALLO 10 R", Err(501)),
        ("ALLO 10 R x", Err(501)),
        ("ALLO 10 X 5", Err(501)),
        ("ALLO -1", Err(501)),
        ("ALLO", Err(501)),
        ("REST 9223372036854775807", Ok(Command::Rest(limits::FILE_SIZE))),
        ("REST 9223372036854775808", Err(501)),
        ("REST +1", Err(501)),
        ("REST x", Err(501)),
        ("RANG 0 9", Ok(Command::Rang(range(0, 10)))),
        ("RANG 7 7", Ok(Command::Rang(range(7, 8)))),
        ("RANG 1 0", Ok(Command::Rang(RangeRequest::Whole))),
        ("RANG 2 1", Ok(Command::Rang(RangeRequest::Invalid))),
        ("RANG 2", Err(501)),
        ("RANG 0 9223372036854775807", Err(501)),
        ("PBSZ 0", Ok(Command::Pbsz(0))),
        ("PBSZ 4294967295", Ok(Command::Pbsz(u32::MAX))),
        ("PBSZ 4294967296", Err(501)),
        ("PBSZ", Err(501)),
    ] {
        assert_eq!(parsed(line), result, "{line}");
    }
}

#[test]
fn security_and_addresses_are_checked() {
    for (line, result) in [
        ("AUTH tls", Ok(Command::Auth { protect_data: false })),
        ("AUTH TLS-C", Ok(Command::Auth { protect_data: false })),
        ("AUTH SSL", Ok(Command::Auth { protect_data: true })),
        ("AUTH GSSAPI", Err(504)),
        ("AUTH", Err(501)),
        ("PROT c", Ok(Command::Prot(DataProtection::Clear))),
        ("PROT P", Ok(Command::Prot(DataProtection::Private))),
        ("PROT S", Err(536)),
        ("PROT E", Err(536)),
        ("PROT X", Err(504)),
        ("PROT", Err(501)),
        ("EPSV", Ok(Command::Epsv(EpsvRequest::Default))),
        ("EPSV all", Ok(Command::Epsv(EpsvRequest::All))),
        ("EPSV 1", Ok(Command::Epsv(EpsvRequest::Ipv4))),
        ("EPSV 2", Ok(Command::Epsv(EpsvRequest::Ipv6))),
        ("EPSV 3", Err(522)),
        ("EPSV x", Err(501)),
        ("EPSV 1 2", Err(501)),
        ("PORT 1,2,3,4,5,6", Ok(Command::Port("1.2.3.4:1286".parse().unwrap()))),
        ("PORT 1,2,3,4,5", Err(501)),
        ("EPRT |2|::1|2000|", Ok(Command::Eprt("[::1]:2000".parse().unwrap()))),
        ("EPRT |3|::1|2000|", Err(522)),
        ("EPRT x", Err(501)),
    ] {
        assert_eq!(parsed(line), result, "{line}");
    }
}

#[test]
fn options_and_names_are_checked() {
    let hash = |option| Ok(Command::Opts(OptsCommand::Hash(option)));
    for (line, result) in [
        ("OPTS utf8 on", Ok(Command::Opts(OptsCommand::Utf8(true)))),
        ("OPTS UTF8", Ok(Command::Opts(OptsCommand::Utf8(true)))),
        ("OPTS UTF8 OFF", Ok(Command::Opts(OptsCommand::Utf8(false)))),
        ("OPTS UTF8 NLST", Err(501)),
        ("OPTS MLST size;", Ok(Command::Opts(OptsCommand::Mlst(FactSet::parse("size;"))))),
        ("OPTS MLST", Ok(Command::Opts(OptsCommand::Mlst(FactSet::parse(""))))),
        ("OPTS HASH", hash(HashOption::Show)),
        ("OPTS HASH blake3", hash(HashOption::Choose(HashAlgorithm::Blake3))),
        ("OPTS HASH SHA-1", Err(504)),
        ("OPTS MODE Z", Err(501)),
        ("OPTS", Err(501)),
        ("HOST [::1]", Ok(Command::Host("[::1]".to_owned()))),
        ("HOST ftp.example.org", Ok(Command::Host("ftp.example.org".to_owned()))),
        ("HOST a b", Err(501)),
        ("HOST", Err(501)),
        ("LANG", Ok(Command::Lang)),
        ("LANG en-GB", Ok(Command::Lang)),
        ("LANG fr", Err(504)),
        ("LANG en fr", Err(501)),
    ] {
        assert_eq!(parsed(line), result, "{line}");
    }
}

#[test]
fn listings_take_options() {
    let all = ListOptions { all: true, recursive: false, path: Some("x y".to_owned()) };
    assert_eq!(parsed("LIST -la x y"), Ok(Command::List(all.clone())));
    assert_eq!(parsed("NLST -a x y"), Ok(Command::Nlst(all.clone())));
    assert_eq!(parsed("STAT -la x y"), Ok(Command::Stat(Some(all))));
    assert_eq!(parsed("LIST"), Ok(Command::List(ListOptions::default())));
    assert_eq!(parsed("STAT "), Ok(Command::Stat(None)));
    assert_eq!(parsed("LIST -lR"), Err(504));
    assert_eq!(parsed("MLSD -a"), Ok(Command::Mlsd(Some("-a".to_owned()))));
}

#[test]
fn times_are_set_in_every_form() {
    let mtime = FileTime { seconds: 897_904_845, nanos: 0 };
    let minute = FileTime { seconds: 897_904_800, nanos: 0 };
    let utime =
        |mtime, path: &str| Ok(Command::Site(SiteCommand::Utime { mtime, path: path.to_owned() }));
    let three = "19980101000000 19980615100045 19990101000000 UTC";
    for (line, result) in [
        ("SITE UTIME 199806151000 a b", utime(minute, "a b")),
        ("SITE utime 19980615100045  a", utime(mtime, " a")),
        (&format!("SITE UTIME a b {three}"), utime(mtime, "a b")),
        (&format!("SITE UTIME  {three}"), Err(501)),
        ("SITE UTIME a 19980615100045 UTC", Err(501)),
        ("SITE UTIME 199806151000", Err(501)),
        ("SITE UTIME 199806151000 ", Err(501)),
        ("SITE UTIME", Err(501)),
        ("MFMT 19980615100045 a b", Ok(Command::Mfmt { mtime, path: "a b".to_owned() })),
        ("MFMT 19980615100045", Err(501)),
        ("MFMT 199806151000 a", Err(501)),
        ("MFMT a 19980615100045", Err(501)),
    ] {
        assert_eq!(parsed(line), result, "{line}");
    }
    let mdtm = |path: &str, set: Option<&str>| {
        let set = set.map(|path| (mtime, path.to_owned()));
        Ok(Command::Mdtm { path: path.to_owned(), set })
    };
    assert_eq!(parsed("MDTM a b"), mdtm("a b", None));
    assert_eq!(parsed("MDTM 19980615100045"), mdtm("19980615100045", None));
    assert_eq!(parsed("MDTM 19980615100045 a"), mdtm("19980615100045 a", Some("a")));
}

#[test]
fn modes_are_octal() {
    let chmod = |mode, path: &str| {
        Ok(Command::Site(SiteCommand::Chmod { mode: Mode::new(mode), path: path.to_owned() }))
    };
    for (line, result) in [
        ("SITE CHMOD 644 a b", chmod(0o644, "a b")),
        ("SITE chmod 0755 a", chmod(0o755, "a")),
        ("SITE CHMOD 4755 a", Err(504)),
        ("SITE CHMOD 888 a", Err(501)),
        ("SITE CHMOD +x a", Err(501)),
        ("SITE CHMOD 6 a", Err(501)),
        ("SITE CHMOD 644", Err(501)),
        ("SITE CHMOD 644 ", Err(501)),
    ] {
        assert_eq!(parsed(line), result, "{line}");
    }
}

#[test]
fn checksums_take_paths_and_ranges() {
    let crc = |path: &str, start, end| {
        let range = ByteRange { start, end };
        Ok(Command::Checksum { algorithm: HashAlgorithm::Crc32, path: path.to_owned(), range })
    };
    for (line, result) in [
        ("XCRC a b", crc("a b", 0, None)),
        ("XCRC \"a b\"", crc("a b", 0, None)),
        ("XCRC \"a\"\"b\" 5", crc("a\"b", 5, None)),
        ("XCRC \"a 1 2\" 5 10", crc("a 1 2", 5, Some(10))),
        ("XCRC a b 5 10", crc("a b", 5, Some(10))),
        ("XCRC a 5", crc("a 5", 0, None)),
        ("XCRC \"a", crc("\"a", 0, None)),
        ("XCRC \"a\"b", crc("\"a\"b", 0, None)),
        ("XCRC 1 2", crc("1 2", 0, None)),
        ("XCRC \"a\" 10 5", Err(501)),
        ("XCRC a 10 5", Err(501)),
        ("XCRC \"a\" x", Err(501)),
        ("XCRC \"a\" 1 2 3", Err(501)),
        ("XCRC \"\"", Err(501)),
        ("XCRC", Err(501)),
    ] {
        assert_eq!(parsed(line), result, "{line}");
    }
    assert!(matches!(
        parsed("XMD5 a"),
        Ok(Command::Checksum { algorithm: HashAlgorithm::Md5, .. })
    ));
}
