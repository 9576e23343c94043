//! What the programs need of the operating system beyond the standard library.
//!
//! The crate owns the atomic replacement of files, random bytes, wake-ups and queues between
//! threads, sockets that pass messages and descriptors between processes, and pipes that pass bytes
//! without a copy. It never knows what
//! the bytes mean, and starts no thread and no process.

mod atomic_file;
mod mailbox;
mod message_socket;
mod process_mailbox;
mod random;
mod splice_pipe;
mod waker;

pub use atomic_file::{
    create_atomically, display_path, remove_temporary_files, write_atomically, write_atomically_as,
    write_parts_atomically,
};
pub use mailbox::{Mailbox, MailboxSender};
pub use message_socket::{MessageListener, MessageSocket, Received};
pub use process_mailbox::{ProcessMailbox, ProcessMessage};
pub use random::random;
pub use splice_pipe::SplicePipe;
pub use waker::Waker;
