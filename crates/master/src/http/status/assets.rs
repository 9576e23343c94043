//! The style of the status page, which is part of the program.

use relais_web::page::{Asset, BASE_CSS};

/// What the status page refers to beside [`BASE_CSS`].
pub(super) const ASSETS: [Asset; 1] = [Asset {
    path: "/-/assets/status.css",
    content_type: "text/css; charset=utf-8",
    content: include_str!("assets/status.css"),
}];

/// Returns the asset at a path.
pub(in crate::http) fn asset_at(path: &str) -> Option<Asset> {
    ASSETS.into_iter().chain([BASE_CSS]).find(|asset| asset.path == path)
}
