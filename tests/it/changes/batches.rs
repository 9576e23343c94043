//! Batches: concurrent changes share the journal's sync, and each is acknowledged only after it.

use std::collections::HashMap;

use relais_proto::{ChangeId, ErrorCode, FrameType, PutRequest};

use super::{frames, is_tcp, journal_of, journal_writer, open, processes};
use crate::harness::{Call, RawClient, Standalone, Strace, bound, put, upload, wait_unstaged};

const FILES: usize = 2000;
/// Maximum pipelined requests, of about 110 bytes each; the window takes 64 KiB.
const AHEAD: usize = 400;

fn name(n: usize) -> String {
    format!("small{n:04}")
}

/// Sends pipelined puts, of which every hundredth is refused. Returns number and id of the others,
/// in order.
fn put_all(slave: &Standalone) -> Vec<(usize, ChangeId)> {
    let mut wire = open(slave);
    let requests: Vec<PutRequest> =
        (0..FILES)
            .map(|n| {
                if n % 100 == 99 {
                    put(&format!("missing/{}", name(n)), 8)
                } else {
                    put(&name(n), 8)
                }
            })
            .collect();
    let mut last = None;
    // The answer belongs to this put: a refusal where it must be refused, else a rising number.
    let mut answered = |wire: &mut RawClient, asked: usize| match wire.committed() {
        Ok(number) => {
            assert!(asked % 100 != 99, "put {asked} succeeded");
            assert!(last.is_none_or(|last| last < number), "{number} after {last:?}");
            last = Some(number);
        }
        Err(refusal) => assert_eq!(
            (refusal.code, asked % 100),
            (ErrorCode::NotFound, 99),
            "put {asked}: {refusal:?}"
        ),
    };
    for (n, request) in requests.iter().enumerate() {
        wire.raw(&upload(request, format!("{n:08}").as_bytes(), 8));
        if let Some(asked) = (n + 1).checked_sub(AHEAD) {
            answered(&mut wire, asked);
        }
    }
    for asked in FILES + 1 - AHEAD..FILES {
        answered(&mut wire, asked);
    }
    requests
        .iter()
        .enumerate()
        .filter(|(n, _)| n % 100 != 99)
        .map(|(n, request)| (n, bound(request.id, "put", &[request.path.as_str()], request.size)))
        .collect()
}

fn all_there(slave: &Standalone) {
    for n in (0..FILES).filter(|n| n % 100 != 99) {
        assert_eq!(std::fs::read(slave.root.join(name(n))).unwrap(), format!("{n:08}").as_bytes());
    }
    wait_unstaged(&slave.root);
}

/// Each sync takes 20 ms, as on a slow disk, so that the changes of its time share the next one.
const SLOW_SYNCS: &str = "inject=fsync,fdatasync:delay_exit=20000";
const CALLS: &str = "trace=fsync,fdatasync,rename,renameat,renameat2,write,writev,pwrite64,pwritev,pwritev2,sendto,sendmsg,sendmmsg";

#[test]
fn pipelined_puts_share_a_journal_sync_before_their_answers() {
    let slave = Standalone::start(&["--workers", "1"], &[]);
    let strace = Strace::attach(&processes(&slave), &["-e", CALLS, "-e", SLOW_SYNCS]);
    let ids = put_all(&slave);
    let calls = strace.end();
    all_there(&slave);
    let journal = journal_of(&slave);
    let on_journal = |call: &&Call| call.is_on(&journal);
    let syncs: Vec<&Call> = calls
        .iter()
        .filter(on_journal)
        .filter(|call| call.name.contains("sync") && call.ok())
        .collect();
    assert!(
        !syncs.is_empty() && syncs.len() <= FILES / 10,
        "{} syncs of the journal for {FILES} puts",
        syncs.len()
    );
    // The content of each put was durable before its record was written, and the record before the
    // answer.
    let content = staged_syncs(&calls, &slave);
    let mut done = HashMap::new();
    for write in calls.iter().filter(on_journal).filter(|call| call.name.contains("write")) {
        let Some(sync) = syncs.iter().find(|sync| sync.begin > write.end) else { continue };
        for id in write.bytes().windows(16) {
            done.entry(<[u8; 16]>::try_from(id).unwrap()).or_insert((write.begin, sync.end));
        }
    }
    let named = named(&calls, &slave);
    let answers = answers(&calls);
    assert_eq!(answers.len(), ids.len());
    for ((n, id), sent) in ids.iter().zip(answers) {
        let (written, synced) =
            *done.get(&id.0).unwrap_or_else(|| panic!("{id} was never in the journal"));
        let staged = content
            .get(&id.to_string())
            .unwrap_or_else(|| panic!("the content of {id} was never put on the disk"));
        let (renamed, named) = *named
            .get(&name(*n))
            .unwrap_or_else(|| panic!("{} was never put on the disk", name(*n)));
        assert!(
            *staged <= written && synced <= renamed && named <= sent,
            "put {n}: content in line {staged}, journal in lines {written} and {synced}, name in lines {renamed} and {named}, answer in line {sent}"
        );
    }
}

