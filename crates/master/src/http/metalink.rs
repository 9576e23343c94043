//! Metalinks: all holders of a file, with its hashes (RFC 5854).

use std::fmt::Write;
use std::time::Duration;

use relais_auth::AuthenticatedUser;
use relais_cluster::LocatedEntry;
use relais_http::disposition::{Disposition, content_disposition};
use relais_http::{RequestHead, Status, accept, escape};
use relais_proto::{ContentHashes, ErrorCode, FileContent, Refusal, Sha256, TreePath};

use super::answer::Answer;
use super::request::Request;
use super::site::{HttpSite, Outcome};

/// The media type of a Metalink (RFC 5854, section 8.1).
pub(super) const MEDIA_TYPE: &str = "application/metalink4+xml";
/// The parameter of the query that asks for one.
pub(super) const PARAMETER: &str = "meta4";
/// How long a request waits for the hashes of its file.
const HASH_TIME: Duration = Duration::from_secs(20);
/// Retry delay of a client in seconds while a slave hashes its file.
const RETRY_AFTER: u16 = 5;

/// Whether a client wants a Metalink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// It takes nothing else.
    Required,
    /// It takes the file as well, as aria2 says with each request.
    Possible,
    No,
}

impl Wish {
    fn of(head: &RequestHead) -> Self {
        let query = head.target.query.as_deref().unwrap_or_default();
        if query.split('&').any(|pair| pair.split('=').next() == Some(PARAMETER)) {
            return Self::Required;
        }
        let accept = head.headers.get("accept").filter(|accept| accept.contains(MEDIA_TYPE));
        let takes = |media_type| accept::prefers(accept, &[media_type]).is_some();
        match accept {
            Some(_) if !takes(MEDIA_TYPE) => Self::No,
            Some(_) if takes("application/octet-stream") => Self::Possible,
            Some(_) => Self::Required,
            None => Self::No,
        }
    }
}

impl HttpSite {
    /// Answers with a Metalink; none if the client does not want one, or the path is no file.
    ///
    /// `waited` is the time for which the request has waited.
    pub(super) fn metalink(
        &self,
        request: &Request,
        path: &TreePath,
        user: &AuthenticatedUser,
        waited: Duration,
    ) -> Option<Outcome> {
        let head = &request.head;
        let wish = Wish::of(head);
        if wish == Wish::No || !head.method.is_get_or_head() {
            return None;
        }
        let found = self.locate(path, user)?;
        let content = found.entry.content?;
        let hashes = self.view.get().tree().hashes().of(content.put).cloned();
        if hashes.is_none() && wish == Wish::Possible {
            return None;
        }
        Some(match (self.slaves(request, Some(&found), true), hashes) {
            (Err(refusal), _) => Outcome::Answer(Answer::refused(head, &refusal)),
            (Ok(slaves), _) if slaves.is_empty() => self.no_holder(head, waited),
            (Ok(_), None) => self.wait_for_hashes(head, path, user, &found, content, waited),
            (Ok(slaves), Some(hashes)) => {
                let urls = self.urls(request, path, user, None, false);
                let urls: Vec<String> = slaves.iter().map(|slave| urls.on(slave)).collect();
                let name = path.parts().next_back().unwrap_or_default();
                let answer = Answer::with_body(
                    Status::OK,
                    MEDIA_TYPE,
                    render(name, content.size, &hashes, &urls),
                );
                let file = content_disposition(Disposition::Attachment, &format!("{name}.meta4"));
                Outcome::Answer(
                    answer.with("Referrer-Policy", "no-referrer").with("Content-Disposition", file),
                )
            }
        })
    }

    fn wait_for_hashes(
        &self,
        head: &RequestHead,
        path: &TreePath,
        user: &AuthenticatedUser,
        found: &LocatedEntry,
        content: FileContent,
        waited: Duration,
    ) -> Outcome {
        if let Some(path) = Self::path_in_tree(path, user) {
            self.hash_requests.ask(&self.core, &path, content.put, found);
        }
        if waited < HASH_TIME {
            return Outcome::Wait;
        }
        let why = "a slave is computing the hashes of this file; try again later";
        let refusal = Refusal { retry_after: RETRY_AFTER, ..Refusal::new(ErrorCode::Busy, why) };
        Outcome::Answer(Answer::refused(head, &refusal))
    }
}

