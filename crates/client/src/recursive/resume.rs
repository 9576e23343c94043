//! Resumes the folders in the `.log` when a prompt starts.
//!
//! As with single files, the local name must lie in the folder of `-d`, and no link may lead to it.
//! Equal files are not transferred again. All messages go to standard error.

use relais_proto::{ErrorCode, TreePath};
use relais_tree::{Folder, TreeError};

use super::batch_report::is_resumable;
use super::local_tree::LocalTree;
use super::trees::CopyRoot;
use crate::outcome::BatchSummary;
use crate::output::text;
use crate::shell::Shell;
use crate::transfer_log::{LogHandle, TransferEntry, TransferTask};

impl Shell {
    /// Resumes one folder with the connected cluster.
    ///
    /// The result is 0, 5 if something is left, or 130 if the user interrupted.
    pub fn resume_tree(&mut self, entry: TransferEntry) -> u8 {
        let (folder, top) = match self.top_inside(&entry.local) {
            Ok(inside) => inside,
            Err(why) => {
                self.notices.say(&format!(
                    "{} is not resumed automatically: {why}; run the command again to resume it",
                    entry.local
                ));
                return 0;
            }
        };
        let is_sent = entry.task == TransferTask::PutTree;
        self.notices.say(&format!("resuming {} with all that is in it", entry.remote));
        let result = match is_sent {
            false => self.fetch_tree(&entry.remote, folder, &top, &entry.local),
            true => match self.source_inside(folder, &top) {
                Ok(tree) => self.send_tree(tree, &entry.remote, &entry.local),
                Err(error) => return self.drop_tree(entry, &error),
            },
        };
        match result {
            Ok(several) => self.report_resumed(&entry, &several),
            Err(failure) if !is_resumable(&failure) => self.drop_tree(entry, &failure),
            Err(failure) => {
                self.notices.say(&format!("resuming {}: {failure}", entry.remote));
                if failure.code == ErrorCode::Interrupted { 130 } else { 5 }
            }
        }
    }

    fn report_resumed(&mut self, entry: &TransferEntry, several: &BatchSummary) -> u8 {
        // With `--json` failures belong to an object, and this resume has none.
        for failed in several.failed.iter().filter(|_| self.output.is_json()) {
            self.notices.say(&failed.failure.message);
        }
        self.notices.say(&format!("{}: {}", entry.remote, text::several(several)));
        let mut left = several
            .failed
            .iter()
            .map(|failed| &failed.failure)
            .filter(|failure| is_resumable(failure))
            .peekable();
        if left.peek().is_some() {
            return if left.any(|failure| failure.code == ErrorCode::Interrupted) {
                130
            } else {
                5
            };
        }
        0
    }

    /// Drops a folder that cannot be resumed.
    fn drop_tree(&self, entry: TransferEntry, why: &dyn std::fmt::Display) -> u8 {
        self.notices.say(&format!("resuming {}: {why}; removed from the .log", entry.remote));
        if let Err(failure) =
            LogHandle::open(self.local.home(), entry).and_then(|mut handle| handle.finish())
        {
            self.notices.say(&failure.to_string());
        }
        0
    }

    /// Opens the folder of a line, or its parent with the name in it; `.` is the folder itself.
    fn top_inside(&self, log_name: &str) -> Result<(Folder, CopyRoot), TreeError> {
        let Some(folder) =
            log_name.strip_suffix('.').filter(|folder| folder.is_empty() || folder.ends_with('/'))
        else {
            let (folder, target) = self.folder_inside(log_name)?;
            return Ok((folder, CopyRoot { folder: target.folder, name: Some(target.name) }));
        };
        let below = TreePath::new(folder.trim_end_matches('/'))
            .map_err(|e| TreeError::Io("follow the line", std::io::Error::other(e)))?;
        let home = Folder::open(self.local.home())?;
        let pinned = if below.is_root() { home } else { home.open_folder(&below)? };
        Ok((
            pinned,
            CopyRoot { folder: self.local.home_display().join(below.as_str()), name: None },
        ))
    }

    /// Opens the local folder of a line from the folder of `-d` without following a link.
    ///
    /// # Errors
    /// The name leads elsewhere, or the folder does not exist.
    pub fn folder_of_line(&self, log_name: &str) -> Result<Folder, TreeError> {
        let (folder, top) = self.top_inside(log_name)?;
        match top.name {
            Some(name) => folder.sub(&name),
            None => Ok(folder),
        }
    }

    /// Opens the local folder that is sent; it must exist.
    fn source_inside(&self, folder: Folder, top: &CopyRoot) -> Result<LocalTree, TreeError> {
        let pinned = match &top.name {
            Some(name) => folder.sub(name)?,
            None => folder,
        };
        Ok(LocalTree::new(pinned, &top.shown()))
    }
}
