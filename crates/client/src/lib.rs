//! The client: a prompt, and commands from scripts, over a session that moves between slaves.
//!
//! [`run`] is the whole program but for its command line, which `main.rs` reads. Commands
//! return outcomes; `output` shows them; `session` finds servers; `receive` brings files in,
//! through `relais-transfer` and `relais-tree`; `log` remembers what is unfinished.

mod commands;
mod error;
mod interrupt;
mod local;
mod log;
mod nearest;
mod notices;
mod outcome;
mod output;
mod prompt;
mod receive;
mod remote;
mod run;
mod sanitize;
mod session;
mod shell;
#[cfg(test)]
mod tests;
mod words;

pub use error::Failure;
pub use interrupt::Interrupt;
pub use run::{Config, run};
pub use session::Host;
