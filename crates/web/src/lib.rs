//! HTTP connections of a server: request heads and bodies in, answers out, each with deadlines.
//!
//! Slaves and masters use it, with the parts of pages and logins that both have. It knows no paths,
//! users or files' meaning: it moves what `relais-http` parses and writes over a stream of
//! `relais-net`. The thread of a session alone uses a connection.

mod answer;
mod body;
mod body_state;
mod body_writer;
mod connection;
mod cross_site;
mod error;
mod error_page;
mod file_ranges;
mod host_rule;
mod input;
pub mod limits;
mod login;
pub mod page;
mod respond;
mod sender;

pub use answer::{AnswerRules, encode_answer, encode_stream};
pub use body::Body;
pub use body_writer::BodyWriter;
pub use connection::{HttpConnection, NextRequest};
pub use cross_site::check_origin;
pub use error::WebError;
pub use error_page::render_error;
pub use file_ranges::FileRanges;
pub use host_rule::HostRule;
pub use login::{
    form_length, is_browser, is_form, keeps_cookies, login_cookie, login_location, next_path,
    wants_page,
};
pub use respond::ResponseBody;
