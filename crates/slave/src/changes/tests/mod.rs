//! Changes on a real folder, from the channel of a session to the disk, the catalogue and back.

mod commit;
mod replay;

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use relais_cluster::{ChangeRequest, SequenceResult};
use relais_proto::{
    Change, ChangeId, Digest, ErrorCode, Expect, FileTime, FolderId, Kind, LogEntry, Lsn, Mode,
    TreePath,
};
use relais_storage::{
    CatalogError, CatalogStore, FOLDER, MetadataFolder, Proposal, ProposalResult, StagedName,
    Staging,
};
use relais_tree::{Folder, set_times};
use tempfile::TempDir;

use super::channel::{ProposalSocket, SessionEnd};
use super::numbering::Numbering;
use super::view::CatalogueView;
use super::{Committer, Memory, open_journal};
use crate::scoreboard::Scoreboard;
use relais_engine::ProposalChannel;
use relais_os::Received;

const ID: FolderId = FolderId([9; 16]);

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn id(n: u8) -> ChangeId {
    ChangeId([n; 16])
}

fn version(number: u64) -> Lsn {
    Lsn { epoch: 1, number }
}

fn digest(content: &str) -> Digest {
    Digest(blake3::hash(content.as_bytes()).into())
}

fn mkdir(n: u8, at: &str) -> Proposal {
    change(n, Change::MakeFolder { path: path(at), mode: Mode::new(0o755) })
}

fn rm(n: u8, at: &str, recursive: bool) -> Proposal {
    change(n, Change::Remove { path: path(at), recursive })
}

fn mv(n: u8, from: &str, to: &str) -> Proposal {
    change(n, Change::Move { from: path(from), to: path(to) })
}

fn change(n: u8, change: Change) -> Proposal {
    Proposal {
        id: id(n),
        change,
        expect: Expect::Any,
        keep_mode: false,
        staged: None,
        synced: false,
        copies: 0,
    }
}

fn code(answer: &ProposalResult) -> Option<ErrorCode> {
    answer.as_ref().err().map(|refusal| refusal.code)
}

