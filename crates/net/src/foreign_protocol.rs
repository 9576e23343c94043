//! Answers peers of other protocols with one readable line in their own protocol.

use relais_proto::HEADER_LEN;

/// The message for peers of other protocols.
const TEXT: &str = "This port speaks the Relais protocol; use ftpclient";
/// The message for a peer that was silent until its login time ended.
///
/// It is an FTP reply, because an FTP client waits for the server to speak first.
const NO_LOGIN: &[u8] =
    b"421 No login came in time. This port speaks the Relais protocol; use ftpclient\r\n";

/// A protocol that Relais servers do not speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ForeignProtocol {
    Http,
    Ftp,
    Ssh,
    Tls,
}

impl ForeignProtocol {
    /// Recognizes a protocol by its first bytes.
    ///
    /// No frame begins with these bytes, because as a length they exceed every cap.
    pub fn of(first: &[u8; HEADER_LEN]) -> Option<Self> {
        const HTTP: [&[u8]; 10] = [
            b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELET", b"OPTIO", b"CONNE", b"TRACE", b"PATCH",
            b"PRI ",
        ];
        const FTP: [&[u8]; 9] =
            [b"USER ", b"AUTH ", b"FEAT", b"SYST", b"HOST ", b"PASS ", b"QUIT", b"HELP", b"NOOP"];
        let begins = |words: &[&[u8]]| words.iter().any(|word| first.starts_with(word));
        match first {
            _ if begins(&HTTP) => Some(Self::Http),
            _ if first.starts_with(b"SSH-") => Some(Self::Ssh),
            // A handshake record: its type, and the major version of all versions since SSL 3.
            [0x16, 3, ..] => Some(Self::Tls),
            _ => {
                let upper = first.map(|byte| byte.to_ascii_uppercase());
                FTP.iter().any(|word| upper.starts_with(word)).then_some(Self::Ftp)
            }
        }
    }

    /// The name of the protocol, for the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Ftp => "FTP",
            Self::Ssh => "SSH",
            Self::Tls => "TLS",
        }
    }

    /// The message that ends a connection of this protocol.
    pub fn refusal(self) -> Vec<u8> {
        match self {
            Self::Http => {
                let body = format!("{TEXT}\n");
                format!(
                    "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
                     Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                )
                .into_bytes()
            }
            Self::Ftp => format!("421 {TEXT}\r\n").into_bytes(),
            Self::Ssh => ssh_disconnect(),
            // A fatal alert, protocol_version (RFC 8446, section 6): this server speaks no TLS.
            Self::Tls => vec![0x15, 3, 3, 0, 2, 2, 70],
        }
    }
}

/// The message for a peer that was silent until its login time ended.
pub(crate) fn no_login() -> &'static [u8] {
    NO_LOGIN
}

/// An SSH identification with the message as its comment, and a disconnect message.
///
/// RFC 4253, sections 4.2 and 11.1.
fn ssh_disconnect() -> Vec<u8> {
    /// Block size before the key exchange. A packet has at least 4 bytes of padding.
    const BLOCK: usize = 8;
    const PROTOCOL_ERROR: u8 = 2;
    let mut payload = vec![1, 0, 0, 0, PROTOCOL_ERROR];
    for text in [TEXT, "en"] {
        // Both texts are short constants.
        payload.extend([0, 0, 0, u8::try_from(text.len()).unwrap_or(0)]);
        payload.extend(text.as_bytes());
    }
    let padding = BLOCK - (payload.len() + 5) % BLOCK;
    let padding = if padding < 4 { padding + BLOCK } else { padding };
    let len = u32::try_from(payload.len() + padding + 1).unwrap_or(0);
    let mut bytes = format!("SSH-2.0-Relais {TEXT}\r\n").into_bytes();
    bytes.extend(len.to_be_bytes());
    bytes.push(u8::try_from(padding).unwrap_or(0));
    bytes.extend(payload);
    bytes.resize(bytes.len() + padding, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &[u8]) -> Option<ForeignProtocol> {
        ForeignProtocol::of(text[..HEADER_LEN].try_into().unwrap())
    }

    #[test]
    fn recognizes_foreign_protocols_and_ignores_frames() {
        for (bytes, foreign) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(ForeignProtocol::Http)),
            (b"OPTIONS * HTTP/1.1\r\n", Some(ForeignProtocol::Http)),
            (b"PRI * HTTP/2.0\r\n", Some(ForeignProtocol::Http)),
            (b"USER anonymous\r\n", Some(ForeignProtocol::Ftp)),
            (b"feat\r\n", Some(ForeignProtocol::Ftp)),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Some(ForeignProtocol::Ssh)),
            (&[0x16, 3, 1, 2, 0, 1, 0], Some(ForeignProtocol::Tls)),
            (&[0, 0, 0, 20, 1, 0, 0], None),
            (b"garbage", None),
        ] {
            assert_eq!(of(bytes), foreign, "{bytes:?}");
        }
    }

    #[test]
    fn answers_each_protocol_in_its_own_form() {
        let text = |foreign: ForeignProtocol| String::from_utf8(foreign.refusal()).unwrap();
        let http = text(ForeignProtocol::Http);
        let (head, body) = http.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 ") && body.lines().count() == 1, "{http}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{http}");
        assert!(
            text(ForeignProtocol::Ftp).starts_with("421 ")
                && text(ForeignProtocol::Ftp).ends_with("\r\n")
        );
        let ssh = ForeignProtocol::Ssh.refusal();
        let end = ssh.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
        assert!(ssh.starts_with(b"SSH-2.0-") && end <= 255);
        let packet = &ssh[end..];
        assert_eq!(packet.len() % 8, 0);
        assert_eq!(
            usize::try_from(u32::from_be_bytes(packet[..4].try_into().unwrap())).unwrap() + 4,
            packet.len()
        );
        assert!((4..=255).contains(&packet[4]) && packet[5] == 1);
    }
}
