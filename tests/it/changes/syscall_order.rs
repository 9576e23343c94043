//! The order of system calls behind an acknowledgement, as the kernel saw them.

use std::path::Path;

use relais_proto::{ChangeId, Encoder, FrameType, Request, Wire};

use super::{journal_of, open, processes, with_files};
use crate::harness::{
    Call, RawClient, Standalone, Strace, bound, content, copy, make_folder, put, remove, rename,
    set_mode,
};

const CALLS: &str = "trace=fsync,fdatasync,syncfs,sync_file_range,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,rmdir,link,linkat,\
                     write,writev,pwrite64,pwritev,pwritev2,copy_file_range,fchmod,fchmodat,sendto,sendmsg,sendmmsg";

/// The system calls of a change, in order.
struct TracedSlave {
    calls: Vec<Call>,
    slave: Standalone,
}

fn slave() -> Standalone {
    let files: [(&str, &[u8]); 5] =
        [("a/f", b"old"), ("b/g", b"old"), ("a/full/x", b"1"), ("a/empty/x", b"1"), ("b/x", b"1")];
    let slave = with_files(&["--workers", "1"], &files);
    open(&slave).change(&remove("a/empty/x", false)).unwrap();
    slave
}

/// Traces a change from the request to its answer.
#[track_caller]
fn trace(slave: Standalone, ask: impl FnOnce(&mut RawClient)) -> TracedSlave {
    let mut wire = open(&slave);
    let strace = Strace::attach(&processes(&slave), &["-e", CALLS]);
    ask(&mut wire);
    TracedSlave { calls: strace.end(), slave }
}

impl TracedSlave {
    /// Returns the end of the first matching successful call that begins after line `after` of the
    /// trace.
    #[track_caller]
    fn step(
        &self,
        after: usize,
        what: &str,
        names: &[&str],
        fits: impl Fn(&Call) -> bool,
    ) -> usize {
        let found = self.calls.iter().find(|call| {
            call.begin >= after && names.contains(&call.name.as_str()) && call.ok() && fits(call)
        });
        found
            .unwrap_or_else(|| panic!("{what} is missing behind line {after} of {:#?}", self.calls))
            .end
    }

    /// Returns the trace line at which the change is in the journal and the journal is synced.
    #[track_caller]
    fn journal(&self, after: usize, id: ChangeId) -> usize {
        let journal = journal_of(&self.slave);
        let writes = ["write", "writev", "pwrite64", "pwritev", "pwritev2"];
        let has_id = |call: &Call| call.bytes().windows(16).any(|bytes| bytes == id.0);
        let written = self.step(after, "the journal's record", &writes, |call| {
            call.is_on(&journal) && has_id(call)
        });
        self.step(written, "the sync of the journal", &["fdatasync", "fsync"], |call| {
            call.is_on(&journal)
        })
    }

    #[track_caller]
    fn folder(&self, after: usize, folder: &str) -> usize {
        let path: std::path::PathBuf = self.slave.root.join(folder).components().collect();
        self.step(after, &format!("the sync of {folder:?}"), &["fsync", "fdatasync"], |call| {
            call.is_on(&path)
        })
    }

    #[track_caller]
    fn named(&self, after: usize, what: &str, names: &[&str], name: &str) -> usize {
        self.step(after, what, names, |call| call.names(name))
    }

    /// Requires that a file below `a` was staged, synced, journaled and renamed, in this order.
    #[track_caller]
    fn stored(&self, name: &str, id: ChangeId) {
        let staging = self.slave.root.join(".relais/staging");
        let staged = |call: &Call| call.is_below(&staging) && !call.is_on(&staging);
        let file = self.step(0, "the sync of the staged file", &["fsync", "fdatasync"], staged);
        let folder = self.folder(0, ".relais/staging");
        let journal = self.journal(file.max(folder), id);
        let last = name.rsplit('/').next().unwrap();
        let renamed = self.named(journal, "the rename into place", &RENAMES, last);
        let parent = if name.contains('/') { "a/empty" } else { "a" };
        self.answered(self.folder(renamed, parent));
        // All bytes were written before the file was synced.
        let writes = |call: &Call| call.name.contains("write") || call.name == "copy_file_range";
        let late = self.calls.iter().find(|call| writes(call) && staged(call) && call.end > file);
        assert!(late.is_none(), "{late:?}");
    }

    /// Requires that the client gets exactly one answer, after all other steps.
    #[track_caller]
    fn answered(&self, after: usize) {
        let answers: Vec<&Call> = self.calls.iter().filter(|call| is_answer(call)).collect();
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert!(
            answers[0].begin >= after,
            "answered in line {}, done in line {after}: {:#?}",
            answers[0].begin,
            self.calls
        );
    }
}

/// Returns whether a call sends the acknowledgement of a change.
fn is_answer(call: &Call) -> bool {
    matches!(call.name.as_str(), "sendto" | "sendmsg" | "write" | "writev" | "sendmmsg")
        && super::is_tcp(call)
        && super::frames(&call.bytes()).contains(&FrameType::Committed)
}

