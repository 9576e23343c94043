//! The parts of web pages that masters and slaves share: markup, policy, style and login form.
//!
//! Only literals of the program are markup. It knows no session and sends nothing.

mod asset;
pub mod format;
mod frame;
mod html;
mod login_form;
mod nonce;

pub use asset::Asset;
pub use frame::Frame;
pub use html::Html;
pub use login_form::LoginForm;
pub use nonce::Nonce;
