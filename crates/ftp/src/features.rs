//! What FEAT and HELP say.

use crate::command::{COMMANDS, CommandInfo, SITE_COMMANDS};
use crate::facts::FactSet;
use crate::hash::HashAlgorithm;
use crate::reply::Reply;

/// Returns the reply to FEAT (RFC 2389, section 3.2): only what works in this session.
///
/// `has_tls` says whether the server offers AUTH TLS (RFC 4217, section 6).
#[must_use]
pub fn features(has_tls: bool, facts: &FactSet, algorithm: HashAlgorithm) -> Reply {
    let mlst = format!(" MLST {}", facts.feature());
    let hash = format!(" HASH {}", algorithm.feature());
    let tls = [" AUTH TLS", " PBSZ", " PROT"];
    let others = [
        " AVBL",
        " CLNT",
        " EPRT",
        " EPSV",
        &hash,
        " HOST",
        " LANG EN*",
        " MDTM",
        " MFMT",
        &mlst,
        " RANG STREAM",
        " REST STREAM",
        " SITE CHMOD",
        " SITE UTIME",
        " SIZE",
        " TVFS",
        " UTF8",
        " XCRC",
        " XMD5",
        " XSHA256",
    ];
    Reply::new(211, "Features:")
        .lines(tls.into_iter().filter(|_| has_tls))
        .lines(others)
        .line("End")
}

/// Returns the reply to HELP: all commands, or the usage of one (RFC 959, section 4.1.3).
#[must_use]
pub fn help(topic: Option<&str>) -> Reply {
    match topic.map(str::trim).filter(|topic| !topic.is_empty()) {
        None => overview("Commands:", COMMANDS),
        Some(topic) if topic.eq_ignore_ascii_case("SITE") => site_help(None),
        Some(topic) => usage(topic, CommandInfo::find(topic.as_bytes())),
    }
}

/// Returns the reply to SITE HELP.
#[must_use]
pub fn site_help(topic: Option<&str>) -> Reply {
    match topic.map(str::trim).filter(|topic| !topic.is_empty()) {
        None => overview("Commands of SITE:", SITE_COMMANDS),
        Some(topic) => {
            let name = format!("SITE {topic}");
            usage(topic, SITE_COMMANDS.iter().find(|info| info.name.eq_ignore_ascii_case(&name)))
        }
    }
}

fn overview(title: &str, table: &[CommandInfo]) -> Reply {
    let lines = table.chunks(2).map(|pair| {
        let usages = pair.iter().map(|info| format!("{:<38}", info.usage()));
        format!(" {}", usages.collect::<String>().trim_end())
    });
    Reply::new(214, title).lines(lines).line("End")
}

fn usage(topic: &str, info: Option<&CommandInfo>) -> Reply {
    match info {
        Some(info) => Reply::new(214, format!("Usage: {}", info.usage())),
        None => Reply::new(501, format!("There is no command {topic}.")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(reply: &Reply) -> String {
        String::from_utf8(reply.to_bytes()).unwrap()
    }

    #[test]
    fn features_are_indented_lines() {
        let text = sent(&features(true, &FactSet::default(), HashAlgorithm::default()));
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!((lines[0], lines[lines.len() - 1]), ("211-Features:", "211 End"));
        assert!(lines[1..lines.len() - 1].iter().all(|line| line.starts_with(' ')));
        for feature in [
            " MLST type*;size*;modify*;perm*;unique*;UNIX.mode*;",
            " HASH SHA-256*;BLAKE3;MD5;CRC32",
            " SIZE",
            " MDTM",
            " MFMT",
            " REST STREAM",
            " RANG STREAM",
            " TVFS",
            " UTF8",
            " EPRT",
            " EPSV",
            " CLNT",
            " HOST",
            " AUTH TLS",
            " PBSZ",
            " PROT",
            " LANG EN*",
            " AVBL",
        ] {
            assert!(lines.contains(&feature), "{feature}");
        }
        let clear = sent(&features(false, &FactSet::default(), HashAlgorithm::default()));
        assert!(!clear.contains("AUTH") && !clear.contains("PBSZ") && !clear.contains("PROT"));
    }

    #[test]
    fn help_names_each_command() {
        let text = sent(&help(None));
        assert!(COMMANDS.iter().all(|info| text.contains(&info.usage())), "{text}");
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        let site = sent(&help(Some(" site ")));
        assert!(SITE_COMMANDS.iter().all(|info| site.contains(&info.usage())), "{site}");
        assert_eq!(site, sent(&site_help(None)));
    }

    #[test]
    fn help_shows_the_usage_of_one() {
        assert_eq!(help(Some("retr")), Reply::new(214, "Usage: RETR <path>"));
        assert_eq!(help(Some("x\r\n")).code(), 501);
        let chmod = Reply::new(214, "Usage: SITE CHMOD <octal mode> <path>");
        assert_eq!(site_help(Some("chmod")), chmod);
        assert_eq!(site_help(Some("HELP HELP")).code(), 501);
    }
}
