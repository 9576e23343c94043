//! The fields of cluster links that have a cap.

use relais_proto::{FrameType, limits};

use super::{Eight, Field, MARK, METRICS, SCRUB, Two, V4, path, repeat, text};

/// A standing: mark, hash and epoch.
const STANDING: usize = MARK + 32 + 4;
/// A change as a slave gets it, up to its holders: number, id, time, and a folder at the top
/// that is made.
const COMMITTED: [u8; 41] = {
    let mut committed = [0; 41];
    committed[36] = 1;
    committed
};
/// A mode.
const MODE: usize = 2;
/// What follows the digest of content in a put: time and mode.
const AFTER_DIGEST: usize = 12 + MODE;
/// Empty lists of properties, locks and hashes.
const NOTHING: usize = 6;
/// The shortest entry of a tree: path, number, mode, no content.
const PLACED: usize = 2 + MARK + MODE + 1;

type After = fn(usize) -> Vec<u8>;

fn field(name: &'static str, kind: FrameType, most: u64, before: Vec<u8>, after: After) -> Field {
    Field { name, kind, width: Two, range: (0, most), before, after }
}

fn size(name: &'static str, kind: FrameType, before: Vec<u8>, after: After) -> Field {
    Field { name, kind, width: Eight, range: (0, limits::FILE_SIZE), before, after }
}

/// A tag, `zeros` zero bytes, and more.
fn tagged(tag: u8, zeros: usize, more: &[u8]) -> Vec<u8> {
    [&[tag], vec![0; zeros].as_slice(), more].concat()
}

pub fn fields() -> Vec<Field> {
    [service(), to_master(), to_slave(), trees(), logins(), uploads(), log_outs()]
        .into_iter()
        .flatten()
        .collect()
}

fn service() -> Vec<Field> {
    use FrameType::{
        HashContent, Heartbeat, Line, Operate, Peers, Register, ReportEnd, SlaveReport,
    };
    vec![
        field("listen", Register, 8, vec![0; 16], |n| repeat(V4, n, 2 + MARK + 2)),
        field("advertise", Register, 1024, vec![0; 16 + 2], |n| text(n, MARK + 2)),
        field("last error", Heartbeat, 1024, vec![0; 1 + MARK + METRICS], |n| {
            text(n, 16 + SCRUB + 2)
        }),
        field("addresses", SlaveReport, 8, vec![0; 32], |n| {
            repeat(V4, n, 1 + MARK + METRICS + 2 + 8)
        }),
        field("last error", SlaveReport, 1024, vec![0; 32 + 2 + 1 + MARK + METRICS], |n| {
            text(n, 8)
        }),
        field("halted", ReportEnd, 1024, vec![0; MARK], |n| text(n, 24)),
        field("slaves", Peers, 64, vec![], |n| repeat(&[0; 16 + 16 + 2], n, 1)),
        field("addresses", Peers, 8, [[0, 1].as_slice(), &[0; 32]].concat(), |n| repeat(V4, n, 1)),
        field("path to hash", HashContent, 4095, vec![], |n| path(n, 0)),
        field("slave to drain", Operate, 1024, vec![0], |n| text(n, 0)),
        field("slave that is ready", Operate, 1024, vec![1], |n| text(n, 0)),
        field("slave to forget", Operate, 1024, vec![2], |n| text(n, 0)),
        field("line", Line, 60_000, vec![], |n| text(n, 0)),
    ]
}

