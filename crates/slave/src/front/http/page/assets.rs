//! The style and the script of the page, which are part of the program.

use relais_http::{RequestHead, Status};

use crate::front::http::answer::Answer;

/// A file that pages refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    /// Its path.
    pub path: &'static str,
    pub content_type: &'static str,
    pub content: &'static str,
}

/// All assets.
pub const ASSETS: [Asset; 2] = [
    Asset {
        path: "/-/assets/page.css",
        content_type: "text/css; charset=utf-8",
        content: include_str!("assets/page.css"),
    },
    Asset {
        path: "/-/assets/page.js",
        content_type: "text/javascript; charset=utf-8",
        content: include_str!("assets/page.js"),
    },
];

impl Asset {
    /// Returns the asset at a path.
    pub fn at(path: &str) -> Option<Self> {
        ASSETS.into_iter().find(|asset| asset.path == path)
    }

    /// Returns the answer to a request for it. Its URL in pages names the version, so it is kept.
    pub fn answer(self, head: &RequestHead) -> Answer {
        let is_current = head.target.query.as_deref() == Some(&format!("v={}", self.version()));
        let keeps = if is_current { "public, max-age=31536000, immutable" } else { "no-cache" };
        Answer::with_body(Status::OK, self.content_type, self.content.into())
            .with("Cache-Control", keeps)
    }

    /// Returns the first half of the BLAKE3 hash of the content, in hex: its version.
    pub fn version(self) -> String {
        let hash = blake3::hash(self.content.as_bytes()).to_hex();
        hash.chars().take(32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_are_found_by_their_paths_alone() {
        assert!(Asset::at("/-/assets/page.css").is_some_and(|css| css.content.contains("body")));
        assert_eq!(Asset::at("/-/assets/"), None);
        assert_ne!(ASSETS[0].version(), ASSETS[1].version());
    }
}
