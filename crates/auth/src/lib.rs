//! Who may do what: accounts, tickets, the cluster key and certificates.
//!
//! The crate owns the state folder and its lock, the cluster key and the proofs of it, the
//! authority that certifies servers, accounts, password verification, tickets and signatures of
//! URLs. Masters, slaves and operators' commands use it.
//!
//! It opens no socket: callers move the bytes. It reads no clock: callers pass the time. The
//! cluster key leaves this crate only for another process of the same server, and no debug output
//! shows it.

mod accounts;
mod authority;
mod csrf;
mod dir;
mod ended_tickets;
mod key;
mod link;
mod log_out_file;
mod login_cookie;
mod metrics_token;
mod rights;
mod sealed;
mod secret_file;
mod signed_url;
mod ticket;

pub use accounts::*;
pub use authority::{Authority, AuthorityError, RenewalTimer, ServerKey};
pub use csrf::{csrf_token, is_csrf_token};
pub use dir::{StateDir, StateDirError};
pub use ended_tickets::{EndedTickets, log_out};
pub use key::ClusterKey;
pub use link::{LinkChallenger, LinkError, LinkHandshake, LinkRole, decode_link_frame};
pub use log_out_file::LogOutFile;
pub use login_cookie::{cookie_name, login_cookie_name, ticket_of_cookie, ticket_to_cookie};
pub use metrics_token::MetricsToken;
pub use rights::Rights;
pub use sealed::{seal, unseal};
pub use secret_file::{SecretFileError, SecretFileFault};
pub use signed_url::UrlSignature;
pub use ticket::{Ticket, TicketError};
