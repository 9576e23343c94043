//! The client: a prompt, and commands from scripts, over a session that moves between slaves.
//!
//! [`run`] is the whole program except for its command line, which `main.rs` parses. Commands
//! return outcomes, and `output` shows them. `session` finds servers. `receive` fetches files and
//! `send` sends them, through `relais-transfer` and `relais-tree`. `transfer_log` records
//! unfinished transfers. `recursive` transfers whole folders.

#[macro_use]
mod error;
#[macro_use]
mod notices;

mod as_text;
mod commands;
mod interrupt;
mod local;
mod local_file;
mod locked_folder;
mod nearest;
mod origin;
mod outcome;
mod output;
mod progress_bar;
mod prompt;
mod receive;
mod recursive;
mod resume;
mod route;
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
mod transfer_progress;

pub use commands::TABLE as COMMANDS;
pub use error::{Failure, Result};
pub use interrupt::Interrupt;
pub use run::{Config, run};
pub use session::{Destination, Host, Settings};
