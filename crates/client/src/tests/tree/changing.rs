//! Changes to the files of the fake slaves: uploads, `mkdir`, `rm` and `mv`.

use std::sync::atomic::Ordering;

use relais_net::Connection;
use relais_proto::{
    ChangeId, Digest, Entry, ErrorCode, Expect, FrameType, Kind, Lsn, Mode, PutRequest, Refusal,
    Reply, Request, TreePath,
};

use super::super::fake::send;
use super::{MTIME, Tree, TreeState, digest};

impl Tree {
    pub(super) fn resume(&self, id: ChangeId, path: &TreePath, n: u8) -> Reply {
        let state = self.state();
        if let Some(number) = state.made.get(&id) {
            let current = state.versions.get(path.as_str()) == Some(number);
            return committed(*number, state.digests.get(&id).copied(), current);
        }
        let offset = state.staged.get(&(n, id)).map_or(0, |bytes| bytes.len() as u64);
        Reply::Staged {
            offset,
            current: Expect::exactly(state.entry(path).map(|entry| entry.version)),
        }
    }

    /// Receives the bytes of an upload and its end.
    pub(super) fn put(&self, connection: &mut Connection, put: &PutRequest, n: u8) -> bool {
        let mut bytes = self.state().staged.remove(&(n, put.id)).unwrap_or_default();
        bytes.truncate(usize::try_from(put.offset).unwrap());
        assert_eq!(bytes.len() as u64, put.offset, "bytes that the slave does not have");
        let wanted = loop {
            let Ok(Some(header)) = connection.read_header() else {
                return self.keep(put, n, bytes);
            };
            if header.kind != FrameType::Data {
                let payload = connection.read_payload(header).unwrap();
                let Ok(Request::PutEnd { digest }) = Request::decode(header.kind, payload) else {
                    panic!("{:?}", header.kind)
                };
                break digest;
            }
            let left = self.take_until_cut.load(Ordering::SeqCst);
            let take = u64::from(header.len).min(left);
            let start = bytes.len();
            bytes.resize(start + usize::try_from(take).unwrap(), 0);
            if connection.read_exact_into(&mut bytes[start..]).is_err() {
                bytes.truncate(start);
                return self.keep(put, n, bytes);
            }
            if left != u64::MAX {
                self.take_until_cut.store(left - take, Ordering::SeqCst);
            }
            if take < u64::from(header.len) {
                self.take_until_cut.store(u64::MAX, Ordering::SeqCst);
                return self.keep(put, n, bytes);
            }
        };
        assert!(put.size.is_none_or(|size| size == bytes.len() as u64) && wanted == digest(&bytes));
        self.state().digests.entry(put.id).or_insert(wanted);
        if self.may_not_change() {
            self.keep(put, n, bytes);
            send(connection, &[refused(ErrorCode::NoChanges)]);
            return true;
        }
        let reply = self.state().commit(put.id, &put.path, |state| {
            let entry = state.entry(&put.path);
            if entry.as_ref().is_some_and(|entry| entry.kind == Kind::Folder) {
                return Err(ErrorCode::IsFolder);
            }
            state.parent(&put.path)?;
            if !put.expect.fits(entry.map(|entry| entry.version)) {
                return Err(ErrorCode::Changed);
            }
            state.files.insert(put.path.as_str().to_owned(), bytes);
            Ok(())
        });
        let too_few =
            self.too_few.load(Ordering::SeqCst) && matches!(reply, Reply::Committed { .. });
        self.tell(connection, if too_few { refused(ErrorCode::TooFewCopies) } else { reply })
    }

    /// Keeps the bytes of an upload whose connection is lost.
    fn keep(&self, put: &PutRequest, n: u8, bytes: Vec<u8>) -> bool {
        self.state().staged.insert((n, put.id), bytes);
        false
    }

    pub(super) fn change(
        &self,
        connection: &mut Connection,
        id: ChangeId,
        request: &Request,
    ) -> bool {
        if self.may_not_change() {
            send(connection, &[refused(ErrorCode::NoChanges)]);
            return true;
        }
        let reply = match request {
            Request::MakeFolder { path, .. } => self.state().commit(id, path, |state| {
                state.parent(path)?;
                match state.entry(path).map(|entry| entry.kind) {
                    None => drop(state.folders.insert(path.as_str().to_owned())),
                    Some(Kind::Folder) => return Err(ErrorCode::Exists),
                    Some(Kind::File) => return Err(ErrorCode::NotFolder),
                }
                Ok(())
            }),
            Request::Remove { path, recursive, .. } => self.state().commit(id, path, |state| {
                let below = state.take(path)?;
                if below.iter().any(|(key, _)| key != path.as_str()) && !recursive {
                    state.give(below, path, path);
                    return Err(ErrorCode::NotEmpty);
                }
                Ok(())
            }),
            Request::Move { from, to, .. } => self.state().commit(id, to, |state| {
                state.parent(to)?;
                if state.entry(to).is_some_and(|entry| entry.kind == Kind::Folder) {
                    return Err(ErrorCode::IsFolder);
                }
                let below = state.take(from)?;
                state.give(below, from, to);
                Ok(())
            }),
            other => panic!("{other:?}"),
        };
        self.tell(connection, reply)
    }