fn to_master() -> Vec<Field> {
    use FrameType::ToMaster;
    let change = |tag| tagged(2, 16, &[tag]);
    let put = tagged(2, 16, &[0, 0, 1, b'a']);
    let property = [change(6), vec![0; 2], vec![0, 1]].concat();
    let lock = [change(7), vec![0; 2 + 16]].concat();
    let mebibyte = [0, 0, 0, 0, 0, 0x10, 0, 0];
    let hashes = [change(9), vec![0; MARK + 32], mebibyte.to_vec()].concat();
    // What follows a change: what is expected, whether the mode is kept, tokens, whether it was
    // found, copies.
    const REST: usize = 1 + 1 + 2 + 1 + 2;
    vec![
        field("missing puts", ToMaster, 4096, tagged(1, MARK, &[]), |n| repeat(&[0; MARK], n, 1)),
        field("path to put", ToMaster, 4095, change(0), |n| path(n, 8 + 32 + AFTER_DIGEST + REST)),
        size("size to put", ToMaster, put, |_| vec![0; 32 + AFTER_DIGEST + REST]),
        field("folder to make", ToMaster, 4095, change(1), |n| path(n, MODE + REST)),
        field("path of another mode", ToMaster, 4095, change(5), |n| path(n, MODE + REST)),
        field("changes of properties", ToMaster, 256, [change(6), vec![0; 2]].concat(), |n| {
            repeat(&[0; 2 + 2 + 1], n, REST)
        }),
        field("namespace", ToMaster, 1024, property.clone(), |n| text(n, 2 + 1 + REST)),
        field("local name", ToMaster, 255, [property.as_slice(), &[0; 2]].concat(), |n| {
            text(n, 1 + REST)
        }),
        field("value", ToMaster, 32_768, [property.as_slice(), &[0, 0, 0, 0, 1]].concat(), |n| {
            text(n, REST)
        }),
        field("user of a lock", ToMaster, 255, lock.clone(), |n| text(n, 2 + 2 + 4 + REST)),
        field("owner of a lock", ToMaster, 4096, [lock.as_slice(), &[0; 2]].concat(), |n| {
            text(n, 2 + 4 + REST)
        }),
        field("hashes of pieces", ToMaster, 1024, hashes, |n| repeat(&[0; 32], n, REST)),
        field("lock tokens", ToMaster, 16, [change(4), vec![0; MARK + 2]].concat(), |n| {
            repeat(&[0; 16], n, 1 + 2)
        }),
        field("path to remove", ToMaster, 4095, change(2), |n| path(n, 1 + REST)),
        field("path to move", ToMaster, 4095, change(3), |n| path(n, 2 + REST)),
        field("path to move to", ToMaster, 4095, [change(3), vec![0; 2]].concat(), |n| {
            path(n, REST)
        }),
    ]
}

fn to_slave() -> Vec<Field> {
    use FrameType::ToSlave;
    let committed = [[4, 0, 1].as_slice(), &COMMITTED].concat();
    let restored = [committed.as_slice(), &[0; 2]].concat();
    let content = [&[2, 0, 1], [0; 2 + MARK + MODE].as_slice(), &[1], &[0; MARK + 32]].concat();
    let code = |name, before, rest: fn(usize) -> Vec<u8>| Field {
        range: (1, 39),
        ..field(name, ToSlave, 35, before, rest)
    };
    vec![
        field("given up, to follow", ToSlave, 1024, tagged(0, 4 + MARK + 32, &[]), |n| {
            repeat(&[0; MARK], n, 2)
        }),
        field("timelines to follow", ToSlave, 512, tagged(0, 4 + MARK + 32 + 2, &[]), |n| {
            repeat(&[0; MARK + 16], n, 0)
        }),
        field("given up, to compare", ToSlave, 1024, tagged(1, 4 + MARK, &[]), |n| {
            repeat(&[0; MARK], n, 0)
        }),
        field("entries", ToSlave, 4096, vec![2], |n| repeat(&[0; PLACED], n, 2 + NOTHING)),
        field("path of an entry", ToSlave, 4095, vec![2, 0, 1], |n| {
            path(n, MARK + MODE + 1 + 2 + NOTHING)
        }),
        size("size of content", ToSlave, content, |_| vec![0; 12 + 2 + NOTHING]),
        field("ids", ToSlave, 4096, vec![2, 0, 0], |n| repeat(&[0; 16 + MARK], n, NOTHING)),
        field("timelines", ToSlave, 512, tagged(3, MARK + 32, &[]), |n| {
            repeat(&[0; MARK + 16], n, 8)
        }),
        field("changes", ToSlave, 4096, vec![4], |n| {
            repeat(&[COMMITTED.as_slice(), &[0; 4]].concat(), n, 0)
        }),
        field("holders of a put", ToSlave, 64, committed, |n| repeat(&[7; 16], n, 2)),
        field("paths of a withdrawal", ToSlave, 4096, restored.clone(), |n| repeat(&[0; 3], n, 0)),
        field(
            "path of a withdrawal",
            ToSlave,
            4095,
            [restored.as_slice(), &[0, 1]].concat(),
            |n| path(n, 1),
        ),
        code("code of an answer", tagged(5, 16, &[0]), |_| vec![0; 5]),
        field("message of an answer", ToSlave, 1024, tagged(5, 16, &[0, 0, 1]), |n| text(n, 3)),
        field("holders", ToSlave, 64, tagged(8, MARK, &[]), |n| repeat(&[7; 16], n, 0)),
        code("code of a refusal", tagged(9, 4, &[]), |_| vec![0; 4]),
        field("message of a refusal", ToSlave, 1024, tagged(9, 4, &[0, 1]), |n| text(n, 2)),
    ]
}

