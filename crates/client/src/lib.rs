//! The client: a prompt, and commands from scripts, over a session that moves between slaves.
//!
//! [`run`] is the whole program except for its command line, which `main.rs` parses. Commands
//! return outcomes, and `output` shows them. `session` finds servers. `receive` fetches files and
//! `send` sends them, through `relais-transfer` and `relais-tree`. `transfer_log` records
//! unfinished transfers. `recursive` transfers whole folders.

#[macro_use]
mod error;

mod commands;
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
pub use error::{Failure, Result};
pub use interrupt::Interrupt;
pub use run::{Config, run};
pub use session::{Destination, Host, Security};