    fn may_not_change(&self) -> bool {
        self.no_changes
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
            .is_ok()
    }

    fn tell(&self, connection: &mut Connection, reply: Reply) -> bool {
        if self.lose_answer.swap(false, Ordering::SeqCst) {
            return false;
        }
        send(connection, &[reply]);
        true
    }
}

/// Paths with their content; none for a folder.
type Below = Vec<(String, Option<Vec<u8>>)>;

impl TreeState {
    pub(super) fn entry(&self, path: &TreePath) -> Option<Entry> {
        let (key, name) = (path.as_str(), path.last().unwrap_or_default().to_owned());
        let version = |number: u64| Some(Lsn { epoch: 1, number });
        let inside = format!("{key}/");
        let changed = self.versions.get(key).copied();
        if let Some(bytes) = self.files.get(key) {
            let version = version(changed.unwrap_or(4));
            return Some(Entry {
                name,
                kind: Kind::File,
                mode: Mode::new(0o755),
                size: bytes.len() as u64,
                mtime: MTIME,
                version,
            });
        }
        let is_folder = path.is_root()
            || self.folders.contains(key)
            || self.files.keys().chain(&self.folders).any(|key| key.starts_with(&inside));
        is_folder.then(|| Entry {
            name,
            kind: Kind::Folder,
            mode: Mode::new(0o755),
            size: 0,
            mtime: MTIME,
            version: changed.and_then(version),
        })
    }

    /// Checks that the parent of a path is a folder.
    fn parent(&self, path: &TreePath) -> Result<(), ErrorCode> {
        let Some((parent, _)) = path.split_last() else { return Err(ErrorCode::Denied) };
        match self.entry(&parent).map(|entry| entry.kind) {
            Some(Kind::Folder) => Ok(()),
            Some(Kind::File) => Err(ErrorCode::NotFolder),
            None => Err(ErrorCode::NotFound),
        }
    }

    /// Makes a change once; the same id returns the same number.
    fn commit(
        &mut self,
        id: ChangeId,
        path: &TreePath,
        change: impl FnOnce(&mut Self) -> Result<(), ErrorCode>,
    ) -> Reply {
        if let Some(number) = self.made.get(&id) {
            let current = self.versions.get(path.as_str()) == Some(number);
            return committed(*number, self.digests.get(&id).copied(), current);
        }
        if let Err(code) = change(self) {
            return refused(code);
        }
        self.last += 1;
        self.made.insert(id, self.last);
        self.versions.insert(path.as_str().to_owned(), self.last);
        committed(self.last, self.digests.get(&id).copied(), true)
    }

    /// Removes a path and everything below it, and returns it.
    fn take(&mut self, path: &TreePath) -> Result<Below, ErrorCode> {
        self.entry(path).ok_or(ErrorCode::NotFound)?;
        let inside = format!("{}/", path.as_str());
        let is_there = |key: &String| key == path.as_str() || key.starts_with(&inside);
        let mut below: Below = self
            .files
            .extract_if(.., |key, _| is_there(key))
            .map(|(key, bytes)| (key, Some(bytes)))
            .collect();
        let folders: Vec<String> =
            self.folders.iter().filter(|key| is_there(key)).cloned().collect();
        self.folders.retain(|key| !is_there(key));
        below.extend(folders.into_iter().map(|key| (key, None)));
        Ok(below)
    }

    /// Inserts the removed entries at another path.
    fn give(&mut self, below: Below, from: &TreePath, to: &TreePath) {
        for (key, bytes) in below {
            let key = format!("{}{}", to.as_str(), key.strip_prefix(from.as_str()).unwrap());
            match bytes {
                Some(bytes) => drop(self.files.insert(key, bytes)),
                None => drop(self.folders.insert(key)),
            }
        }
    }
}

fn committed(number: u64, digest: Option<Digest>, current: bool) -> Reply {
    let version = Lsn { epoch: 1, number };
    Reply::Committed { version, copies: 1, lsn: version, digest, current }
}

fn refused(code: ErrorCode) -> Reply {
    Reply::Error(Refusal::new(code, code.text()))
}
