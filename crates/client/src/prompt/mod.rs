//! The prompt: line editing, history, and what Ctrl-C and Ctrl-D mean there.
//!
//! Lines are run by the shell as from anywhere else. What goes wrong with the history is only
//! logged: a prompt without it is still a prompt.

mod complete;
mod history;
mod names;
mod word_kind;

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use relais_proto::ServerRole;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{
    Cmd, CompletionType, ConditionalEventHandler, Editor, Event, EventContext, EventHandler,
    KeyEvent, RepeatCount,
};

use crate::Failure;
use crate::interrupt::Activity;
use crate::outcome::ListedEntry;
use crate::sanitize::sanitize;
use crate::shell::Shell;
use complete::Completer;
use history::HistoryFile;

/// Names shown on connecting.
const SHOWN_NAMES: NonZeroU32 = NonZeroU32::new(20).unwrap();
/// Lines that are remembered.
const HISTORY: usize = 1000;

/// What was read at the prompt.
enum PromptInput {
    Line(String),
    CtrlC,
    CtrlD,
    Failed(String),
}

/// Reads and runs lines until the user leaves; the result is the exit status.
#[must_use]
pub fn run(shell: Shell) -> u8 {
    let shell = Rc::new(RefCell::new(shell));
    let mut editor = match editor(&shell) {
        Ok(editor) => editor,
        Err(e) => {
            shell.borrow().notices.say(&format!("ftpclient: no prompt on this terminal: {e}"));
            return 1;
        }
    };
    let history = HistoryFile::open(&mut editor);
    let cleared = notice_cleared_line(&mut editor);
    greet(&mut shell.borrow_mut());
    let mut presses = 0;
    loop {
        match read(&mut editor, &shell) {
            PromptInput::Line(line) => {
                presses = 0;
                if crate::shell_words::is_blank(&line) {
                    continue;
                }
                history.add(&mut editor, &line);
                if shell.borrow_mut().execute(&line).leave {
                    return 0;
                }
                if let Some(completer) = editor.helper() {
                    completer.forget();
                }
            }
            // The editor has dropped the line; one that held text does not lead out.
            PromptInput::CtrlC if presses == 0 || cleared.load(Relaxed) => {
                presses = 1;
                shell.borrow().notices.say("press Ctrl-C again, Ctrl-D or type bye to leave");
            }
            PromptInput::CtrlC => return 130,
            PromptInput::CtrlD => return 0,
            PromptInput::Failed(why) => {
                shell.borrow().notices.say(&format!("ftpclient: {why}"));
                return 1;
            }
        }
    }
}

fn editor(shell: &Rc<RefCell<Shell>>) -> rustyline::Result<Editor<Completer, FileHistory>> {
    let config = rustyline::Config::builder()
        .completion_type(CompletionType::List)
        // The editor would ask whether to show all names and count the line that tells of more.
        .completion_prompt_limit(names::MOST + 1)
        .max_history_size(HISTORY)?
        .history_ignore_dups(true)?
        .history_ignore_space(true)
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Completer::new(Rc::clone(shell))));
    Ok(editor)
}

/// Sets up that each Ctrl-C notes whether it has cleared a line with text.
fn notice_cleared_line(editor: &mut Editor<Completer, FileHistory>) -> Arc<AtomicBool> {
    let cleared = Arc::new(AtomicBool::new(false));
    let handler = ClearedLine(Arc::clone(&cleared));
    editor.bind_sequence(KeyEvent::ctrl('C'), EventHandler::Conditional(Box::new(handler)));
    cleared
}

/// Handles Ctrl-C as the editor does, and notes whether the line held text.
struct ClearedLine(Arc<AtomicBool>);

impl ConditionalEventHandler for ClearedLine {
    fn handle(&self, _: &Event, _: RepeatCount, _: bool, line: &EventContext<'_>) -> Option<Cmd> {
        self.0.store(!line.line().is_empty(), Relaxed);
        Some(Cmd::Interrupt)
    }
}

fn read(editor: &mut Editor<Completer, FileHistory>, shell: &Rc<RefCell<Shell>>) -> PromptInput {
    let (plain, coloured) = {
        let shell = shell.borrow();
        shell.interrupt.enter(Activity::Prompt);
        prompts(&shell)
    };
    match editor.readline(&(plain, coloured)) {
        Ok(line) => PromptInput::Line(line),
        Err(ReadlineError::Interrupted) => PromptInput::CtrlC,
        Err(ReadlineError::Eof) => PromptInput::CtrlD,
        Err(e) => PromptInput::Failed(e.to_string()),
    }
}

/// The prompt without and with colours.
fn prompts(shell: &Shell) -> (String, String) {
    let (host, place) = (shell.session.host().to_string(), shell.cwd.to_string());
    let (host, place) = (sanitize(&host), sanitize(&place));
    let plain = format!("{host}:{place}> ");
    let coloured = if shell.output.has_colours() {
        format!("\u{1b}[32m{host}\u{1b}[0m:\u{1b}[1;34m{place}\u{1b}[0m> ")
    } else {
        plain.clone()
    };
    (plain, coloured)
}

/// Shows the server and what is in the folder. A failure here is told, and the prompt comes all the same.
fn greet(shell: &mut Shell) {
    shell.interrupt.enter(Activity::Command);
    if let Err(failure) = show_server(shell).and_then(|()| show_folder(shell)) {
        shell.notices.say(&format!("ftpclient: {failure}"));
    }
}

fn show_server(shell: &mut Shell) -> Result<(), Failure> {
    let Some((addr, role)) = shell.session.server() else { return Ok(()) };
    let role = match role {
        ServerRole::Standalone => "which stands alone",
        ServerRole::Slave | ServerRole::Master => "a slave of the cluster",
    };
    shell.output.remark(&format!("Connected to {addr}, {role}. help lists the commands."))
}

fn show_folder(shell: &mut Shell) -> Result<(), Failure> {
    let mut names = Vec::<ListedEntry>::new();
    // One more than is shown tells whether there are more; a large folder is not read for that.
    shell.session.list_some(&shell.cwd, "", SHOWN_NAMES.saturating_add(1), &mut |entry| {
        names.push(entry.into());
        Ok(())
    })?;
    let shown =
        usize::try_from(SHOWN_NAMES.get()).map_or(names.len(), |most| most.min(names.len()));
    shell.output.names(&names[..shown])?;
    if names.len() > shown {
        shell.output.remark("... and more; ls lists them all")?;
    }
    shell.output.flush()
}