fn logins() -> Vec<Field> {
    use FrameType::{ForwardedLogin, LoginRefused, TicketIssued, TicketRenewal};
    let head = [[0; 8].as_slice(), V4, &[0]].concat();
    vec![
        field("user", ForwardedLogin, 255, head.clone(), |n| text(n, 2)),
        field("password", ForwardedLogin, 1024, [head.as_slice(), &[0; 2]].concat(), |n| {
            vec![7; n]
        }),
        field("ticket to renew", TicketRenewal, 5000, head, |n| vec![7; n]),
        field("ticket", TicketIssued, 5000, vec![0; 8 + MARK], |n| vec![7; n]),
        Field {
            range: (1, 39),
            ..field("code of a refused login", LoginRefused, 35, vec![0; 8], |_| vec![0; 4])
        },
        field("message of a refused login", LoginRefused, 1024, tagged(0, 8, &[1]), |n| text(n, 2)),
    ]
}

fn trees() -> Vec<Field> {
    use FrameType::{PathPage, TreePage};
    let note = [[0; 8].as_slice(), &[0, 1]].concat();
    vec![
        field("paths", PathPage, 4096, vec![0; 8], |n| repeat(&[0; 2 + 2 + 8], n, 8 + 1)),
        field("shown path", PathPage, 16_384, note.clone(), |n| text(n, 2 + 8 + 8 + 1)),
        field("reason", PathPage, 1024, [note.as_slice(), &[0; 2]].concat(), |n| {
            text(n, 8 + 8 + 1)
        }),
        field("entries", TreePage, 4096, vec![0; 8], |n| {
            repeat(&[0; PLACED + 1], n, 2 + NOTHING + STANDING + 2 + 1)
        }),
        field("path of an entry", TreePage, 4095, [[0; 8].as_slice(), &[0, 1]].concat(), |n| {
            path(n, MARK + MODE + 1 + 1 + 2 + NOTHING + STANDING + 2 + 1)
        }),
        field("ids", TreePage, 4096, vec![0; 8 + 2], |n| {
            repeat(&[0; 16 + MARK], n, NOTHING + STANDING + 2 + 1)
        }),
        field("timelines", TreePage, 512, vec![0; 8 + 2 + 2 + NOTHING + STANDING], |n| {
            repeat(&[0; MARK + 16], n, 1)
        }),
    ]
}

fn uploads() -> Vec<Field> {
    let lists = |kind| {
        [
            field("uploads that began", kind, 256, vec![0], |n| repeat(&[0; 16], n, 2)),
            field("uploads that ended", kind, 256, vec![0; 3], |n| repeat(&[0; 16], n, 0)),
        ]
    };
    [FrameType::PathUploads, FrameType::OtherUploads].into_iter().flat_map(lists).collect()
}

fn log_outs() -> Vec<Field> {
    let list = |kind| field("log-outs", kind, 256, vec![], |n| repeat(&[0; 17], n, 0));
    [FrameType::LogOuts, FrameType::OtherLogOuts].map(list).into()
}
