//! The style and the script of the status page, which are part of the program.

use relais_web::page::Asset;

/// What the status page refers to beside the shared assets.
pub(in crate::http) const ASSETS: [Asset; 2] = [
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
