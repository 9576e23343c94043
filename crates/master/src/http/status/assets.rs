//! The style and the script of the status page, which are part of the program.

use relais_web::page::{Asset, SHARED};

/// What the status page refers to beside [`SHARED`].
pub(super) const ASSETS: [Asset; 2] = [
    Asset {
        path: "/-/assets/status.css",
        content_type: "text/css; charset=utf-8",
        content: include_str!("assets/status.css"),
    },
    Asset {
        path: "/-/assets/status.js",
        content_type: "text/javascript; charset=utf-8",
        content: include_str!("assets/status.js"),
    },
];

/// Returns the asset at a path.
pub(in crate::http) fn asset_at(path: &str) -> Option<Asset> {
    ASSETS.into_iter().chain(SHARED).find(|asset| asset.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_are_found_by_their_paths_alone() {
        let find = |path| asset_at(path).map(|asset| asset.content);
        assert!(find("/-/assets/status.css").is_some_and(|css| css.contains("remarks")));
        assert!(find("/-/assets/status.js").is_some_and(|js| js.contains("use strict")));
        assert_eq!((find("/-/assets/"), find("/-/status")), (None, None));
    }
}