/// A folder with all that changes need, in one process.
struct Rig {
    dir: TempDir,
    root: Folder,
    staging: Staging,
    scoreboard: Arc<Scoreboard>,
    proposal_socket: Arc<ProposalSocket>,
    running: Option<(CatalogStore, Committer)>,
    memory: Memory,
    session: SessionEnd,
    /// Bytes from which the journal is shortened, where a test says so.
    shorten_from: Option<u64>,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join(FOLDER)).unwrap();
        let root = Folder::open(dir.path()).unwrap();
        let (proposal_socket, scoreboard) =
            (Arc::new(ProposalSocket::new().unwrap()), Arc::new(Scoreboard::new(1, 1, 1).unwrap()));
        let (staging, session) = (
            Staging::open(&root).unwrap(),
            proposal_socket.open(&relais_engine::Owner::from_text("ann")).unwrap(),
        );
        let (running, memory, shorten_from) = (None, Memory::new(), None);
        let mut rig = Self {
            dir,
            root,
            staging,
            scoreboard,
            proposal_socket,
            running,
            memory,
            session,
            shorten_from,
        };
        rig.start();
        rig
    }

    /// As a replicator does at its start.
    fn start(&mut self) {
        self.running = None;
        let own = MetadataFolder::open(&self.root).unwrap();
        let store = CatalogStore::open(&own).unwrap();
        let (mut numbering, memory) = open_journal(&own, &self.root, ID, &store).unwrap();
        if let Some(bytes) = self.shorten_from {
            numbering.snapshot.shorten_from(bytes);
        }
        self.scoreboard.set_applied_lsn(numbering.last());
        self.memory = memory;
        let root = self.root.try_clone().unwrap();
        let committer = Committer::new(
            root,
            Box::new(numbering),
            self.scoreboard.clone(),
            self.proposal_socket.clone(),
        )
        .unwrap();
        self.running = Some((store, committer));
    }

    fn stop(&mut self) {
        self.running = None;
    }

    fn store(&self) -> &CatalogStore {
        &self.running.as_ref().unwrap().0
    }

    /// A session with a new channel.
    fn connect(&mut self) {
        self.session = self.proposal_socket.open(&relais_engine::Owner::from_text("ann")).unwrap();
    }

    fn serve(&mut self) -> Result<bool, CatalogError> {
        let (store, committer) = self.running.as_mut().unwrap();
        committer.serve(store)
    }

    /// Asks for all of them together.
    fn ask(&mut self, proposals: &[Proposal]) -> Vec<ProposalResult> {
        self.connect();
        assert!(proposals.iter().all(|proposal| self.session.propose(proposal).unwrap()));
        assert!(self.serve().unwrap());
        assert_eq!(self.session.read_greeting().unwrap(), Received::Message(()));
        let mut answers = Vec::new();
        while let Received::Message(answer) = self.session.read_result().unwrap() {
            answers.push(answer);
        }
        assert_eq!(answers.len(), proposals.len());
        answers
    }

    fn made(&mut self, proposals: &[Proposal]) -> Vec<u64> {
        self.ask(proposals).into_iter().map(|answer| answer.unwrap().version.number).collect()
    }

    /// Stages content as a worker does.
    fn put(&self, n: u8, at: &str, content: &str) -> Proposal {
        self.put_at(n, at, content, 1000)
    }

    fn put_at(&self, n: u8, at: &str, content: &str, seconds: i64) -> Proposal {
        let size = content.len() as u64;
        let name = StagedName::new(id(n), "", &path(at), Some(size));
        let mut file = self.staging.claim(&name).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let mtime = FileTime { seconds, nanos: 5 };
        set_times(&file, mtime).unwrap();
        let staged = Some(self.staging.seal(&name).unwrap());
        let change = Change::Put {
            path: path(at),
            size,
            digest: digest(content),
            mtime,
            mode: Mode::new(0o644),
        };
        Proposal {
            id: id(n),
            change,
            expect: Expect::Any,
            keep_mode: false,
            staged,
            synced: false,
            copies: 0,
        }
    }

    fn host(&self, at: &str) -> PathBuf {
        self.dir.path().join(at)
    }

    fn content(&self, at: &str) -> Option<String> {
        fs::read_to_string(self.host(at)).ok()
    }

    fn staged(&self) -> usize {
        fs::read_dir(self.host(".relais/staging")).unwrap().count()
    }

    fn number(&self, at: &str) -> Option<u64> {
        self.store()
            .row(&path(at))
            .unwrap()
            .and_then(|row| row.entry.version)
            .map(|version| version.number)
    }

    /// The catalogue has exactly what is on the disk, as this change left it.
    fn check_file(&self, at: &str, content: &str, last: u64, put: u64) {
        assert_eq!(self.content(at).as_deref(), Some(content), "{at}");
        let row = self.store().row(&path(at)).unwrap().expect(at);
        assert_eq!(
            (row.entry.version, row.content),
            (Some(version(last)), Some(version(put))),
            "{at}"
        );
        assert_eq!(
            (row.entry.kind, row.entry.size, row.digest),
            (Kind::File, content.len() as u64, Some(digest(content))),
            "{at}"
        );
        assert!(
            row.matches(&self.root.stat(&path(at)).unwrap()),
            "{at}: the row is of what lies there"
        );
    }

    fn check_folder(&self, at: &str, last: u64) {
        let row = self.store().row(&path(at)).unwrap().expect(at);
        assert_eq!(
            (row.entry.kind, row.entry.version),
            (Kind::Folder, Some(version(last))),
            "{at}"
        );
        assert_eq!(row.ino, fs::metadata(self.host(at)).unwrap().ino(), "{at}");
    }

    fn check_gone(&self, at: &str) {
        assert!(!self.host(at).exists(), "{at} is on the disk");
        assert_eq!(self.store().row(&path(at)).unwrap(), None, "{at}");
    }

    /// Something that somebody has put into the folder, and the keeper has written down.
    fn publish(&self, at: &str, content: &str) {
        fs::write(self.host(at), content).unwrap();
        self.store().put(&path(at), Kind::File, &self.root.stat(&path(at)).unwrap()).unwrap();
    }

    /// Numbers changes as for a committer that is killed right after its journal has them; then nothing runs.
    fn number_only(&mut self, proposals: &[Proposal]) -> Vec<LogEntry> {
        self.running = None;
        let own = MetadataFolder::open(&self.root).unwrap();
        let store = CatalogStore::open(&own).unwrap();
        let (mut numbering, _) = open_journal(&own, &self.root, ID, &store).unwrap();
        let asked: Vec<ChangeRequest> = proposals
            .iter()
            .map(|p| ChangeRequest {
                id: p.id,
                change: p.change.clone(),
                expect: p.expect,
                keep_mode: p.keep_mode,
            })
            .collect();
        let verdicts = numbering.number(&asked, &mut CatalogueView(&store)).unwrap();
        assert_eq!(verdicts.len(), asked.len());
        let numbered = |verdict| match verdict {
            SequenceResult::Accepted(numbered) => numbered,
            other => panic!("{other:?}"),
        };
        verdicts.into_iter().map(numbered).collect()
    }

    /// What a committer does with the disk for a put over a file, up to where it was killed.
    fn exchange(&self, proposal: &Proposal, at: &str) {
        let (parent, name) =
            path(at).split_last().map(|(parent, name)| (parent, name.to_owned())).unwrap();
        let folder = self.root.open_folder(&parent).unwrap();
        self.staging
            .staged
            .exchange(proposal.staged.as_ref().unwrap().as_str(), &folder, name)
            .unwrap();
    }
}
