//! Saved state is read again, and bad files do no harm.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use relais_proto::{ClusterId, Endpoint, Lsn, SlaveId, limits};

use super::*;

const CLUSTER: ClusterId = ClusterId([7; 16]);

fn origin() -> Origin {
    Origin::new(&"box:2121".parse().unwrap(), None, CLUSTER)
}

fn route() -> Route {
    let slave = |n: u8| Endpoint {
        id: SlaveId([n; 16]),
        addrs: vec![([127, 0, 0, 1], u16::from(n)).into(), ([0, 0, 0, 0, 0, 0, 0, 1], 9).into()],
    };
    Route {
        cluster: CLUSTER,
        authority: None,
        ticket: (0..=255).collect(),
        slaves: (1..=17).map(slave).collect(),
    }
}

fn lsn(number: u64) -> Lsn {
    Lsn { epoch: 1, number }
}

fn saved(folder: &Path, user: &str) -> SavedState {
    SavedState::new(
        StateFolder::at(folder),
        &"box:2121".parse().unwrap(),
        user,
        Notices::collecting(),
    )
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn saved_state_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("a/relais");
    let mut one = saved(&folder, "ann");
    assert_eq!((one.route(), one.lsn(&origin())), (None, None));
    one.set_route(&route());
    one.save(&origin(), lsn(42));
    let mut other = saved(&folder, "ann");
    assert_eq!((other.route(), other.lsn(&origin())), (Some(route()), Some(lsn(42))));
    // The ticket belongs to this user only; the LSN of the cluster does not.
    let mut bob = saved(&folder, "bob");
    assert_eq!(
        (
            bob.route(),
            bob.lsn(&origin()),
            bob.lsn(&Origin { cluster: ClusterId([8; 16]), ..origin() })
        ),
        (None, Some(lsn(42)), None)
    );
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 2);
    assert!(files.iter().all(|path| mode(path) == 0o600));
    assert!([one, other, bob].iter().all(|saved| saved.notices.collected().is_empty()));
}

#[test]
fn seen_lsn_never_decreases() {
    let dir = tempfile::tempdir().unwrap();
    let (mut one, mut other) = (saved(dir.path(), ""), saved(dir.path(), ""));
    one.save(&origin(), lsn(10));
    other.save(&origin(), lsn(12));
    one.save(&origin(), lsn(11));
    assert_eq!(one.lsn(&origin()), Some(lsn(12)));
    one.save(&origin(), Lsn { epoch: 2, number: 1 });
    assert_eq!(other.lsn(&origin()), Some(Lsn { epoch: 2, number: 1 }));
    // Unchanged state is not written.
    std::fs::remove_file(dir.path().join(lsn_file_name(&origin()))).unwrap();
    one.save(&origin(), lsn(99));
    assert_eq!(one.lsn(&origin()), None);
}

#[test]
fn expired_ticket_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let mut saved = saved(dir.path(), "");
    for (age, used) in [
        (0, true),
        (limits::TICKET_TIME.as_secs() - 60, true),
        (limits::TICKET_TIME.as_secs(), false),
    ] {
        saved.new = Some(file::format(&route(), "box:2121", "", now() - age));
        saved.save(&origin(), lsn(1));
        assert_eq!(saved.route().is_some(), used, "{age}");
    }
    assert!(saved.notices.collected().is_empty());
}

