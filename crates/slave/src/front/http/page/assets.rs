//! The style and the script of the page, which are part of the program.

use relais_web::page::{Asset, SHARED};

/// What the page of a folder refers to beside [`SHARED`].
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

/// Returns the asset at a path.
pub fn asset_at(path: &str) -> Option<Asset> {
    ASSETS.into_iter().chain(SHARED).find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_are_found_by_their_paths_alone() {
        let find = |path| asset_at(path).map(|asset| asset.content);
        assert!(find("/-/assets/base.css").is_some_and(|css| css.contains("body")));
        assert!(find("/-/assets/page.js").is_some_and(|js| js.contains("use strict")));
        assert_eq!(asset_at("/-/assets/"), None);
    }
}
