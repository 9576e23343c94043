//! The prompt: line editing, history, and the meaning of Ctrl-C and Ctrl-D.
//!
//! The shell runs the lines as from any other source. Errors of the history are only logged,
//! because the prompt works without it.

mod complete;
mod names;

use std::cell::RefCell;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use log::debug;
use relais_proto::ServerRole;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{
    Cmd, CompletionType, ConditionalEventHandler, Editor, Event, EventContext, EventHandler,
    Helper, KeyEvent, RepeatCount,
};

use crate::Result;
use crate::commands::ParsedCommand;
use crate::interrupt::Activity;
use crate::output::text;
use crate::sanitize::sanitize;
use crate::saved_state::StateFolder;
use crate::shell::Shell;
use complete::Completer;

/// Number of names shown after connecting.
const SHOWN_NAMES: u32 = 20;
/// Number of lines in the history.
const HISTORY: usize = 1000;

/// Reads and runs lines until the user leaves; returns the exit status.
#[must_use]
pub fn run(shell: Shell) -> u8 {
    let shell = Rc::new(RefCell::new(shell));
    let mut editor = match editor(&shell) {
        Ok(editor) => editor,
        Err(e) => {
            say!(shell.borrow().notices, "ftpclient: no prompt on this terminal: {e}");
            return 1;
        }
    };
    let history = load_history(&mut editor);
    let cleared = notice_cleared_line(&mut editor);
    greet(&mut shell.borrow_mut());
    let mut presses = 0;
    loop {
        shell.borrow().interrupt.enter(Activity::Prompt);
        let prompts = prompts(&shell.borrow());
        match editor.readline(&prompts) {
            Ok(line) if crate::shell_words::is_blank(&line) => presses = 0,
            Ok(line) => {
                presses = 0;
                add_to_history(&mut editor, history.as_deref(), &line);
                if ParsedCommand::parse(&line).execute(&mut shell.borrow_mut()).leave {
                    return 0;
                }
            }
            // A first Ctrl-C, or one that only cleared a typed line, does not leave.
            Err(ReadlineError::Interrupted) if presses == 0 || cleared.load(Relaxed) => {
                presses = 1;
                shell.borrow().notices.say("press Ctrl-C again, Ctrl-D or type bye to leave");
            }
            Err(ReadlineError::Interrupted) => return 130,
            Err(ReadlineError::Eof) => return 0,
            Err(e) => {
                say!(shell.borrow().notices, "ftpclient: {e}");
                return 1;
            }
        }
    }
}

fn editor(shell: &Rc<RefCell<Shell>>) -> rustyline::Result<Editor<Completer, FileHistory>> {
    let config = rustyline::Config::builder()
        .completion_type(CompletionType::List)
        // The limit includes the line `... and more`; above it the editor would ask first.
        .completion_prompt_limit(names::MAX_NAMES + 1)
        .max_history_size(HISTORY)?
        .history_ignore_dups(true)?
        .history_ignore_space(true)
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Completer(Rc::clone(shell))));
    Ok(editor)
}

/// Loads the history that only this user can read; returns its file, none without a home folder.
fn load_history(editor: &mut Editor<Completer, FileHistory>) -> Option<PathBuf> {
    let path = StateFolder::for_user()?.sibling("client-history");
    if let Some(folder) = path.parent()
        && let Err(e) = DirBuilder::new().recursive(true).mode(0o700).create(folder)
    {
        debug!("the folder {} cannot be made: {e}", folder.display());
    }
    if let Err(e) = editor.load_history(&path) {
        debug!("the history in {} is not read: {e}", path.display());
    }
    Some(path)
}

/// Saves a line. The editor makes the file private.
fn add_to_history<H: Helper>(
    editor: &mut Editor<H, FileHistory>,
    history: Option<&Path>,
    line: &str,
) {
    let added = editor.add_history_entry(line);
    let kept = history.map_or(Ok(()), |path| editor.append_history(path));
    if let Err(e) = added.and(kept) {
        debug!("a line is not saved to the history: {e}");
    }
}

/// Installs a handler that records whether Ctrl-C cleared a line with text.
fn notice_cleared_line(editor: &mut Editor<Completer, FileHistory>) -> Arc<AtomicBool> {
    let cleared = Arc::new(AtomicBool::new(false));
    let handler = ClearedLine(Arc::clone(&cleared));
    editor.bind_sequence(KeyEvent::ctrl('C'), EventHandler::Conditional(Box::new(handler)));
    cleared
}

/// Handles Ctrl-C as the editor does, and records whether the line held text.
struct ClearedLine(Arc<AtomicBool>);

impl ConditionalEventHandler for ClearedLine {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, line: &EventContext<'_>) -> Option<Cmd> {
        self.0.store(!line.line().is_empty(), Relaxed);
        Some(Cmd::Interrupt)
    }
}

/// Returns the prompt without and with colours.
fn prompts(shell: &Shell) -> (String, String) {
    let (host, place) = (shell.session.settings.host.to_string(), shell.cwd.to_string());
    let (host, place) = (sanitize(&host), sanitize(&place));
    let plain = format!("{host}:{place}> ");
    let coloured = if shell.output.screen.colours {
        format!("\u{1b}[32m{host}\u{1b}[0m:\u{1b}[1;34m{place}\u{1b}[0m> ")
    } else {
        plain.clone()
    };
    (plain, coloured)
}

/// Shows the server and the remote folder; a failure is reported and does not prevent the prompt.
fn greet(shell: &mut Shell) {
    shell.interrupt.enter(Activity::Command);
    if let Err(failure) = show_server(shell).and_then(|()| show_folder(shell)) {
        say!(shell.notices, "ftpclient: {failure}");
    }
}

fn show_server(shell: &mut Shell) -> Result<()> {
    let Some((addr, role)) = shell.session.server() else { return Ok(()) };
    let role = match role {
        ServerRole::Standalone => "a standalone slave",
        ServerRole::Slave | ServerRole::Master => "a slave of the cluster",
    };
    shell.output.remark(&format!("Connected to {addr}, {role}. help lists the commands."))
}

fn show_folder(shell: &mut Shell) -> Result<()> {
    let mut names = Vec::new();
    // One additional name shows whether there are more, without reading a large folder.
    shell.session.list_some(&shell.cwd, "", SHOWN_NAMES + 1, &mut |entry| {
        names.push(text::name(&entry.into()));
        Ok(())
    })?;
    let shown = names.len().min(SHOWN_NAMES as usize);
    shell.output.columns(&names[..shown])?;
    if names.len() > shown {
        shell.output.remark("... and more; ls lists them all")?;
    }
    shell.output.flush()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn history_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("client-history");
        let mut editor = Editor::<(), FileHistory>::new().unwrap();
        add_to_history(&mut editor, Some(&path), "ls");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        add_to_history(&mut editor, Some(&path), "pwd");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}
