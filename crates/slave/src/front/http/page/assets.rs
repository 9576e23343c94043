//! The style and the script of the page, which are part of the program.

use relais_web::page::Asset;

/// What the page of a folder refers to beside the shared assets.
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
