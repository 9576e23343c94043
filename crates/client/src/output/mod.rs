//! The front: the only code that writes to standard output, and that tells failures.
//!
//! Takes outcomes and entries, and writes them for people or as JSON. What came from elsewhere
//! is cleaned here. A closed pipe is remembered, so that the program can end quietly.

mod json;
mod shapes;
pub mod text;

use std::io::{self, Write};

use relais_proto::ErrorCode;

use crate::Failure;
use crate::notices::Notices;
use crate::outcome::{CommandOutcome, ListedEntry, ListedKind, Received, Sent};
use crate::sanitize::{clean_lines, sanitize};

/// Most names that are held to be shown in columns; a larger folder is shown line by line.
const COLUMN_NAMES: usize = 2000;

/// How entries are shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Names: in columns on a terminal.
    Names,
    /// A line each.
    Long,
    /// All that is known.
    Details,
    /// Digest and name.
    Digests,
}

/// What standard output is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Screen {
    /// Width of the terminal; none where it is a file or a pipe.
    pub width: Option<usize>,
    /// Whether colours are wanted.
    pub colours: bool,
}

/// A listing that is being put out.
struct OpenListing {
    style: Style,
    /// Names that may still go into columns; none once they are too many.
    held: Option<Vec<ListedEntry>>,
    entries: u64,
}

/// Standard output, for people or scripts.
pub struct Output {
    out: Box<dyn Write>,
    notices: Notices,
    json: bool,
    screen: Screen,
    command: String,
    listing: Option<OpenListing>,
    content: ContentMode,
    broken: bool,
}

/// Whether standard output takes the content of files in this command, and nothing else then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentMode {
    /// It does not.
    Off,
    /// It does, and nothing is told of a file that came whole.
    Quiet,
    /// It does, and each file is told of on standard error.
    Reported,
}

impl Output {
    /// Writes to `out`, and what goes wrong to `notices`.
    #[must_use]
    pub fn new(out: Box<dyn Write>, notices: Notices, json: bool, screen: Screen) -> Self {
        Self {
            out,
            notices,
            json,
            screen,
            command: String::new(),
            listing: None,
            content: ContentMode::Off,
            broken: false,
        }
    }

    /// Whether whoever reads standard output has gone.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether outcomes are written for scripts.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether colours are wanted.
    #[must_use]
    pub fn has_colours(&self) -> bool {
        self.screen.colours
    }

    /// Writes out what is held back.
    ///
    /// # Errors
    /// That standard output cannot be written.
    pub fn flush(&mut self) -> Result<(), Failure> {
        let result = self.out.flush();
        self.check(result)
    }

    /// A command begins; `name` is what its object will be called.
    pub fn begin(&mut self, name: &str) {
        name.clone_into(&mut self.command);
        self.listing = None;
        self.content = ContentMode::Off;
    }

    /// Content goes to standard output from here on; the outcome does not.
    pub fn begin_content(&mut self, content: ContentMode) {
        self.content = content;
    }

    /// A piece of content, as it is.
    ///
    /// # Errors
    /// That standard output cannot be written.
    pub fn content(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let result = self.out.write_all(bytes);
        self.check(result)
    }

    /// Entries follow.
    ///
    /// # Errors
    /// That standard output cannot be written.
    pub fn begin_entries(&mut self, style: Style) -> Result<(), Failure> {
        let held = (style == Style::Names && self.screen.width.is_some()).then(Vec::new);
        self.listing = Some(OpenListing { style, held, entries: 0 });
        if self.json {
            let result = json::begin_entries(&mut self.out, &self.command);
            return self.check(result);
        }
        Ok(())
    }

    /// One entry.
    ///
    /// # Errors
    /// That standard output cannot be written.
    pub fn entry(&mut self, shown: ListedEntry) -> Result<(), Failure> {
        let Some(listing) = &mut self.listing else { return Ok(()) };
        listing.entries += 1;
        if self.json {
            let result = json::entry(&mut self.out, &shown, listing.entries == 1);
            return self.check(result);
        }
        let Some(held) = &mut listing.held else { return self.entry_line(&shown) };
        held.push(shown);
        if held.len() < COLUMN_NAMES {
            return Ok(());
        }
        // Too many for columns: these and all further ones go out line by line.
        let held = listing.held.take().unwrap_or_default();
        held.iter().try_for_each(|shown| self.entry_line(shown))
    }

