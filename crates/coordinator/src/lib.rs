//! The thread that numbers changes. It alone owns the coordinator and the journal.
//!
//! It runs in the master of a cluster, and in the replicator of a standalone slave. Other threads
//! send it commands, and wait for none of its writes. The crate opens no socket: messages leave by
//! a [`LinkSender`].

mod driver;
mod handle;
mod link_sender;
mod members;
mod order_view;
mod status;
mod store;

pub use self::driver::{Clock, CoordinatorDriver, Link, OrderCommand, halted_text};
pub use self::handle::OrderHandle;
pub use self::link_sender::LinkSender;
pub use self::members::MembersError;
pub use self::order_view::OrderView;
pub use self::status::{OrderStatus, SharedOrderStatus};
pub use self::store::{Store, StoreError};
