//! The messages that workers get from each other and from the supervisor.
//!
//! Every worker has a mailbox, which exists before the first fork. So each process can send to each
//! worker.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use log::warn;
use relais_os::{ProcessMailbox, ProcessMessage};
use relais_proto::{TreePath, limits};
use relais_storage::StagedName;

/// A message in a worker's mailbox.
#[derive(Debug)]
pub enum WorkerMessage {
    /// The number of free slots has changed.
    Slots,
    /// The reopened transfer log.
    TransferLog(File),
    /// An upload is resumed on another connection, so this worker ends its older connection.
    EndUpload(StagedName),
    /// The master needs the hashes of a file.
    HashFile(TreePath),
}

impl ProcessMessage for WorkerMessage {
    const MAX_LEN: usize = limits::PATH + 1;

    fn encode(&self) -> (Vec<u8>, Option<BorrowedFd<'_>>) {
        match self {
            Self::Slots => (vec![0], None),
            Self::TransferLog(file) => (vec![1], Some(file.as_fd())),
            Self::EndUpload(name) => ([&[2], name.to_string().as_bytes()].concat(), None),
            Self::HashFile(path) => ([&[3], path.as_str().as_bytes()].concat(), None),
        }
    }

    fn decode(bytes: &[u8], fd: Option<OwnedFd>) -> Option<Self> {
        match (bytes.split_first()?, fd) {
            ((0, []), None) => Some(Self::Slots),
            ((1, []), Some(fd)) => Some(Self::TransferLog(fd.into())),
            ((2, name), None) => {
                StagedName::parse(std::str::from_utf8(name).ok()?).map(Self::EndUpload)
            }
            ((3, path), None) => {
                TreePath::new(std::str::from_utf8(path).ok()?).ok().map(Self::HashFile)
            }
            _ => None,
        }
    }
}

/// Sends a message to these workers. A full mailbox loses it.
///
/// Its other messages wake the worker, which then looks for free slots. A resumed upload is
/// announced again.
pub fn notify<'a>(
    mailboxes: impl IntoIterator<Item = &'a ProcessMailbox<WorkerMessage>>,
    message: &WorkerMessage,
) {
    for mailbox in mailboxes {
        if let Err(e) = mailbox.send(message)
            && e.kind() != io::ErrorKind::WouldBlock
        {
            warn!("cannot send a message to a worker: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use relais_proto::ChangeId;

    use super::*;

    #[test]
    fn messages_and_files_pass_through_a_mailbox() {
        let mailbox = ProcessMailbox::new().unwrap();
        let name = StagedName::new(ChangeId([1; 16]), "ann", &TreePath::new("f").unwrap(), None);
        let (reader, end) = io::pipe().unwrap();
        notify([&mailbox], &WorkerMessage::Slots);
        notify([&mailbox], &WorkerMessage::EndUpload(name));
        mailbox.send(&WorkerMessage::TransferLog(OwnedFd::from(end).into())).unwrap();
        assert!(matches!(mailbox.take().next(), Some(WorkerMessage::Slots)));
        let Some(WorkerMessage::EndUpload(got)) = mailbox.take().next() else {
            panic!("no upload")
        };
        assert_eq!(got, name);
        let Some(WorkerMessage::TransferLog(mut file)) = mailbox.take().next() else {
            panic!("no file")
        };
        let longest = TreePath::new("xy/".repeat(1364) + "xy").unwrap();
        notify([&mailbox], &WorkerMessage::HashFile(longest.clone()));
        let Some(WorkerMessage::HashFile(path)) = mailbox.take().next() else { panic!("no path") };
        assert_eq!(path, longest);
        assert!(mailbox.take().next().is_none());
        file.write_all(b"hello").unwrap();
        drop(file);
        assert_eq!(io::read_to_string(reader).unwrap(), "hello");
    }
}