#[test]
fn bad_files_are_reported_once_and_replaced() {
    let good = file::format(&route(), "box:2121", "", now());
    let many = Route { slaves: vec![route().slaves[0].clone(); 18], ..route() };
    let none = Route { slaves: vec![], ..route() };
    let unusable = Route {
        slaves: vec![Endpoint { id: SlaveId([1; 16]), addrs: vec!["0.0.0.0:1".parse().unwrap()] }],
        ..route()
    };
    let text = |route: &Route| file::format(route, "box:2121", "", now()).into_bytes();
    let bad: Vec<Vec<u8>> = vec![
        vec![],
        b"{}".to_vec(),
        b"null".to_vec(),
        b"[".repeat(60_000),
        vec![0xff; 100],
        vec![b' '; 10_000_000],
        good.replace("\"format\":2", "\"format\":1").into_bytes(),
        good.replace("box:2121", "box:2122").into_bytes(),
        good.replace("\"received\":", "\"received\":-").into_bytes(),
        good.replace("\"ticket\":[0,", "\"ticket\":[256,").into_bytes(),
        good.replace("\"ticket\":[0,", "\"ticket\":[\"0\",").into_bytes(),
        good.replace("\"slaves\":", "\"slaves\":1,\"x\":").into_bytes(),
        good.replace("127.0.0.1:1\"", "evil.example:1\"").into_bytes(),
        good.replace(&CLUSTER.to_string(), "0707").into_bytes(),
        text(&many),
        text(&none),
        text(&unusable),
        text(&Route { ticket: vec![1; limits::TICKET + 1], ..route() }),
    ];
    for bytes in bad {
        let dir = tempfile::tempdir().unwrap();
        let mut saved = saved(dir.path(), "");
        let path = dir.path().join(saved.name());
        std::fs::write(&path, &bytes).unwrap();
        std::fs::write(dir.path().join(lsn_file_name(&origin())), b"1-99999999999999999999\n")
            .unwrap();
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        assert_eq!(
            (saved.route(), saved.route(), saved.lsn(&origin())),
            (None, None, None),
            "{start}"
        );
        let warned = saved.notices.collected();
        assert!(warned.len() == 1 && warned[0].contains(": ignored: "), "{start}: {warned:?}");
        saved.set_route(&route());
        saved.save(&origin(), lsn(3));
        assert_eq!((saved.route(), saved.lsn(&origin())), (Some(route()), Some(lsn(3))));
    }
}

#[test]
fn lsn_has_one_valid_spelling() {
    assert_eq!(file::parse_lsn("1-42\n"), Some(lsn(42)));
    for bad in [
        "",
        "\n",
        "1-42",
        "+1-42\n",
        "01-42\n",
        "1--42\n",
        "1-42\n\n",
        "4294967296-1\n",
        "1-\n",
        "a-b\n",
    ] {
        assert_eq!(file::parse_lsn(bad), None, "{bad:?}");
    }
}

#[test]
fn links_and_folders_are_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("target");
    std::fs::write(&target, file::format(&route(), "box:2121", "", now())).unwrap();
    let folder = dir.path().join("relais");
    std::fs::create_dir(&folder).unwrap();
    let mut saved = saved(&folder, "");
    let path = folder.join(saved.name());
    symlink(&target, &path).unwrap();
    symlink(&target, folder.join("new")).unwrap();
    assert_eq!(saved.route(), None);
    assert_eq!(saved.notices.collected().len(), 1);
    let before = std::fs::read(&target).unwrap();
    saved.set_route(&Route { ticket: vec![1], ..route() });
    saved.save(&origin(), lsn(1));
    assert_eq!(saved.route().unwrap().ticket, [1]);
    assert!(std::fs::read(&target).unwrap() == before && !path.is_symlink());

    // A folder at the file's name cannot be replaced, and has no other effect.
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    saved.set_route(&route());
    saved.save(&origin(), lsn(1));
    assert_eq!(saved.route(), None);
}

#[test]
fn missing_home_folder_is_silent() {
    let from_env = |state: Option<&str>, home: Option<&str>| {
        StateFolder::from_env(state.map(Into::into), home.map(Into::into)).map(|p| p.shown("x"))
    };
    assert_eq!(from_env(Some("/s"), Some("/h")).as_deref(), Some("/s/relais/client/x"));
    assert_eq!(from_env(Some("s"), Some("/h")).as_deref(), Some("/h/.local/state/relais/client/x"));
    assert_eq!(from_env(Some(""), None), None);
    assert_eq!(from_env(None, Some("h")), None);

    let user = StateFolder::from_env(Some("/s".into()), None).unwrap();
    assert_eq!(user.sibling("client-history"), Path::new("/s/relais/client-history"));

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let mut saved = saved(&dir.path().join("file/relais"), "");
    saved.set_route(&route());
    saved.save(&origin(), lsn(1));
    assert_eq!((saved.route(), saved.lsn(&origin())), (None, None));
    assert!(saved.notices.collected().is_empty());
}
