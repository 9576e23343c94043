//! The web page for people: folders, search, and the form of the login.
//!
//! Browsing and downloading need no script. The script adds uploads and changes, by the same
//! requests that other clients send. Only literals of the program are markup.

mod assets;
mod browse;
mod format;
mod frame;
mod html;
mod listing;
mod login_form;
mod order;
mod search;

pub use assets::Asset;
pub use browse::browse;
pub use frame::Nonce;
pub use login_form::login_page;
