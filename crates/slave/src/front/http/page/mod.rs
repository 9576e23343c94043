//! The web page for people: folders and search.
//!
//! Browsing and downloading need no script. The script adds uploads and changes, by the same
//! requests that other clients send. Only literals of the program are markup.

mod assets;
mod breadcrumbs;
mod browse;
mod held_memory;
mod listing;
mod order;
mod search;

pub use assets::ASSETS;
pub use browse::browse;