    /// One file of several is there.
    ///
    /// # Errors
    /// That standard output cannot be written.
    pub fn received(&mut self, file: &Received) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.line(&sanitize(&text::received(file))) }
    }

    /// One file of several is stored.
    ///
    /// # Errors
    /// That standard output cannot be written.
    pub fn sent(&mut self, file: &Sent) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.line(&sanitize(&text::sent(file))) }
    }

    /// One name of several failed.
    pub fn failed(&mut self, failure: &Failure) {
        if !self.json && !self.broken {
            let name = if self.command.is_empty() { "ftpclient" } else { &self.command };
            self.notices.say(&format!("{name}: {}", failure.message));
        }
    }

    /// A line for people, apart from commands; nothing with `--json`.
    ///
    /// # Errors
    /// That standard output cannot be written.
    pub fn remark(&mut self, remark: &str) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.line(&clean_lines(remark)) }
    }

    /// Names in columns for people, apart from commands; nothing with `--json`.
    ///
    /// # Errors
    /// That standard output cannot be written.
    pub fn names(&mut self, names: &[ListedEntry]) -> Result<(), Failure> {
        if self.json { Ok(()) } else { self.columns(names) }
    }

    /// The command has ended.
    ///
    /// # Errors
    /// That standard output cannot be written.
    pub fn finish(&mut self, result: &Result<CommandOutcome, Failure>) -> Result<(), Failure> {
        let listing = self.listing.take();
        if self.json {
            let written = match listing {
                Some(_) => json::end_entries(&mut self.out, result),
                None if self.content != ContentMode::Off => self.object_aside(result),
                None => json::object(&mut self.out, &self.command, result),
            };
            self.check(written)?;
        } else {
            if let Some(held) = listing.and_then(|l| l.held) {
                self.columns(&held)?;
            }
            self.tell(result)?;
        }
        self.flush()
    }

    /// The outcome for people.
    fn tell(&mut self, result: &Result<CommandOutcome, Failure>) -> Result<(), Failure> {
        match result {
            Err(failure) => {
                self.failed(failure);
                Ok(())
            }
            Ok(CommandOutcome::Folder(path)) => self.line(&sanitize(path)),
            Ok(CommandOutcome::Text(text)) => self.line(&clean_lines(text)),
            Ok(CommandOutcome::Received(file)) => self.received(file),
            Ok(CommandOutcome::Sent(file)) => self.sent(file),
            Ok(CommandOutcome::Batch(files)) => self.line(&text::several(files)),
            Ok(CommandOutcome::Mirrored(mirrored)) => {
                text::mirrored(mirrored).iter().try_for_each(|line| self.line(line))
            }
            Ok(CommandOutcome::Transfers(transfers)) => {
                text::transfers(transfers).iter().try_for_each(|line| self.line(line))
            }
            Ok(CommandOutcome::Status(state)) => self.line(&clean_lines(&text::status(state))),
            Ok(
                CommandOutcome::FolderChanged(_)
                | CommandOutcome::Leave
                | CommandOutcome::Entries(_)
                | CommandOutcome::Changes(_)
                | CommandOutcome::Ran,
            ) => Ok(()),
        }
    }

    fn entry_line(&mut self, shown: &ListedEntry) -> Result<(), Failure> {
        let style = self.listing.as_ref().map_or(Style::Names, |l| l.style);
        let line = match style {
            Style::Names => self.coloured(shown, text::name(shown)),
            Style::Long => text::long(shown),
            Style::Details => text::details(shown),
            Style::Digests => text::digest(shown),
        };
        self.line(&line)
    }

    fn columns(&mut self, names: &[ListedEntry]) -> Result<(), Failure> {
        let plain: Vec<String> = names.iter().map(text::name).collect();
        text::columns(&plain, self.screen.width.unwrap_or(80))
            .iter()
            .try_for_each(|line| self.line(line))
    }

    fn coloured(&self, shown: &ListedEntry, name: String) -> String {
        if self.screen.colours && shown.kind == ListedKind::Folder {
            format!("\u{1b}[1;34m{name}\u{1b}[0m")
        } else {
            name
        }
    }

    /// The object goes to standard error.
    fn object_aside(&self, result: &Result<CommandOutcome, Failure>) -> io::Result<()> {
        let mut object = Vec::new();
        json::object(&mut object, &self.command, result)?;
        self.notices.say(String::from_utf8_lossy(&object).trim_end());
        Ok(())
    }

    /// Writes a line that is fit to be shown.
    fn line(&mut self, line: &str) -> Result<(), Failure> {
        if self.content != ContentMode::Off {
            if self.content == ContentMode::Reported {
                self.notices.say(line);
            }
            return Ok(());
        }
        let result = writeln!(self.out, "{line}");
        self.check(result)
    }

    fn check(&mut self, result: io::Result<()>) -> Result<(), Failure> {
        result.map_err(|e| {
            self.broken |= e.kind() == io::ErrorKind::BrokenPipe;
            Failure::new(ErrorCode::Local, format!("standard output: {}", crate::error::plain(&e)))
        })
    }
}
