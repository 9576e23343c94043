//! Asking for the user name at the terminal.

use std::fs::File;

use relais_net::Host;
use relais_proto::limits;
use rustyline::error::ReadlineError;
use rustyline::{Behavior, DefaultEditor};

use crate::notices::Notices;
use crate::{Failure, Result};

/// Asks for the user name at the process's terminal; returns none without a terminal.
///
/// # Errors
/// The user pressed Ctrl-C or Ctrl-D, or the terminal cannot be used.
pub fn user(host: &Host, notices: &Notices) -> Result<Option<String>> {
    if File::open("/dev/tty").is_err() {
        return Ok(None);
    }
    say!(notices, "{host} has accounts; log in as one of its users");
    let failed = |error: ReadlineError| match error {
        ReadlineError::Interrupted | ReadlineError::Eof => Failure::interrupted(),
        other => failure!(LoginNeeded, "no user name was read: {other}"),
    };
    let config = rustyline::Config::builder().behavior(Behavior::PreferTerm).build();
    let mut editor = DefaultEditor::with_config(config).map_err(failed)?;
    loop {
        let typed = editor.readline("User: ").map_err(failed)?;
        let name = typed.trim();
        if name.len() > limits::USER || name.contains(char::is_control) {
            notices.say("that name is too long or holds a control character");
        } else if !name.is_empty() {
            return Ok(Some(name.to_owned()));
        }
    }
}