/// Returns a Metalink document (RFC 5854, section 4).
fn render(name: &str, size: u64, hashes: &ContentHashes, urls: &[String]) -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <metalink xmlns=\"urn:ietf:params:xml:ns:metalink\">\n",
    );
    // Writing to a string cannot fail.
    let _ = writeln!(xml, "  <generator>Relais/{}</generator>", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(xml, "  <file name=\"{}\">", escape::markup(name));
    let _ = writeln!(xml, "    <size>{size}</size>");
    let _ = writeln!(xml, "    <hash type=\"sha-256\">{}</hash>", hex(&hashes.sha256));
    let whole = [hashes.sha256];
    let pieces = if hashes.pieces.is_empty() { &whole[..] } else { &hashes.pieces };
    if size > 0 {
        let _ = writeln!(xml, "    <pieces type=\"sha-256\" length=\"{}\">", hashes.piece_size);
        for piece in pieces {
            let _ = writeln!(xml, "      <hash>{}</hash>", hex(piece));
        }
        xml.push_str("    </pieces>\n");
    }
    for (n, url) in urls.iter().enumerate() {
        let _ = writeln!(xml, "    <url priority=\"{}\">{}</url>", n + 1, escape::markup(url));
    }
    xml.push_str("  </file>\n</metalink>\n");
    xml
}

fn hex(hash: &Sha256) -> String {
    hash.0.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(target: &str, accept: &str) -> Wish {
        let accept =
            if accept.is_empty() { String::new() } else { format!("Accept: {accept}\r\n") };
        let text = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{accept}\r\n");
        Wish::of(&RequestHead::parse(text.as_bytes()).unwrap().unwrap().0)
    }

    #[test]
    fn a_metalink_is_wanted_by_query_or_accept() {
        assert_eq!(wish("/a?meta4", ""), Wish::Required);
        assert_eq!(wish("/a?x=1&meta4=", "text/html"), Wish::Required);
        assert_eq!(wish("/a", MEDIA_TYPE), Wish::Required);
        assert_eq!(wish("/a", "*/*,application/metalink4+xml"), Wish::Possible);
        for (target, accept) in [
            ("/a", ""),
            ("/a?meta", "*/*"),
            ("/meta4", "text/html"),
            ("/a", "text/html,application/metalink4+xml;q=0"),
        ] {
            assert_eq!(wish(target, accept), Wish::No, "{target} {accept}");
        }
    }

    #[test]
    fn hostile_names_stay_text_and_pieces_are_complete() {
        let (a, b) = (Sha256([0xab; 32]), Sha256([0xcd; 32]));
        let hashes = ContentHashes { sha256: a, piece_size: 1 << 20, pieces: vec![b, a] };
        let xml = render("<&\"\u{1}'.txt", 1_500_000, &hashes, &["http://a/?x&y".to_owned()]);
        assert!(xml.contains("<file name=\"&lt;&amp;&quot;\u{fffd}&#39;.txt\">"), "{xml}");
        assert!(xml.contains("<url priority=\"1\">http://a/?x&amp;y</url>"));
        assert!(xml.contains(&format!("<hash type=\"sha-256\">{}</hash>", "ab".repeat(32))));
        let pieces = format!(
            "<pieces type=\"sha-256\" length=\"1048576\">\n      <hash>{}</hash>\n      \
             <hash>{}</hash>\n    </pieces>",
            "cd".repeat(32),
            "ab".repeat(32)
        );
        assert!(xml.contains(&pieces), "{xml}");
        let small = ContentHashes { pieces: Vec::new(), ..hashes };
        let xml = render("f", 5, &small, &[]);
        assert_eq!(xml.matches(&"ab".repeat(32)).count(), 2, "the one piece is the whole");
        assert!(!render("f", 0, &small, &[]).contains("pieces"));
    }
}
