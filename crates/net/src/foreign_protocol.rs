//! Answers peers of other protocols with one readable line in their own protocol.

use relais_proto::HEADER_LEN;

/// The message for peers of other protocols.
const TEXT: &str = "This port speaks the Relais protocol; use ftpclient";
/// The message for a peer that was silent until its login time ended.
///
/// It is an FTP reply, because an FTP client waits for the server to speak first.
pub(crate) const NO_LOGIN: &[u8] =
    b"421 No login came in time. This port speaks the Relais protocol; use ftpclient\r\n";

/// Recognizes a foreign protocol by its first bytes; returns its name for the log, and the answer.
///
/// No frame begins with these bytes, because as a length they exceed every cap.
pub(crate) fn answer_foreign(first: &[u8; HEADER_LEN]) -> Option<(&'static str, Vec<u8>)> {
    const HTTP: [&[u8]; 10] = [
        b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELET", b"OPTIO", b"CONNE", b"TRACE", b"PATCH",
        b"PRI ",
    ];
    const FTP: [&[u8]; 9] =
        [b"USER ", b"AUTH ", b"FEAT", b"SYST", b"HOST ", b"PASS ", b"QUIT", b"HELP", b"NOOP"];
    let upper = first.map(|byte| byte.to_ascii_uppercase());
    if HTTP.iter().any(|word| first.starts_with(word)) {
        let answer = format!(
            "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{TEXT}\n",
            TEXT.len() + 1
        );
        Some(("HTTP", answer.into_bytes()))
    } else if first.starts_with(b"SSH-") {
        Some(("SSH", ssh_disconnect()))
    } else if first.starts_with(&[0x16, 3]) {
        // A handshake record: its type, and the major version of all versions since SSL 3. The
        // answer is a fatal alert, protocol_version (RFC 8446, section 6): no TLS is spoken here.
        Some(("TLS", vec![0x15, 3, 3, 0, 2, 2, 70]))
    } else if FTP.iter().any(|word| upper.starts_with(word)) {
        Some(("FTP", format!("421 {TEXT}\r\n").into_bytes()))
    } else {
        None
    }
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

    fn answer(text: &[u8]) -> Option<(&'static str, Vec<u8>)> {
        answer_foreign(text[..HEADER_LEN].try_into().unwrap())
    }

    #[test]
    fn recognizes_foreign_protocols_and_ignores_frames() {
        for (bytes, foreign) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some("HTTP")),
            (b"OPTIONS * HTTP/1.1\r\n", Some("HTTP")),
            (b"PRI * HTTP/2.0\r\n", Some("HTTP")),
            (b"USER anonymous\r\n", Some("FTP")),
            (b"feat\r\n", Some("FTP")),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Some("SSH")),
            (&[0x16, 3, 1, 2, 0, 1, 0], Some("TLS")),
            (&[0, 0, 0, 20, 1, 0, 0], None),
            (b"garbage", None),
        ] {
            assert_eq!(answer(bytes).map(|(name, _)| name), foreign, "{bytes:?}");
        }
    }

    #[test]
    fn answers_each_protocol_in_its_own_form() {
        let text = |first: &[u8]| String::from_utf8(answer(first).unwrap().1).unwrap();
        let http = text(b"GET / ");
        let (head, body) = http.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 ") && body.lines().count() == 1, "{http}");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{http}");
        let ftp = text(b"USER a");
        assert!(ftp.starts_with("421 ") && ftp.ends_with("\r\n"));
        let (_, ssh) = answer(b"SSH-2.0").unwrap();
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
