//! Styles and scripts of pages, which are part of the program.

use relais_http::{RequestHead, Response, Status};

/// A file that pages refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// Its path.
    pub path: &'static str,
    /// Its media type.
    pub content_type: &'static str,
    /// Its text.
    pub content: &'static str,
}

/// The look of all pages.
const BASE_CSS: Asset = Asset {
    path: "/-/assets/base.css",
    content_type: "text/css; charset=utf-8",
    content: include_str!("base.css"),
};

/// The icon of all pages.
const ICON: Asset = Asset {
    path: "/-/assets/icon.svg",
    content_type: "image/svg+xml",
    content: include_str!("icon.svg"),
};

/// What all pages refer to: their look and their icon.
pub(super) const SHARED: [Asset; 2] = [BASE_CSS, ICON];

impl Asset {
    /// Returns the asset at a path: one of `own`, or one that all pages share.
    #[must_use]
    pub fn find(own: &[Self], path: &str) -> Option<Self> {
        own.iter().chain(&SHARED).find(|asset| asset.path == path).copied()
    }

    /// Returns the URL that pages have. It names the version, so the answer may be kept.
    #[must_use]
    pub fn url(self) -> String {
        format!("{}?v={}", self.path, self.version())
    }

    /// Returns the answer to a request for it, without its body.
    #[must_use]
    pub fn response(self, head: &RequestHead) -> Response {
        let is_current = head.target.query.as_deref() == Some(&format!("v={}", self.version()));
        let keeps = if is_current { "public, max-age=31536000, immutable" } else { "no-cache" };
        Response::new(Status::OK)
            .with("Content-Type", self.content_type)
            .with("X-Content-Type-Options", "nosniff")
            .with("Cache-Control", keeps)
    }

    /// Returns the first half of the BLAKE3 hash of the content, in hex: its version.
    fn version(self) -> String {
        let hash = blake3::hash(self.content.as_bytes()).to_hex();
        hash.chars().take(32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_are_found_by_their_paths_alone() {
        let own = Asset { path: "/-/assets/own.css", content_type: "text/css", content: "own" };
        let find = |path| Asset::find(&[own], path).map(|asset| asset.content);
        assert!(find("/-/assets/base.css").is_some_and(|css| css.contains("body")));
        assert_eq!(find("/-/assets/own.css"), Some("own"));
        assert_eq!((find("/-/assets/"), find("/-/assets")), (None, None));
    }

    #[test]
    fn only_the_current_version_is_kept() {
        let kept = |target: &str| {
            let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
            let (head, _) = RequestHead::parse(request.as_bytes()).unwrap().unwrap();
            let response = BASE_CSS.response(&head);
            response.headers.get("cache-control").unwrap().contains("immutable")
        };
        assert!(kept(&BASE_CSS.url()));
        assert!(!kept(BASE_CSS.path) && !kept("/-/assets/base.css?v=0"));
    }
}