/// Returns, by change id, the trace line at which the sync of the staged file ended.
fn staged_syncs(calls: &[Call], slave: &Standalone) -> HashMap<String, usize> {
    let staging = slave.root.join(".relais/staging");
    let syncs = calls
        .iter()
        .filter(|call| call.name.contains("sync") && call.ok())
        .map(|call| (call.path(), call.end));
    let files = syncs.filter_map(|(path, end)| {
        Some((path.strip_prefix(&staging).ok()?.to_str()?.split_once('-')?.0.to_owned(), end))
    });
    files.collect()
}

/// Returns, by file name, the trace lines of the rename and of the end of the folder's next sync.
fn named(calls: &[Call], slave: &Standalone) -> HashMap<String, (usize, usize)> {
    let folders: Vec<&Call> = calls
        .iter()
        .filter(|call| call.name.contains("sync") && call.ok() && call.path() == slave.root)
        .collect();
    let renames = calls.iter().filter(|call| call.name.starts_with("rename") && call.ok());
    let named = renames.filter_map(|call| {
        let bytes = call.bytes();
        let name = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(name(0).len())..])
            .into_owned();
        Some((name, (call.begin, folders.iter().find(|sync| sync.begin > call.end)?.end)))
    });
    named.collect()
}

/// Returns the trace line of the answer to each successful put, in order.
fn answers(calls: &[Call]) -> Vec<usize> {
    let mut answers = Vec::new();
    for call in calls
        .iter()
        .filter(|call| call.name.starts_with("send") || call.name.starts_with("write"))
        .filter(|call| is_tcp(call))
    {
        answers.extend(
            frames(&call.bytes())
                .into_iter()
                .filter(|kind| *kind == FrameType::Committed)
                .map(|_| call.begin),
        );
    }
    answers
}

#[test]
fn puts_of_eight_sessions_share_a_journal_sync() {
    let slave = Standalone::start(&["--workers", "2"], &[]);
    let on = journal_of(&slave);
    let strace = Strace::attach(
        &[journal_writer(&slave)],
        &["-e", "trace=fdatasync,fsync", "-P", on.to_str().unwrap()],
    );
    std::thread::scope(|scope| {
        for session in 0..8 {
            let slave = &slave;
            scope.spawn(move || {
                let mut wire = open(slave);
                for n in 0..40 {
                    wire.put(&format!("s{session}-{n}"), b"x").unwrap();
                }
            });
        }
    });
    let syncs = strace.end().len();
    assert!(syncs > 0 && syncs < 8 * 40, "{syncs} syncs of the journal for {} puts", 8 * 40);
    assert_eq!(super::tree(&slave.root).len(), 8 * 40);
}

#[test]
fn a_folder_of_2000_files_is_put_in_few_batches() {
    let slave = Standalone::start(&["--workers", "1"], &[]);
    let client = slave.client();
    let folder = client.folder().join("many");
    std::fs::create_dir(&folder).unwrap();
    for n in 0..FILES {
        std::fs::write(folder.join(name(n)), format!("{n:08}")).unwrap();
    }
    let on = journal_of(&slave);
    let strace = Strace::attach(
        &[journal_writer(&slave)],
        &["-e", "trace=fdatasync,fsync", "-P", on.to_str().unwrap(), "-e", SLOW_SYNCS],
    );
    client.command("put -r many").ok();
    let syncs = strace.end().len();
    assert!(syncs > 0 && syncs <= FILES / 10, "{syncs} syncs of the journal for {FILES} puts");
    for n in 0..FILES {
        assert_eq!(
            std::fs::read(slave.root.join("many").join(name(n))).unwrap(),
            format!("{n:08}").as_bytes()
        );
    }
    wait_unstaged(&slave.root);
}
