//! Standard output: the only code that writes to it and reports failures.
//!
//! Outcomes and entries are written as text or as JSON. Foreign text is sanitized here. A closed
//! pipe is remembered, so that the program can end quietly.

mod json;
mod terminal_content;
pub mod text;

use std::io::{self, Write};

use self::terminal_content::TerminalContent;
use crate::notices::Notices;
use crate::outcome::{CommandOutcome, ListedEntry, TransferredFile};
use crate::sanitize::{sanitize, sanitize_lines};
use crate::{Failure, Result};

/// Most names that are shown in columns; a larger folder is shown line by line.
const MAX_COLUMN_NAMES: usize = 2000;

/// How entries are shown as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Names, in columns on a terminal.
    Names,
    /// One line for each entry.
    Long,
    /// All known details.
    Details,
    /// Digest and name.
    Digests,
}

/// The properties of standard output.
#[derive(Debug, Clone, Copy, Default)]
pub struct Screen {
    /// Width of the terminal; none for a file or a pipe.
    pub width: Option<usize>,
    /// Whether colours are used.
    pub colours: bool,
}

/// A listing that is being written.
struct OpenListing {
    /// Names collected for columns; none if there are too many.
    held: Option<Vec<String>>,
    entries: u64,
}

/// Standard output, as text or as JSON.
pub struct Output {
    out: Box<dyn Write>,
    notices: Notices,
    /// Whether outcomes are written as JSON.
    pub json: bool,
    pub screen: Screen,
    terminal: TerminalContent,
    command: String,
    listing: Option<OpenListing>,
    /// Whether content goes to standard output, and the outcome elsewhere.
    pub content_mode: ContentMode,
    /// Whether the reader of standard output has closed it.
    pub is_broken: bool,
}

/// Whether a command writes the content of files, and nothing else, to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentMode {
    /// Standard output takes no content.
    Off,
    /// Standard output takes content; completed files are not reported.
    Quiet,
    /// Standard output takes content; each completed file is reported on standard error.
    Reported,
}

impl Output {
    /// Creates output to `out`; failures go to `notices`.
    pub fn new(out: Box<dyn Write>, notices: Notices, json: bool, screen: Screen) -> Self {
        Self {
            out,
            notices,
            json,
            screen,
            terminal: TerminalContent::default(),
            command: String::new(),
            listing: None,
            content_mode: ContentMode::Off,
            is_broken: false,
        }
    }

