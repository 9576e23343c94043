//! The session with a server of the cluster: opened, kept, and replaced when the server fails.
//!
//! The session owns the connection, the known route and the list of failed slaves. It sends
//! requests and reads replies. It knows no commands, and prints only notices about servers. A slave
//! stores nothing of a session except its user, so each request can be repeated on another slave.

mod connect;
mod consistency;
mod destination;
mod handshake;
mod observed;
mod requests;
mod sessions;
mod slaves;
mod state;
mod streams;
#[cfg(test)]
mod tests;
mod trust;

pub use destination::Destination;
pub use observed::ObservedState;
pub use relais_net::Host;
pub use requests::{Details, new_id};
pub use state::{Session, Settings};
