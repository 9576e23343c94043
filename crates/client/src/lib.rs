//! The client: a prompt, and commands from scripts, over a session that moves between slaves.
//!
//! [`run`] is the whole program but for its command line, which `main.rs` reads. Commands
//! return outcomes; `output` shows them; `session` finds servers; `receive` brings files in and `send`
//! brings them out, through `relais-transfer` and `relais-tree`; `log` remembers what is unfinished;
//! `recursive` does so for whole folders.

mod commands;
mod error;
mod interrupt;
mod local;
mod nearest;
mod notices;
mod origin;
mod outcome;
mod output;
mod progress_bar;
mod prompt;
mod receive;
mod recursive;
mod remote;
mod run;
mod sanitize;
mod saved_state;
mod send;
mod session;
mod shell;
mod shell_words;
#[cfg(test)]
mod tests;
mod transfer_log;

pub use commands::{Command, TABLE as COMMANDS};
pub use error::Failure;
pub use interrupt::Interrupt;
pub use run::{Config, run};
pub use session::{Destination, Host, Security};