    /// Ends the content of a file, and flushes standard output.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        let last = self.terminal.last_text();
        let result = self.out.write_all(last.as_bytes()).and_then(|()| self.out.flush());
        self.check(result)
    }

    /// Begins a command; `name` is its name in JSON.
    pub fn begin(&mut self, name: &str) {
        name.clone_into(&mut self.command);
        self.listing = None;
        self.content_mode = ContentMode::Off;
    }

    /// Writes a piece of content: unchanged, but to a terminal without control characters.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn content(&mut self, bytes: &[u8]) -> Result<()> {
        let result = match self.screen.width {
            Some(_) => self.out.write_all(self.terminal.next_text(bytes).as_bytes()),
            None => self.out.write_all(bytes),
        };
        self.check(result)
    }

    /// Whether entries were written.
    pub fn is_listing(&self) -> bool {
        self.listing.is_some()
    }

    /// Begins a listing, unless it has begun.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn begin_entries(&mut self, style: Style) -> Result<()> {
        if self.is_listing() {
            return Ok(());
        }
        let held = (style == Style::Names && self.screen.width.is_some()).then(Vec::new);
        self.listing = Some(OpenListing { held, entries: 0 });
        if self.json {
            let result = json::begin_entries(&mut self.out, &self.command);
            return self.check(result);
        }
        Ok(())
    }

    /// Writes one entry of the listing, which it begins if needed.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn entry(&mut self, style: Style, shown: ListedEntry) -> Result<()> {
        self.begin_entries(style)?;
        let Some(listing) = &mut self.listing else { return Ok(()) };
        listing.entries += 1;
        if self.json {
            let result = json::entry(&mut self.out, &shown, listing.entries == 1);
            return self.check(result);
        }
        let line = match style {
            Style::Names => text::name(&shown),
            Style::Long => text::long(&shown),
            Style::Details => text::details(&shown),
            Style::Digests => text::digest(&shown),
        };
        let Some(held) = &mut listing.held else { return self.line(&line) };
        held.push(line);
        if held.len() < MAX_COLUMN_NAMES {
            return Ok(());
        }
        // Too many names for columns: these and all others are written line by line.
        let held = listing.held.take().unwrap_or_default();
        held.iter().try_for_each(|line| self.line(line))
    }

    /// Prints a file of several, unless its command prints one object.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn file(&mut self, file: &TransferredFile) -> Result<()> {
        self.line(&sanitize(&text::file(file)))
    }

    /// Reports a failure on standard error.
    pub fn failed(&mut self, failure: &Failure) {
        if !self.json && !self.is_broken {
            let name = if self.command.is_empty() { "ftpclient" } else { &self.command };
            say!(self.notices, "{name}: {}", failure.message);
        }
    }

    /// Writes a line of text apart from commands; nothing with `--json`.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn remark(&mut self, remark: &str) -> Result<()> {
        self.line(&sanitize_lines(remark))
    }

    /// Ends the command and writes its outcome.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn finish(&mut self, result: &Result<CommandOutcome>) -> Result<()> {
        let listing = self.listing.take();
        if self.json {
            let written = match listing {
                Some(_) => json::end_entries(&mut self.out, result),
                None if self.content_mode != ContentMode::Off => self.object_to_stderr(result),
                None => json::object(&mut self.out, &self.command, result),
            };
            self.check(written)?;
        } else {
            if let Some(held) = listing.and_then(|l| l.held) {
                self.columns(&held)?;
            }
            self.write_text(result)?;
        }
        self.flush()
    }

    fn write_text(&mut self, result: &Result<CommandOutcome>) -> Result<()> {
        let text = match result {
            Err(failure) => {
                self.failed(failure);
                return Ok(());
            }
            Ok(CommandOutcome::Folder { path }) => sanitize(path).into_owned(),
            Ok(CommandOutcome::Text { text }) => sanitize_lines(text),
            Ok(CommandOutcome::File(file)) => return self.file(file),
            Ok(CommandOutcome::Batch(files)) => text::batch(files),
            Ok(CommandOutcome::Transfers { transfers, dropped }) => {
                text::transfers(transfers, dropped.is_some())
            }
            Ok(CommandOutcome::Status(state)) => sanitize_lines(&text::status(state)),
            Ok(
                CommandOutcome::FolderChanged { .. }
                | CommandOutcome::Leave {}
                | CommandOutcome::Entries { .. }
                | CommandOutcome::Changes { .. }
                | CommandOutcome::Ran {},
            ) => return Ok(()),
        };
        self.line(&text)
    }

    /// Writes names in columns.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn columns(&mut self, names: &[String]) -> Result<()> {
        let lines = text::columns(names, self.screen.width.unwrap_or(80));
        lines.iter().try_for_each(|line| self.line(line))
    }

    /// Writes the object to standard error.
    fn object_to_stderr(&self, result: &Result<CommandOutcome>) -> io::Result<()> {
        let mut object = Vec::new();
        json::object(&mut object, &self.command, result)?;
        self.notices.say(String::from_utf8_lossy(&object).trim_end());
        Ok(())
    }

    /// Writes a sanitized line; nothing with `--json`.
    fn line(&mut self, line: &str) -> Result<()> {
        let result = match self.content_mode {
            _ if self.json => Ok(()),
            ContentMode::Off => writeln!(self.out, "{line}"),
            ContentMode::Reported => {
                self.notices.say(line);
                Ok(())
            }
            ContentMode::Quiet => Ok(()),
        };
        self.check(result)
    }

    fn check(&mut self, result: io::Result<()>) -> Result<()> {
        result.map_err(|e| {
            self.is_broken |= e.kind() == io::ErrorKind::BrokenPipe;
            failure!(Local, "standard output: {}", crate::error::plain(&e))
        })
    }
}