const RENAMES: [&str; 3] = ["rename", "renameat", "renameat2"];

#[test]
fn a_put_is_durable_before_its_answer() {
    // Over a file and under a new name; small, and so large that it is synced on its own.
    for (name, size) in [("f", 1000), ("new", 1000), ("f", 3 << 20), ("empty/new", 0)] {
        let request = put(&format!("a/{name}"), size);
        let traced =
            trace(slave(), |wire| assert!(wire.upload(&request, &content(1, size)).is_ok()));
        let id = bound(request.id, "put", &[&format!("a/{name}")], request.size);
        traced.stored(name, id);
    }
}

#[test]
fn a_copy_is_durable_before_its_answer() {
    for name in ["f", "new", "empty/new"] {
        let to = format!("a/{name}");
        let request = copy("b/g", &to);
        let Request::Copy { id, .. } = request else { unreachable!() };
        let traced = trace(slave(), |wire| assert!(wire.change(&request).is_ok()));
        traced.stored(name, bound(id, "cp", &["b/g", &to], Some(3)));
    }
}

#[test]
fn new_attributes_are_durable_before_their_answer() {
    let request = set_mode("a/f", 0o600);
    let Request::SetAttributes { id, attributes, .. } = request else { unreachable!() };
    let traced = trace(slave(), |wire| assert!(wire.change(&request).is_ok()));
    let mut kind = b"attributes ".to_vec();
    attributes.encode(&mut Encoder::new(&mut kind));
    let id = bound(id, kind, &["a/f"], None);
    let journal = traced.journal(0, id);
    let file = traced.slave.root.join("a/f");
    let set = traced.step(journal, "the new mode", &["fchmod", "fchmodat"], |call| {
        call.is_on(&file) || call.names("f")
    });
    traced.answered(set);
}

#[test]
fn a_mkdir_is_durable_before_its_answer() {
    let request = make_folder("a/made");
    let Request::MakeFolder { id, .. } = request else { unreachable!() };
    let traced = trace(slave(), |wire| assert!(wire.change(&request).is_ok()));
    let made = traced.named(
        traced.journal(0, bound(id, "mkdir", &["a/made"], None)),
        "the mkdir",
        &["mkdir", "mkdirat"],
        "made",
    );
    traced.answered(traced.folder(made, "a"));
}

#[test]
fn an_rm_is_durable_before_its_answer() {
    for (name, recursive) in [("f", false), ("full", true)] {
        let request = remove(&format!("a/{name}"), recursive);
        let Request::Remove { id, .. } = request else { unreachable!() };
        let traced = trace(slave(), |wire| assert!(wire.change(&request).is_ok()));
        // The entry may be removed at once or moved to `.relais/removed` first.
        let steps = ["unlink", "unlinkat", "rmdir", "rename", "renameat", "renameat2"];
        let id = bound(id, if recursive { "rm -r" } else { "rm" }, &[&format!("a/{name}")], None);
        let gone = traced.named_first(traced.journal(0, id), "the removal", &steps, name);
        traced.answered(traced.folder(gone, "a"));
    }
}

#[test]
fn an_mv_is_durable_before_its_answer() {
    for (from, to) in [("a/f", "a/h"), ("a/f", "b/g"), ("a/full", "b/full")] {
        let request = rename(from, to);
        let Request::Move { id, .. } = request else { unreachable!() };
        let traced = trace(slave(), |wire| assert!(wire.change(&request).is_ok()));
        let target = Path::new(to).file_name().unwrap().to_str().unwrap();
        let moved = traced.named(
            traced.journal(0, bound(id, "mv", &[from, to], None)),
            "the move",
            &RENAMES,
            target,
        );
        let folders =
            [traced.folder(moved, "a"), traced.folder(moved, to.split('/').next().unwrap())];
        traced.answered(folders[0].max(folders[1]));
    }
}

impl TracedSlave {
    /// Like [`Self::named`], where the name may be any of the call's paths.
    #[track_caller]
    fn named_first(&self, after: usize, what: &str, names: &[&str], name: &str) -> usize {
        let early = self.calls.iter().find(|call| {
            call.begin < after && names.contains(&call.name.as_str()) && call.names(name)
        });
        assert!(early.is_none(), "before the journal was synced: {early:?}");
        self.named(after, what, names, name)
    }
}

#[test]
fn refused_changes_are_not_journaled() {
    let slave = slave();
    let before = super::tree(&slave.root);
    let traced = trace(slave, |wire| {
        assert!(wire.put("a", &content(1, 1000)).is_err());
        assert!(wire.put("missing/f", b"x").is_err());
        assert!(wire.change(&make_folder("a")).is_err());
        assert!(wire.change(&remove("a", false)).is_err());
        assert!(wire.change(&rename("missing", "c")).is_err());
    });
    let journal = journal_of(&traced.slave);
    let wrote =
        traced.calls.iter().find(|call| call.is_on(&journal) || call.name.starts_with("mkdir"));
    assert!(wrote.is_none(), "{wrote:?}");
    assert_eq!(super::tree(&traced.slave.root), before);
}
